"""OME-Zarr in, OME-Zarr out: metadata, chunks, pyramid, interrupts."""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import zarr

import n2n
import n2n.zarr
from conftest import of_dtype, scene

AXES = [
    {"name": "t", "type": "time", "unit": "second"},
    {"name": "c", "type": "channel"},
    {"name": "y", "type": "space", "unit": "micrometer"},
    {"name": "x", "type": "space", "unit": "micrometer"},
]


def write(folder, version, noisy, chunks=(1, 1, 150, 130), shards=None):
    """An image with a pyramid of three levels, as OME-Zarr 0.4 (Zarr 2) or 0.5 (Zarr 3) has it."""
    root = zarr.open_group(str(folder), mode="w", zarr_format={"0.4": 2, "0.5": 3}[version])
    levels = [noisy, noisy[..., ::2, ::2], noisy[..., ::4, ::4]]
    datasets = []
    for i, level in enumerate(levels):
        three = {} if version == "0.4" else {"dimension_names": [axis["name"] for axis in AXES]}
        array = root.create_array(
            str(i),
            shape=level.shape,
            dtype=level.dtype,
            chunks=chunks,
            shards=shards,
            chunk_key_encoding={"name": "v2" if version == "0.4" else "default", "separator": "/"},
            **three,
        )
        array[:] = level
        scale = [1.0, 1.0, 0.2 * 2**i, 0.2 * 2**i]
        transformations = [{"type": "scale", "scale": scale}]
        datasets.append({"path": str(i), "coordinateTransformations": transformations})
    ome = {
        "version": version,
        "multiscales": [{"axes": AXES, "datasets": datasets, "name": "cells"}],
        "omero": {"channels": [{"color": "00FF00", "label": "GFP"}, {"color": "FF0000"}]},
    }
    root.attrs.update(ome if version == "0.4" else {"ome": ome})
    return root


@pytest.fixture(scope="module")
def noisy():
    picture = of_dtype(scene(301, 262, 4), np.uint16) // 20
    return picture.transpose(2, 0, 1).reshape(2, 2, 301, 262)


def means(level):
    """Means of 2 x 2 pixels, and of what there is of them at an odd edge."""
    height, width = level.shape[-2:]
    padded = np.full((*level.shape[:-2], height + height % 2, width + width % 2), np.nan)
    padded[..., :height, :width] = level
    blocks = padded.reshape(*level.shape[:-2], padded.shape[-2] // 2, 2, -1, 2)
    return np.rint(np.nanmean(blocks, axis=(-3, -1)))


@pytest.mark.parametrize(
    "version, shards", [("0.4", None), ("0.5", None), ("0.5", (1, 2, 300, 260))]
)
def test_a_denoised_image_keeps_its_metadata_and_layout(tmp_path, noisy, version, shards):
    source = write(tmp_path / "in.zarr", version, noisy, shards=shards)
    command = [sys.executable, "-m", "n2n", "zarr", tmp_path / "in.zarr", tmp_path / "out.zarr"]
    subprocess.run([*command, "--model", "gauss25"], check=True)
    assert sorted(os.listdir(tmp_path)) == ["in.zarr", "out.zarr"]
    result = zarr.open_group(str(tmp_path / "out.zarr"), mode="r")
    assert result.attrs.asdict() == source.attrs.asdict()
    for path in "012":
        before, after = source[path], result[path]
        for what in ("shape", "dtype", "chunks", "shards", "compressors", "fill_value"):
            assert getattr(before, what) == getattr(after, what), what
        assert before.metadata.to_dict() == after.metadata.to_dict()
    clean = n2n.denoise(noisy, "gauss25", axes="TCYX").astype(int)
    assert np.abs(result["0"][:] - clean).max() <= 1
    for finer, coarser in ("01", "12"):
        assert np.array_equal(result[coarser][:], means(result[finer][:]))
    # The files have the same paths, so any reader of the source also finds those of the result.
    names = {
        str(path.relative_to(tmp_path / "in.zarr"))
        for path in (tmp_path / "in.zarr").rglob("*")
        if path.is_file()
    }
    of_result = {
        str(path.relative_to(tmp_path / "out.zarr"))
        for path in (tmp_path / "out.zarr").rglob("*")
        if path.is_file()
    }
    assert names == of_result


def test_a_run_that_is_killed_goes_on_where_it_was(tmp_path, noisy, monkeypatch):
    # Parts of one chunk, so that there are many.
    large = np.tile(noisy, (2, 1, 1, 1))
    write(tmp_path / "in.zarr", "0.5", large)
    code = (
        "import n2n._survey, n2n.zarr; n2n.zarr._PART = 1; "
        f"n2n.zarr.denoise({str(tmp_path / 'in.zarr')!r}, {str(tmp_path / 'out.zarr')!r}, 'gauss25')"
    )
    journal = tmp_path / "out.zarr.partial" / n2n.zarr._JOURNAL
    process = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if journal.exists() and len(journal.read_text().splitlines()) > 8:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "out.zarr").exists()
    done = len(journal.read_text().splitlines()) - 2

    with pytest.raises(ValueError, match="a run with other arguments"):
        n2n.zarr.denoise(tmp_path / "in.zarr", tmp_path / "out.zarr", "gauss25", strength=0.5)
    denoised = []
    original = n2n.zarr._Image.denoised

    def counted(self, *arguments):
        denoised.append(arguments)
        return original(self, *arguments)

    monkeypatch.setattr(n2n.zarr._Image, "denoised", counted)
    monkeypatch.setattr(n2n.zarr, "_PART", 1)
    n2n.zarr.denoise(tmp_path / "in.zarr", tmp_path / "out.zarr", "gauss25")
    assert len(denoised) == 4 * 2 * 3 * 3 - done
    result = zarr.open_group(str(tmp_path / "out.zarr"), mode="r")
    clean = n2n.denoise(large, "gauss25", axes="TCYX").astype(int)
    assert np.abs(result["0"][:] - clean).max() <= 1


