"""For `mypy --strict`: what users write has these types."""

from pathlib import Path
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import n2n


def users_write() -> None:
    """Never called: for the types alone."""
    image = np.zeros((8, 8), np.uint8)
    model = n2n.Model.load(Path("model.safetensors"))
    assert_type(n2n.denoise(image), NDArray[Any])
    assert_type(
        n2n.denoise(image, "gauss25", axes="YX", range=(0, 4095), progress=print), NDArray[Any]
    )
    assert_type(model.denoise(image, range="percentile", progress=False), NDArray[Any])
    assert_type(model.measure_range(image), n2n.Range)
    assert_type(model.measure_range(image).is_limit, bool)
    assert_type(model.block_for(np.s_[0:4, 0:4], (8, 8)), tuple[slice, slice])
    assert_type(model.denoise_block(image, (0, 0), (8, 8), np.s_[0:4, 0:4]), NDArray[Any])
    assert_type(model.halo, int)
    assert_type(model.metadata, dict[str, str])
    assert_type(n2n.models(), dict[str, str])
    assert_type(n2n.psnr(image, image), float)
    assert_type(n2n.ssim(image, image, channel_axis=0), float)
    n2n.denoise(image, rang=(0, 1))  # type: ignore[call-arg]
    model.denoise(image, strength="much")  # type: ignore[arg-type]
