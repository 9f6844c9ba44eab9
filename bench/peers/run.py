"""Times n2n and other engines on the same network, and writes results-LEVEL.md and results-LEVEL.json.

LEVEL is the processor level that n2n ran at.

    run.py [--quick] [--rounds N] [--only TEXT] [--save-dir DIR]

Each engine is a process of its own, pinned to the same cores, that stays alive for all of a case.
In each round every engine in turn runs once untimed, so that the caches hold its own data, then
once timed; rounds spread whatever else the machine does over all engines. Runs go from an array in
memory to an array in memory. A result is compared with PyTorch in float64: the relative RMS of the
output, or the relative difference of the loss after STEPS steps.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import select
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
OURS = "n2n"

# A result further off than this is another network's.
TOLERANCE = 1e-2
# Training steps whose last loss is compared: the second depends on the first one's gradients.
STEPS = 3
# No engine is this slow; compiling for the machine takes a minute.
TIMEOUT_S = 600

INFER = [
    "PyTorch",
    "PyTorch, channels last",
    "torch.compile",
    "torch.compile, channels last",
    "ONNX Runtime",
    "OpenVINO",
    "MNN",
    "ncnn",
]
TRAIN = INFER[:4]
# The first is the Python package; n2n beside it is the call in Rust that the package makes.
CALL = ["n2n.denoise in Python", *INFER[:4]]


class Case:
    """What is timed: the title, the size, and the threads of n2n and of the engines beside it."""

    def __init__(self, work, n, side, threads):
        self.work, self.n, self.side, self.threads = work, n, side, threads
        count = f"{threads} thread{'s' * (threads > 1)}"
        if work == "infer":
            self.title = f"Denoising {n} × 3 × {side} × {side}, {count}"
        elif work == "call":
            self.title = f"A call from Python, {side} × {side} × 3, {count}"
        else:
            self.title = f"Training step, {n} patches of {side} × {side}, {count}"
        self.name = f"{work}_{n}_{side}"

    def contestants(self):
        """(engine, threads) of each row; n2n also on one thread, to show how it scales."""
        yield OURS, self.threads
        if self.threads > 1 and self.work != "call":
            yield OURS, 1
        for engine in {"infer": INFER, "call": CALL, "train": TRAIN}[self.work]:
            yield engine, self.threads


CASES = [
    Case("infer", 1, 512, 2),
    Case("infer", 1, 512, 1),
    Case("infer", 1, 256, 2),
    Case("call", 1, 512, 2),
    Case("train", 4, 128, 2),
    Case("train", 4, 256, 2),
]
QUICK = [Case("infer", 1, 64, 2), Case("call", 1, 64, 2), Case("train", 1, 64, 2)]


class Unavailable(Exception):
    """An engine that cannot run here; says why."""


class Worker:
    """An engine's process."""

    def __init__(self, engine, threads, case, folder, binary):
        self.times_ms, self.peak_rss_mb = [], None
        files = [folder / f"{case.name}.images"]
        sizes = [str(size) for size in (case.n, case.side, case.side)]
        if case.work == "train":
            sizes.append(folder / f"{case.name}.pairs")
        if engine == OURS:
            command = [binary, case.work, folder / "model.safetensors", *files, *sizes]
        else:
            command = [sys.executable, HERE / "worker.py", case.work, engine, str(threads)]
            command += [folder, *files, *sizes]
        cores = set(sorted(os.sched_getaffinity(0))[:threads])
        if len(cores) < threads:
            raise Unavailable(f"needs {threads} cores")
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=open(folder / "engines.log", "a"),
            env=os.environ | dict.fromkeys(["OMP_NUM_THREADS", "RAYON_NUM_THREADS"], str(threads)),
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        self.version = self.answer()["version"]

    def ask(self, line):
        try:
            self.process.stdin.write(f"{line}\n".encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Unavailable("ended early") from None
        return self.answer()

    def answer(self):
        ready, _, _ = select.select([self.process.stdout], [], [], TIMEOUT_S)
        line = self.process.stdout.readline() if ready else b""
        if not line:
            self.close()
            reason = f"ended with status {self.process.returncode}" if ready else "does not answer"
            raise Unavailable(reason)
        answer = json.loads(line)
        if "error" in answer:
            self.close()
            raise Unavailable(answer["error"])
        return answer

    def turn(self):
        """One untimed run, one timed."""
        self.ask("run")
        answer = self.ask("run")
        self.times_ms.append(answer["ms"])
        self.peak_rss_mb = answer["peak_rss_mb"]

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def measure(case, rounds, contestants, folder, binary):
    """The rows of a case."""
    kind = "train" if case.work == "train" else "infer"
    make = [kind, folder, case.name, case.n, case.side, case.side]
    model(*make, *([STEPS] if case.work == "train" else []))
    rows, workers = [], {}
    for engine, threads in contestants:
        row = {"engine": engine, "threads": threads}
        rows.append(row)
        say(f"{case.title}: loading {engine}")
        try:
            worker = Worker(engine, threads, case, folder, binary)
            for _ in range(STEPS if case.work == "train" else 2):
                worker.ask("run")
            row["error"] = error_of(worker, case, folder)
        except Unavailable as why:
            row["unavailable"] = str(why)
        else:
            workers[len(rows) - 1] = worker
    for done in range(rounds):
        say(f"{case.title}: round {done + 1} of {rounds}")
        for index, worker in list(workers.items()):
            # The threads of the engine before may still be waiting in a loop for more work.
            time.sleep(0.1)
            try:
                worker.turn()
            except Unavailable as why:
                rows[index]["unavailable"] = str(why)
                del workers[index]
    for index, worker in workers.items():
        worker.close()
        rows[index] |= {
            "version": worker.version,
            "median_ms": statistics.median(worker.times_ms),
            "min_ms": min(worker.times_ms),
            "max_ms": max(worker.times_ms),
            "runs": len(worker.times_ms),
            "peak_rss_mb": worker.peak_rss_mb,
        }
    return rows


def error_of(worker, case, folder):
    """How far the worker's result is from PyTorch's in float64, relatively."""
    import numpy as np

    path = folder / "result"
    worker.ask(f"save {path}")
    found, expected = (
        np.fromfile(path, np.float32).astype(np.float64)
        for path in (path, folder / f"{case.name}.answer")
    )
    if found.shape != expected.shape:
        return float("inf")
    return float(np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2)))


