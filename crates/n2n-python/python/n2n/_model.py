"""The entry point: a model that denoises arrays."""

from __future__ import annotations

import functools
import math
import os
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _arrays, _checks, _images, _n2n, _progress
from ._arrays import Layout
from ._images import Images

#: A callback that receives the fraction done, or whether to show progress.
Progress: TypeAlias = "bool | Callable[[float], object]"

#: Rows and columns of a rectangle of pixels.
Region: TypeAlias = tuple[slice, slice]


class Range(NamedTuple):
    """The values of an array that map to the network's 0 and 1, as measured by `Model.measure_range`.

    Attributes
    ----------
    low, high : float
        In the units of the array.
    is_limit : bool
        Whether integer results are clipped to the range; if the noisy value itself lies outside, it is the limit on
        that side. True for ranges of a whole number of bits, such as 0 to 4095, because a camera produces no values
        beyond them.
    """

    low: float
    high: float
    is_limit: bool = False


#: ``"auto"``, ``"percentile"``, two numbers, or the result of `Model.measure_range`.
RangeLike: TypeAlias = "str | tuple[float, float] | Range"

#: What errors say was expected: any range, and one to adapt a model to.
_ANY_RANGE = "'auto', 'percentile', two numbers or an n2n.Range"
_ADAPTED_RANGE = "'auto', two numbers or an n2n.Range"


@dataclass(frozen=True)
class _Settings:
    dtype: str
    bounds: tuple[float, float, bool]
    strength: float
    ensemble: bool
    max_memory: int
    threads: int | None


def models() -> dict[str, str]:
    """The shipped models: a dictionary from names to descriptions.

    Examples
    --------
    >>> import n2n
    >>> n2n.models()["gauss25"]
    'RGB, Gaussian noise of level 25'
    """
    return _n2n.models()


def denoise(
    x: ArrayLike,
    model: str | os.PathLike[str] | Model = _n2n.DEFAULT,
    axes: str | None = None,
    channel_axis: int | None = None,
    range: RangeLike = "auto",
    strength: float = 1.0,
    threads: int | None = None,
    progress: Progress = True,
    *,
    ensemble: bool = False,
    max_memory: int = 2_500_000_000,
    out: NDArray[Any] | None = None,
    quality: str | None = None,
) -> NDArray[Any]:
    """Denoise an image or a stack of images.

    Parameters
    ----------
    x : array_like
        Integers or floats, with any strides and byte order; may be a memory map. It is only read, and no other thread
        may write to it during the call. In addition to the result, the call holds one image and its result as float32
        and, if the array is not uint8, uint16 or float32 in native byte order, converted copies of both.
    model : str, path or Model
        A name from `models`, a weight file, or a loaded model. Shipped models stay loaded between calls.
    axes : str, optional
        A letter for each dimension of `x`, as in tifffile: ``Y`` and ``X``, ``S`` for the samples of a pixel, and any
        other letter (``Z``, ``T``, ``C``, ...) for a dimension along which images are stacked. Optional only for
        two-dimensional arrays, not counting `channel_axis`.

        For RGB and gray models, three samples are RGB, which an RGB model denoises together; the last of two or of
        four samples is transparency and is left unchanged; with any other number, each sample is denoised as a gray
        image. An RGB image whose samples are equal in every pixel is denoised as gray. A model with another number of
        channels takes that number of samples and denoises them together.
    channel_axis : int, optional
        The dimension of the samples, as an alternative to the letter ``S``.
    range : {"auto", "percentile"}, (low, high) or Range
        The values that map to the network's 0 and 1, for all of `x`. ``auto`` is the range that the model was trained
        on, if it states one, and otherwise a range derived from the dtype and the values.
    strength : float
        The fraction of the network's change that is applied: 0 for nothing, 1 for all of it.
    threads : int, optional
        Number of threads; by default one per core. It does not change the result.
    progress : bool or callable
        Whether to show the progress of a long call on a terminal or in a notebook; or a function that is called with
        the fraction done, about twenty times a second.
    ensemble : bool
        Whether to average over the eight flips and 90° rotations, which takes eight times as long.
    max_memory : int
        Memory limit for the network and the tiles together, in bytes; the image is cut into tiles to stay within it.
    out : array, optional
        The array to write the result to, for example a memory map, with the shape and dtype of `x`. May be `x` itself,
        but not another view of its memory.
    quality : {"best", "fast"}, optional
        Use the shipped model with this trade-off between quality and speed, for the same noise as the named
        `model`.

    Returns
    -------
    array
        The result, with the shape, dtype and value range of `x`. Integers are rounded; non-finite values are unchanged.

    Raises
    ------
    ValueError
        Arguments that are invalid or contradict each other.
    TypeError
        A dtype other than integers or floats.
    FileNotFoundError
        No model has this name.

    Examples
    --------
    >>> import numpy as np
    >>> import n2n
    >>> stack = np.random.default_rng(1).poisson(90, (3, 40, 50)).astype(np.uint16)
    >>> clean = n2n.denoise(stack, axes="ZYX", range=(0, 255))
    >>> bool(clean.std() < stack.std()), clean.dtype
    (True, dtype('uint16'))
    """
    if quality is not None:
        if isinstance(model, Model):
            raise ValueError("quality: expected the name of a shipped model, found a loaded model")
        model = _n2n.of_quality(os.fspath(model), quality)
    model = _loaded(model)
    return model.denoise(
        x,
        axes,
        channel_axis,
        range,
        strength,
        threads,
        progress,
        ensemble=ensemble,
        max_memory=max_memory,
        out=out,
    )


