"""Writes the fixture of eval/: `python make_eval.py`. README.md here says what it holds.

Three pictures of our own making, a network that smooths them a little and mixes in what its random
weights make, and what eval_torch.py gives for them. The sizes are chosen for the padding: to 64
pixels from 33 x 40, from 64 x 50 (one side only) and from 20 x 45, where the height is reflected
more than once.
"""

import json
from pathlib import Path

import cv2
import numpy as np
import torch

import eval_torch
import generator

FOLDER = Path(__file__).parent / "eval"
SEED, N_FEATURE = 7, 2
SIZES = {"1.png": (33, 40), "10.png": (64, 50), "2.png": (20, 45)}
NOISES = ["gauss25", "gauss5_50", "poisson30", "poisson5_50"]
REPEATS = 2


def picture(stream, h, w):
    """A gradient with waves, a disc, a saturated bar and fine texture, in RGB bytes."""
    y, x = np.mgrid[0:h, 0:w] / max(h, w)
    base, waves, disc, bar, fleck = generator.uniform(SEED, stream, (5, 3), 0, 1).astype(np.float64)
    image = 0.2 + 0.5 * (base * x[..., None] + (1 - base) * y[..., None])
    image += 0.1 * np.sin(60 * (waves * x[..., None] + (1 - waves) * y[..., None]))
    image[(x - 0.35) ** 2 + (y - 0.25) ** 2 < 0.03] = disc
    image[np.abs(x - y - 0.2) < 0.04] = np.rint(bar)
    image += 0.08 * (generator.uniform(SEED, stream + 1, (h, w, 1), 0, 1) - 0.5) * (1 + fleck)
    return np.uint8(np.clip(image, 0, 1) * 255 + 0.5)


def smoothing_network(seed, n_feature, n_channel):
    """generator.network, but its last five layers pass the image on, smoothed by [1 2 1] / 4.

    What the random weights make of the image is an eighth of what it would be.
    """
    net = generator.network(seed, n_feature, n_channel)
    line = torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64)
    with torch.no_grad():
        for layer in (net.dec_conv1a, net.dec_conv1b, net.nin_a, net.nin_b, net.nin_c):
            layer.weight *= 0.125
            layer.bias *= 0.125
        for k in range(n_channel):
            # The skip's channels, the image, come after the upsampled ones.
            net.dec_conv1a.weight[k, 2 * n_feature + k] += torch.outer(line, line)
            net.dec_conv1b.weight[k, k, 1, 1] += 1
            for layer in (net.nin_a, net.nin_b, net.nin_c):
                layer.weight[k, k, 0, 0] += 1
    return net.float().double()  # each sum rounded to float32, as an engine holds it


def main():
    folder = FOLDER / eval_torch.FOLDERS["BSD300"]
    folder.mkdir(parents=True, exist_ok=True)
    for index, (name, (h, w)) in enumerate(SIZES.items()):
        image = picture(300 + 2 * index, h, w)
        cv2.imwrite(str(folder / name), image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])

    net = smoothing_network(SEED, N_FEATURE, 3)
    scores = {}
    for noisetype in NOISES:
        rows = list(eval_torch.evaluate(net, FOLDER, noisetype, repeats=REPEATS))
        rounded = list(eval_torch.evaluate(net.float(), FOLDER, noisetype, repeats=REPEATS))
        net.double()
        psnr_db, ssim = np.mean([row[3:] for row in rows], axis=0).tolist()
        images = [dict(zip(("repeat", "image", "psnr_db", "ssim"), row[1:])) for row in rows]
        scores[noisetype] = {"psnr_db": psnr_db, "ssim": ssim, "images": images}
        off = np.abs([np.subtract(a[3:], b[3:]) for a, b in zip(rows, rounded)]).max(axis=0)
        print(f"{noisetype}: {psnr_db:.4f} dB, {ssim:.6f}; float32 lies within {off}")
    facts = {"seed": SEED, "n_feature": N_FEATURE, "repeats": REPEATS}
    (FOLDER / "expected.json").write_text(json.dumps(facts | {"scores": scores}, indent=1) + "\n")


if __name__ == "__main__":
    main()
