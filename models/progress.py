"""Draws progress.png: PSNR against training time, from the tables of README.md and ../docs/train.md.

    python models/progress.py

Needs Python with matplotlib.
"""

import pathlib

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

HERE = pathlib.Path(__file__).resolve().parent

# docs/train.md: gauss25 from random weights, 8 minutes on two cores, scored after 5, 10, 15 and 20 of 20 epochs.
MINUTES = [2, 4, 6, 8]
PROTOTYPES = {
    "Adam, paper's gradient": [27.38, 27.95, 28.21, 28.32],
    "and one patch regularized": [27.54, 28.21, 28.48, 28.67],
    "and mean target": [27.60, 28.26, 28.55, 28.73],
    "Muon, one patch regularized": [29.04, 29.57, 29.81, 29.93],
}

# The runs that lead to gauss5_50: name, steps, seconds a step on the machine at rest, PSNR at their end on the tuning
# images with σ from 5 to 50. `base` and `half` together took 88 minutes; their steps without and with the regularizer
# cost 1 : 1.9.
OLD = [("base", 23 / 60, 28.74), ("half, 2,000 steps", 31 / 60, 29.66), ("half", 88 / 60, 30.80)]
NEW = [
    ("muon", 14_000, 0.164, 30.79),
    ("blind: enlarged images", 9_000, 0.164, 31.16),
    ("patches of 256", 4_700, 0.25, 31.27),
    ("by way of gauss25", 38_700, 0.25, 31.45),
    ("patches of 512", 3_000, 1.0, 31.48),
    ("gauss5_50: levels from 0", 9_000, 0.27, 31.51),
]


def main():
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), dpi=150, layout="constrained")
    blue, brown = "#1257a8", "#7a5230"
    for (name, psnr), color, line in zip(PROTOTYPES.items(), (brown, brown, brown, blue), ("-", "--", ":", "-")):
        left.plot(MINUTES, psnr, line, marker="o", markersize=4, color=color, label=name)
    left.set_xlabel("minutes on two cores, from random weights")
    left.set_ylabel("PSNR on the tuning images, dB")
    left.set_title("gauss25: optimizer and gradient", fontsize=10)
    left.legend(frameon=False, fontsize=8, loc="lower right", bbox_to_anchor=(1, 0.53))

    right.plot(*zip(*[(hours, psnr) for _, hours, psnr in OLD]), "-", marker="o", markersize=4, color=brown,
               label="old recipe: Adam, paper's gradient")
    hours = OLD[-1][1]
    points = [(hours, OLD[-1][2])]
    for name, steps, seconds, psnr in NEW:
        hours += steps * seconds / 3600
        points.append((hours, psnr))
        # The labels of the last two points are below them: above is that of the point before.
        offset = {NEW[-2][0]: (6, -18), NEW[-1][0]: (6, -34)}.get(name, (-6, 5))
        right.annotate(name, (hours, psnr), offset, textcoords="offset points", fontsize=8, ha="right", color=blue)
    right.plot(*zip(*points), "-", marker="o", markersize=4, color=blue, label="new recipe: Muon, mean target")
    right.set_xlabel("hours on the machine at rest")
    right.set_ylim(top=31.65)
    right.set_title("gauss5_50: what each stage gained", fontsize=10)
    right.legend(frameon=False, fontsize=8, loc="lower right")
    for axis in (left, right):
        axis.grid(color="#d8d8d8", linewidth=0.7)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(HERE / "progress.png", facecolor="white")


if __name__ == "__main__":
    main()
