"""Tests how robust training is.

`kills` ends it 50 times with SIGKILL; `memory` watches its memory for 2,000 steps.

    python bench/train/endure.py kills IMAGES [--kills 50]
    python bench/train/endure.py memory IMAGES [--steps 2000]

IMAGES is a folder of training images. Needs only Python, on Linux. N2N names the program [default:
target/release/n2n].
"""

import argparse
import os
import random
import signal
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
N2N = Path(os.environ.get("N2N", ROOT / "target/release/n2n")).resolve()
SMALL = ["--n-feature=8", "--batchsize=2", "--log-iters=1", "--val-dirs=none", "--quiet"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["kills", "memory"])
    parser.add_argument("images", type=Path)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--steps", type=int, default=2000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.what == "kills":
            kills(args.images.resolve(), args.kills, Path(folder))
        else:
            memory(args.images.resolve(), args.steps, Path(folder))


def start(folder, *flags):
    with open(folder / "output", "a") as output:
        return subprocess.Popen([N2N, "train", *flags], cwd=folder, stdout=output, stderr=output)


def kills(images, wanted, folder):
    """Kills runs at random moments, until there were enough, and compares what they end with."""
    rng = random.Random(1)
    # A checkpoint after every step: most of the time one is being written.
    flags = [
        f"--data-dir={images}", *SMALL, "--patchsize=64", "--recipe=fast", "--n-epoch=2",
        "--steps-per-epoch=20", "--holdout=2", "--checkpoint-every=0s",
    ]
    began = time.monotonic()
    whole = start(folder, "--log-name=whole", *flags)
    assert whole.wait() == 0, (folder / "output").read_text()
    length = time.monotonic() - began
    expected = results(folder / "results/whole")

    killed = halves = runs = 0
    while killed < wanted:
        runs += 1
        run = folder / f"results/killed{runs}"
        process = start(folder, f"--log-name={run.name}", *flags)
        while True:
            try:
                code = process.wait(timeout=rng.uniform(0.0, length / 8))
                assert code == 0, (folder / "output").read_text()
                break
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                killed += 1
            halves += len(list(run.glob("**/.n2n-*.partial")))
            if not (run / "config.toml").exists():
                # Killed before there was a run.
                process = start(folder, f"--log-name={run.name}", *flags)
                continue
            if (run / "latest.safetensors").exists():
                info = [N2N, "info", "--model-path", run / "latest.safetensors"]
                subprocess.run(info, check=True, stdout=subprocess.DEVNULL)
            process = start(folder, f"--resume={run}", "--quiet")
        found = results(run)
        for name, content in expected.items():
            assert found.get(name) == content, f"{name} differs after {killed} kills"
        assert found.keys() == expected.keys()
    print(
        f"{killed} kills, {halves} of them while a file was being written, over {runs} runs: "
        "every run ended with the files of one never interrupted, to the byte"
    )


def results(run):
    """The weights of a run, and its losses without what depends on the clock."""
    files = {path.name: path.read_bytes() for path in run.glob("epoch_model_*.safetensors")}
    files["best"] = (run / "best.safetensors").read_bytes()
    rows = (run / "losses.csv").read_text().splitlines()
    files["losses"] = [row.split(",")[:8] for row in rows]
    files["held out"] = (run / "validation/A_log_held_out.csv").read_text()
    return files


def memory(images, steps, folder):
    """Prints the resident memory of a run as it goes."""
    epochs = steps // 100
    process = start(
        folder, f"--data-dir={images}", *SMALL, "--patchsize=64", f"--n-epoch={epochs}",
        "--steps-per-epoch=100", "--n-snapshot=10", "--holdout=2", "--log-name=run",
    )
    table, seen, readings = folder / "results/run/losses.csv", 0, []
    while process.poll() is None:
        rows = table.read_text().count("\n") - 1 if table.exists() else 0
        if rows >= seen + steps // 10:
            seen = rows
            readings.append((rows, resident_mb(process.pid)))
        time.sleep(0.05)
    assert process.returncode == 0, (folder / "output").read_text()
    for row, resident in readings:
        print(f"step {row:5}: {resident:7.1f} MB")
    growth = readings[-1][1] - readings[0][1]
    print(f"growth from step {readings[0][0]} to {readings[-1][0]}: {growth:+.1f} MB")


def resident_mb(process):
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return float("nan")


if __name__ == "__main__":
    main()
