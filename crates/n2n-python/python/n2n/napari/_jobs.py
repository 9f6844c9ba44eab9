"""The background work of the widget."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from typing import Any

import numpy as np
from napari.layers import Image
from napari.qt.threading import thread_worker
from numpy.typing import NDArray

import n2n
from n2n import Model, Range, TrainStep
from n2n._model import _loaded


class Canceled(Exception):
    """The work was stopped with the Cancel button."""


class Cancel:
    """A request to stop work."""

    def __init__(self) -> None:
        self._asked = threading.Event()

    def ask(self) -> None:
        """Requests the stop."""
        self._asked.set()

    def check(self) -> None:
        """Raises `Canceled` if a stop has been requested."""
        if self._asked.is_set():
            raise Canceled

    @property
    def asked(self) -> bool:
        """Whether a stop has been requested."""
        return self._asked.is_set()


def axes_of(layer: Image) -> str:
    """The letters of a layer's dimensions: images are stacked along all but the last two."""
    lead = layer.ndim - 2
    return "ABDEFGHIJK"[:lead] + "YX" + "S" * int(layer.rgb)


def pixels_of(layer: Image) -> Any:
    """The data of a layer, at full resolution."""
    return layer.data[0] if layer.multiscale else layer.data


def visible(layer: Image) -> tuple[slice, slice] | None:
    """Rows and columns of the layer's data that are visible; ``None`` if there are none."""
    (top, left), (bottom, right) = np.asarray(layer.corner_pixels)[:, -2:]
    if layer.multiscale:
        factors = np.asarray(layer.downsample_factors[layer.data_level])[-2:]
        (top, left), (bottom, right) = (top, left) * factors, (bottom, right) * factors
    height, width = _size(layer)
    rows = slice(max(int(top), 0), min(int(bottom) + 1, height))
    columns = slice(max(int(left), 0), min(int(right) + 1, width))
    return (rows, columns) if rows.start < rows.stop and columns.start < columns.stop else None


def _size(layer: Image) -> tuple[int, int]:
    shape = pixels_of(layer).shape
    return (shape[-3], shape[-2]) if layer.rgb else (shape[-2], shape[-1])


@thread_worker(start_thread=False)
def denoise(
    layer: Image,
    model: str | Model,
    strength: float,
    region: tuple[slice, slice] | None,
    cancel: Cancel,
) -> Generator[float, None, NDArray[Any] | None]:
    """Denoises a layer, or a region of all its images; ``None`` if canceled. Yields the fraction done."""
    # A worker reports what it yields; the work is a single call, so it runs in another thread.
    told: list[float] = [0.0]
    result: list[Any] = []

    def tell(fraction: float) -> None:
        cancel.check()
        told[0] = fraction

    def work() -> None:
        try:
            data = pixels_of(layer)
            if region is not None:
                data = data[(..., *region, slice(None))] if layer.rgb else data[(..., *region)]
            result.append(
                n2n.denoise(
                    np.asarray(data), model, axes_of(layer), strength=strength, progress=tell
                )
            )
        except BaseException as error:
            result.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.05)
        yield told[0]
    if isinstance(result[0], Canceled):
        return None
    if isinstance(result[0], BaseException):
        raise result[0]
    clean: NDArray[Any] = result[0]
    return clean


@thread_worker(start_thread=False)
def preview(
    layer: Image,
    model: str | Model,
    at: tuple[int, ...],
    region: tuple[slice, slice],
    found: Range | None,
) -> tuple[NDArray[Any], NDArray[Any], Range]:
    """A region of one image of a layer before and after denoising, and the range of the layer."""
    model = _loaded(model)
    data = pixels_of(layer)
    if found is None:
        found = model.measure_range(_some(layer), axes_of(layer))
    image = data[at]
    size = _size(layer)
    seen = model.block_for(region, size)
    block = np.asarray(image[seen])
    origin = (seen[0].start, seen[1].start)
    axes = "YXS" if layer.rgb else "YX"
    clean = model.denoise_block(block, origin, size, region, axes, range=found)
    return np.asarray(image[region]), clean, found


def _some(layer: Image, most: int = 8) -> NDArray[Any]:
    """The images of a layer, or a selection if there are many."""
    data = pixels_of(layer)
    lead = layer.ndim - 2
    return np.asarray(data[tuple(slice(None, None, -(-n // most)) for n in data.shape[:lead])])


@thread_worker(start_thread=False)
def train(
    layer: Image, time_budget: str, cancel: Cancel, settings: dict[str, Any]
) -> Generator[TrainStep, None, Model]:
    """Trains a model on a layer's images. Yields the steps; if canceled, returns what has been learned."""
    steps: list[TrainStep] = []
    result: list[Any] = []

    def tell(step: TrainStep) -> bool:
        steps.append(step)
        return not cancel.asked

    def work() -> None:
        try:
            data = np.asarray(pixels_of(layer))
            budget = None if "n_epoch" in settings else time_budget
            result.append(
                n2n.train(
                    data,
                    axes_of(layer),
                    time_budget=budget,
                    callback=tell,
                    progress=False,
                    **settings,
                )
            )
        except BaseException as error:
            result.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    taken = 0
    while thread.is_alive() or taken < len(steps):
        time.sleep(0.05)
        for step in steps[taken:]:
            taken += 1
            yield step
    if isinstance(result[0], BaseException):
        raise result[0]
    model: Model = result[0]
    return model
