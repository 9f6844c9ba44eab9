"""The denoisers that run.py compares.

`load(name, threads, model)` returns (version, run): `run` denoises an image, from and to float32 [h, w, 3] on the scale
0..255, which noise may exceed. `model` is the folder with the exported network. A package is imported by the method
that needs it, in a process of its own.
"""

import itertools
import subprocess
import sys

import numpy as np

# The level of the noise. BM3D and scikit-image's non-local means and wavelets are told it.
SIGMA = 25.0

# The settings with the highest mean PSNR on images outside the test set; README.md says which, and how to repeat it.
TUNED = {
    "scikit-image non-local means": {"h": 0.6, "patch_size": 5, "patch_distance": 6},
    "scikit-image wavelets": {"wavelet": "db2", "convert2ycbcr": True},
    "scikit-image total variation": {"weight": 0.07},
    "OpenCV fast non-local means": {
        "h": 17,
        "hColor": 20,
        "templateWindowSize": 3,
        "searchWindowSize": 9,
    },
}

# What was tried for each.
GRIDS = {
    # h is in units of sigma.
    "scikit-image non-local means": {
        "h": [0.4, 0.5, 0.6, 0.7, 0.8],
        "patch_size": [3, 5],
        "patch_distance": [6, 9],
    },
    "scikit-image wavelets": {
        "wavelet": ["db1", "db2", "db3", "db4", "sym4", "sym8"],
        "convert2ycbcr": [False, True],
    },
    "scikit-image total variation": {"weight": [0.04, 0.05, 0.06, 0.07, 0.08, 0.1]},
    "OpenCV fast non-local means": {
        "h": [8, 11, 13, 15, 17, 20],
        "hColor": [11, 15, 20, 30],
        "templateWindowSize": [1, 3, 5, 7],
        "searchWindowSize": [7, 9, 11, 15, 21],
    },
}


def of_n2n(name, ensemble):
    def load(threads, model):
        import n2n

        network = n2n.Model.load(name)

        def run(noisy):
            return network.denoise(
                noisy,
                channel_axis=-1,
                range=(0, 255),
                threads=threads,
                ensemble=ensemble,
                progress=False,
            )

        return f"n2n {n2n.__version__}", run

    return load


def of_bm3d(threads, model):
    import bm3d

    profile = bm3d.BM3DProfile()
    profile.num_threads = threads
    return version("bm3d"), lambda noisy: 255 * bm3d.bm3d_rgb(noisy / 255, SIGMA / 255, profile)


def of_means(threads, model, h=None, **settings):
    from skimage import restoration

    def run(noisy):
        return restoration.denoise_nl_means(
            noisy, h=h * SIGMA, sigma=SIGMA, fast_mode=True, channel_axis=-1, **settings
        )

    return version("scikit-image"), run


def of_wavelets(threads, model, **settings):
    from skimage import restoration

    def run(noisy):
        clean = restoration.denoise_wavelet(
            noisy / 255, sigma=SIGMA / 255, method="BayesShrink", channel_axis=-1, **settings
        )
        return 255 * clean

    return version("scikit-image"), run


def of_variation(threads, model, **settings):
    from skimage import restoration

    def run(noisy):
        return 255 * restoration.denoise_tv_chambolle(noisy / 255, channel_axis=-1, **settings)

    return version("scikit-image"), run


def of_opencv(threads, model, **settings):
    import cv2

    cv2.setNumThreads(threads)

    def run(noisy):
        # It takes bytes, and blue first.
        given = noisy.clip(0, 255).round().astype(np.uint8)[..., ::-1]
        return cv2.fastNlMeansDenoisingColored(np.ascontiguousarray(given), None, **settings)[..., ::-1]

    return version("opencv-python-headless"), run


