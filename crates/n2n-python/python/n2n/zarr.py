"""Denoises OME-Zarr images, versions 0.4 and 0.5, that may be larger than memory; can resume after an interrupt.

Needs ``pip install "n2n[zarr]"``. The command is ``python -m n2n zarr IN OUT``.
"""

from __future__ import annotations

import builtins
import errno
import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

try:
    import zarr
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f'n2n.zarr: {error}: pip install "n2n[zarr]"') from error

from . import _arrays, _n2n, _progress, _survey
from ._model import Model, Progress, Range, RangeLike, _loaded

__all__ = ["denoise"]

#: Minimum height and width of the parts denoised at a time, in whole chunks: the network sees up to 159 pixels
#: beyond each.
_PART = 1024

#: The journal of a run, within its output.
_JOURNAL = ".n2n-journal"

Span = tuple[slice, ...]


def denoise(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    model: str | os.PathLike[str] | Model = _n2n.DEFAULT,
    range: RangeLike = "auto",
    strength: float = 1.0,
    threads: int | None = None,
    progress: Progress = True,
    *,
    rgb: bool = False,
    missing: bool = False,
    overwrite: bool = False,
    max_memory: int = 2_500_000_000,
) -> None:
    """Denoise an OME-Zarr image.

    Format version, axes, scale, channel metadata, chunks, shards and compression are kept. The pyramid is rebuilt from
    the denoised image by averaging; its levels keep their shapes. Labels are not copied.

    Memory holds a part of the image and at most `max_memory` bytes for the network. A part consists of whole chunks
    (whole shards, if there are any): at least 1024 x 1024 pixels, unless the image is smaller, and one chunk along each
    other axis. It is read with the pixels around it that the network sees. Until it is complete, the output is named
    ``OUTPUT.partial``. An interrupted run that is started again with the same arguments resumes from this output and
    repeats no finished part.

    Parameters
    ----------
    source : str or path
        The group of the image: a folder, or anything else that zarr can open for reading.
    output : str or path
        The folder to write.
    model, range, strength, threads, progress
        As for `n2n.denoise`. A range that has to be measured is measured once, on the whole image.
    rgb : bool
        Whether the three channels are red, green and blue. By default, each channel is denoised separately, as
        fluorescence channels should be.
    missing : bool
        Whether chunks may be missing; zarr then fills them with the fill value. By default, missing chunks are an
        error, because they may have been lost rather than left out as empty.
    overwrite : bool
        Whether to replace an existing output.

    Raises
    ------
    ValueError
        The source is not an OME-Zarr image, chunks are missing, or ``OUTPUT.partial`` belongs to another run.
    FileExistsError
        The output exists already.
    """
    output = Path(output)
    partial = output.with_name(output.name + ".partial")
    if output.exists() and not overwrite:
        raise FileExistsError(
            f"{output}: already exists; use --overwrite (overwrite=True) to replace it"
        )
    model = _loaded(model)
    image = _Image(source, rgb)
    if not missing:
        image.check_chunks()
    first = image.levels[0]
    run = {
        "source": os.path.abspath(source),
        "shapes": [list(level.shape) for level in image.levels],
        "dtype": str(first.dtype),
        "model": hashlib.sha256(model._native.to_bytes()).hexdigest(),
        "range": range if isinstance(range, str) else list(range),
        "strength": strength,
        "rgb": rgb,
        "version": _n2n.__version__,
    }
    # What is wrong with the arguments is found out before anything is written.
    pixel = np.zeros((1, 1), first.dtype)
    model.denoise(pixel, None, None, range, strength, threads, False, max_memory=max_memory)
    with _on_a_full_disk(partial), _Journal(partial, run) as journal, _progress.shown(progress) as told:
        parts = [list(image.parts(level)) for level in builtins.range(len(image.levels))]
        # What the network computes; the rest takes little.
        total = sum(map(_pixels, parts[0]))
        done = sum(_pixels(part) for i, part in enumerate(parts[0]) if journal.has(0, i))
        if journal.is_new:
            image.create(partial)
        written = zarr.open_group(str(partial), mode="r+")
        levels = [_array(written, path) for path in image.paths]
        if journal.range is None:
            journal.found(image.measure(model, range))
        for i, part in enumerate(parts[0]):
            if journal.has(0, i):
                continue
            if told is not None:
                told(done / total)
            levels[0][part] = image.denoised(
                model, part, journal.range, strength, threads, max_memory
            )
            journal.done(0, i)
            done += _pixels(part)
        for level in builtins.range(1, len(levels)):
            for i, part in enumerate(parts[level]):
                if not journal.has(level, i):
                    levels[level][part] = _reduced(levels[level - 1], levels[level].shape, part)
                    journal.done(level, i)
        if told is not None:
            told(1.0)
    journal.path.unlink()
    if output.exists():
        shutil.rmtree(output) if output.is_dir() else output.unlink()
    partial.rename(output)