class Model:
    """A trained network.

    Created by `Model.load`, `Model.adapt` or `n2n.train`. Calls from several threads run at the same time, without
    holding the GIL, and share the weights. Ctrl-C interrupts a call. Models can be pickled, and used after a fork.

    Examples
    --------
    >>> import n2n
    >>> model = n2n.Model.load("gauss25")
    >>> model
    <n2n.Model gauss25, 3 channels>
    """

    _native: _n2n.Model
    _name: str | None

    def __init__(self) -> None:
        raise TypeError("use n2n.Model.load to create a model")

    @classmethod
    def _of(cls, native: _n2n.Model, name: str | None = None) -> Model:
        model = cls.__new__(cls)
        model._native, model._name = native, name
        return model

    @classmethod
    def load(cls, name_or_file: str | os.PathLike[str]) -> Model:
        """Load a model.

        Parameters
        ----------
        name_or_file : str or path
            A weight file (safetensors, ONNX as written by `save`, PyTorch's ``.pth``, Paddle's ``.pdparams``; loading
            runs no code from it), or a name from `models`.

        Raises
        ------
        FileNotFoundError
            It is neither a file nor the name of a shipped model.
        ValueError
            The file does not contain a model.
        """
        path = os.fspath(name_or_file)
        native = _n2n.Model.load(path)
        # A file takes precedence over a name.
        return cls._of(native, path if path in _n2n.models() and not os.path.isfile(path) else None)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model, whole or not at all: ONNX if the name ends in ``.onnx``, otherwise safetensors."""
        self._native.save(path)

    def __reduce__(self) -> tuple[Callable[..., Model], tuple[str | bytes]]:
        # Weights then need not be sent to the workers of a cluster.
        if self._name is not None:
            return _loaded, (self._name,)
        return _from_bytes, (self._native.to_bytes(),)

    def __repr__(self) -> str:
        # A model of noisy images has the noise "none".
        name = self._name or self.metadata.get("noise", "none")
        named = "" if name == "none" else f" {name}"
        return f"<n2n.Model{named}, {self.channels} channel{'s' * (self.channels > 1)}>"

    @property
    def channels(self) -> int:
        """Number of samples per pixel that the network processes together: 1 for gray, 3 for RGB."""
        return self._native.channels

    @property
    def takes_gray(self) -> bool:
        """Whether single channels are denoised by a gray network.

        The gray network is this model, or the gray companion of a shipped RGB model. An RGB model without one removes
        little of their noise, because it expects noise that differs between the channels.
        """
        return self._native.takes_gray

    @property
    def halo(self) -> int:
        """Number of pixels around a part of an image that its result depends on, if the part lies on the grid."""
        return self._native.halo

    @property
    def multiple(self) -> int:
        """Side of the cells of the network's grid in pixels; the grid begins at the image's top left pixel."""
        return self._native.multiple

    @property
    def metadata(self) -> dict[str, str]:
        """The metadata of the model's file as a dictionary of strings: noise, training, license."""
        return self._native.metadata

    def denoise(
        self,
        x: ArrayLike,
        axes: str | None = None,
        channel_axis: int | None = None,
        range: RangeLike = "auto",
        strength: float = 1.0,
        threads: int | None = None,
        progress: Progress = True,
        *,
        ensemble: bool = False,
        max_memory: int = 2_500_000_000,
        out: NDArray[Any] | None = None,
    ) -> NDArray[Any]:
        """Denoise an image or a stack of images; see `n2n.denoise`."""
        array = _arrays.checked(x)
        layout = _arrays.layout(array.ndim, axes, channel_axis)
        if out is None:
            out = np.empty_like(array, subok=False)
        else:
            _checks.output(out, array)
        name = _arrays.native_name(array.dtype)
        bounds = self._bounds(range, array, layout)
        settings = _settings(name, bounds, strength, ensemble, max_memory, threads)
        noisy, clean = layout.images(array), layout.images(out)
        planes = list(np.ndindex(noisy.shape[:-3]))
        with _progress.shown(progress) as told:
            for done, at in enumerate(planes):
                share = None if told is None else _share(told, done, len(planes))
                denoise = functools.partial(
                    self._native.denoise, settings=settings, on_progress=share
                )
                clean[at] = self._plane(noisy[at], denoise)
            if told is not None:
                told(1.0)
        return out

    def measure_range(
        self,
        x: ArrayLike,
        axes: str | None = None,
        channel_axis: int | None = None,
        range: RangeLike = "auto",
    ) -> Range:
        """The values of an array that map to the network's 0 and 1.

        Pass the result as `range` to `denoise`, so that several arrays share one range, or to `denoise_block` for the
        parts of `x`.

        Examples
        --------
        >>> import numpy as np
        >>> import n2n
        >>> model = n2n.Model.load("gauss25")
        >>> stack = np.random.default_rng(1).integers(0, 4096, (2, 64, 64), dtype=np.uint16)
        >>> model.measure_range(stack, axes="ZYX")
        Range(low=0.0, high=4095.0, is_limit=True)
        """
        array = _arrays.checked(x)
        return Range(*self._bounds(range, array, _arrays.layout(array.ndim, axes, channel_axis)))

    def block_for(self, region: Region, shape: tuple[int, int]) -> Region:
        """The part of an image that `denoise_block` needs to denoise `region`.

        Parameters
        ----------
        region : pair of slices
            Rows and columns to denoise.
        shape : pair of int
            Height and width of the image.

        Returns
        -------
        pair of slices

        Examples
        --------
        >>> import numpy as np
        >>> import n2n
        >>> n2n.Model.load("gauss25").block_for(np.s_[304:608, 544:816], (2048, 2048))
        (slice(160, 736, None), slice(416, 960, None))
        """
        shape = _checks.pair(shape, "shape")
        top, left, height, width = self._native.block_for(_rectangle(region, shape), shape)
        return slice(top, top + height), slice(left, left + width)

    def denoise_block(
        self,
        block: ArrayLike,
        origin: tuple[int, int],
        shape: tuple[int, int],
        region: Region | None = None,
        axes: str | None = None,
        channel_axis: int | None = None,
        range: RangeLike = "auto",
        strength: float = 1.0,
        threads: int | None = None,
        *,
        ensemble: bool = False,
        max_memory: int = 2_500_000_000,
    ) -> NDArray[Any]:
        """Denoise a part of an image that is too large for memory, with the same result as for the whole.

        Parameters
        ----------
        block : array_like
            A part of the image that contains everything that `block_for` returns for `region`.
        origin : pair of int
            Row and column of the block's first pixel.
        shape : pair of int
            Height and width of the image.
        region : pair of slices, optional
            Rows and columns of the image to denoise; by default those of the block.
        axes, channel_axis, strength, threads, ensemble, max_memory
            As for `n2n.denoise`; `origin`, `shape` and `region` refer to ``Y`` and ``X``.
        range : (low, high) or Range
            The range of the whole image: the result of `measure_range`, or two numbers. ``auto`` is accepted only if
            the model states a range, which is then used, or for uint8, for which the range is otherwise 0 to 255.

        Returns
        -------
        array
            The result, with the dtype and dimensions of `block` and the height and width of `region`.

        Raises
        ------
        ValueError
            The block lacks pixels that the network sees for `region`, or no range is given: the result would be wrong
            without any sign of it.

        Examples
        --------
        >>> import numpy as np
        >>> import n2n
        >>> model = n2n.Model.load("gauss25")
        >>> image = np.random.default_rng(1).integers(0, 256, (300, 500), dtype=np.uint8)
        >>> part = np.s_[200:250, 450:500]
        >>> seen = model.block_for(part, image.shape)
        >>> origin = (seen[0].start, seen[1].start)
        >>> clean = model.denoise_block(image[seen], origin, image.shape, part)
        >>> np.abs(clean.astype(int) - model.denoise(image)[part]).max() <= 1
        np.True_
        """
        array = _arrays.checked(block, "block")
        layout = _arrays.layout(array.ndim, axes, channel_axis)
        height, width = array.shape[layout.y], array.shape[layout.x]
        origin, shape = _checks.pair(origin, "origin"), _checks.pair(shape, "shape")
        if region is None:
            rectangle = (*origin, height, width)
        else:
            rectangle = _rectangle(region, shape)
        name = _arrays.native_name(array.dtype)
        bounds = self._known_bounds(range, name)
        if bounds is None and range == "auto" and name == "uint8":
            bounds = (0.0, 255.0, True)
        if bounds is None:
            raise ValueError(
                f"range of a block: expected two numbers, or the result of Model.measure_range on the "
                f"whole image, found {range!r}"
            )
        settings = _settings(name, bounds, strength, ensemble, max_memory, threads)
        out_shape = list(array.shape)
        out_shape[layout.y], out_shape[layout.x] = rectangle[2:]
        out = np.empty(out_shape, array.dtype)
        noisy, clean = layout.images(array), layout.images(out)
        top, left = rectangle[0] - origin[0], rectangle[1] - origin[1]
        kept = (slice(top, top + rectangle[2]), slice(left, left + rectangle[3]))
        denoise = functools.partial(
            self._native.denoise_block,
            origin=origin,
            shape=shape,
            region=rectangle,
            settings=settings,
            on_progress=None,
        )
        for at in np.ndindex(noisy.shape[:-3]):
            clean[at] = self._plane(noisy[at], denoise, kept)
        return out

    def adapt(
        self,
        images: Images,
        axes: str | None = None,
        channel_axis: int | None = None,
        time_budget: str | float | None = None,
        callback: Callable[[float], object] | None = None,
        progress: bool = True,
        *,
        steps: int | None = None,
        range: RangeLike = "auto",
        seed: int = 0,
        threads: int | None = None,
    ) -> Model:
        """Fit a copy of the model to the noise of the images that it is going to denoise.

        Part of the images is held out; a stage of the fitting that does not lower the loss there by more than chance
        would explain is dropped. If this is a shipped model, the others of its quality and number of channels are tried
        too; if it is one for RGB and the images are gray, the gray companions take their place.
        ``n2n predict --adapt`` does the same; docs/adapt.md describes the method and its limits.

        Parameters
        ----------
        images : array, list of arrays, folder, or list of files
            As for `n2n.train`, all with the same dtype and the same noise.
        axes, channel_axis
            As for `n2n.denoise`, for each array.
        time_budget : str or float, optional
            Time for learning, as ``"1m 30s"`` or in seconds; by default 3 minutes.
        callback : callable, optional
            Called for every step with the fraction of the budget that has passed. If it returns ``False``, learning
            ends, and the model includes whatever has helped so far.
        progress : bool
            Whether to show progress on a terminal or in a notebook.
        steps : int, optional
            A number of steps instead of a time: the same seed, images and model then give the same result, bit for bit,
            on any number of threads.
        range : "auto", (low, high) or Range
            The values that map to the network's 0 and 1; ``auto`` is the range that the model was trained on, if it
            states one; otherwise, the range that `denoise` would use and one measured on the images are both tried.
        seed : int
            Seed of all random draws.
        threads : int, optional
            Number of threads; by default one per core.

        Returns
        -------
        Model
            Its metadata contain the range and the transform, which `denoise` applies, and an entry ``adapted`` that
            says what was chosen and by how much the loss fell. If nothing helped, there is no such entry, and the model
            is unchanged, except that it states the range if one was given.

        Warns
        -----
        UserWarning
            An image is skipped; the warning says why.

        Raises
        ------
        ValueError
            No usable image, images of several dtypes, or an invalid budget.
        KeyboardInterrupt
            Ctrl-C was pressed; what was learned is lost.

        Examples
        --------
        >>> import numpy as np
        >>> import n2n
        >>> stack = np.random.default_rng(1).poisson(90, (2, 64, 64)).astype(np.uint16)
        >>> model = n2n.Model.load("gauss25").adapt(stack, axes="ZYX", steps=2)
        >>> model.denoise(stack, axes="ZYX").shape
        (2, 64, 64)
        """
        if steps is not None and time_budget is not None:
            raise ValueError("time_budget and steps: expected one of them, found both")
        if steps is not None:
            budget = str(_checks.count(steps, "steps", 1))
        else:
            budget = _images.time_text("3m" if time_budget is None else time_budget)
        if isinstance(range, Range):
            range = (range.low, range.high)
        elif range == "percentile":
            raise ValueError(f"range: expected {_ADAPTED_RANGE}, found 'percentile'")
        source, _ = _images.source(images, axes, channel_axis, self.channels)
        others = [] if self._name is None else _n2n.others(self._name)
        models = [self, *map(_shipped, others)]
        with _progress.shown(progress) as told:

            def on_event(kind: str, what: Any) -> object:
                if kind == "skipped":
                    warnings.warn(f"left out: {what}", stacklevel=3)
                    return None
                if told is not None:
                    told(what)
                return None if callback is None else callback(what)

            adapted = _n2n.adapt(
                [model._native for model in models],
                source,
                budget,
                _range_words(range, _ADAPTED_RANGE),
                _checks.count(seed, "seed"),
                _checks.threads(threads),
                on_event,
            )
        return Model._of(adapted)

    def free_scratch(self) -> None:
        """Free the scratch memory that calls keep for the next one."""
        self._native.free_scratch()

    def _plane(
        self,
        plane: NDArray[Any],
        denoise: Callable[[NDArray[Any]], NDArray[Any]],
        kept: Region = (slice(None), slice(None)),
    ) -> NDArray[Any]:
        """An image of height x width x samples, or the part `kept` of it, denoised by a function for images."""
        colors = self._colors(plane.shape[-1])
        if colors != 3 and self.channels == 3 and not self.takes_gray:
            warnings.warn(
                "a gray image was denoised by an RGB model, which removes little of its noise; use the model "
                f"{_n2n.GRAY!r} or train one on gray images",
                stacklevel=3,
            )
        native = _arrays.to_native(plane[..., :colors])
        clean = denoise(native)
        clean = _arrays.from_native(plane[..., :colors][kept], native[kept], clean)
        if colors == plane.shape[-1]:
            return clean
        return np.concatenate([clean, plane[..., colors:][kept]], axis=-1)

    def _colors(self, samples: int) -> int:
        """The number of samples of a pixel that are not transparency."""
        return samples - 1 if samples in (2, 4) and self.channels in (1, 3) else samples

    def _bounds(
        self, range: RangeLike, array: NDArray[Any], layout: Layout
    ) -> tuple[float, float, bool]:
        name = _arrays.native_name(array.dtype)
        bounds = self._known_bounds(range, name)
        if bounds is None:
            images = layout.images(array)
            colors = self._colors(images.shape[-1])
            planes = (images[at][..., :colors] for at in np.ndindex(images.shape[:-3]))
            bounds = self._surveyed(range, name, planes)
        return bounds

    def _known_bounds(self, range: RangeLike, name: str) -> tuple[float, float, bool] | None:
        """The range, if it does not have to be measured."""
        if isinstance(range, Range):
            low, high = float(range.low), float(range.high)
            if not low < high or not math.isfinite(high - low):
                raise ValueError(f"range: expected low below high, found {range}")
            return low, high, bool(range.is_limit)
        return self._native.bounds(_range_words(range), name, None)

    def _surveyed(
        self, range: RangeLike, name: str, planes: Iterable[NDArray[Any]]
    ) -> tuple[float, float, bool]:
        """The range of images of height x width x colors."""
        survey = _n2n.Survey()
        for plane in planes:
            if not survey.add(_arrays.to_native(plane), name):
                break
        bounds = self._native.bounds(_range_words(range), name, survey)
        assert bounds is not None, "there is a survey"
        return bounds