def of_oidn(threads, model):
    import pyoidn

    device = pyoidn.Device(pyoidn.OIDN_DEVICE_TYPE_CPU)
    device.set_int("numThreads", threads)
    device.commit()
    network = pyoidn.Filter(device, pyoidn.OIDN_FILTER_TYPE_RT)

    def run(noisy):
        color = np.ascontiguousarray((noisy / 255).clip(0, 1), np.float32)
        clean = np.empty_like(color)
        for name, image in ((pyoidn.OIDN_IMAGE_COLOR, color), (pyoidn.OIDN_IMAGE_OUTPUT, clean)):
            network.set_image(name, image, pyoidn.OIDN_FORMAT_FLOAT3)
        network.set_bool("srgb", True)
        network.set_quality(pyoidn.OIDN_QUALITY_HIGH)
        network.commit()
        network.execute()
        error = device.get_error()
        if error:
            raise RuntimeError(error)
        return 255 * clean

    return version("pyoidn"), run


def of_onnxruntime(threads, model):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = ort.InferenceSession(
        str(model / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )
    return version("onnxruntime"), around(lambda x: session.run(["output"], {"input": x})[0])


def of_mnn(threads, model):
    import MNN

    interpreter = MNN.Interpreter(str(model / "model.mnn"))
    session = interpreter.createSession(
        {"backend": "CPU", "numThread": threads, "precision": "high", "memory": "normal"}
    )
    source = interpreter.getSessionInput(session)
    layout = MNN.Tensor_DimensionType_Caffe

    def run(x):
        if tuple(source.getShape()) != x.shape:
            interpreter.resizeTensor(source, x.shape)
            interpreter.resizeSession(session)
        source.copyFrom(MNN.Tensor(x.shape, MNN.Halide_Type_Float, x, layout))
        interpreter.runSession(session)
        result = MNN.Tensor(x.shape, MNN.Halide_Type_Float, np.empty_like(x), layout)
        interpreter.getSessionOutput(session).copyToHostTensor(result)
        return np.array(result.getNumpyData()).reshape(x.shape)

    return version("MNN"), around(run)


def around(network, multiple=32):
    """An engine that takes [1, 3, h, w] in 0..1 with sides that are multiples of `multiple`, as a method."""

    def run(noisy):
        height, width, _ = noisy.shape
        pad = [(0, -height % multiple), (0, -width % multiple), (0, 0)]
        x = np.pad(noisy / np.float32(255), pad, mode="reflect")
        x = np.ascontiguousarray(x.transpose(2, 0, 1)[np.newaxis])
        return 255 * network(x)[0].transpose(1, 2, 0)[:height, :width]

    return run


def version(package):
    from importlib import metadata

    return f"{package} {metadata.version(package)}"


PEERS = {
    "BM3D": of_bm3d,
    "scikit-image non-local means": of_means,
    "scikit-image wavelets": of_wavelets,
    "scikit-image total variation": of_variation,
    "OpenCV fast non-local means": of_opencv,
    "Open Image Denoise": of_oidn,
    "gauss5_50 in ONNX Runtime": of_onnxruntime,
    "gauss5_50 in MNN": of_mnn,
}


def ours():
    """The shipped RGB models for this noise: those for every level of it, and the one for this level alone."""
    import n2n

    names = [name for name in n2n.models() if name == "gauss25" or name.startswith("gauss5_50")]
    return [name for name in names if n2n.Model.load(name).channels == 3]


def names():
    return [f"{name}{suffix}" for name in ours() for suffix in ("", " --ensemble")] + list(PEERS)


def load(name, threads, model, **settings):
    if name in PEERS:
        return PEERS[name](threads, model, **(TUNED.get(name, {}) | settings))
    of, _, ensemble = name.partition(" --")
    return of_n2n(of, bool(ensemble))(threads, model)


# The package's command `mnnconvert` without its report to the maker's server, for which it installs packages by itself.
CONVERT = """
import sys
sys.modules["MNN.tools.utils.log"] = None
from MNN.tools.mnnconvert import main
main()
"""


def export(folder):
    """Writes the network of `gauss5_50` for the other engines."""
    import n2n

    n2n.Model.load("gauss5_50").save(folder / "model.onnx")
    subprocess.run(
        [sys.executable, "-c", CONVERT, "-f", "ONNX", "--modelFile", "model.onnx"]
        + ["--MNNModel", "model.mnn", "--bizCode", "n2n"],
        cwd=folder,
        check=True,
        stdout=subprocess.DEVNULL,
    )


def grid(name):
    """Every combination of the settings that were tried for a method."""
    keys = GRIDS[name]
    return [dict(zip(keys, values)) for values in itertools.product(*keys.values())]
