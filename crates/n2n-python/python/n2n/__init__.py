"""Neighbor2Neighbor: denoise images, and train on noisy images alone.

>>> import numpy as np
>>> import n2n
>>> noisy = np.random.default_rng(1).normal(120, 25, (64, 80)).clip(0, 255).astype(np.uint8)
>>> clean = n2n.denoise(noisy)
>>> clean.shape, clean.dtype
((64, 80), dtype('uint8'))

For arrays with more than two dimensions, ``axes`` names each dimension by a letter: ``axes="ZYX"`` is a stack of
images, ``axes="YXS"`` an RGB image. The result has the dtype, shape and value range of the array.

`n2n.dask` denoises arrays that are larger than memory, or on a cluster; ``python -m n2n zarr IN OUT``
denoises an OME-Zarr.
"""

from ._diagnose import Diagnosis, Finding, diagnose
from ._metrics import psnr, ssim
from ._model import Model, Range, denoise, models
from ._n2n import __version__
from ._train import TrainStep, train

__all__ = [
    "Diagnosis",
    "Finding",
    "Model",
    "Range",
    "TrainStep",
    "__version__",
    "denoise",
    "diagnose",
    "models",
    "psnr",
    "ssim",
    "train",
]
