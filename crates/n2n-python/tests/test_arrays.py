"""What goes in comes out: dtypes, axes, strides, ranges; and what is refused."""

import numpy as np
import pytest

import n2n
from conftest import of_dtype, scene

NAMES = [
    "uint8",
    "uint16",
    "float32",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint32",
    "uint64",
    "float16",
    "float64",
]


@pytest.mark.parametrize("name", NAMES)
def test_dtype_shape_and_range_stay(model, name):
    gray = of_dtype(scene(40, 50), name)
    clean = model.denoise(gray)
    assert clean.dtype == gray.dtype and clean.shape == gray.shape
    assert np.array_equal(model.denoise(gray, strength=0.0), gray)

    noisy = of_dtype(scene(40, 50, 3), name)
    clean = model.denoise(noisy, axes="YXS")
    assert clean.dtype == noisy.dtype and clean.shape == noisy.shape
    # Noise of 0.1 has gone, and the picture has not.
    unit = np.ptp(noisy.astype(float))
    change = (clean.astype(float) - noisy) / unit
    assert 0.04 < change.std() < 0.12 and abs(change.mean()) < 0.02


def test_a_gray_image_goes_to_the_gray_model(tmp_path):
    color, gray = n2n.Model.load("gauss5_50"), n2n.Model.load("gauss5_50_gray")
    assert (color.channels, gray.channels) == (3, 1) and color.takes_gray and gray.takes_gray
    noisy = scene(40, 50)
    clean = gray.denoise(noisy)
    assert np.array_equal(color.denoise(noisy), clean)
    assert np.array_equal(n2n.denoise(noisy), clean)
    repeated = np.repeat(noisy[..., None], 3, axis=-1)
    assert np.array_equal(color.denoise(repeated, axes="YXS")[..., 1], clean)
    color.save(tmp_path / "model.safetensors")
    assert np.array_equal(n2n.Model.load(tmp_path / "model.safetensors").denoise(noisy), clean)


def test_an_rgb_model_without_a_gray_one_warns():
    steps = {
        "time_budget": None,
        "n_epoch": 1,
        "steps_per_epoch": 1,
        "n_feature": 4,
        "patchsize": 64,
    }
    model = n2n.train([scene(64, 64, 3)] * 2, axes="YXS", **steps)
    assert not model.takes_gray
    with pytest.warns(UserWarning, match="gray image was denoised by an RGB model"):
        model.denoise(scene(40, 50))


@pytest.mark.parametrize("dtype", ["uint16", "float32", "int32", "float64"])
def test_byte_order_strides_and_memory_maps_change_nothing(model, dtype, tmp_path):
    noisy = of_dtype(scene(40, 50, 3), dtype)
    kept = noisy.copy()
    want = model.denoise(noisy, axes="YXS")
    other_order = noisy.astype(noisy.dtype.newbyteorder())
    clean = model.denoise(other_order, axes="YXS")
    assert clean.dtype == other_order.dtype and np.array_equal(clean, want)

    wide = np.zeros((80, 3, 150), noisy.dtype)
    strided = wide[::-2, :, ::3].transpose(0, 2, 1)
    strided[:] = noisy
    assert np.array_equal(model.denoise(strided, axes="YXS"), want)
    planar = np.ascontiguousarray(noisy.transpose(2, 0, 1))
    clean = model.denoise(planar, channel_axis=0)
    assert np.array_equal(clean.transpose(1, 2, 0), want)
    assert np.array_equal(model.denoise(np.asfortranarray(noisy), axes="YXS"), want)

    packed = np.zeros(40 * 50, np.dtype([("tag", "u1"), ("value", noisy.dtype, 3)]))
    packed["value"] = noisy.reshape(-1, 3)
    unaligned = packed["value"].reshape(40, 50, 3)
    assert not unaligned.flags.aligned
    assert np.array_equal(model.denoise(unaligned, axes="YXS"), want)

    np.save(tmp_path / "noisy.npy", noisy)
    mapped = np.load(tmp_path / "noisy.npy", mmap_mode="r")
    out = np.lib.format.open_memmap(tmp_path / "clean.npy", "w+", noisy.dtype, noisy.shape)
    assert model.denoise(mapped, axes="YXS", out=out) is out
    assert np.array_equal(out, want) and np.array_equal(noisy, kept)
    noisy.flags.writeable = False
    assert np.array_equal(model.denoise(noisy, axes="YXS"), want)


