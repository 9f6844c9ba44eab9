"""Denoises dask arrays: larger than memory, or on a cluster.

The result is the same as for the whole image, wherever chunks begin and end. Needs ``pip install "n2n[dask]"``.
"""

from __future__ import annotations

import builtins
import math
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

try:
    import dask.array as da
    from dask.delayed import delayed
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f'n2n.dask: {error}: pip install "n2n[dask]"') from error

from . import _arrays, _n2n, _survey
from ._model import Model, Range, RangeLike, _loaded

__all__ = ["denoise", "measure_range"]


def denoise(
    array: da.Array,
    model: str | os.PathLike[str] | Model = _n2n.DEFAULT,
    axes: str | None = None,
    channel_axis: int | None = None,
    range: RangeLike = "auto",
    strength: float = 1.0,
    threads: int | None = None,
    *,
    ensemble: bool = False,
    max_memory: int = 2_500_000_000,
) -> da.Array:
    """Denoise a dask array, lazily, chunk by chunk.

    Parameters
    ----------
    array : dask array
        Integers or floats, in chunks of any size. Small chunks waste work, because the network sees up to 159 pixels
        beyond each; 1024 x 1024 pixels or more is a good size.
    model, axes, channel_axis, range, strength, ensemble, max_memory
        As for `n2n.denoise`. A range that has to be measured is measured once on the whole array, when
        the first chunk is computed.
    threads : int, optional
        Threads per chunk; by default one per core. If several chunks are computed at a time, use fewer: 1 if as many
        chunks are computed at a time as there are cores.

    Returns
    -------
    dask array
        The result, with the shape, dtype and chunks of `array`, except that the samples of a pixel are merged into one
        chunk.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> import n2n.dask
    >>> noisy = da.from_array(np.full((2, 300, 200), 90, np.uint8), chunks=(1, 130, 170))
    >>> clean = n2n.dask.denoise(noisy, axes="ZYX")
    >>> clean.chunks == noisy.chunks, clean.compute().shape
    (True, (2, 300, 200))
    """
    array = _checked(array)
    layout = _arrays.layout(array.ndim, axes, channel_axis)
    if layout.samples is not None:
        array = array.rechunk({layout.samples: -1})
    model = _loaded(model)
    _arrays.check_dtype(array.dtype)
    found: Any = measure_range(array, model, axes, channel_axis, range)
    # Sent once for all chunks, not with each.
    sent = delayed(model, pure=True)
    options = {
        "axes": axes,
        "channel_axis": channel_axis,
        "strength": strength,
        "threads": threads,
        "ensemble": ensemble,
        "max_memory": max_memory,
    }
    size = (array.shape[layout.y], array.shape[layout.x])
    denoise_chunk = delayed(_denoise_chunk, pure=True)
    clean = np.empty(array.numblocks, object)
    for at in np.ndindex(*array.numblocks):
        spans = [_span(sizes, i) for sizes, i in zip(array.chunks, at)]
        region = (spans[layout.y], spans[layout.x])
        seen = model.block_for(region, size)
        index = list(spans)
        index[layout.y], index[layout.x] = seen
        chunk = denoise_chunk(
            sent, array[tuple(index)], (seen[0].start, seen[1].start), size, region, found, options
        )
        shape = tuple(span.stop - span.start for span in spans)
        clean[at] = da.from_delayed(chunk, shape, array.dtype)
    return da.block(clean.tolist())


def measure_range(
    array: da.Array,
    model: str | os.PathLike[str] | Model = _n2n.DEFAULT,
    axes: str | None = None,
    channel_axis: int | None = None,
    range: RangeLike = "auto",
) -> Any:
    """The values of a dask array that map to the network's 0 and 1, as a delayed `n2n.Range`.

    The result does not depend on the chunks.
    """
    array = _checked(array)
    layout = _arrays.layout(array.ndim, axes, channel_axis)
    model = _loaded(model)
    dtype = _arrays.native_name(array.dtype)
    known = model._known_bounds(range, dtype)
    if known is not None:
        return delayed(Range(*known))
    images = array.transpose(
        *layout.lead, layout.y, layout.x, *([] if layout.samples is None else [layout.samples])
    )
    if layout.samples is None:
        images = images[..., np.newaxis]
    colors = model._colors(images.shape[-1])
    images = images[..., :colors]
    height, width = images.shape[-3:-1]
    step = _survey.step(images.shape[:-1], colors)
    sample = delayed(_survey.sample, pure=True)
    samples = [
        sample(
            images[(*at, slice(y, y + _survey.PIECE), slice(x, x + _survey.PIECE))],
            (height, width),
            step,
        )
        for at in np.ndindex(*images.shape[:-3])
        for y in builtins.range(0, height, _survey.PIECE)
        for x in builtins.range(0, width, _survey.PIECE)
    ]
    return delayed(_survey.of_samples, pure=True)(delayed(model, pure=True), samples, dtype, range)


def _checked(array: object) -> da.Array:
    if not isinstance(array, da.Array):
        raise TypeError(f"array: expected a dask array, found {type(array).__name__}")
    if any(math.isnan(length) for length in array.shape):
        raise ValueError(
            f"array: expected a known shape, found {array.shape}; array.compute_chunk_sizes() finds it"
        )
    if 0 in array.shape:
        raise ValueError(f"array: expected at least one pixel, found shape {array.shape}")
    return array


def _span(sizes: tuple[int, ...], i: int) -> slice:
    start = sum(sizes[:i])
    return slice(start, start + sizes[i])


def _denoise_chunk(
    model: Model,
    block: NDArray[Any],
    origin: tuple[int, int],
    size: tuple[int, int],
    region: tuple[slice, slice],
    found: Range,
    options: dict[str, Any],
) -> NDArray[Any]:
    return model.denoise_block(block, origin, size, region, range=found, **options)
