"""The napari plugin: denoises a layer, previews the result, and trains on a layer.

Needs ``pip install "n2n[napari]"``.
"""

try:
    from ._widget import DenoiseWidget
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f'n2n.napari: {error}: pip install "n2n[napari]"') from error

__all__ = ["DenoiseWidget"]