def test_axes_say_which_images_there_are(model):
    planes = np.stack([of_dtype(scene(40, 50, seed=seed), np.uint16) for seed in range(6)])
    want = np.stack([model.denoise(plane, range=(0, 65535)) for plane in planes])
    stack = planes.reshape(2, 3, 40, 50)
    for axes, order in [("TCYX", (0, 1, 2, 3)), ("ZYXC", (0, 2, 3, 1)), ("XTYQ", (3, 0, 2, 1))]:
        clean = model.denoise(stack.transpose(order), axes=axes, range=(0, 65535))
        assert np.array_equal(clean, want.reshape(2, 3, 40, 50).transpose(order)), axes


def test_three_samples_are_rgb_and_channels_are_not(model):
    noisy = of_dtype(scene(40, 50, 3), np.uint8)
    together = model.denoise(noisy, axes="YXS")
    apart = model.denoise(noisy, axes="YXC")
    each = np.stack([model.denoise(noisy[..., c]) for c in range(3)], axis=-1)
    assert np.array_equal(apart, each) and not np.array_equal(together, apart)
    assert np.array_equal(model.denoise(noisy, channel_axis=-1), together)
    assert np.array_equal(model.denoise(noisy, channel_axis=2, axes="YXC"), together)


@pytest.mark.parametrize("samples", [2, 4])
def test_transparency_stays(model, samples):
    noisy = of_dtype(scene(40, 50, samples), np.uint8)
    noisy[..., -1] = np.arange(50)
    clean = model.denoise(noisy, axes="YXS")
    assert np.array_equal(clean[..., -1], noisy[..., -1])
    color = model.denoise(noisy[..., :-1], axes="YXS")
    assert np.array_equal(clean[..., :-1], color)


def test_one_range_is_for_the_whole_array(model):
    stack = np.stack([of_dtype(scene(40, 50), np.float32) * 9000, np.zeros((40, 50), np.float32)])
    found = model.measure_range(stack, axes="ZYX")
    assert isinstance(found, n2n.Range) and 5000 < found.high < 9500
    clean = model.denoise(stack, axes="ZYX")
    assert np.array_equal(clean[0], model.denoise(stack[0], range=found))
    # Not what the second image alone would suggest.
    assert np.array_equal(clean[1], model.denoise(stack[1], range=found))
    assert not np.array_equal(clean[0], model.denoise(stack[0], range=(0, 9000)))


def test_values_beyond_float32_keep_their_digits(model):
    noisy = 2**40 + (scene(40, 50) * 200).astype(np.int64)
    low, high = 2**40 - 100, 2**40 + 2**18
    clean = model.denoise(noisy, range=(low, high))
    assert np.abs(clean - noisy).max() < 2**18
    top = np.full((32, 32), np.iinfo(np.uint64).max)
    assert np.array_equal(model.denoise(top, strength=0.0), top)


def test_values_that_are_no_number_stay(model):
    noisy = scene(40, 50).astype(np.float64)
    noisy[3, 4], noisy[5, 6], noisy[7, 8] = np.nan, np.inf, -np.inf
    for dtype in (np.float32, np.float64, np.float16):
        clean = model.denoise(noisy.astype(dtype))
        assert np.isnan(clean[3, 4]) and clean[5, 6] == np.inf and clean[7, 8] == -np.inf
        assert np.isfinite(np.delete(clean, [3 * 50 + 4, 5 * 50 + 6, 7 * 50 + 8])).all()


