"""Golden values for the evaluation: NumPy's legacy random streams, its padding and means, OpenCV's SSIM.

    python tests/golden/numpy_eval.py        # writes numpy_eval.json beside itself

Made with numpy 2.4.6 and opencv-python-headless 5.0.0.93. Floats are stored as the hexadecimal bits
of their IEEE form, so that the comparison is exact. The pictures are formulas, repeated in the
Rust tests, so that the file stays small.
"""

import json
import struct
from pathlib import Path

import cv2
import numpy as np


def f64(values):
    return [struct.pack(">d", value).hex() for value in np.ravel(values)]


def f32(values):
    return [struct.pack(">f", value).hex() for value in np.ravel(values)]


# The random streams.


def streams():
    goldens = {}

    seeds = {}
    for seed in (0, 1, 101, 2**32 - 1):
        np.random.seed(seed)
        seeds[str(seed)] = f64(np.random.random_sample(4))
    goldens["seeds"] = seeds

    np.random.seed(101)
    goldens["random_sample"] = far(np.random.random_sample(1_000_001))
    np.random.seed(101)
    goldens["normal"] = far(np.random.normal(size=1_000_001))
    np.random.seed(101)
    goldens["normal_3_0.25"] = far(np.random.normal(3, 0.25, size=1_000_001))
    np.random.seed(101)
    goldens["uniform_5_50"] = far(np.random.uniform(5 / 255, 50 / 255, size=1_000_001))

    # An odd count of normals leaves one cached: it must survive the draws between.
    np.random.seed(101)
    mixed = []
    for _ in range(20):
        mixed.append(np.random.normal())
        mixed.append(np.random.uniform(0.1, 0.2))
        mixed.extend(np.random.normal(size=3))
        mixed.append(float(np.random.poisson(0.5)))
        mixed.extend(np.random.normal(0.5, 2.0, size=3))
        mixed.append(float(np.random.poisson(30.0)))
        mixed.append(np.random.random_sample())
    goldens["mixed"] = f64(mixed)

    # Each rate alone, then what the stream holds next: the draws consumed must agree too.
    rates = [0.0, 1e-10, 0.5, 9.99, 10.0, 30.0, 50.0, 1000.0, 1e6]
    poisson = []
    for rate in rates:
        np.random.seed(101)
        first = np.random.poisson(rate, size=40)
        rest = np.random.poisson(rate, size=99_960)
        poisson.append(
            {
                "lam": f64(rate)[0],
                "first": first.tolist(),
                "sum": int(first.sum() + rest.sum()),
                "last": int(rest[-1]),
                "next": f64(np.random.random_sample())[0],
            }
        )
    goldens["poisson"] = poisson

    np.random.seed(101)
    spread = np.random.poisson(np.array(rates * 30))
    goldens["poisson_spread"] = spread.tolist()
    return goldens


def far(draws):
    """The first ten and those around the 624-word blocks and the millionth."""
    index = list(range(10)) + [311, 312, 313, 624, 1247, 99_999, 500_000, 999_999, 1_000_000]
    return {"index": index, "bits": f64(draws[index])}


# The pictures: a formula for the clean one, another for a distorted copy.


def picture(height, width, channels):
    y, x, c = np.indices((height, width, channels))
    return ((31 * y + 17 * x + 101 * c + x * y) % 256).astype(np.uint8)


def distorted(clean):
    y, x, c = np.indices(clean.shape)
    return np.clip(clean.astype(int) + (7 * x + 3 * y + 5 * c) % 41 - 20, 0, 255).astype(np.uint8)


# The protocol's arithmetic.


def add_noise(style, x):
    """The evaluation's noise on an f32 image, as the reference's documentation describes it."""
    kind = style.rstrip("0123456789._")
    level = [float(number) for number in style[len(kind) :].split("_")]
    if kind == "gauss":
        level = [number / 255.0 for number in level]
        sigma = level[0] if len(level) == 1 else np.random.uniform(*level, size=(1, 1, 1))
        return np.array(x + np.random.normal(size=x.shape) * sigma, dtype=np.float32)
    lam = level[0] if len(level) == 1 else np.random.uniform(*level, size=(1, 1, 1))
    return np.array(np.random.poisson(lam * x) / lam, dtype=np.float32)


def mean_square(a, b):
    return np.mean(np.square(a.astype(np.float32) - b.astype(np.float32)))


