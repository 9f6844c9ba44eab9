"""Images that the tests share. They are made here, so that the tests need no other file."""

import os
import pathlib
import shutil

import numpy as np
import pytest

import n2n


def scene(height, width, channels=None, seed=1):
    """A smooth picture in 0..1 with noise of sigma 0.1."""
    y, x = np.mgrid[0:height, 0:width]
    picture = 0.5 + 0.25 * np.sin(y / 9) * np.cos(x / 13)
    if channels is not None:
        picture = picture[..., np.newaxis] * np.linspace(0.7, 1.1, channels)
    noise = np.random.default_rng(seed).normal(0, 0.1, picture.shape)
    return (picture + noise).clip(0, 1)


def of_dtype(picture, dtype):
    """The picture with the range that is natural for a dtype."""
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return picture.astype(dtype)
    top = min(np.iinfo(dtype).max, 60_000)
    return (picture * top).astype(dtype)


@pytest.fixture(scope="session")
def model():
    return n2n.Model.load("gauss25")


@pytest.fixture(scope="session")
def program():
    """The program n2n: the one that N2N_PROGRAM names, else the one on the PATH, else the one in target/release.

    It must have the package's version.
    """
    named = os.environ.get("N2N_PROGRAM")
    built = pathlib.Path(__file__).parents[3] / "target/release/n2n"
    found = named or shutil.which("n2n") or (built if built.is_file() else None)
    if found is None:
        pytest.skip("the program n2n is not built: cargo build --release")
    return str(found)