REFUSED = [
    (np.zeros((2, 8, 8)), {}, ValueError, "'ZYX' for a stack or 'YXS'"),
    (np.zeros((1, 2, 3, 8, 8)), {}, ValueError, "axes: expected 5 letters"),
    (np.zeros((1, 1, 1, 2, 8, 8)), {}, ValueError, "axes: expected 6 letters, such as 'VTZCYX'"),
    (np.zeros(8), {}, ValueError, "at least two dimensions, height and width, found 1"),
    (np.float32(3), {}, ValueError, "at least two dimensions, height and width, found 0"),
    (np.zeros((8, 3)), {"channel_axis": 1}, ValueError, "height and width, besides the samples, found 1"),
    (np.zeros((8, 8)), {"axes": 5}, TypeError, "axes: expected letters, such as 'ZYX', found 5"),
    (np.zeros((8, 8, 3)), {"channel_axis": "S"}, TypeError, "channel_axis: expected a whole number"),
    (np.zeros((8, 8)), {"axes": "YXS"}, ValueError, "expected 2 different capital letters"),
    (np.zeros((2, 8, 8)), {"axes": "zyx"}, ValueError, "found 'zyx'"),
    (np.zeros((2, 8, 8)), {"axes": "YYX"}, ValueError, "different"),
    (np.zeros((2, 8, 8)), {"axes": "ZTX"}, ValueError, "Y and X among them"),
    (np.zeros((2, 8, 8)), {"axes": "ZYX", "channel_axis": 0}, ValueError, "is Z, not the samples"),
    (np.zeros((8, 8, 3)), {"channel_axis": 3}, ValueError, "channel_axis: expected a dimension"),
    (np.zeros((0, 8)), {}, ValueError, "at least one pixel"),
    (np.zeros((0, 8, 8)), {"axes": "ZYX"}, ValueError, "at least one pixel"),
    (np.zeros((8, 8), bool), {}, TypeError, "found dtype bool; convert it"),
    (np.zeros((8, 8), complex), {}, TypeError, "found dtype complex128"),
    (np.zeros((8, 8), object), {}, TypeError, "found dtype object"),
    (np.array(["a"]), {}, TypeError, "expected an array of integers or floats"),
    ("noisy.tif", {}, TypeError, "found a path, 'noisy.tif'; read the file first"),
    (np.ma.masked_less(np.eye(8), 1), {}, TypeError, "a masked array; fill"),
    (np.zeros((8, 8)), {"range": (5, 2)}, ValueError, "MIN below MAX"),
    (np.zeros((8, 8)), {"range": "wide"}, ValueError, "auto, percentile, or two numbers"),
    (np.zeros((8, 8)), {"range": 5}, ValueError, "expected 'auto', 'percentile', two numbers"),
    (np.zeros((8, 8)), {"range": n2n.Range(1, 1)}, ValueError, "expected low below high"),
    (np.zeros((8, 8)), {"strength": 1.5}, ValueError, "strength: expected 0 to 1"),
    (np.zeros((8, 8)), {"threads": 0}, ValueError, "threads: expected 1 or more, found 0"),
    (np.zeros((8, 8)), {"strength": "all"}, TypeError, "strength: expected a number, found 'all'"),
    (np.zeros((8, 8)), {"threads": -1}, ValueError, "threads: expected 1 or more, found -1"),
    (np.zeros((8, 8)), {"threads": 1.5}, TypeError, "threads: expected a whole number, found 1.5"),
    (np.zeros((8, 8)), {"max_memory": 1000}, ValueError, "memory"),
    (np.zeros((8, 8)), {"max_memory": -1}, ValueError, "max_memory: expected 0 or more, found -1"),
    (np.zeros((8, 8)), {"max_memory": "2GB"}, TypeError, "max_memory: expected a whole number"),
    (np.zeros((8, 8)), {"out": [0]}, TypeError, "out: expected an array, found list"),
    (
        np.zeros((8, 8)),
        {"out": np.zeros((8, 9))},
        ValueError,
        r"out: expected float64 of shape \(8, 8\)",
    ),
]


