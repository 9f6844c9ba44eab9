"""Measures `n2n predict` as a whole: reading, network and writing.

The cases:

    jpeg    a photograph of 24 megapixels as JPEG
    folder  200 photographs of 2 megapixels as JPEG
    tiff    a 16-bit RGB TIFF of 8000 × 6000 pixels under --max-memory 600MB

    python bench/whole_program.py [jpeg] [folder] [tiff] [--scale F] [flags of n2n predict]

The images are synthetic, with noise, and the same every time; `--scale 0.25` makes their sides a quarter as long, for a
quick run. Each row has the wall time; the share of the processors in use (user plus system time, divided by wall time
and by the number of processors), overall and from the time that the network is given the first row of pixels until it
has finished the last; peak RSS, in the megabytes of --max-memory (10⁶ bytes); and the number of pixels that the network
was given, divided by that of the images: what exceeds 1 is padding and what tiles see twice.

Run it on an idle machine. Needs Linux, and Python with numpy, Pillow and tifffile. N2N names the program [default:
target/release/n2n].
"""

import argparse
import json
import os
import pathlib
import subprocess
import tempfile
import time

import numpy as np
import tifffile
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[1]
N2N = pathlib.Path(os.environ.get("N2N", ROOT / "target/release/n2n")).resolve()


def photograph(height, width, seed):
    """Smooth colors, edges and noise, in 0..1."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    waves = np.sin(x / 97 + seed) * np.cos(y / 61) + np.sign(np.sin(x / 211 + y / 173))
    image = 0.5 + 0.12 * waves[..., np.newaxis] * np.float32([1.0, 0.8, -0.6])
    noise = np.random.default_rng(seed).standard_normal(image.shape, dtype=np.float32)
    return (image + 0.06 * noise).clip(0, 1)


def jpeg(folder, scale):
    write_jpeg(folder / "photograph.jpg", 4000, 6000, scale, 1)
    return []


def folder(folder, scale):
    for i in range(200):
        write_jpeg(folder / f"{i:03}.jpg", 1224, 1632, scale, i)
    return []


def tiff(folder, scale):
    image = photograph(round(6000 * scale), round(8000 * scale), 1)
    tifffile.imwrite(folder / "scan.tif", (image * 65535).astype(np.uint16), photometric="rgb")
    return ["--max-memory=600MB"]


def write_jpeg(path, height, width, scale, seed):
    image = photograph(round(height * scale), round(width * scale), seed)
    Image.fromarray((image * 255).astype(np.uint8)).save(path, quality=92)


CASES = {"jpeg": jpeg, "folder": folder, "tiff": tiff}


def measure(name, make, scale, flags):
    with tempfile.TemporaryDirectory(prefix="n2n-whole-") as work:
        work = pathlib.Path(work)
        (work / "in").mkdir()
        of_case = make(work / "in", scale)
        report = work / "report.json"
        command = [N2N, "predict", work / "in", "--save-dir", work / "out", "--json", report, *of_case, *flags]
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        times, used, peak = [0.0], [0.0], 0
        while True:
            # Before it is waited for, the process is there, if only as a zombie.
            used.append(processor_time(process.pid))
            peak = max(peak, peak_rss(process.pid))
            times.append(time.perf_counter() - started)
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            time.sleep(0.02)
        wall_s = time.perf_counter() - started
        if status:
            raise SystemExit(f"error: {name}: n2n predict ended with status {os.waitstatus_to_exitcode(status)}")
        report = json.loads(report.read_text())
        files = report["files"]
    pixels = sum(file["width"] * file["height"] for file in files)
    seen = sum(file["network_pixels"] for file in files)
    processors = len(os.sched_getaffinity(0))
    busy = (usage.ru_utime + usage.ru_stime) / wall_s / processors
    # The report is the last thing that the program writes.
    origin_s = wall_s - report["elapsed_s"]
    begin_s = origin_s + min(file["started_s"] for file in files)
    end_s = origin_s + max(file["started_s"] + file["seconds"] for file in files)
    network_s = np.diff(np.interp([begin_s, end_s], times, used)).item()
    network_busy = network_s / (end_s - begin_s) / processors
    print(
        f"| {name} | {pixels / 1e6:.1f} | {wall_s:.1f} | {1e6 * wall_s / pixels:.2f} | {busy:.1%} | {network_busy:.1%} "
        f"| {peak / 1e6:.0f} | {seen / pixels:.3f} |",
        flush=True,
    )


def processor_time(pid):
    """User and system time of a process so far, in seconds (man 5 proc)."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_rss(pid):
    """Peak RSS of a process so far, in bytes; 0 for a zombie. `ru_maxrss` includes this script's own memory, which the
    process has until it becomes another program."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    peak = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return 1024 * int(peak[0]) if peak else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(CASES)} [all]")
    parser.add_argument("--scale", type=float, default=1.0)
    args, flags = parser.parse_known_args()
    unknown = set(args.cases) - set(CASES)
    if unknown:
        parser.error(f"expected some of {', '.join(CASES)}, found {', '.join(sorted(unknown))}")
    print(
        "| case | megapixels | wall, s | s per megapixel | processors busy | while the network works "
        "| peak RSS, MB | network's pixels / image's |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for name in args.cases or CASES:
        measure(name, CASES[name], args.scale, flags)


if __name__ == "__main__":
    main()
