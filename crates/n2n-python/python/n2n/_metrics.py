"""Scores of the paper's evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _n2n


def psnr(clean: ArrayLike, denoised: ArrayLike) -> float:
    """Peak signal-to-noise ratio of two 8-bit images, as the paper computes it.

    Parameters
    ----------
    clean, denoised : array of uint8
        Both of the same shape, with any number of dimensions.

    Returns
    -------
    float
        ``10 * log10(255**2 / mean((clean - denoised)**2))`` in dB; infinite for equal arrays.

    Raises
    ------
    TypeError
        An array is not uint8. Round other arrays first, as ``n2n val`` does:
        ``(x * 255 + 0.5).clip(0, 255).astype(np.uint8)`` for ``x`` from 0 to 1.
    ValueError
        The shapes differ, or there are no pixels.

    Examples
    --------
    >>> import numpy as np, n2n
    >>> clean = np.full((32, 32), 100, np.uint8)
    >>> round(n2n.psnr(clean, clean + np.uint8(5)), 2)
    34.15
    """
    a, b = _bytes(clean, denoised)
    return _n2n.psnr(a.reshape(-1, 1, 1), b.reshape(-1, 1, 1))


def ssim(clean: ArrayLike, denoised: ArrayLike, *, channel_axis: int | None = None) -> float:
    """Structural similarity of two 8-bit images, as the paper computes it.

    Parameters
    ----------
    clean, denoised : array of uint8
        Images of the same shape, at least 11 pixels high and wide.
    channel_axis : int, optional
        The dimension of the channels; the result is the mean over them. Without it, the images are gray.

    Returns
    -------
    float
        The mean structural similarity; 1 for equal images.

    Raises
    ------
    TypeError
        An array is not uint8.
    ValueError
        The shapes differ, or an image is too small for the window of 11 x 11 pixels.

    Examples
    --------
    >>> import numpy as np, n2n
    >>> clean = np.arange(32 * 32, dtype=np.uint8).reshape(32, 32)
    >>> n2n.ssim(clean, clean)
    1.0
    """
    a, b = _bytes(clean, denoised)
    if channel_axis is not None:
        a, b = np.moveaxis(a, channel_axis, -1), np.moveaxis(b, channel_axis, -1)
    else:
        a, b = a[..., np.newaxis], b[..., np.newaxis]
    if a.ndim != 3:
        raise ValueError(
            f"expected images of two dimensions, or of three with channel_axis, found shape {np.shape(clean)}"
        )
    return _n2n.ssim(a, b)


def _bytes(clean: ArrayLike, denoised: ArrayLike) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    a, b = np.asarray(clean), np.asarray(denoised)
    for name, array in (("clean", a), ("denoised", b)):
        if array.dtype != np.uint8:
            raise TypeError(f"{name}: expected an array of uint8, found {_described(array)}")
    if a.shape != b.shape or a.size == 0:
        raise ValueError(
            f"expected two images of the same shape with at least one pixel, found {a.shape} and {b.shape}"
        )
    return a, b


def _described(array: NDArray[Any]) -> str:
    return f"{array.dtype} of shape {array.shape}"
