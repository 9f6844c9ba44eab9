"""Training on noisy images."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

from . import _checks, _images, _n2n, _progress
from ._images import Images
from ._model import Model


class TrainStep(NamedTuple):
    """A training step, as passed to the callback.

    Attributes
    ----------
    passed : float
        The fraction of the run that has passed, 0 to 1.
    epoch, iteration : int
        Both counted from 1.
    loss : float or None
        The loss before the step; ``None`` if it is not known yet.
    left_s : float
        Estimated seconds left.
    """

    passed: float
    epoch: int
    iteration: int
    loss: float | None
    left_s: float


def train(
    images: Images,
    axes: str | None = None,
    channel_axis: int | None = None,
    noise: str = "none",
    time_budget: str | float | None = "30m",
    callback: Callable[[TrainStep], object] | None = None,
    progress: bool = True,
    *,
    recipe: str = "fast",
    threads: int | None = None,
    **settings: str | float | bool,
) -> Model:
    """Train a model on noisy images, or on clean ones to which noise is added.

    Parameters
    ----------
    images : array, list of arrays, folder, or list of files
        Arrays of integers or floats, as for `n2n.denoise`. Images smaller than a patch are padded by reflection. Arrays
        may have different dtypes, but then no range is measured. Files may have any format that ``n2n train`` reads.
    axes, channel_axis
        As for `n2n.denoise`, for each array. Arrays with three samples are RGB and give an RGB model. With
        ``n_channel=5``, five samples are channels that the network processes together; at most 16.
    noise : str
        ``none`` for images that are already noisy; ``gauss25``, ``poisson5_50``, ``poisson10+gauss5`` and so on add noise
        to clean ones.
    time_budget : str or float, optional
        Time for training, as ``"1h 30m"`` or in seconds; if ``None``, give ``n_epoch`` instead.
    callback : callable, optional
        Called once for every step, shortly after it. If it returns ``False``, training ends, and the model is what has
        been learned so far.
    progress : bool
        Whether to show progress on a terminal or in a notebook.
    recipe : {"fast", "paper"}
        The defaults of the other settings.
    threads : int, optional
        Number of threads; by default one per core. Without a time budget, it does not change the result.
    **settings
        The other settings of ``n2n train --help``, with underscores: ``patchsize``, ``n_feature``, ``seed``...

    Returns
    -------
    Model
        The best of all epochs: by an estimate of its error on noisy images that are held out, or by the loss on them.
        Without such images, the last. If a range was measured (as for images that are already noisy) or given, the
        model states it, and ``range="auto"`` then means that range.

    Warns
    -----
    UserWarning
        An image is skipped (the warning says why), all pixels of all images have the same value, or the network fails
        on whole images after an epoch.

    Raises
    ------
    ValueError
        Invalid settings, or no usable image.
    RuntimeError
        Training diverged, or a loss is not finite.
    KeyboardInterrupt
        Ctrl-C was pressed; what was learned is lost. To stop and keep the model, return ``False`` from the callback.

    Examples
    --------
    >>> import numpy as np
    >>> import n2n
    >>> stack = np.random.default_rng(1).poisson(90, (4, 96, 96)).astype(np.uint16)
    >>> model = n2n.train(
    ...     stack, axes="ZYX", time_budget=None, n_epoch=1, steps_per_epoch=2, n_feature=4, patchsize=64
    ... )
    >>> model.channels, model.metadata["range_type"]
    (1, 'uint16')
    """
    wanted = settings.get("n_channel")
    source, channels = _images.source(
        images, axes, channel_axis, wanted if isinstance(wanted, int) else None
    )
    if channels is not None:
        settings.setdefault("n_channel", channels)
    settings.update(recipe=recipe, noisetype=noise)
    if time_budget is not None:
        settings["time_budget"] = _images.time_text(time_budget)
    started = time.monotonic()
    with _progress.shown(progress) as told:

        def on_event(kind: str, what: Any) -> object:
            if kind == "skipped":
                warnings.warn(f"left out: {what}", stacklevel=3)
            if kind == "warning":
                warnings.warn(what, stacklevel=3)
            if kind != "step":
                return None
            passed, epoch, iteration, loss = what
            left = (time.monotonic() - started) * (1 / passed - 1) if passed > 0 else float("inf")
            if told is not None:
                told(passed)
            if callback is None:
                return None
            return callback(TrainStep(passed, epoch, iteration, loss, left))

        return Model._of(_n2n.train(source, settings, _checks.threads(threads), on_event))
