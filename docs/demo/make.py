"""Makes the pictures of the demonstration beside this file: clean.png, noisy.png, and crops.png, the same
crop of these two and of noisy_denoise.png, which `n2n predict docs/demo/noisy.png --save-dir docs/demo`
makes.

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

denoised = cv2.imread(str(FOLDER / "noisy_denoise.png"))[:, :, ::-1]
crops = [image[75:165, 130:250] for image in (clean, noisy, denoised)]
gap = np.full((90, 2, 3), 255, np.uint8)
row = np.concatenate([crops[0], gap, crops[1], gap, crops[2]], axis=1)
row = row.repeat(3, axis=0).repeat(3, axis=1)
cv2.imwrite(str(FOLDER / "crops.png"), row[:, :, ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
