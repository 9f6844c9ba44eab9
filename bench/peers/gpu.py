"""Times n2n and PyTorch on one GPU, and writes one table: gpu.md, gpu.json.

    gpu.py --n2n PATH [--device gpu:0] [--rounds N] [--quick] [--save-dir DIR]

PATH is an `n2n` built with `--features gpu`. PyTorch runs the network of tests/golden/n2n_torch.py
on `--torch-device` (cuda). In each round the engines run one after the other: n2n as a process,
PyTorch here, with images that are already on the device; a run ends when its result is complete on
the device. The figure is the median of the rounds; for n2n, the median of the medians that it prints.

It needs no packages other than PyTorch, and none of the other scripts.
"""

import argparse
import contextlib
import datetime
import json
import pathlib
import platform
import statistics
import subprocess
import sys
import time

import torch

HERE = pathlib.Path(__file__).resolve().parent
# Next to this script on a machine without the repository.
sys.path[:0] = [str(HERE), *(str(parent / "tests/golden") for parent in HERE.parents)]

import n2n_torch  # noqa: E402

# work, batch, side
CASES = [("infer", 1, 512), ("infer", 1, 2048), ("train", 4, 256), ("train", 32, 256)]
QUICK = [("infer", 1, 64), ("train", 1, 64)]
# name, TF32, bfloat16, compiled, channels last
ENGINES = [
    ("PyTorch, f32", False, False, False, False),
    ("PyTorch, f32, channels last", False, False, False, True),
    ("PyTorch, TF32", True, False, False, False),
    ("PyTorch, TF32, channels last", True, False, False, True),
    ("PyTorch, bf16 autocast, channels last", True, True, False, True),
    ("torch.compile, f32, channels last", False, False, True, True),
    ("torch.compile, TF32, channels last", True, False, True, True),
    ("torch.compile, bf16 autocast, channels last", True, True, True, True),
]
# As `n2n bench train` has them.
LAMBDAS = {"lambda1": 1.0, "lambda2": 1.0, "lambda_": 1.0}
# Untimed runs of PyTorch, in which it chooses its kernels and compiles.
WARM_UP = 5


