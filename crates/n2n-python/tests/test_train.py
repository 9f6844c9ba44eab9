"""Training on arrays and files, and what a callback can do."""

import numpy as np
import pytest
import tifffile

import n2n
from n2n import _images
from conftest import of_dtype, scene

SHORT = {"n_feature": 4, "patchsize": 64, "batchsize": 2, "time_budget": None}


def test_a_model_of_noisy_images_denoises_them():
    stack = np.stack([of_dtype(scene(128, 128, seed=seed), np.uint16) // 20 for seed in range(4)])
    steps = []
    model = n2n.train(
        stack, axes="ZYX", n_epoch=4, steps_per_epoch=60, lr=3e-3, callback=steps.append, **SHORT
    )
    assert model.channels == 1 and model.metadata["range_type"] == "uint16"
    assert repr(model) == "<n2n.Model, 1 channel>"
    assert [step.passed for step in steps] == sorted(step.passed for step in steps)
    assert steps[-1].epoch == 4 and steps[-1].iteration == 60 and steps[-1].left_s < 1
    losses = [step.loss for step in steps if step.loss is not None]
    assert np.mean(losses[-20:]) < np.mean(losses[:20])
    denoised = model.denoise(stack, axes="ZYX")
    assert denoised.dtype == np.uint16
    # The noise is independent, the picture the same: what is left differs less between the images.
    assert np.std(denoised[0].astype(float) - denoised[1]) < 0.5 * np.std(
        stack[0].astype(float) - stack[1]
    )


def test_the_same_from_files_as_from_arrays(tmp_path):
    stack = np.stack([of_dtype(scene(96, 96, seed=seed), np.uint8) for seed in range(3)])
    for name, image in zip("abc", stack):
        tifffile.imwrite(tmp_path / f"{name}.tif", image)
    settings = {"n_epoch": 1, "steps_per_epoch": 3, "n_channel": 1, **SHORT}
    of_folder = n2n.train(tmp_path, **settings)
    of_files = n2n.train([tmp_path / "a.tif", tmp_path / "b.tif", tmp_path / "c.tif"], **settings)
    again = n2n.train(list(stack), threads=1, **settings)
    want = of_folder.denoise(stack[0])
    assert np.array_equal(of_files.denoise(stack[0]), want)
    assert np.array_equal(again.denoise(stack[0]), want)


def test_an_array_of_another_library_is_one_array():
    class Array:
        """As h5py, xarray and PyTorch have them: convertible, and iterable along the first axis."""

        def __init__(self, values):
            self.values = values

        def __array__(self, dtype=None, copy=None):
            return self.values

        def __iter__(self):
            return map(Array, self.values)

    stack = np.arange(2 * 8 * 9, dtype=np.uint16).reshape(2, 8, 9)
    planes, channels = _images.source(Array(stack), "ZYX", None, None)
    assert channels == 1 and [plane.shape for plane in planes] == [(8, 9, 1)] * 2
    assert np.array_equal(np.stack(planes)[..., 0], stack)
    planes, _ = _images.source([Array(stack[0]), stack[1]], None, None, None)
    assert np.array_equal(np.stack(planes)[..., 0], stack)


def test_a_callback_can_end_training_and_its_exception_ends_the_call():
    rgb = of_dtype(scene(96, 96, 3), np.uint8)
    steps = []

    def enough(step):
        steps.append(step)
        return len(steps) < 3

    model = n2n.train(rgb, axes="YXS", n_epoch=1000, callback=enough, **SHORT)
    assert model.channels == 3 and len(steps) < 100

    def fail(step):
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        n2n.train(rgb, axes="YXS", n_epoch=1000, callback=fail, **SHORT)


def test_channels_that_are_no_colors_go_through_the_network_together():
    spectrum = of_dtype(scene(96, 96, 5), np.uint16)
    model = n2n.train(spectrum, axes="YXS", n_channel=5, n_epoch=1, steps_per_epoch=2, **SHORT)
    assert model.channels == 5
    clean = model.denoise(spectrum, axes="YXS")
    assert clean.shape == spectrum.shape and clean.dtype == spectrum.dtype
    adapted = model.adapt(spectrum, axes="YXS", steps=2)
    assert adapted.channels == 5
    with pytest.raises(ValueError, match="expected 5, as the network has, found 3"):
        model.denoise(spectrum[..., :3], axes="YXS")


def test_refusals(tmp_path):
    image = of_dtype(scene(96, 96), np.uint8)
    for arguments, words in [
        (([],), "at least one, found none"),
        ((tmp_path,), "no image|expected"),
        ((np.zeros((96, 96, 5)), "YXS"), "expected 1 sample per pixel, or 3 for RGB, found 5"),
        ((np.zeros((2, 96, 96)),), "axes: expected 3 letters"),
    ]:
        with pytest.raises(ValueError, match=words):
            n2n.train(*arguments, **SHORT, n_epoch=1)
    for settings, words in [
        ({"patchsiz": 64}, "patchsiz"),
        ({"patchsize": 63}, "patchsize"),
        ({"noise": "gaus25"}, "gaus25"),
        ({"recipe": "slow"}, "recipe: expected"),
        ({"time_budget": "soon"}, "soon"),
    ]:
        with pytest.raises(ValueError, match=words):
            n2n.train(image, **({"n_epoch": 1} | settings))
    with pytest.raises(FileNotFoundError, match="found nothing at .*nowhere"):
        n2n.train(tmp_path / "nowhere", **SHORT, n_epoch=1)
    with pytest.raises(TypeError, match="seed: expected a number"):
        n2n.train(image, seed=[1])
    broken = np.full((96, 96), np.nan, np.float32)
    good = scene(96, 96).astype(np.float32)
    with pytest.warns(UserWarning, match="same value"):
        n2n.train(np.full((96, 96), 9, np.uint8), n_epoch=1, steps_per_epoch=1, **SHORT)
    with pytest.warns(UserWarning, match="left out: image 1"):
        n2n.train([good, broken], n_epoch=1, steps_per_epoch=1, **SHORT)
    with (
        pytest.warns(UserWarning, match="left out: image 0"),
        pytest.raises(ValueError, match="images to train on, from 1 image: expected at least one"),
    ):
        n2n.train(broken, n_epoch=1, steps_per_epoch=1, **SHORT)
