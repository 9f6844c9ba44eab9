"""The meaning of an array's dimensions, and conversion of its values to the types of the library."""

from __future__ import annotations

import os
import string
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: The types whose values the library represents exactly.
NATIVE = (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.float32))


def checked(x: object, name: str = "x") -> NDArray[Any]:
    """An array-like as an array, without a copy if it is one; rejects what cannot be denoised."""
    if type(x).__module__.partition(".")[0] == "dask":
        raise TypeError(f"{name}: found a dask array; use n2n.dask.denoise, which denoises it chunk by chunk")
    if isinstance(x, (str, os.PathLike)):
        raise TypeError(
            f"{name}: expected an array, found a path, {os.fspath(x)!r}; read the file first, for example "
            "with tifffile.imread, or denoise it with the program: n2n predict"
        )
    if isinstance(x, np.ma.MaskedArray) and np.ma.is_masked(x):
        raise TypeError(
            f"{name}: found a masked array; fill the masked values first, for example with x.filled(np.nan)"
        )
    array = np.asarray(x)
    check_dtype(array.dtype, name)
    if array.size == 0:
        raise ValueError(
            f"{name}: expected at least one pixel, found an array of shape {array.shape}"
        )
    return array


def check_dtype(dtype: np.dtype[Any], name: str = "x") -> None:
    """Rejects a dtype whose values are not numbers, or are wider than 64 bits."""
    if dtype.kind not in "uif" or dtype.itemsize > 8:
        hint = "; convert it, for example with x.astype(np.uint8) * 255" if dtype.kind == "b" else ""
        raise TypeError(
            f"{name}: expected an array of integers or floats, found dtype {dtype}{hint}"
        )


@dataclass(frozen=True)
class Layout:
    """The positions of an image's dimensions in an array."""

    #: The dimensions along which images are stacked.
    lead: tuple[int, ...]
    y: int
    x: int
    #: The samples of a pixel, if there is such a dimension.
    samples: int | None

    def images(self, array: NDArray[Any]) -> NDArray[Any]:
        """A view with the dimensions of an image last: height, width, samples."""
        if self.samples is None:
            return array.transpose(*self.lead, self.y, self.x)[..., np.newaxis]
        return array.transpose(*self.lead, self.y, self.x, self.samples)


def layout(ndim: int, axes: str | None, channel_axis: int | None) -> Layout:
    """The layout that the letters give for an array of ``ndim`` dimensions; nothing is guessed."""
    if axes is not None and not isinstance(axes, str):
        raise TypeError(f"axes: expected letters, such as 'ZYX', found {axes!r}")
    if channel_axis is not None:
        if not isinstance(channel_axis, (int, np.integer)):
            raise TypeError(f"channel_axis: expected a whole number, found {channel_axis!r}")
        if not -ndim <= channel_axis < ndim:
            raise ValueError(
                f"channel_axis: expected a dimension of the array, {-ndim} to {ndim - 1}, found {channel_axis}"
            )
        channel_axis %= ndim
    if axes is None:
        spatial = ndim - (channel_axis is not None)
        if spatial < 2:
            beside = "" if channel_axis is None else ", besides the samples"
            raise ValueError(
                f"expected an array of at least two dimensions, height and width{beside}, found {spatial}"
            )
        if spatial > 2:
            example = {3: "'ZYX' for a stack or 'YXS' for an image in RGB", 4: "'TZYX' or 'ZYXS'"}
            raise ValueError(
                f"axes: expected {ndim} letters, such as {example.get(ndim, repr('QRVTZCYX'[-ndim:]))}, "
                f"for an array of {ndim} dimensions, found none"
            )
        letters = list("YX")
        if channel_axis is not None:
            letters.insert(channel_axis, "S")
        axes = "".join(letters)
    if (
        len(axes) != ndim
        or len(set(axes)) != ndim
        or not set(axes) <= set(string.ascii_uppercase)
        or not {"Y", "X"} <= set(axes)
    ):
        raise ValueError(
            f"axes: expected {ndim} different capital letters, Y and X among them, for an array of "
            f"{ndim} dimensions, found {axes!r}"
        )
    samples = axes.find("S") if "S" in axes else None
    if channel_axis is not None:
        if axes[channel_axis] not in "SC" or samples not in (None, channel_axis):
            raise ValueError(
                f"channel_axis: dimension {channel_axis} of axes {axes!r} is {axes[channel_axis]}, "
                "not the samples of a pixel (S or C)"
            )
        samples = channel_axis
    y, x = axes.index("Y"), axes.index("X")
    lead = tuple(i for i in range(ndim) if i not in (y, x, samples))
    return Layout(lead, y, x, samples)


def to_native(plane: NDArray[Any]) -> NDArray[Any]:
    """The values as uint8, uint16 or float32, in the byte order of the machine.

    Copies only arrays of other types, of the other byte order, or that are not aligned; strides are kept.
    """
    if plane.dtype.newbyteorder("=") in NATIVE:
        return np.require(plane, plane.dtype.newbyteorder("="), "A")
    with np.errstate(over="ignore"):
        return plane.astype(np.float32)


def native_name(dtype: np.dtype[Any]) -> str:
    """The dtype whose rules the library applies to determine a range."""
    other = {"float16": "float32", "int64": "int32", "uint64": "uint32"}
    name = dtype.newbyteorder("=").name
    return other.get(name, name)


def from_native(plane: NDArray[Any], native: NDArray[Any], clean: NDArray[Any]) -> NDArray[Any]:
    """The denoised image in the dtype of ``plane``.

    If float32 does not represent the type exactly, the change is applied to the original values, so that unchanged
    values keep every digit.
    """
    if native.dtype == plane.dtype.newbyteorder("="):
        return clean
    values = plane.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        # Unchanged values stay as they are, infinite ones included, and so does NaN.
        change = np.where(clean == native, 0.0, clean.astype(np.float64) - native)
        change[np.isnan(native)] = 0.0
        result = values + change
        if plane.dtype.kind == "f":
            return result.astype(plane.dtype)
        limits = np.iinfo(plane.dtype)
        if plane.dtype.itemsize < 8:
            return np.rint(result).clip(limits.min, limits.max).astype(plane.dtype)
    # float64 does not represent 64-bit integers exactly, so the change is added in their own type; sums at or beyond
    # its limits become the limit.
    change = np.rint(change)
    highest, lowest = np.array(limits.max, plane.dtype), np.array(limits.min, plane.dtype)
    return np.where(
        (result > limits.min) & (result < limits.max),
        plane + change.astype(np.int64).astype(plane.dtype),
        np.where(result > 0, highest, lowest),
    )
