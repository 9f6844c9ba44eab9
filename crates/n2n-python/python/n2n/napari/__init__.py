"""The plugin for napari: denoise a layer, see it before, train on it. Needs ``pip install "n2n[napari]"``."""

from ._widget import DenoiseWidget

__all__ = ["DenoiseWidget"]