def model(*arguments):
    """Runs model.py, in a process of its own for the memory it takes."""
    command = [sys.executable, HERE / "model.py", *map(str, arguments)]
    if subprocess.run(command).returncode:
        sys.exit("error: the model and its answers need numpy, safetensors and torch: requirements/torch.txt")


def build(folder):
    """Builds n2n and fills the folder; returns the path of the program that speaks the workers' protocol."""
    cargo = ["cargo", "build", "--release", "--locked"]
    subprocess.run([*cargo, "--package", "n2n-cli"], cwd=ROOT, check=True)
    subprocess.run([*cargo, "--package", "n2n", "--example", "peer"], cwd=ROOT, check=True)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
    model("files", folder, target / "n2n")
    return target / "examples" / "peer"


def machine():
    """What the table was made on."""
    cpu = [
        line.partition(":")[2].strip()
        for line in open("/proc/cpuinfo")
        if line.startswith("model name")
    ]
    features = next(
        (line.split() for line in open("/proc/cpuinfo") if line.startswith(("flags", "Features"))),
        [],
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True
    )
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "commit": commit.stdout.strip(),
        "cpu": cpu[0] if cpu else platform.machine(),
        "instructions": [f for f in ("avx2", "fma", "avx512f", "avx512_bf16", "asimd") if f in features],
        "cores": os.cpu_count(),
        "memory_gb": round(memory / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def level(results):
    """The processor level of n2n, the last word of its version."""
    return results["cases"][0]["rows"][0].get("version", "unknown").split()[-1]


def markdown(results):
    made = results["machine"]
    lines = [
        "# n2n beside other engines",
        "",
        f"Made by `just peers` on {made['date']}, at {made['commit']}: {made['cores']} cores of "
        f"{made['cpu']} ({', '.join(made['instructions'])}), {made['memory_gb']} GB, "
        f"{made['system']}, Python {made['python']}. [README.md](README.md) says what is measured, and how.",
    ]
    for case in results["cases"]:
        lines += [
            "",
            f"## {case['title']}",
            "",
            "| engine | median ms | min | max | × n2n | peak MB | error |",
            "|---|---:|---:|---:|---:|---:|---:|",
        ]
        ours = case["rows"][0].get("median_ms")
        for row in case["rows"]:
            lines.append(markdown_row(row, case["threads"], ours))
        for row in case["rows"][1:]:
            if row["engine"] == OURS and ours and "median_ms" in row:
                gain = row["median_ms"] / ours
                lines += ["", f"n2n is {gain:.2f} × as fast on {case['threads']} threads as on one."]
    versions = sorted(
        {row["version"] for case in results["cases"] for row in case["rows"] if "version" in row}
    )
    lines += ["", f"Versions: {', '.join(versions)}.", ""]
    return "\n".join(lines)


def markdown_row(row, threads, ours):
    name = row["engine"]
    if row["threads"] != threads:
        name += f", {row['threads']} thread"
    if "unavailable" in row:
        return f"| {name} | not measured: {row['unavailable'].splitlines()[0]} ||||||"
    ratio = f"{row['median_ms'] / ours:.2f}" if ours else ""
    memory = f"{row['peak_rss_mb']:.0f}"
    error = f"{row['error']:.1e}"
    if not row["error"] <= TOLERANCE:
        error += " **wrong**"
    if row["engine"] == OURS:
        name = f"**{name}**"
    times = " | ".join(f"{row[key]:.1f}" for key in ("median_ms", "min_ms", "max_ms"))
    return f"| {name} | {times} | {ratio} | {memory} | {error} |"


def say(text):
    print(text, file=sys.stderr, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9, help="timed runs of each engine [9]")
    parser.add_argument("--quick", action="store_true", help="three tiny cases, to try this script")
    parser.add_argument("--only", default="", help="cases whose title holds this text")
    parser.add_argument(
        "--save-dir", type=pathlib.Path, help=f"[{HERE.relative_to(ROOT)}, if all cases are run]"
    )
    args = parser.parse_args()
    if not (args.quick or args.only or args.save_dir):
        args.save_dir = HERE

    cases = [case for case in (QUICK if args.quick else CASES) if args.only in case.title]
    rounds = 2 if args.quick else args.rounds
    with tempfile.TemporaryDirectory(prefix="n2n-peers-") as folder:
        folder = pathlib.Path(folder)
        binary = build(folder)
        results = {"machine": machine(), "cases": []}
        for case in cases:
            rows = measure(case, rounds, case.contestants(), folder, binary)
            results["cases"].append({"title": case.title, "threads": case.threads, "rows": rows})
    print(markdown(results))
    if args.save_dir:
        args.save_dir.mkdir(parents=True, exist_ok=True)
        stem = f"results-{level(results)}"
        text = json.dumps(results, indent=1, ensure_ascii=False)
        (args.save_dir / f"{stem}.json").write_text(text + "\n")
        (args.save_dir / f"{stem}.md").write_text(markdown(results))


if __name__ == "__main__":
    main()
