"""Fitting a model to the images it is to denoise."""

import subprocess

import numpy as np
import pytest
import tifffile

import n2n

SHORT = {"n_feature": 4, "patchsize": 64, "time_budget": None, "n_epoch": 1, "steps_per_epoch": 1}


def counts(seed, shape=(128, 112)):
    """Counts of a camera with an offset, with noise that grows with the signal; and the same without noise."""
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    clean = 60 + 40 * np.sin(y / 9) * np.cos(x / 13)
    return (400 + np.random.default_rng(seed).poisson(clean)).astype(np.uint16), 400 + clean


@pytest.fixture(scope="module")
def untrained():
    """A small model that anything improves."""
    return n2n.train(counts(1)[0], **SHORT)


def rms(a, b):
    return np.sqrt(np.mean((a.astype(float) - b) ** 2))


def test_an_adapted_model_denoises_the_images_better(untrained, tmp_path):
    noisy, clean = counts(1)
    fractions = []
    adapted = untrained.adapt(noisy, steps=60, seed=7, callback=fractions.append)
    assert "held-out loss from" in adapted.metadata["adapted"]
    assert "adapted" not in untrained.metadata
    assert rms(adapted.denoise(noisy), clean) < 0.8 * rms(untrained.denoise(noisy), clean)
    assert fractions == sorted(fractions) and fractions[0] == 0 and 0.9 < fractions[-1] < 1
    adapted.save(tmp_path / "mine.safetensors")
    again = n2n.Model.load(tmp_path / "mine.safetensors")
    assert np.array_equal(again.denoise(noisy), adapted.denoise(noisy))


def test_the_same_steps_and_seed_give_the_same_bits(untrained):
    stack = np.stack([counts(seed)[0] for seed in range(3)])
    one = untrained.adapt(stack, axes="ZYX", steps=20, threads=1)
    other = untrained.adapt(list(stack), steps=20, threads=3)
    assert one.metadata == other.metadata
    assert np.array_equal(one.denoise(stack[0]), other.denoise(stack[0]))


def test_equal_to_predict(program, tmp_path):
    noisy = counts(1)[0]
    tifffile.imwrite(tmp_path / "noisy.tif", noisy)
    command = [program, "predict", "--adapt", "4", "--seed", "3", "--model-path", "gauss25"]
    subprocess.run(
        [*command, tmp_path / "noisy.tif", "--save-dir", tmp_path], check=True, capture_output=True
    )
    want = tifffile.imread(tmp_path / "noisy_denoise.tif")
    model = n2n.Model.load("gauss25")
    assert np.array_equal(model.adapt(noisy, steps=4, seed=3).denoise(noisy), want)
    of_file = model.adapt(tmp_path / "noisy.tif", steps=4, seed=3)
    assert np.array_equal(of_file.denoise(noisy), want)


def test_a_callback_can_end_learning_and_its_exception_ends_the_call(untrained):
    noisy = counts(1)[0]
    fractions = []

    def enough(fraction):
        fractions.append(fraction)
        return len(fractions) < 3

    adapted = untrained.adapt(noisy, time_budget="10h", callback=enough)
    assert len(fractions) < 100 and adapted.denoise(noisy).shape == noisy.shape

    def fail(fraction):
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        untrained.adapt(noisy, time_budget=3600.0, callback=fail)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32, np.float64])
def test_a_measured_range_is_in_the_units_of_the_dtype(dtype):
    noisy, clean = (values - 380 for values in counts(1))
    noisy = noisy.astype(dtype)
    # A model without a range of its own.
    untrained = n2n.train(noisy.astype(np.uint8), noise="gauss25", **SHORT)
    adapted = untrained.adapt(noisy, steps=30)
    assert "adapted" in adapted.metadata
    found = adapted.measure_range(noisy)
    low, high = float(noisy.min()), float(noisy.max())
    assert low - 40 < found.low < found.high < high + 40, found
    assert rms(adapted.denoise(noisy), clean) < rms(untrained.denoise(noisy), clean)


def test_a_range_that_was_measured_counts_as_its_two_numbers(untrained):
    noisy = counts(1)[0]
    measured = untrained.adapt(noisy, steps=4, range=n2n.Range(350.0, 600.0, True))
    numbers = untrained.adapt(noisy, steps=4, range=(350, 600))
    assert measured.metadata == numbers.metadata
    assert measured.metadata["range"] == "350,600"
    assert np.array_equal(measured.denoise(noisy), numbers.denoise(noisy))


def test_refusals(untrained):
    noisy = counts(1)[0]
    refused = [
        ((noisy,), {"steps": 2, "time_budget": "1m"}, ValueError, "one of them, found both"),
        ((noisy,), {"steps": -2}, ValueError, "steps: expected 1 or more, found -2"),
        ((noisy,), {"steps": 2.5}, TypeError, "steps: expected a whole number, found 2.5"),
        ((noisy,), {"time_budget": "soon"}, ValueError, "soon"),
        ((noisy,), {"steps": 2, "range": "percentile"}, ValueError, "range: expected 'auto'"),
        ((noisy,), {"steps": 2, "range": (5, 2)}, ValueError, "MIN below MAX"),
        ((noisy,), {"steps": 2, "range": n2n.Range(5, 2)}, ValueError, "MIN below MAX"),
        ((noisy,), {"steps": 2, "range": (1, 2, 3)}, ValueError, r"n2n.Range, found \(1, 2, 3\)"),
        ((noisy,), {"steps": 2, "threads": 0}, ValueError, "threads: expected 1 or more"),
        ((np.stack([noisy, noisy]),), {"steps": 2}, ValueError, "axes: expected 3 letters"),
        (([],), {"steps": 2}, ValueError, "at least one, found none"),
        (([noisy, noisy.astype(np.uint8)],), {"steps": 2}, ValueError, "several"),
        ((noisy.astype(object),), {"steps": 2}, TypeError, "found dtype object"),
        ((np.zeros((96, 96, 5)), "YXS"), {"steps": 2}, ValueError, "found 5"),
    ]
    for arguments, settings, kind, words in refused:
        with pytest.raises(kind, match=words):
            untrained.adapt(*arguments, **settings)
    broken = np.full((96, 96), np.nan, np.float32)
    good = noisy.astype(np.float32)
    with pytest.warns(UserWarning, match="left out: image 1"):
        untrained.adapt([good, broken], steps=2)
