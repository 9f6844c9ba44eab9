"""Blocks of any chunking give the whole image's result."""

import numpy as np
import pytest

from conftest import of_dtype, scene

CHUNKS = [(304, 272), (100, 300), (331, 65)]


@pytest.mark.parametrize("chunk", CHUNKS)
def test_blocks_of_any_chunking_make_the_whole(model, chunk):
    noisy = scene(331, 300).astype(np.float32)
    whole = model.denoise(noisy, range=(0, 1))
    clean = np.full_like(noisy, np.nan)
    for top in range(0, 331, chunk[0]):
        for left in range(0, 300, chunk[1]):
            part = np.s_[top : min(top + chunk[0], 331), left : min(left + chunk[1], 300)]
            seen = model.block_for(part, noisy.shape)
            origin = (seen[0].start, seen[1].start)
            clean[part] = model.denoise_block(noisy[seen], origin, noisy.shape, part, range=(0, 1))
    assert np.abs(clean - whole).max() < 1e-6


def test_blocks_may_have_other_dtypes_and_more_dimensions(model):
    for dtype in ("uint8", "int16", "float64"):
        noisy = of_dtype(scene(300, 200, 4), dtype).transpose(2, 0, 1)[np.newaxis]
        found = model.measure_range(noisy, axes="TSYX")
        whole = model.denoise(noisy, axes="TSYX", range=found)
        part = np.s_[250:300, 0:77]
        seen = model.block_for(part, (300, 200))
        origin = (seen[0].start, seen[1].start)
        clean = model.denoise_block(
            noisy[(..., *seen)], origin, (300, 200), part, axes="TSYX", range=found
        )
        assert clean.dtype == noisy.dtype and clean.shape == (1, 4, 50, 77)
        tolerance = 1 if noisy.dtype.kind in "ui" else 1e-6
        difference = clean.astype(float) - whole[(..., *part)]
        assert np.abs(difference).max() <= tolerance
        assert np.array_equal(clean[:, 3], noisy[(slice(None), 3, *part)])


def test_a_block_that_would_be_silently_wrong_is_refused(model):
    block = np.zeros((304, 272), np.uint8)
    with pytest.raises(ValueError, match="block: expected rows 160..736, columns 128..672"):
        model.denoise_block(block, (304, 272), (1000, 1000))
    # All of an image is a block, too.
    assert model.denoise_block(block, (0, 0), (304, 272)).shape == (304, 272)
    with pytest.raises(ValueError, match="within 300x272"):
        model.denoise_block(block, (0, 0), (300, 272))
    for range in ("auto", "percentile"):
        with pytest.raises(ValueError, match="the result of Model.measure_range"):
            model.denoise_block(block.astype(np.uint16), (0, 0), (304, 272), range=range)
    with pytest.raises(ValueError, match="without a step"):
        model.denoise_block(block, (0, 0), (304, 272), np.s_[0:20:2, 0:20])
    with pytest.raises(ValueError, match="origin: expected 0 or more, found -4"):
        model.denoise_block(block, (-4, 0), (304, 272))
    with pytest.raises(TypeError, match="shape: expected two whole numbers, found 304"):
        model.denoise_block(block, (0, 0), 304)
    with pytest.raises(ValueError, match="pair of slices"):
        model.block_for((0, 20), (304, 272))
    with pytest.raises(ValueError, match="at least a pixel"):
        model.denoise_block(block, (0, 0), (304, 272), np.s_[20:20, 0:20])
