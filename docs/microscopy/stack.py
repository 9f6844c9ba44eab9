"""A synthetic fluorescence stack: stack.py FOLDER [SEED]

Writes FOLDER/stacks/cells.tif (16 pages of 384², uint16), FOLDER/unseen.tif (4 more), FOLDER/clean.npy (what
those 4 would be without noise), and a part of the first of them as FOLDER/part.tif and FOLDER/part_clean.tif.
Then, with a denoised unseen.tif: stack.py FOLDER --score FILE

The camera: an offset of 100, 2.17 counts per electron, shot noise, and read noise of 1.4 electrons. Needs NumPy and
tifffile.
"""

import os
import sys

import numpy as np
import tifffile

SIDE, OFFSET, GAIN, READ = 384, 100, 1 / 0.46, 1.4


def blur(image, sigma):
    x = np.arange(-int(4 * sigma + 1), int(4 * sigma + 1) + 1)
    kernel = np.exp(-(x**2) / (2 * sigma**2))
    kernel /= kernel.sum()
    for _ in range(2):
        padded = np.pad(image, ((len(x) // 2,) * 2, (0, 0)), mode="symmetric")
        image = sum(k * padded[i : i + SIDE] for i, k in enumerate(kernel)).T
    return image


def page(rng):
    """Electrons a pixel, on average."""
    yy, xx = np.mgrid[:SIDE, :SIDE]
    cells = np.zeros((SIDE, SIDE))
    for _ in range(14):
        y, x = rng.uniform(0, SIDE, 2)
        a, b = rng.uniform(20, 50, 2)
        t = rng.uniform(0, np.pi)
        u, v = (xx - x) * np.cos(t) + (yy - y) * np.sin(t), (yy - y) * np.cos(t) - (xx - x) * np.sin(t)
        edge = np.minimum(14 * ((u / a) ** 2 + (v / b) ** 2 - 1), 50)
        cells = np.maximum(cells, rng.uniform(6, 16) / (1 + np.exp(edge)))
    cells *= np.maximum(1 + 1.8 * blur(rng.normal(size=(SIDE, SIDE)), 2.5), 0)
    filaments = np.zeros((SIDE, SIDE))
    for _ in range(45):
        (y, x), t, turn = rng.uniform(0, SIDE, 2), rng.uniform(0, 2 * np.pi), rng.normal(0, 0.01)
        for _ in range(2 * int(rng.uniform(60, 200))):
            if 0 <= y < SIDE and 0 <= x < SIDE:
                filaments[int(y), int(x)] += 1
            y, x, t = y + np.sin(t) / 2, x + np.cos(t) / 2, t + turn / 2 + rng.normal(0, 0.02)
    spots = np.zeros((SIDE, SIDE))
    for _ in range(30):
        spots[tuple(rng.integers(SIDE, size=2))] += rng.uniform(150, 600)
    return 3 + cells + blur(filaments, 0.95) * rng.uniform(13, 24) + blur(spots, 1.25)


def make(folder, seed):
    rng = np.random.default_rng(seed)
    clean = np.stack([page(rng) for _ in range(20)])
    noisy = (rng.poisson(clean) + rng.normal(0, READ, clean.shape)) * GAIN + OFFSET
    noisy = np.round(noisy).clip(0, 65535).astype(np.uint16)
    os.makedirs(f"{folder}/stacks", exist_ok=True)
    tifffile.imwrite(f"{folder}/stacks/cells.tif", noisy[:16], photometric="minisblack")
    tifffile.imwrite(f"{folder}/unseen.tif", noisy[16:], photometric="minisblack")
    clean = clean[16:] * GAIN + OFFSET
    np.save(f"{folder}/clean.npy", clean.astype(np.float32))
    part = np.s_[96:288, 96:288]
    tifffile.imwrite(f"{folder}/part.tif", noisy[16][part], photometric="minisblack")
    tifffile.imwrite(f"{folder}/part_clean.tif", np.round(clean[0][part]).astype(np.uint16), photometric="minisblack")


def score(folder, denoised):
    """PSNR of the four pages; its peak is the range of the clean values without the darkest and brightest 0.1 %."""
    clean = np.load(f"{folder}/clean.npy").astype(np.float64)
    peak = np.quantile(clean, 0.999) - np.quantile(clean, 0.001)
    dark = clean <= np.quantile(clean, 0.1)
    for path in (f"{folder}/unseen.tif", denoised):
        error = tifffile.imread(path) - clean
        psnr = 10 * np.log10(peak**2 / np.mean(error**2))
        print(f"{path}: {psnr:.2f} dB, bias {error.mean():+.2f} counts, in the darkest tenth {error[dark].mean():+.2f}")


if __name__ == "__main__":
    if sys.argv[2:3] == ["--score"]:
        score(sys.argv[1], sys.argv[3])
    else:
        make(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1)
