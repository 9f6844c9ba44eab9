"""Cuts the chain's tiny data set, `train/` and `test/` beside this file, out of docs/demo/clean.png.

Needs Pillow: `python test_tipc/data/make.py`.
"""

from pathlib import Path

from PIL import Image

FOLDER = Path(__file__).parent
# Name: left, top, width, height. Three test images, so that batches of two end with a short one,
# and of different shapes, since the evaluation pads each in its own way.
CUTS = {
    "train/1": (0, 0, 80, 80),
    "train/2": (110, 30, 80, 80),
    "train/3": (200, 110, 80, 80),
    "train/4": (330, 0, 80, 96),
    "train/5": (0, 200, 96, 80),
    "test/1": (220, 30, 96, 72),
    "test/2": (120, 150, 72, 96),
    "test/3": (340, 190, 80, 80),
}

clean = Image.open(FOLDER.parents[1] / "docs/demo/clean.png").convert("RGB")
for name, (left, top, width, height) in CUTS.items():
    path = FOLDER / f"{name}.png"
    path.parent.mkdir(exist_ok=True)
    clean.crop((left, top, left + width, top + height)).save(path, optimize=True)