@functools.lru_cache(maxsize=8)
def _shipped(name: str) -> Model:
    return Model.load(name)


def _loaded(model: str | os.PathLike[str] | Model) -> Model:
    if isinstance(model, Model):
        return model
    path = os.fspath(model)
    return Model.load(path) if os.path.isfile(path) else _shipped(path)


def _from_bytes(weights: bytes) -> Model:
    return Model._of(_n2n.Model.from_bytes(weights))


def _range_words(range: RangeLike, expected: str = _ANY_RANGE) -> str:
    if isinstance(range, str):
        return range
    try:
        bounds = [float(bound) for bound in range]
    except (TypeError, ValueError):
        bounds = []
    if len(bounds) != 2:
        raise ValueError(f"range: expected {expected}, found {range!r}")
    return f"{bounds[0]!r},{bounds[1]!r}"


def _settings(
    dtype: str,
    bounds: tuple[float, float, bool],
    strength: float,
    ensemble: bool,
    max_memory: int,
    threads: int | None,
) -> _Settings:
    return _Settings(
        dtype,
        bounds,
        _checks.real(strength, "strength"),
        bool(ensemble),
        _checks.count(max_memory, "max_memory"),
        _checks.threads(threads),
    )


def _rectangle(region: Region, shape: tuple[int, int]) -> tuple[int, int, int, int]:
    try:
        rows, columns = region
        spans = [rows.indices(shape[0]), columns.indices(shape[1])]
    except (TypeError, ValueError, AttributeError):
        raise ValueError(
            f"region: expected a pair of slices, such as np.s_[0:64, 32:96], found {region!r}"
        ) from None
    (top, bottom, down), (left, right, across) = spans
    if down != 1 or across != 1:
        raise ValueError(f"region: expected slices without a step, found {region!r}")
    return top, left, max(bottom - top, 0), max(right - left, 0)


def _share(told: Callable[[float], object], done: int, total: int) -> Callable[[float], object]:
    return lambda fraction: told((done + fraction) / total)
