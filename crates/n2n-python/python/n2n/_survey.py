"""The range of an image that is read piece by piece, independent of its chunks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _arrays
from ._model import Model, Range, RangeLike

#: Height and width of the pieces that are surveyed: even, for blocks of 2 x 2 pixels.
PIECE = 1024

#: Blocks that a survey keeps.
_KEPT = 1 << 20


def step(shape: Sequence[int], colors: int) -> int:
    """One in this many blocks of 2 x 2 pixels is kept. The last two dimensions of `shape` are height and width."""
    height, width = shape[-2:]
    blocks = math.prod(shape[:-2]) * max(height // 2, 1) * max(width // 2, 1) * colors
    return -(-blocks // _KEPT)


def sample(piece: NDArray[Any], size: Sequence[int], step: int) -> NDArray[Any]:
    """Every `step`-th block of a piece of height x width x colors, as blocks x 2 x 2.

    If the image, according to `size`, is one pixel high or wide: every `step`-th value. In other images, an odd last
    row or column belongs to no block, even if the piece contains nothing else.
    """
    height, width, colors = piece.shape
    if 1 in size:
        return _arrays.to_native(piece).reshape(-1)[::step].copy()
    piece = piece[: height // 2 * 2, : width // 2 * 2]
    blocks = piece.reshape(height // 2, 2, width // 2, 2, colors).transpose(0, 2, 4, 1, 3)
    return _arrays.to_native(blocks.reshape(-1, 2, 2)[::step])


def of_samples(
    model: Model, samples: Iterable[NDArray[Any]], dtype: str, range: RangeLike
) -> Range:
    """The range of an image, from samples of its pieces; `dtype` is the library's name for its type."""
    rows: dict[int, list[NDArray[Any]]] = {1: [], 2: []}
    for sample in samples:
        if sample.ndim == 1:
            rows[1].append(sample.reshape(1, -1, 1))
        elif sample.size:
            rows[2].append(sample.transpose(1, 0, 2).reshape(2, -1, 1))
    images = [np.concatenate(parts, axis=1) for parts in rows.values() if parts]
    return Range(*model._surveyed(range, dtype, images))