@pytest.mark.parametrize("x, arguments, kind, words", REFUSED)
def test_what_makes_no_sense_is_refused_in_words(model, x, arguments, kind, words):
    with pytest.raises(kind, match=words):
        model.denoise(x, **arguments)


def test_the_result_can_replace_the_array_but_not_other_parts_of_it(model):
    stack = np.stack([of_dtype(scene(32, 32, seed=seed), np.uint8) for seed in range(4)])
    want = model.denoise(stack, axes="ZYX")
    for out in (stack[::-1], stack.transpose(0, 2, 1)):
        kept = stack.copy()
        with pytest.raises(ValueError, match="out: expected x itself or memory of its own"):
            model.denoise(stack, axes="ZYX", out=out)
        assert np.array_equal(stack, kept)
    # Other columns of one array are memory of its own.
    both = np.stack([stack, np.zeros_like(stack)], axis=-1)
    model.denoise(both[..., 0], axes="ZYX", out=both[..., 1])
    assert np.array_equal(both[..., 1], want) and np.array_equal(both[..., 0], stack)
    model.denoise(stack, axes="ZYX", out=stack)
    assert np.array_equal(stack, want)


def test_models_are_found_by_name_and_by_file(model, tmp_path):
    assert list(n2n.models())[:2] == ["gauss25", "gauss5_50"]
    noisy = of_dtype(scene(40, 50, 3), np.uint8)
    for name in ["model.safetensors", "model.onnx"]:
        model.save(tmp_path / name)
        again = n2n.Model.load(tmp_path / name)
        assert np.array_equal(again.denoise(noisy, axes="YXS"), model.denoise(noisy, axes="YXS"))
    assert (model.channels, model.halo, model.multiple) == (3, 128, 32)
    assert model.metadata["noise"] == "gauss25"
    with pytest.raises(FileNotFoundError, match="neither a file nor a shipped model.*gauss25"):
        n2n.denoise(noisy[..., 0], "gauss26")
    (tmp_path / "no.pth").write_bytes(b"no weights")
    with pytest.raises(ValueError, match="no.pth: "):
        n2n.Model.load(tmp_path / "no.pth")
    with pytest.raises(OSError):
        model.save(tmp_path / "no.pth" / "model.safetensors")
    with pytest.raises(TypeError, match="Model.load"):
        n2n.Model()


def test_scores(model):
    clean = (scene(64, 64, 3, seed=1) * 255).astype(np.uint8)
    other = (scene(64, 64, 3, seed=2) * 255).astype(np.uint8)
    error = np.mean((clean.astype(float) - other) ** 2)
    assert n2n.psnr(clean, other) == pytest.approx(10 * np.log10(255**2 / error), rel=1e-6)
    assert n2n.psnr(clean, clean) == float("inf")
    each = [n2n.ssim(clean[..., c], other[..., c]) for c in range(3)]
    assert n2n.ssim(clean, other, channel_axis=-1) == pytest.approx(np.mean(each), rel=1e-12)
    planar = [array.transpose(2, 0, 1) for array in (clean, other)]
    assert n2n.ssim(*planar, channel_axis=0) == n2n.ssim(clean, other, channel_axis=2)
    with pytest.raises(TypeError, match="denoised: expected an array of uint8, found float64"):
        n2n.psnr(clean, other / 255)
    with pytest.raises(ValueError, match="the same shape"):
        n2n.psnr(clean, other[:5])
    with pytest.raises(ValueError, match="at least 11x11"):
        n2n.ssim(clean[:5, :, 0], other[:5, :, 0])
    with pytest.raises(ValueError, match="channel_axis"):
        n2n.ssim(clean, other)
