"""Analyzes the noise of images before hours are spent training on them."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from . import _arrays, _checks, _n2n

#: Maximum number of pixels analyzed, over all images, in each channel.
_PIXELS = 16_000_000


class Finding(NamedTuple):
    """A property of the images that matters for training.

    Attributes
    ----------
    is_warning : bool
        Whether training on the images as they are will give poor results.
    text : str
        What was found, in one to three sentences.
    """

    is_warning: bool
    text: str


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """The result of `diagnose`. As text, and in a notebook, it shows the findings in words.

    Attributes
    ----------
    findings : tuple of Finding
        What matters for training, most severe first.
    measured : dict
        The measurements: noise against signal, its autocorrelation and more, with the keys of ``diagnosis`` in the
        file that ``n2n diagnose --json`` writes.
    summary : str
        The noise in sentences.
    """

    findings: tuple[Finding, ...]
    measured: dict[str, Any]
    summary: str

    def __str__(self) -> str:
        lines = [f"{'warning' * bad or 'note'}: {text}" for bad, text in self.findings]
        return "\n".join([self.summary, *lines])

    def __repr__(self) -> str:
        return str(self)


def diagnose(
    x: ArrayLike,
    axes: str | None = None,
    channel_axis: int | None = None,
    *,
    offset: float | None = None,
    max_images: int = 32,
) -> Diagnosis:
    """Measure the noise of an image or a stack: how strong it is, and whether neighbors share it.

    Parameters
    ----------
    x, axes, channel_axis
        As for `n2n.denoise`.
    offset : float, optional
        The value of a pixel without light, if known.
    max_images : int
        Maximum number of images to use. From a larger stack, this many are taken, evenly spaced; of large images, only
        the middle is used.

    Returns
    -------
    Diagnosis
        The findings, the measurements and a summary.

    Examples
    --------
    >>> import numpy as np
    >>> import n2n
    >>> ramp = np.tile(np.linspace(100, 400, 128), (128, 1))
    >>> noisy = np.random.default_rng(1).normal(ramp, 5).astype(np.float32)
    >>> diagnosis = n2n.diagnose(noisy)
    >>> round(diagnosis.measured["noise"][0]["levels"][1]["noise"])
    5
    """
    array = _arrays.checked(x)
    stack = _arrays.layout(array.ndim, axes, channel_axis).images(array)
    samples = stack.shape[-1]
    places = list(np.ndindex(stack.shape[:-3]))
    count = min(len(places), _checks.count(max_images, "max_images", 1))
    places = [places[i * len(places) // count] for i in range(count)]
    side = max(math.isqrt(_PIXELS // count), 64)
    height, width = stack.shape[-3:-1]
    # Aligned to 8 pixels, so that the grids of JPEG and of a color filter array stay where they are.
    top, left = (max(size - side, 0) // 2 // 8 * 8 for size in (height, width))
    stack = stack[..., top : top + side, left : left + side, : samples - (samples in (2, 4))]
    images = [_arrays.to_native(stack[at]) for at in places]
    measured, summary, findings = _n2n.diagnose(images, offset)
    return Diagnosis(
        tuple(Finding(*finding) for finding in findings), json.loads(measured), "\n".join(summary)
    )
