"""What `diagnose` reports about noise agrees with how the noise was made."""

from types import SimpleNamespace

import numpy as np
import pytest

import n2n
from n2n import _diagnose


def ramp(noise, frames=1):
    signal = np.tile(np.linspace(200, 900, 192), (192, 1))
    random = np.random.default_rng(1)
    return np.stack([signal + noise(signal, random) for _ in range(frames)])


def test_the_strength_of_noise_is_measured():
    stack = ramp(lambda signal, random: random.normal(0, 12, signal.shape), 3)
    for dtype in (np.float32, np.uint16, np.int32, np.float64):
        diagnosis = n2n.diagnose(stack.astype(dtype), axes="ZYX")
        levels = diagnosis.measured["noise"][0]["levels"]
        assert levels[1]["noise"] == pytest.approx(12, rel=0.1)
        assert diagnosis.measured["images"] == 3
    assert diagnosis.summary in str(diagnosis)


def test_noise_that_neighbors_share_is_a_warning():
    def shared(signal, random):
        noise = random.normal(0, 20, signal.shape)
        return (noise + np.roll(noise, 1, axis=1)) / 2**0.5

    good = n2n.diagnose(ramp(lambda signal, random: random.normal(0, 20, signal.shape))[0])
    bad = n2n.diagnose(ramp(shared)[0])
    assert not any(finding.is_warning for finding in good.findings)
    assert any(finding.is_warning for finding in bad.findings)
    assert "warning: " in str(bad) and repr(bad) == str(bad)


def test_a_crop_keeps_the_grid_of_blocks(monkeypatch):
    seen = []

    def look(images, offset):
        seen.extend(images)
        return "{}", [], []

    monkeypatch.setattr(_diagnose, "_PIXELS", 64 * 64)
    monkeypatch.setattr(_diagnose, "_n2n", SimpleNamespace(diagnose=look))
    y, x = np.mgrid[0:90, 0:101].astype(np.float32)
    n2n.diagnose(1000 * y + x)
    # 13 rows and 18 columns are left on either side, of which 8 and 16 are whole blocks.
    assert seen[0].shape[:2] == (64, 64) and seen[0].ravel()[0] == 8016


def test_refusals():
    with pytest.raises(ValueError, match="max_images: expected 1 or more, found 0"):
        n2n.diagnose(np.zeros((32, 32)), max_images=0)
    with pytest.raises(ValueError, match="axes"):
        n2n.diagnose(np.zeros((2, 32, 32)))
    with pytest.raises(TypeError, match="dtype"):
        n2n.diagnose(np.zeros((32, 32), bool))
