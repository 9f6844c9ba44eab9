"""Makes the two pictures of the demonstration, clean.png and noisy.png, beside this file.

The environment is that of tests/golden/README.md.
"""

from pathlib import Path

import cv2
import numpy as np
from skimage import data

FOLDER = Path(__file__).parent
SIGMA = 25  # on the 0..255 scale
SEED = 101

clean = data.chelsea()[:, :450]
noise = np.random.RandomState(SEED).normal(scale=SIGMA, size=clean.shape)
noisy = np.clip(np.rint(clean + noise), 0, 255).astype(np.uint8)
for name, image in [("clean.png", clean), ("noisy.png", noisy)]:
    cv2.imwrite(str(FOLDER / name), image[:, :, ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
