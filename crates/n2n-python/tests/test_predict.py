"""Arrays become what the program makes of the same values in files, to the bit."""

import subprocess

import numpy as np
import pytest
import tifffile

import n2n
from conftest import of_dtype, scene


def predicted(program, folder, noisy, arguments=(), **tiff):
    noisy_file = folder / "in" / "noisy.tif"
    noisy_file.parent.mkdir()
    tifffile.imwrite(noisy_file, noisy, **tiff)
    command = [program, "predict", noisy_file, "--save-dir", folder / "out", *arguments]
    subprocess.run(command, check=True, capture_output=True)
    return tifffile.imread(folder / "out" / "noisy_denoise.tif")


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("axes", ["YX", "YXS", "ZYX"])
def test_equal_to_predict(program, tmp_path, dtype, axes):
    shape = {"YX": (70, 90), "YXS": (70, 90, 3), "ZYX": (3, 70, 90)}[axes]
    noisy = of_dtype(scene(70, 90, 3), dtype)
    noisy = {"YX": noisy[..., 0], "YXS": noisy, "ZYX": noisy.transpose(2, 0, 1)}[axes]
    if dtype == "uint16":
        noisy = noisy // 16
    if dtype == "float32":
        noisy = noisy * np.float32(3000) - np.float32(200)
    assert noisy.shape == shape
    photometric = "rgb" if axes == "YXS" else "minisblack"
    want = predicted(program, tmp_path, noisy, photometric=photometric)
    assert want.dtype == noisy.dtype
    assert np.array_equal(n2n.denoise(noisy, axes=axes), want)


def test_equal_to_predict_with_options(program, tmp_path):
    noisy = of_dtype(scene(70, 90), "uint16")
    options = [
        "--range",
        "30,50001",
        "--strength",
        "0.7",
        "--ensemble",
        "--model-path",
        "poisson30",
    ]
    want = predicted(program, tmp_path, noisy, options)
    clean = n2n.denoise(noisy, "poisson30", range=(30, 50001), strength=0.7, ensemble=True)
    assert np.array_equal(clean, want)


def test_equal_to_predict_in_tiles(program, tmp_path):
    noisy = of_dtype(scene(600, 700), "float32")
    want = predicted(program, tmp_path, noisy, ["--max-memory", "300MB"])
    assert np.array_equal(n2n.denoise(noisy, max_memory=300_000_000), want)