@contextmanager
def _on_a_full_disk(folder: Path) -> Iterator[None]:
    """Adds advice to the error of a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise OSError(
            error.errno,
            f"{folder}: {error.strerror}; what is done is kept: free some space, then start again to resume",
        ) from error


class _Image:
    """The levels of an OME-Zarr image, and its metadata."""

    def __init__(self, source: str | os.PathLike[str], rgb: bool) -> None:
        self.source = os.fspath(source)
        try:
            self.group = zarr.open_group(self.source, mode="r")
        except (FileNotFoundError, KeyError) as error:
            raise FileNotFoundError(f"{self.source}: not a Zarr group: {error}") from None
        attributes = self.group.attrs.asdict()
        metadata = attributes.get("ome", attributes)
        multiscales = metadata.get("multiscales") if isinstance(metadata, dict) else None
        if not multiscales:
            series = [name for name, _ in self.group.groups()]
            hint = f"; its groups are {', '.join(series[:8])}" if series else ""
            raise ValueError(
                f"{self.source}: expected an OME-Zarr image (multiscales in its attributes), found none{hint}"
            )
        if len(multiscales) != 1:
            raise ValueError(
                f"{self.source}: expected one image, found {len(multiscales)} multiscales"
            )
        try:
            axes = [axis["name"] for axis in multiscales[0]["axes"]]
            self.paths = [str(dataset["path"]) for dataset in multiscales[0]["datasets"]]
        except (KeyError, TypeError):
            raise ValueError(
                f"{self.source}: expected axes and datasets in multiscales, as OME-Zarr 0.4 and 0.5 have them"
            ) from None
        self.levels = [_array(self.group, path) for path in self.paths]
        first = self.levels[0]
        _arrays.check_dtype(np.dtype(first.dtype), f"{self.source}/{self.paths[0]}")
        self.axes = "".join(axes).upper()
        if any(len(name) != 1 for name in axes) or len(axes) != first.ndim:
            raise ValueError(
                f"{self.source}: expected axes of one letter each for {first.ndim} dimensions, found {axes}"
            )
        if rgb:
            if "C" not in self.axes or first.shape[self.axes.index("C")] != 3:
                raise ValueError(
                    f"{self.source}: rgb: expected a channel axis of 3, found axes {axes} of shape {first.shape}"
                )
            self.axes = self.axes.replace("C", "S")
        self.layout = _arrays.layout(first.ndim, self.axes, None)
        if 0 in first.shape:
            raise ValueError(
                f"{self.source}: expected at least one pixel, found shape {first.shape}"
            )

    def check_chunks(self) -> None:
        first = self.levels[0]
        lacking = first.nchunks - first.nchunks_initialized
        if lacking > 0:
            raise ValueError(
                f"{self.source}/{self.paths[0]}: {lacking} of {first.nchunks} chunks are missing; if they "
                "were left out because they are empty, use --missing (missing=True)"
            )

    def create(self, folder: Path) -> None:
        """Makes the groups and arrays, without pixels."""
        version = self.group.metadata.zarr_format
        root = zarr.open_group(str(folder), mode="a", zarr_format=version)
        root.attrs.update(self.group.attrs.asdict())
        for path, level in zip(self.paths, self.levels):
            shutil.rmtree(folder / path, ignore_errors=True)
            zarr.from_array(
                str(folder), data=level, write_data=False, name=path, zarr_format=version
            )

    def parts(self, level: int) -> Iterator[Span]:
        """The array cut into parts of whole chunks; no two parts share a chunk."""
        array = self.levels[level]
        unit = list(array.shards or array.chunks)
        for axis in (self.layout.y, self.layout.x):
            unit[axis] *= max(1, -(-_PART // unit[axis]))
        if self.layout.samples is not None:
            unit[self.layout.samples] = array.shape[self.layout.samples]
        yield from _cut(array.shape, unit)

    def measure(self, model: Model, range: RangeLike) -> Range:
        array, layout = self.levels[0], self.layout
        dtype = _arrays.native_name(np.dtype(array.dtype))
        known = model._known_bounds(range, dtype)
        if known is not None:
            return Range(*known)
        unit = list(array.shards or array.chunks)
        unit[layout.y] = unit[layout.x] = _survey.PIECE
        if layout.samples is not None:
            unit[layout.samples] = array.shape[layout.samples]
        colors = 1 if layout.samples is None else model._colors(unit[layout.samples])
        lead = [array.shape[axis] for axis in layout.lead]
        size = array.shape[layout.y], array.shape[layout.x]
        step = _survey.step([*lead, *size], colors)

        def samples() -> Iterator[NDArray[Any]]:
            for part in _cut(array.shape, unit):
                images = layout.images(np.asarray(array[part]))[..., :colors]
                for at in np.ndindex(images.shape[:-3]):
                    yield _survey.sample(images[at], size, step)

        return _survey.of_samples(model, samples(), dtype, range)

    def denoised(
        self,
        model: Model,
        part: Span,
        range: Range | None,
        strength: float,
        threads: int | None,
        max_memory: int,
    ) -> NDArray[Any]:
        array, layout = self.levels[0], self.layout
        assert range is not None, "it has been measured"
        size = (array.shape[layout.y], array.shape[layout.x])
        region = (part[layout.y], part[layout.x])
        seen = model.block_for(region, size)
        index = list(part)
        index[layout.y], index[layout.x] = seen
        return model.denoise_block(
            np.asarray(array[tuple(index)]),
            (seen[0].start, seen[1].start),
            size,
            region,
            self.axes,
            range=range,
            strength=strength,
            threads=threads,
            max_memory=max_memory,
        )


class _Journal:
    """The journal of a run: which parts have been written, in a file that is only appended to.

    The first line identifies the run, the second is its range, and each other line is a part: its level and number.
    """

    def __init__(self, folder: Path, run: dict[str, Any]) -> None:
        self.path = folder / _JOURNAL
        self.range: Range | None = None
        self.parts: set[tuple[int, int]] = set()
        text = self.path.read_bytes() if self.path.exists() else b""
        # A truncated last line is dropped.
        whole = text[: text.rfind(b"\n") + 1]
        lines = whole.decode().splitlines()
        #: Whether there is nothing to resume; an interrupt may have come before the arrays were created.
        self.is_new = len(lines) < 2
        if lines and json.loads(lines[0]) != run:
            raise ValueError(
                f"{folder}: belongs to a run with other arguments or another source; remove it, or finish that run"
            )
        if folder.exists() and not lines and any(path != self.path for path in folder.iterdir()):
            raise ValueError(f"{folder}: expected nothing or an interrupted run, found other files")
        folder.mkdir(parents=True, exist_ok=True)
        if len(lines) > 1:
            self.range = Range(*json.loads(lines[1]))
        for line in lines[2:]:
            level, part = line.split()
            self.parts.add((int(level), int(part)))
        self.file = self.path.open("a")
        # In place: a full disk or another kill at this point must not lose finished parts.
        self.file.truncate(len(whole))
        if not lines:
            self._write(json.dumps(run))

    def found(self, range: Range) -> None:
        self.range = range
        self._write(json.dumps(range))

    def has(self, level: int, part: int) -> bool:
        return (level, part) in self.parts

    def done(self, level: int, part: int) -> None:
        self._write(f"{level} {part}")

    def __enter__(self) -> _Journal:
        return self

    def __exit__(self, *_: object) -> None:
        # Every line has been flushed; the loss of one that could not be is harmless.
        with suppress(OSError):
            self.file.close()

    def _write(self, line: str) -> None:
        self.file.write(line + "\n")
        self.file.flush()


def _array(group: zarr.Group, path: str) -> zarr.Array[Any]:
    try:
        array = group[path]
    except KeyError:
        array = None
    if not isinstance(array, zarr.Array):
        raise ValueError(f"{group.store_path}: multiscales names {path!r}, which is not an array")
    return array


def _cut(shape: tuple[int, ...], unit: list[int]) -> Iterator[Span]:
    starts = [builtins.range(0, length, part) for length, part in zip(shape, unit)]
    for corner in itertools.product(*starts):
        yield tuple(
            slice(start, min(start + part, length))
            for start, part, length in zip(corner, unit, shape)
        )


def _pixels(part: Span) -> int:
    return int(np.prod([span.stop - span.start for span in part]))


def _reduced(finer: zarr.Array[Any], shape: tuple[int, ...], part: Span) -> NDArray[Any]:
    """A part of the next level of a pyramid: means where sizes differ by a whole factor, otherwise nearest values."""
    index = []
    means: list[tuple[int, int]] = []
    for axis, (old, new, span) in enumerate(zip(finer.shape, shape, part)):
        factor = max(1, round(old / new))
        if new in (old // factor, -(-old // factor)):
            index.append(slice(span.start * factor, min(span.stop * factor, old)))
            if factor > 1:
                means.append((axis, factor))
        else:
            nearest = ((np.arange(span.start, span.stop) + 0.5) * old / new).astype(int)
            index.append(slice(int(nearest[0]), int(nearest[-1]) + 1))
            means.append((axis, 0))
    values = np.asarray(finer[tuple(index)])
    dtype = values.dtype
    for axis, factor in means:
        if factor == 0:
            old, new, span = finer.shape[axis], shape[axis], part[axis]
            nearest = ((np.arange(span.start, span.stop) + 0.5) * old / new).astype(int)
            values = values.take(nearest - nearest[0], axis)
        else:
            starts = np.arange(0, values.shape[axis], factor)
            counts = np.diff([*starts, values.shape[axis]])
            along = [1] * values.ndim
            along[axis] = -1
            sums = np.add.reduceat(values.astype(np.float64), starts, axis)
            values = sums / counts.reshape(along)
    if values.dtype != dtype and dtype.kind in "ui":
        values = np.rint(values)
    return values.astype(dtype)
