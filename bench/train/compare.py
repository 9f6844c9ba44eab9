"""Compares ways to train at equal cost.

Scores are on images that are neither in the training set nor in a test set.

    python bench/train/compare.py TABLE IMAGES [--budget 15] [--only NAME]… [--seeds 1] [--threads 2]
        [flags of n2n train]
    python bench/train/compare.py polyu FOLDER [--budget 15] …

TABLE is `recipe` (what each part of --recipe fast contributes) or `frozen` (what it costs to add the
noise only once). IMAGES is a folder of clean images; 24 of them (a quarter at most), drawn with a fixed
seed, are held out of training and used for scoring. `polyu` trains on the *_real* images of FOLDER as they
are, and scores them against the *_mean* images. Prints a Markdown table, in which every variant has the
mean of --seeds runs; finished runs in --work are not repeated.

The budget is turned into steps first, by running every variant for 15 seconds, during which the machine
must be idle; other work during the runs themselves then changes nothing.

Needs Python with numpy and Pillow. N2N names the program [default: target/release/n2n].
"""

import argparse
import csv
import os
import random
import subprocess
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
N2N = Path(os.environ.get("N2N", ROOT / "target/release/n2n")).resolve()
SUFFIXES = {".jpg", ".jpeg", ".png", ".tif", ".tiff"}

EPOCHS = 100
FAST = ["--recipe=fast"]
SMALL = ["--batchsize=4", "--patchsize=128"]
TABLES = {
    # Ours, ours without each part, and the paper's.
    "recipe": {
        "fast": FAST,
        "fast, no regularizer": [*FAST, "--increase-ratio=0"],
        "fast, increase-ratio 2": [*FAST, "--increase-ratio=2"],
        "fast, 4 patches of 128": [*FAST, *SMALL],
        "fast, 4 patches of 128, all regularized": [*FAST, *SMALL, "--regularized-patches=4"],
        "fast, two batches per step": [*FAST, "--accumulate=2"],
        "fast, Adam": [*FAST, "--optimizer=adam"],
        "fast, target drawn": [*FAST, "--target=drawn"],
        "fast, step rate": [*FAST, "--lr-schedule=step"],
        "fast, trapezoid": [*FAST, "--lr-schedule=trapezoid"],
        "fast, lr 3e-4": [*FAST, "--lr=3e-4"],
        "fast, lr 2e-3": [*FAST, "--lr=2e-3"],
        "fast, init-scale 0.1": [*FAST, "--init-scale=0.1"],
        "fast, no average": [*FAST, "--ema=0"],
        "fast, no turns": [*FAST, "--augment=false"],
        "fast, second forward always": [*FAST, "--min-lambda=0"],
        "paper": ["--recipe=paper"],
    },
    "frozen": {
        "fresh noise": FAST,
        "frozen noise": [*FAST, "--frozen-noise"],
    },
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", choices=[*TABLES, "polyu"])
    parser.add_argument("images", type=Path)
    parser.add_argument("--budget", default=15, type=float, metavar="MINUTES")
    parser.add_argument("--steps", type=int, help=f"of every variant, instead of a budget; a multiple of {EPOCHS}")
    parser.add_argument("--only", action="append", metavar="NAME", help="this variant; repeat for others")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="train every variant with the seeds 1 to N")
    parser.add_argument("--threads", default="2")
    parser.add_argument("--work", type=Path, default=ROOT / "target/compare")
    args, flags = parser.parse_known_args()
    args.images = args.images.resolve()
    args.work = (args.work / args.table).resolve()
    args.work.mkdir(parents=True, exist_ok=True)
    flags = [f"--threads={args.threads}", *flags]
    if args.table == "polyu":
        polyu(args, flags)
    else:
        table(args, flags)


def table(args, flags):
    split(args.images, args.work)
    print(f"| {title(args)} | PSNR | SSIM | steps |\n|---|---|---|---|")
    data = [f"--data-dir={args.work}/train", f"--val-dirs={args.work}/tuning"]
    for name, results in runs(args, TABLES[args.table], [*data, *flags]):
        scores = [scores_of(run) for run in results]
        psnr, ssim = np.mean(scores, axis=0)
        print(f"| {name} | {psnr:.2f}{of_each([psnr for psnr, _ in scores])} | {ssim:.4f} | {steps(results[0])} |",
              flush=True)


def scores_of(run):
    """PSNR and SSIM at the end of a run."""
    _, psnr, ssim = (run / "validation/A_log_BSD300.csv").read_text().splitlines()[-1].split(",")
    return float(psnr), float(ssim)


def of_each(scores):
    """The score of each seed behind their mean, if there are several."""
    return f" ({', '.join(f'{score:.2f}' for score in scores)})" if len(scores) > 1 else ""


