"""What is learned from: arrays or files, as the native half takes them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _arrays

PathLike: TypeAlias = "str | os.PathLike[str]"

#: An array, several, a folder, or files.
Images: TypeAlias = "ArrayLike | Iterable[ArrayLike] | PathLike | Iterable[PathLike]"


def time_text(time: str | float) -> str:
    """A time as the library reads it; numbers are seconds."""
    return time if isinstance(time, str) else f"{round(1000 * time)}ms"


def source(
    images: Any, axes: str | None, channel_axis: int | None, channels: int | None
) -> tuple[str | list[str] | list[NDArray[Any]], int | None]:
    """What the native half learns from, and the channels of arrays. As many samples as `channels` are not RGB and
    transparency, whatever their number."""
    if isinstance(images, (str, os.PathLike)):
        path = os.fspath(images)
        if not os.path.exists(path):
            raise FileNotFoundError(f"images: expected a folder or a file, found nothing at {path}")
        return (path if os.path.isdir(path) else [path]), None
    if not isinstance(images, np.ndarray):
        images = list(images)
        if images and all(isinstance(path, (str, os.PathLike)) for path in images):
            return [os.fspath(path) for path in images], None
    if isinstance(images, np.ndarray):
        images = [images]
    if not images:
        raise ValueError("images: expected at least one, found none")
    planes: list[NDArray[Any]] = []
    for place, x in enumerate(images):
        array = _arrays.checked(x, f"images[{place}]")
        stack = _arrays.layout(array.ndim, axes, channel_axis).images(array)
        samples = stack.shape[-1]
        colors = samples - 1 if samples in (2, 4) and samples != channels else samples
        if colors not in (1, 3, channels):
            raise ValueError(
                f"images[{place}]: expected 1 sample a pixel or 3, RGB, found {samples}; channels that are no "
                "colors are images that follow each other (the letter C), or go together through a network of "
                f"as many channels (n2n.train(..., n_channel={samples}))"
            )
        for at in np.ndindex(stack.shape[:-3]):
            planes.append(_arrays.to_native(stack[at][..., :colors]))
    return planes, max(plane.shape[-1] for plane in planes)
