"""Images to learn from: arrays or files, in the form that the native half accepts."""

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
    """A time in the form that the library parses; numbers are seconds."""
    return time if isinstance(time, str) else f"{round(1000 * time)}ms"


def source(
    images: Any, axes: str | None, channel_axis: int | None, channels: int | None
) -> tuple[str | list[str] | list[NDArray[Any]], int | None]:
    """The source for the native half, and the number of channels if it holds arrays. If an array has `channels`
    samples, they are channels, not RGB or transparency."""
    if isinstance(images, (str, os.PathLike)):
        path = os.fspath(images)
        if not os.path.exists(path):
            raise FileNotFoundError(f"images: expected a folder or a file, found nothing at {path}")
        return (path if os.path.isdir(path) else [path]), None
    # An array of any library, many of which can be iterated over.
    if hasattr(images, "__array__"):
        images = [images]
    else:
        images = list(images)
        if images and all(isinstance(path, (str, os.PathLike)) for path in images):
            return [os.fspath(path) for path in images], None
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
                f"images[{place}]: expected 1 sample per pixel, or 3 for RGB, found {samples}; for channels "
                "that are not colors, use the letter C to treat each as an image, or train a network that "
                f"processes them together (n2n.train(..., n_channel={samples}))"
            )
        for at in np.ndindex(stack.shape[:-3]):
            planes.append(_arrays.to_native(stack[at][..., :colors]))
    return planes, max(plane.shape[-1] for plane in planes)