def psnr(a, b):
    return 10.0 * np.log10(255.0 * 255.0 / np.float64(mean_square(a, b)))


def ssim_channel(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    kernel = cv2.getGaussianKernel(11, 1.5)
    window = kernel @ kernel.T

    def blur(image):
        return cv2.filter2D(image, -1, window)[5:-5, 5:-5]

    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    covariance = blur(a * b) - mean_a * mean_b
    top = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return (top / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))).mean()


def ssim(a, b):
    return np.mean([ssim_channel(a[..., c], b[..., c]) for c in range(a.shape[2])])


STYLES = ["gauss25", "gauss5_50", "poisson30", "poisson5_50"]


def noise():
    """Two images in one stream; 15·3·3 normals are odd, so one is cached between them."""
    goldens = {}
    for style in STYLES:
        np.random.seed(101)
        images = [picture(15, 3, 3), picture(4, 5, 1)]
        noisy = [add_noise(style, image.astype(np.float32) / 255.0) for image in images]
        goldens[style] = [f32(image) for image in noisy]
    return goldens


def metrics():
    goldens = []
    for height, width, channels in [(11, 11, 1), (11, 30, 3), (12, 17, 3), (47, 64, 1), (300, 217, 3)]:
        clean = picture(height, width, channels)
        other = distorted(clean)
        goldens.append(
            {
                "size": [height, width, channels],
                "mean_square": f32(mean_square(clean, other))[0],
                "psnr": f64(psnr(clean, other))[0],
                "ssim": f64(ssim(clean, other))[0],
            }
        )
    return goldens


def means():
    """Sums that are not exact, so that only the same order of additions gives the same bits."""
    goldens = []
    for count in [1, 3, 7, 8, 9, 15, 127, 128, 129, 136, 137, 1000, 4099, 100_003]:
        ramp = (np.arange(count) * 7919 % 10007).astype(np.float64) / 10007
        goldens.append(
            {
                "count": count,
                "f32": f32(np.mean(ramp.astype(np.float32)))[0],
                "f64": f64(np.mean(ramp))[0],
            }
        )
    return goldens


def padding():
    sides = []
    for side, target in [(1, 32), (2, 32), (3, 32), (5, 96), (33, 64), (31, 96), (32, 32)]:
        padded = np.pad(np.arange(side), (0, target - side), mode="reflect")
        sides.append({"side": side, "padded": padded.tolist()})
    plane = np.pad(np.arange(15).reshape(3, 5), ((0, 29), (0, 27)), mode="reflect")
    return {"sides": sides, "plane_3x5": plane.tolist()}


def protocol():
    """A whole evaluation of the network that returns its input, over two sets in one stream."""
    sets = {"Kodak": [(13, 20, 3), (24, 11, 3), (17, 17, 3)], "Set14": [(15, 12, 3)]}
    goldens = {}
    for style in STYLES:
        np.random.seed(101)
        scores = []
        for name, sizes in sets.items():
            pairs = []
            for _ in range(2):
                for size in sizes:
                    clean = picture(*size)
                    noisy = add_noise(style, clean.astype(np.float32) / 255.0)
                    denoised = np.clip(noisy, np.float32(0), np.float32(1))
                    denoised = np.clip(denoised * np.float32(255) + np.float32(0.5), 0, 255)
                    denoised = denoised.astype(np.uint8)
                    pairs.append((psnr(clean, denoised), ssim(clean, denoised)))
            pairs = np.array(pairs)
            scores.append(
                {
                    "name": name,
                    "psnr": f64(pairs[:, 0]),
                    "ssim": f64(pairs[:, 1]),
                    "mean_psnr": f64(np.mean(np.ascontiguousarray(pairs[:, 0])))[0],
                    "mean_ssim": f64(np.mean(np.ascontiguousarray(pairs[:, 1])))[0],
                }
            )
        goldens[style] = scores
    return goldens


def main():
    goldens = {
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "streams": streams(),
        "noise": noise(),
        "metrics": metrics(),
        "means": means(),
        "padding": padding(),
        "protocol": protocol(),
    }
    path = Path(__file__).with_suffix(".json")
    text = json.dumps(goldens, indent=None, separators=(",", ":"))
    path.write_text(text.replace('},{', '},\n{').replace('},"', '},\n"') + "\n")


if __name__ == "__main__":
    main()
