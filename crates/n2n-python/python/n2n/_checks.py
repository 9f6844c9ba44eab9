"""Checks of arguments before the native half takes them."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numpy.typing import NDArray


def count(value: Any, name: str, least: int = 0) -> int:
    """A whole number of at least `least`."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected a whole number, found {value!r}") from None
    if number < least:
        raise ValueError(f"{name}: expected {least} or more, found {number}")
    return number


def threads(value: Any) -> int | None:
    """A number of threads, or all cores."""
    return None if value is None else count(value, "threads", 1)


def real(value: Any, name: str) -> float:
    """A number."""
    if isinstance(value, str):
        raise TypeError(f"{name}: expected a number, found {value!r}")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected a number, found {value!r}") from None


def pair(value: Any, name: str) -> tuple[int, int]:
    """Two whole numbers: a row and a column, or a height and a width."""
    try:
        first, second = value
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected two whole numbers, found {value!r}") from None
    return count(first, name), count(second, name)


def output(out: Any, array: NDArray[Any]) -> None:
    """Rejects an output that cannot hold the result for `array`, image by image."""
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out: expected an array, found {type(out).__name__}")
    if out.shape != array.shape or out.dtype != array.dtype:
        raise ValueError(
            f"out: expected {array.dtype} of shape {array.shape}, found {out.dtype} of shape {out.shape}"
        )
    if not out.flags.writeable:
        raise ValueError("out: expected a writable array, found a read-only one")
    is_same = out.ctypes.data == array.ctypes.data and out.strides == array.strides
    if not is_same and np.shares_memory(out, array):
        # An image would overwrite others that have not been read yet.
        raise ValueError("out: expected x itself or memory of its own, found another view of x")
