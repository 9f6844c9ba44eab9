"""Compares denoisers by quality and time on one machine.

Quality is the PSNR on clean images with synthetic Gaussian noise of σ = 25; time is seconds per megapixel.

    run.py --data DIR [--images N] [--threads N] [--only TEXT]… [--save-dir DIR]
    run.py --data DIR --tune [--images N]
    run.py --draw results.json

DIR holds the clean images; for the published scores, the 24 of Kodak. `--tune` prints the settings, of those in
methods.py, that give the highest PSNR on DIR, which must then hold other images than the test set. `--draw` redraws the
plot.

Every method is a process of its own that stays alive. On each image every method runs in turn, so that whatever else
the machine does is spread over all of them.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import pathlib
import platform
import resource
import statistics
import sys
import tempfile
import time

import numpy as np
from PIL import Image

import methods

HERE = pathlib.Path(__file__).resolve().parent
SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".ppm"}
ENSEMBLE = " --ensemble"


def clean_images(folder, count):
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        sys.exit(f"error: {folder}: expected images, found none")
    return {path.name: np.asarray(Image.open(path).convert("RGB")) for path in paths[:count]}


def with_noise(clean, place):
    """The same noisy image for every method: float32, not clipped, as in the paper."""
    noise = np.random.default_rng([101, place]).normal(0, methods.SIGMA, clean.shape)
    return (clean + noise).astype(np.float32)


def psnr(clean, denoised):
    """Of bytes, as `n2n val` rounds."""
    denoised = denoised.astype(np.float64).clip(0, 255).round()
    return float(10 * np.log10(255**2 / np.mean((denoised - clean) ** 2)))


def serve(connection, name, threads, model):
    """A method's process: answers each image with the result and what it took."""
    try:
        version, run = methods.load(name, threads, model)
        connection.send(version)
        while True:
            noisy = connection.recv()
            before, started = cpu_s(), time.perf_counter()
            result = run(noisy)
            seconds = time.perf_counter() - started
            connection.send((np.asarray(result, np.float32), seconds, cpu_s() - before))
    except EOFError:
        pass
    except Exception as error:
        connection.send(error)


def cpu_s():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class Method:
    """A method's process, as its owner sees it."""

    def __init__(self, name, threads, model):
        self.name, self.psnr_db, self.s_per_mp, self.processors = name, [], [], []
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, name, threads, model), daemon=True)
        self.process.start()
        theirs.close()
        self.version = self.answer()

    def ask(self, noisy):
        self.connection.send(noisy)
        return self.answer()

    def answer(self):
        try:
            answer = self.connection.recv()
        except EOFError:
            answer = RuntimeError("its process ended")
        if isinstance(answer, Exception):
            raise answer
        return answer

    def take(self, clean, noisy):
        denoised, seconds, busy = self.ask(noisy)
        self.psnr_db.append(psnr(clean, denoised))
        self.s_per_mp.append(seconds / (clean.shape[0] * clean.shape[1] / 1e6))
        self.processors.append(busy / seconds)

    def row(self):
        return {
            "method": self.name,
            "version": self.version,
            "psnr_db": statistics.mean(self.psnr_db),
            "s_per_mp": statistics.median(self.s_per_mp),
            "processors": statistics.median(self.processors),
            "each_psnr_db": self.psnr_db,
            "each_s_per_mp": self.s_per_mp,
        }


def compare(images, names, threads):
    rows, running = {name: {"method": name} for name in names}, []
    noisy = [with_noise(clean, place) for place, clean in enumerate(images.values())]
    with tempfile.TemporaryDirectory(prefix="n2n-quality-") as folder:
        folder = pathlib.Path(folder)
        methods.export(folder)
        for name in names:
            say(f"loading {name}")
            with failures(rows[name]):
                method = Method(name, threads, folder)
                # Untimed: what a first call allocates and compiles.
                method.ask(noisy[0])
                running.append(method)
        for place, (file, clean) in enumerate(images.items()):
            say(f"image {place + 1} of {len(images)}: {file}")
            for method in list(running):
                # The threads of the method before may still be waiting in a loop for more work.
                time.sleep(0.1)
                with failures(rows[method.name]):
                    method.take(clean, noisy[place])
                    continue
                running.remove(method)
        for method in running:
            rows[method.name] = method.row()
            method.connection.close()
    return list(rows.values())


@contextlib.contextmanager
def failures(row):
    """A method that cannot run here gets a row that says so."""
    try:
        yield
    except Exception as error:
        row["unavailable"] = f"{type(error).__name__}: {error}".splitlines()[0]
        say(f"{row['method']}: {row['unavailable']}")


