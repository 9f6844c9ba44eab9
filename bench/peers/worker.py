"""One engine in a process of its own, so that its memory and its threads are its own.

    worker.py infer|call ENGINE THREADS MODEL IMAGES N H W
    worker.py train ENGINE THREADS MODEL IMAGES N H W PAIRS

`IMAGES` holds float32 [n, h, w, 3], `PAIRS` a byte for each 2x2 cell. The process loads the engine,
then answers each line of standard input with a line of JSON:

    (at the start)  {"version": ...}, or {"error": ...}, and the process exits
    run             {"ms": ..., "peak_rss_mb": ...}
    save PATH       {}; the last run's result is in the file: float32 [n, h, w, 3], or the loss

`crates/n2n/examples/peer.rs` is the same for n2n.
"""

import json
import os
import pathlib
import sys
import time

import numpy as np

import engines

# Engines print; what they print must not get between the answers.
ANSWERS = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)


def answer(**members):
    print(json.dumps(members), file=ANSWERS)


def peak_rss_mb():
    with open("/proc/self/status") as status:
        [line] = [line for line in status if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


def load(work, engine, threads, model, images, n, h, w, pairs=None):
    """(version, run, stored) of the engine: `stored` converts what `run()` returns to the float32 array to save."""
    n, h, w = int(n), int(h), int(w)
    images = np.fromfile(images, np.float32).reshape(n, h, w, 3)
    images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    model, threads = pathlib.Path(model), int(threads)
    if work != "train":
        version, run = engines.INFER[engine](model, images, threads)
        return version, run, lambda output: output.transpose(0, 2, 3, 1)
    pairs = np.fromfile(pairs, np.uint8).reshape(n, h // 2, w // 2)
    version, run = engines.TRAIN[engine](model, images, pairs, threads)
    return version, run, np.float32


def main():
    try:
        version, run, stored = load(*sys.argv[1:])
    except Exception as error:
        answer(error=f"{type(error).__name__}: {error}")
        return
    answer(version=version)
    result = None
    for line in sys.stdin:
        command, _, path = line.rstrip("\n").partition(" ")
        if command == "run":
            start = time.perf_counter()
            result = run()
            answer(ms=(time.perf_counter() - start) * 1e3, peak_rss_mb=peak_rss_mb())
        else:
            np.ascontiguousarray(stored(result), np.float32).tofile(path)
            answer()


if __name__ == "__main__":
    main()
