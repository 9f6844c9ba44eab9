"""The paper's evaluation in PyTorch, NumPy and OpenCV: what `n2n val` is held against.

    python eval_torch.py --model MODEL.pth --val-dirs validation --noisetype gauss25

prints `[EVAL] BSD300: psnr:… ssim:…` with every digit; `--csv` writes the scores of each image, and
`--against` compares them with the table that `n2n val --csv` wrote: `just parity` runs both.
Arithmetic is that of the authors' pipeline, the types of the numbers included: a score depends on
them in its last digits, and a Poisson draw in more.
"""

import argparse
import csv
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import load_file

import n2n_torch

SEED = 101
FOLDERS = {"Kodak": "Kodak", "BSD300": "BSD300/test", "Set14": "Set14"}
REPEATS = {"Kodak": 10, "BSD300": 3, "Set14": 20}
COLUMNS = ("set", "repeat", "name", "psnr_db", "ssim")
# Those of crates/n2n/tests/golden/evaluation.rs, which says why.
PSNR_TOLERANCE_DB, SSIM_TOLERANCE = 1e-3, 2e-4


def corrupt(image, noisetype):
    """`image` (float32, 0..1) with noise from NumPy's global stream; float32, not clipped."""
    kind = noisetype.rstrip("0123456789._")
    levels = [float(level) for level in noisetype[len(kind) :].split("_")]
    if kind == "gauss":
        levels = [level / 255.0 for level in levels]
    level = levels[0] if len(levels) == 1 else np.random.uniform(*levels, size=(1, 1, 1))
    if kind == "gauss":
        noisy = image + np.random.normal(size=image.shape) * level
    elif kind == "poisson":
        # With a fixed level the product is one of float32, with a drawn one of float64.
        noisy = np.random.poisson(level * image) / level
    else:
        raise ValueError(f"{noisetype}: expected gaussS, gaussA_B, poissonL or poissonA_B")
    return noisy.astype(np.float32)


def denoise(net, noisy):
    """A noisy image [h, w, 3] through the network, as bytes."""
    h, w, _ = noisy.shape
    side = (max(h, w) + 31) // 32 * 32
    padded = np.pad(noisy, [(0, side - h), (0, side - w), (0, 0)], "reflect")
    weight = next(net.parameters())
    batch = torch.from_numpy(padded).permute(2, 0, 1)[None].to(weight)
    with torch.no_grad():
        output = net(batch)[0, :, :h, :w].permute(1, 2, 0).cpu().numpy()
    return np.clip(np.clip(output, 0, 1) * 255.0 + 0.5, 0, 255).astype(np.uint8)


def psnr(a, b):
    """In dB, of two images of bytes; the mean in float32."""
    difference = a.astype(np.float32) - b.astype(np.float32)
    return 10 * np.log10(255.0**2 / float(np.mean(np.square(difference))))


def ssim(a, b):
    """Of two images of bytes, the mean over their channels, in float64."""
    return float(np.mean([ssim_of_channel(a[..., c], b[..., c]) for c in range(a.shape[2])]))


def ssim_of_channel(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    line = cv2.getGaussianKernel(11, 1.5)
    window = line @ line.T

    def local(x):
        return cv2.filter2D(x, -1, window)[5:-5, 5:-5]

    mean_a, mean_b = local(a), local(b)
    variance_a = local(a * a) - mean_a**2
    variance_b = local(b * b) - mean_b**2
    covariance = local(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similarity = ((2 * mean_a * mean_b + c1) * (2 * covariance + c2)) / (
        (mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2)
    )
    return similarity.mean()


def read_image(path):
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f"{path}: not an image")
    return image[..., ::-1]


def evaluate(net, val_dirs, noisetype, sets=("BSD300",), repeats=None, limit=None):
    """Yields (set, repeat, file name, psnr, ssim) of every image, in one random stream."""
    np.random.seed(SEED)
    for name in sets:
        folder = Path(val_dirs) / FOLDERS[name]
        paths = sorted(folder.iterdir(), key=lambda path: os.fsencode(path.name))[:limit]
        for repeat in range(1, (repeats or REPEATS[name]) + 1):
            for path in paths:
                clean = read_image(path)
                noisy = corrupt(clean.astype(np.float32) / 255.0, noisetype)
                output = denoise(net, noisy)
                yield name, repeat, path.name, psnr(clean, output), ssim(clean, output)


def load(path):
    """The network of a .safetensors or PyTorch file, F and C from the shapes of its tensors."""
    if Path(path).suffix == ".safetensors":
        tensors = load_file(path)
    else:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    n_feature, n_channel = tensors["enc_conv0.weight"].shape[:2]
    net = n2n_torch.UNet(n_feature, n_channel)
    net.load_state_dict(tensors)
    return net


def compare(rows, path):
    """How far the scores of a table lie from those of `rows`; too far is an error."""
    with open(path, newline="") as file:
        table = [[row[column] for column in COLUMNS] for row in csv.DictReader(file)]
    if [row[:3] for row in table] != [[row[0], str(row[1]), row[2]] for row in rows]:
        sys.exit(f"error: {path} is of other images or repeats")
    # A perfect image has an infinite PSNR in both tables.
    differences = [
        [0.0 if a == float(b) else abs(a - float(b)) for a, b in zip(ours[3:], theirs[3:])]
        for ours, theirs in zip(rows, table)
    ]
    psnr_db, similarity = np.max(differences, axis=0)
    print(f"{len(rows)} scores, greatest difference {psnr_db:.1e} dB and {similarity:.1e}")
    # Not `>`: a NaN must fail.
    if not (psnr_db <= PSNR_TOLERANCE_DB and similarity <= SSIM_TOLERANCE):
        sys.exit(f"error: more than {PSNR_TOLERANCE_DB} dB or {SSIM_TOLERANCE}")


def main():
    parser = argparse.ArgumentParser(description="the paper's evaluation")
    parser.add_argument("--model", required=True, help=".safetensors or .pth")
    parser.add_argument("--val-dirs", required=True, help="folder with BSD300/test, Kodak, Set14")
    parser.add_argument("--noisetype", default="gauss25")
    parser.add_argument("--sets", default="BSD300", help="comma-separated, in this order")
    parser.add_argument("--repeats", type=int, help="default: 10 Kodak, 3 BSD300, 20 Set14")
    parser.add_argument("--limit", type=int, help="the first images of each set only")
    parser.add_argument("--csv", help="write the scores of each image here")
    parser.add_argument("--against", help="compare with the scores that `n2n val --csv` wrote here")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()

    net = load(args.model).to(args.device)
    sets = args.sets.split(",")
    rows = list(evaluate(net, args.val_dirs, args.noisetype, sets, args.repeats, args.limit))
    if args.csv:
        with open(args.csv, "w", newline="") as file:
            csv.writer(file).writerows([COLUMNS, *rows])
    for name in sets:
        scores = [row[3:] for row in rows if row[0] == name]
        psnr_db, similarity = np.mean(scores, axis=0).tolist()
        print(f"[EVAL] {name}: psnr:{psnr_db!r} ssim:{similarity!r}")
    if args.against:
        compare(rows, args.against)


if __name__ == "__main__":
    main()