def tune(images, names, threads):
    """Prints the best settings of every method that has some, on the middle of each image."""
    side = 192
    crops = []
    for clean in images.values():
        top, left = (max(n - side, 0) // 2 for n in clean.shape[:2])
        crops.append(clean[top : top + side, left : left + side])
    noisy = [with_noise(clean, place) for place, clean in enumerate(crops)]
    for name in names:
        if name not in methods.GRIDS:
            continue
        found = []
        for settings in methods.grid(name):
            _, run = methods.load(name, threads, None, **settings)
            scores = [psnr(clean, np.asarray(run(given))) for clean, given in zip(crops, noisy)]
            found.append((statistics.mean(scores), settings))
        found.sort(key=lambda entry: -entry[0])
        print(name)
        for score, settings in found[:3]:
            print(f"  {score:.2f} dB  {settings}")


def machine():
    lines = pathlib.Path("/proc/cpuinfo")
    cpu = [line for line in lines.read_text().splitlines() if line.startswith("model name")] if lines.exists() else []
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "cpu": cpu[0].partition(":")[2].strip() if cpu else platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def markdown(results):
    made = results["machine"]
    lines = [
        "# Quality against time",
        "",
        f"Made by `just peers-quality` on {made['date']}: {results['threads']} threads of {made['cpu']}, {made['system']}, "
        f"Python {made['python']}; {results['images']} images. [README.md](README.md) says what is measured, and how.",
        "",
        "| method | PSNR, dB | s per megapixel | processors used | |",
        "|---|---:|---:|---:|---|",
    ]
    for row in sorted(results["rows"], key=lambda row: -row.get("psnr_db", 0)):
        name = f"**n2n {row['method']}**" if is_ours(row["method"]) else row["method"]
        if "unavailable" in row:
            lines.append(f"| {name} | not measured: {row['unavailable']} |||")
            continue
        lines.append(
            f"| {name} | {row['psnr_db']:.2f} | {row['s_per_mp']:.2f} | {row['processors']:.1f} | {row['version']} |"
        )
    return "\n".join(lines) + "\n"


def is_ours(name):
    return name.startswith("gauss") and " in " not in name


def draw(results, path):
    """A picture of quality against time, for light pages."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    rows = [row for row in results["rows"] if "psnr_db" in row]
    figure, axis = pyplot.subplots(figsize=(9, 5.6), dpi=150, layout="constrained")
    axis.set_xscale("log")
    axis.set_xlabel("seconds per megapixel (logarithmic)")
    axis.set_ylabel("PSNR, dB")
    axis.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.grid(which="major", color="#d8d8d8", linewidth=0.7)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    seconds = [row["s_per_mp"] for row in rows]
    scores = [row["psnr_db"] for row in rows]
    axis.set_xlim(min(seconds) / 2, max(seconds) * 3)
    margin = 0.08 * (max(scores) - min(scores) + 1)
    axis.set_ylim(min(scores) - margin, max(scores) + margin)
    blue, brown = "#1257a8", "#7a5230"
    by_name = {row["method"]: (row["s_per_mp"], row["psnr_db"]) for row in rows}
    marks = {"s": 52, "linewidth": 1.5, "zorder": 3}
    ours = [name for name in by_name if is_ours(name) and ENSEMBLE not in name]
    ensembles = [name for name in by_name if ENSEMBLE in name]
    others = [name for name in by_name if not is_ours(name)]
    for names, marker, color, filled, words in (
        (ours, "o", blue, True, "n2n"),
        (ensembles, "o", blue, False, "n2n, mean over eight flips and rotations"),
        (others, "s", brown, True, "others"),
    ):
        if names:
            points = zip(*(by_name[name] for name in names))
            face = color if filled else "white"
            axis.scatter(*points, marker=marker, facecolor=face, edgecolor=color, label=words, **marks)
    pairs = [(by_name[name], by_name[name + ENSEMBLE]) for name in ours if name + ENSEMBLE in by_name]
    for pair in pairs:
        axis.plot(*zip(*pair), color=blue, linewidth=0.8, linestyle=":", zorder=2)
    axis.legend(loc="lower right", frameon=False, fontsize=8.5)
    named = ours + others
    colors = [blue if is_ours(name) else brown for name in named]
    label(figure, axis, by_name, pairs, named, colors)
    figure.savefig(path, facecolor="white")
    pyplot.close(figure)


def label(figure, axis, by_name, pairs, words, colors):
    """Writes each of the words beside its point, where it covers no point, no other word and no line of a pair."""
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    scale = figure.dpi / 72
    points = [by_name[word] for word in words]
    at = axis.transData.transform(points)
    all_at = axis.transData.transform(list(by_name.values()))
    taken = [(x - 6 * scale, y - 6 * scale, x + 6 * scale, y + 6 * scale) for x, y in all_at]
    for pair in pairs:
        for x, y in np.linspace(*axis.transData.transform(pair), 100):
            taken.append((x - scale, y - scale, x + scale, y + scale))
    taken.append(axis.get_legend().get_window_extent(renderer).extents)
    frame = axis.get_window_extent(renderer)
    # From the most crowded points outward, so that they get the places close by.
    order = sorted(range(len(points)), key=lambda i: sum(np.hypot(*(at[i] - other)) for other in at))
    for i in order:
        text = axis.annotate(
            words[i], points[i], (0, 0), textcoords="offset points", fontsize=8.5, color=colors[i], zorder=4
        )
        extent = text.get_window_extent(renderer)
        best = None
        for distance, dx, dy in offsets(extent.width / scale, extent.height / scale):
            left, bottom = at[i] + np.array([dx, dy]) * scale
            box = (left - scale, bottom - scale, left + extent.width + scale, bottom + extent.height + scale)
            covered = overlap(box, taken, frame)
            if best is None or covered < best[0]:
                best = (covered, distance, dx, dy, box)
            if covered == 0:
                break
        _, distance, dx, dy, box = best
        text.set_position((dx, dy))
        taken.append(box)
        if distance > 8:
            near = np.clip(0, dx, dx + extent.width / scale), np.clip(0, dy, dy + extent.height / scale)
            line = {"arrowstyle": "-", "color": colors[i], "linewidth": 0.6, "shrinkB": 5}
            axis.annotate("", points[i], near, textcoords="offset points", arrowprops=line)


def offsets(width, height):
    """Places of a word relative to its point, in points (1/72 inch), the nearest first: (distance, dx, dy)."""
    for distance in (8, 16, 26, 38, 52, 68):
        for dx, dy in (
            (distance, -height / 2),
            (-width - distance, -height / 2),
            (-width / 2, distance),
            (-width / 2, -height - distance),
            (distance / 2, distance),
            (distance / 2, -height - distance),
            (-width - distance / 2, distance),
            (-width - distance / 2, -height - distance),
        ):
            yield distance, dx, dy


def overlap(box, taken, frame):
    """How much of a box lies on others or beyond the frame."""
    outside = max(frame.x0 - box[0], 0) + max(box[2] - frame.x1, 0) + max(frame.y0 - box[1], 0) + max(box[3] - frame.y1, 0)
    area = 0.0
    for other in taken:
        width = min(box[2], other[2]) - max(box[0], other[0])
        height = min(box[3], other[3]) - max(box[1], other[1])
        area += max(width, 0) * max(height, 0)
    return area + 1e3 * outside


def say(words):
    print(words, file=sys.stderr, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, help="the folder of clean images")
    parser.add_argument("--images", type=int, help="only the first N images")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="[all]")
    parser.add_argument("--only", action="append", help="methods whose name contains this text")
    parser.add_argument("--tune", action="store_true", help="search the settings of methods.py instead")
    parser.add_argument("--draw", type=pathlib.Path, help="draw the picture of these results.json again")
    parser.add_argument("--save-dir", type=pathlib.Path, help="[next to this script, if all images and methods are run]")
    args = parser.parse_args()
    if args.draw:
        draw(json.loads(args.draw.read_text()), args.draw.with_suffix(".png"))
        return
    if args.data is None:
        parser.error("--data: expected the folder of clean images")
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ[variable] = str(args.threads)
    images = clean_images(args.data, args.images)
    names = [name for name in methods.names() if not args.only or any(text in name for text in args.only)]
    if args.tune:
        tune(images, names, args.threads)
        return
    results = {
        "machine": machine(),
        "threads": args.threads,
        "images": len(images),
        "sigma": methods.SIGMA,
        "rows": compare(images, names, args.threads),
    }
    print(markdown(results))
    if args.save_dir is None and not args.images and not args.only:
        args.save_dir = HERE
    if args.save_dir:
        args.save_dir.mkdir(parents=True, exist_ok=True)
        (args.save_dir / "results.json").write_text(json.dumps(results, indent=1) + "\n")
        (args.save_dir / "results.md").write_text(markdown(results))
        draw(results, args.save_dir / "results.png")


if __name__ == "__main__":
    main()