def test_a_run_resumes_from_a_journal_cut_off_anywhere(tmp_path, noisy, monkeypatch):
    monkeypatch.setattr(n2n.zarr, "_PART", 1)
    source, output = tmp_path / "in.zarr", tmp_path / "out.zarr"
    write(source, "0.5", noisy)

    def full(self, *arguments):
        raise OSError(28, "No space left on device")

    original = n2n.zarr._Image.denoised
    monkeypatch.setattr(n2n.zarr._Image, "denoised", full)
    with pytest.raises(OSError, match="No space"):
        n2n.zarr.denoise(source, output, "gauss25")
    journal = output.with_name("out.zarr.partial") / n2n.zarr._JOURNAL
    begun = journal.read_bytes()
    for left in (begun + b"0 1", begun, begun[:-4], begun[:40], b""):
        if b"\n" not in left:
            # The first line is written before anything else is.
            shutil.rmtree(journal.parent)
            journal.parent.mkdir()
        journal.write_bytes(left)
        with pytest.raises(OSError, match="No space left on device; what is done is kept"):
            n2n.zarr.denoise(source, output, "gauss25")
        assert journal.read_bytes() == begun
    monkeypatch.setattr(n2n.zarr._Image, "denoised", original)
    n2n.zarr.denoise(source, output, "gauss25")
    result = zarr.open_group(str(output), mode="r")["0"][:].astype(int)
    assert np.abs(result - n2n.denoise(noisy, "gauss25", axes="TCYX")).max() <= 1


def test_progress_grows_to_its_end(tmp_path, noisy):
    write(tmp_path / "in.zarr", "0.5", noisy)
    told = []
    n2n.zarr.denoise(tmp_path / "in.zarr", tmp_path / "out.zarr", "gauss25", progress=told.append)
    assert told == sorted(told) and told[0] == 0 and told[-1] == 1


def test_three_channels_may_be_colors(tmp_path):
    colors = of_dtype(scene(80, 90, 3), np.uint8).transpose(2, 0, 1)[np.newaxis]
    write(tmp_path / "in.zarr", "0.4", colors)
    n2n.zarr.denoise(tmp_path / "in.zarr", tmp_path / "out.zarr", "gauss25", rgb=True)
    clean = zarr.open_group(str(tmp_path / "out.zarr"), mode="r")["0"][:]
    assert np.abs(clean.astype(int) - n2n.denoise(colors, "gauss25", axes="TSYX")).max() <= 1


def test_refusals(tmp_path, noisy, capsys):
    from n2n.__main__ import main

    def refused(*arguments):
        status = main(["zarr", *map(str, arguments)])
        assert status == 1
        return capsys.readouterr().err

    source, output = tmp_path / "in.zarr", tmp_path / "out.zarr"
    assert "not a Zarr group" in refused(source, output)
    write(source, "0.5", noisy)
    output.mkdir()
    assert "already exists" in refused(source, output)
    output.rmdir()
    assert "neither a file nor a shipped model" in refused(source, output, "--model", "gauss26")
    assert "MIN below MAX" in refused(source, output, "--range", "5,2")
    assert "strength: expected 0 to 1" in refused(source, output, "--strength", "2")
    assert "rgb: expected a channel axis of 3" in refused(source, output, "--rgb")
    # Nothing is there that a run with good arguments would stumble on.
    assert os.listdir(tmp_path) == ["in.zarr"]
    (source / "0" / "c" / "0" / "1" / "0" / "0").unlink()
    assert "1 of 36 chunks are missing" in refused(source, output)
    assert not output.exists()
    assert main(["zarr", str(source), str(output), "--missing", "--quiet"]) == 0
    (output.with_name("other.zarr.partial")).mkdir()
    (output.with_name("other.zarr.partial") / "file").touch()
    assert "found other files" in refused(source, output.with_name("other.zarr"), "--missing")
    plain = zarr.open_group(str(tmp_path / "plain.zarr"), mode="w")
    plain.create_group("series")
    words = refused(tmp_path / "plain.zarr", output.with_name("x.zarr"))
    assert "expected an OME-Zarr image" in words and "its groups are series" in words


def test_a_full_disk_leaves_a_partial_output_and_says_so(tmp_path, noisy):
    write(tmp_path / "in.zarr", "0.5", noisy)
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)); "
        f"from n2n.__main__ import main; sys.exit(main(['zarr', {str(tmp_path / 'in.zarr')!r}, "
        f"{str(tmp_path / 'out.zarr')!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "too large" in done.stderr.lower(), done.stderr
    assert "out.zarr.partial: " in done.stderr and "free some space, then start again" in done.stderr
    assert not (tmp_path / "out.zarr").exists() and (tmp_path / "out.zarr.partial").exists()
    n2n.zarr.denoise(tmp_path / "in.zarr", tmp_path / "out.zarr")
    assert (tmp_path / "out.zarr").exists()