class Torch:
    """PyTorch with some settings, on one case."""

    def __init__(self, settings, case, device):
        name, self.tf32, bf16, compiled, channels_last = settings
        self.work, n, side = case
        self.device, self.times_ms = device, []
        layout = torch.channels_last if channels_last else torch.contiguous_format
        torch.manual_seed(0)
        network = n2n_torch.UNet().to(device).to(memory_format=layout)
        images = torch.rand(n, 3, side, side, device=device).contiguous(memory_format=layout)
        pairs = torch.randint(0, 8, (n, side // 2, side // 2), dtype=torch.uint8).to(device)
        autocast = lambda: (
            torch.autocast(torch.device(device).type, torch.bfloat16)
            if bf16
            else contextlib.nullcontext()
        )
        if self.work == "infer":
            network.eval()
            call = torch.compile(network) if compiled else network

            def run():
                with torch.inference_mode(), autocast():
                    return call(images)

        else:
            fused = torch.device(device).type == "cuda"
            optimizer = torch.optim.Adam(network.parameters(), lr=3e-4, eps=1e-8, fused=fused)
            losses = torch.compile(n2n_torch.losses) if compiled else n2n_torch.losses

            def run():
                optimizer.zero_grad()
                with autocast():
                    loss = losses(network, images, pairs, **LAMBDAS)[-1]
                loss.backward()
                optimizer.step()
                return loss

        self.run = run
        for _ in range(WARM_UP):
            self.turn()
        self.times_ms.clear()

    def turn(self):
        torch.backends.cuda.matmul.allow_tf32 = self.tf32
        torch.backends.cudnn.allow_tf32 = self.tf32
        start = time.perf_counter()
        self.run()
        if torch.device(self.device).type == "cuda":
            torch.cuda.synchronize()
        self.times_ms.append((time.perf_counter() - start) * 1e3)


class Ours:
    """n2n, one process per turn."""

    def __init__(self, case, args, *flags):
        work, n, side = case
        size = ["--size", str(side)] if work == "infer" else ["--batch", str(n), "--patch", str(side)]
        self.command = [args.n2n, "bench", work, *size, "--device", args.device, "--json", *flags]
        self.times_ms, self.device = [], None

    def turn(self):
        done = subprocess.run(self.command, check=True, stdout=subprocess.PIPE, text=True)
        answer = json.loads(done.stdout)
        self.times_ms.append(answer["median_ms"])
        self.device = answer["device"]


def measure(case, args):
    rows, engines = [], {}
    halves = [("n2n, half precision", lambda: Ours(case, args, "--half"))] if case[0] == "infer" else []
    for name, make in [
        ("n2n", lambda: Ours(case, args)),
        *halves,
        *((settings[0], lambda s=settings: Torch(s, case, args.torch_device)) for settings in ENGINES),
    ]:
        print(f"{case}: loading {name}", file=sys.stderr, flush=True)
        row = {"engine": name}
        rows.append(row)
        try:
            engines[name] = make()
        except Exception as error:
            row["unavailable"] = f"{type(error).__name__}: {error}".splitlines()[0]
    for done in range(args.rounds):
        print(f"{case}: round {done + 1} of {args.rounds}", file=sys.stderr, flush=True)
        for row in rows:
            if row["engine"] in engines:
                engines[row["engine"]].turn()
    for row in rows:
        if row["engine"] in engines:
            times = engines[row["engine"]].times_ms
            row |= {"median_ms": statistics.median(times), "min_ms": min(times), "max_ms": max(times)}
    return rows, engines["n2n"].device


def title(work, n, side):
    if work == "infer":
        return f"Denoising {n} × 3 × {side} × {side}"
    return f"Training step, {n} patches of {side} × {side}"


def markdown(results):
    lines = [
        "# n2n and PyTorch on a GPU",
        "",
        f"Made by `gpu.py` on {results['date']}: {results['device']}, torch {results['torch']}, "
        f"{results['system']}.",
    ]
    for case in results["cases"]:
        lines += ["", f"## {case['title']}", ""]
        lines += ["| engine | median ms | min | max | × n2n |", "|---|---:|---:|---:|---:|"]
        ours = case["rows"][0]["median_ms"]
        for row in case["rows"]:
            if "unavailable" in row:
                lines.append(f"| {row['engine']} | not measured: {row['unavailable']} ||||")
                continue
            times = " | ".join(f"{row[key]:.2f}" for key in ("median_ms", "min_ms", "max_ms"))
            lines.append(f"| {row['engine']} | {times} | {row['median_ms'] / ours:.2f} |")
    return "\n".join([*lines, ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n2n", required=True, help="the program, built with --features gpu")
    parser.add_argument("--device", default="gpu", help="the GPU for n2n [gpu]")
    parser.add_argument("--torch-device", default="cuda", help="the same for PyTorch [cuda]")
    parser.add_argument("--rounds", type=int, default=9, help="timed runs of each engine [9]")
    parser.add_argument("--quick", action="store_true", help="two tiny cases, to try this script")
    parser.add_argument("--save-dir", type=pathlib.Path, default=HERE)
    args = parser.parse_args()
    results = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "torch": torch.__version__,
        "system": f"{platform.system()} {platform.release()}",
        "cases": [],
    }
    for case in QUICK if args.quick else CASES:
        rows, results["device"] = measure(case, args)
        results["cases"].append({"title": title(*case), "rows": rows})
    print(markdown(results))
    if not args.quick:
        args.save_dir.mkdir(parents=True, exist_ok=True)
        (args.save_dir / "gpu.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
        (args.save_dir / "gpu.md").write_text(markdown(results))


if __name__ == "__main__":
    main()