def split(images, work):
    """Links to the training images, and the tuning set laid out as the program wants it."""
    paths = sorted(path for path in images.rglob("*") if path.suffix.lower() in SUFFIXES)
    tuning = set(random.Random(7).sample(paths, min(24, len(paths) // 4)))
    for index, path in enumerate(paths):
        if path in tuning:
            to = work / "tuning/BSD300/test" / f"{index:05}{path.suffix}"
        else:
            to = work / "train" / f"{index:05}{path.suffix}"
        to.parent.mkdir(parents=True, exist_ok=True)
        if not to.is_symlink():
            to.symlink_to(path)


def polyu(args, flags):
    """Real noise: the PSNR against the means, and the gain over doing nothing."""
    noisy = sorted(args.images.glob("*[Rr]eal*"))
    assert noisy, f"no *real* image in {args.images}"
    folder = args.work / "real"
    folder.mkdir(exist_ok=True)
    for path in noisy:
        if not (folder / path.name).is_symlink():
            (folder / path.name).symlink_to(path)
    print(f"| {title(args)} | PSNR against the means | gain |\n|---|---|---|")
    before = np.mean([psnr(path, mean_of(path)) for path in noisy])
    print(f"| as the camera gives them | {before:.2f} | |", flush=True)
    start = [*FAST, "--init-from=gauss5_50"]
    variants = {
        "neighbor-distance 2": [*FAST, "--neighbor-distance=2"],
        "neighbor-distance 3": [*FAST, "--neighbor-distance=3"],
        "neighbor-distance 4": [*FAST, "--neighbor-distance=4"],
        "from gauss5_50": start,
        "from gauss5_50, neighbor-distance 3": [*start, "--neighbor-distance=3"],
        "from gauss5_50, neighbor-distance auto": [*start, "--neighbor-distance=auto"],
        "increase-ratio 1": [*FAST, "--increase-ratio=1"],
        "increase-ratio 2": [*FAST, "--increase-ratio=2"],
        "increase-ratio 8": [*FAST, "--increase-ratio=8"],
    }
    data = [f"--data-dir={folder}", "--noisetype=none", "--val-dirs=none"]
    for name, results in runs(args, variants, [*data, *flags]):
        scores = [denoised_psnr(folder, noisy, run) for run in results]
        after = np.mean(scores)
        print(f"| {name} | {after:.2f}{of_each(scores)} | {after - before:+.2f} |", flush=True)


def denoised_psnr(folder, noisy, run):
    """The mean PSNR of the noisy images as the run's model denoises them."""
    output = run / "denoised"
    predict = [N2N, "predict", folder, "--model-path", run / "latest.safetensors",
               "--save-dir", output, "--quiet"]
    subprocess.run(predict, check=True, stdout=subprocess.DEVNULL)
    scores = []
    for path in noisy:
        [denoised] = output.rglob(f"{path.stem}_denoise.*")
        scores.append(psnr(denoised, mean_of(path)))
    return np.mean(scores)


def mean_of(path):
    name = path.name.replace("_real", "_mean").replace("_Real", "_mean")
    return path.with_name(name)


def psnr(path, against):
    a, b = (np.asarray(Image.open(name).convert("RGB"), float) for name in (path, against))
    return 10 * np.log10(255**2 / np.mean((a - b) ** 2))


def title(args):
    return f"{args.steps} steps" if args.steps else f"{args.budget:g} minutes on {args.threads} threads"


def runs(args, variants, flags):
    """The name and the finished runs, one for each seed, of each variant that was asked for."""
    variants = {name: [*flags, *variant] for name, variant in variants.items()
                if not args.only or name in args.only}
    steps = {name: args.steps or affordable(args, name, variant) for name, variant in variants.items()}
    for name, variant in variants.items():
        an_epoch = -(-steps[name] // EPOCHS)
        epochs = [f"--n-epoch={EPOCHS}", f"--steps-per-epoch={an_epoch}"]
        yield name, [
            train(args, f"{name} {EPOCHS * an_epoch} steps seed {seed}", [*variant, *epochs, f"--seed={seed}"])
            for seed in range(1, args.seeds + 1)
        ]


def affordable(args, name, flags):
    """The steps that the budget pays for."""
    run = train(args, f"{name} speed on {args.threads}",
                [*flags, "--val-dirs=none", "--time-budget=15s", "--log-iters=1"])
    *_, last = csv.DictReader(open(run / "losses.csv"))
    return int(60 * args.budget * float(last["step"]) / float(last["elapsed_s"]))


def train(args, name, flags):
    """The folder of a finished run."""
    log_name = "".join(c if c.isalnum() else "_" for c in name)
    run = args.work / "results" / log_name
    if (run / "config.toml").exists():
        command = [N2N, "train", f"--resume={run}", "--quiet"]
    else:
        command = [N2N, "train", f"--save-model-path={args.work}/results",
                   f"--log-name={log_name}", "--n-snapshot=1000000", "--quiet", *flags]
    with open(args.work / f"{log_name}.txt", "a") as output:
        subprocess.run(command, check=True, stdout=output, stderr=output)
    return run


def steps(run):
    return (run / "losses.csv").read_text().splitlines()[-1].split(",")[0]


if __name__ == "__main__":
    main()
