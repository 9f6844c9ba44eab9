"""Makes JPEG 2000 files, with Pillow and imagecodecs (both OpenJPEG), and TIFFs that contain JPEG 2000, with
tifffile. The samples are those of make_formats.py; `photo` is the picture of the photographs there.

    python tests/golden/images/make_jpeg2000.py
"""

from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from PIL import Image

HERE = Path(__file__).parent


def path(name):
    return str(HERE / name)


def samples(channels, dtype, bits, height=7, width=10):
    shape = (height, width, channels) if channels > 1 else (height, width)
    i = np.arange(height * width * channels, dtype=np.int64).reshape(shape)
    return (7919 * i % 2**bits).astype(dtype)


u8, u16 = np.uint8, np.uint16

# Lossless: whole and in tiles, as JP2 and as a bare codestream.
Image.fromarray(samples(1, u8, 8)).save(path("grey.jp2"), irreversible=False)
Image.fromarray(samples(3, u8, 8, 37, 41)).save(path("tiles_rgb.jp2"), irreversible=False, tile_size=(16, 16), mct=1)
Image.fromarray(samples(4, u8, 8)).save(path("rgba.jp2"), irreversible=False)


def encode(name, array, **options):
    kind = "j2k" if name.endswith("j2k") else "jp2"
    (HERE / name).write_bytes(imagecodecs.jpeg2k_encode(array, level=0, codecformat=kind, **options))


encode("rgb_u16.j2k", samples(3, u16, 16))
encode("grey_u12.jp2", samples(1, u16, 12), bitspersample=12)
encode("grey_i16.jp2", (samples(1, u16, 16).astype(np.int32) - 32768).astype(np.int16))
encode("bands_u8.jp2", samples(5, u8, 8), mct=False)

# Lossy, and what OpenJPEG makes of it.
y, x = np.mgrid[0:24, 0:40]
photo = np.stack([6 * x, 10 * y, 255 - 3 * x - 5 * y], axis=-1).astype(u8)
Image.fromarray(photo).save(path("photo.jp2"), irreversible=True, quality_mode="dB", quality_layers=[40])
Image.open(path("photo.jp2")).save(path("photo_jp2_decoded.png"))

# In TIFF: by the standard, and by Aperio, whose first kind stores luma and chroma and does not say so.
tiles = {"tile": (16, 32), "photometric": "rgb", "metadata": None}
tifffile.imwrite(path("jpeg2000_u16_rgb.tif"), samples(3, u16, 16, 37, 41), compression=34712, compressionargs={"level": 0}, **tiles)
tifffile.imwrite(path("jpeg2000_u8_rgb.tif"), samples(3, u8, 8, 37, 41), compression=33005, compressionargs={"level": 0}, **tiles)
ycbcr = np.asarray(Image.fromarray(photo).convert("YCbCr"))
tifffile.imwrite(path("jpeg2000_ycbcr.tif"), ycbcr, compression=33003, compressionargs={"level": 0, "mct": False}, **tiles)
