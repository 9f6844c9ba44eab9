"""Makes the image files of this folder with Pillow and OpenCV, which our decoders are held against.

    python tests/golden/images/make.py
"""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

HERE = Path(__file__).parent


def path(name):
    return str(HERE / name)


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


# Four colours by palette, two pixels high and two wide: red, green / blue, grey.
palette = Image.fromarray(np.array([[0, 1], [2, 3]], np.uint8), "P")
palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 128, 128, 128])
palette.save(path("palette.png"))

# One bit a pixel: white, black, white.
Image.fromarray(np.array([[True, False, True]])).save(path("one_bit.png"))

# Half transparent, and wholly: the colours must survive.
rgba = np.array([[[10, 20, 30, 128], [40, 50, 60, 0]]], np.uint8)
Image.fromarray(rgba, "RGBA").save(path("rgba.png"))

# 16 bits, as OpenCV writes them (it orders the channels blue, green, red).
cv2.imwrite(path("grey16.png"), np.array([[0, 1, 256], [32768, 65534, 65535]], np.uint16))
cv2.imwrite(path("rgb16.png"), np.array([[[3, 2, 1], [65535, 258, 257]]], np.uint16))

# A smooth picture with chroma subsampling 4:2:0, and the pixels that libjpeg decodes from it.
y, x = np.mgrid[0:24, 0:40]
photo = np.stack([6 * x, 10 * y, 255 - 3 * x - 5 * y], axis=-1).astype(np.uint8)
Image.fromarray(photo).save(path("photo.jpg"), quality=90, subsampling="4:2:0")
Image.fromarray(photo).save(path("progressive.jpg"), quality=90, progressive=True)
Image.open(path("photo.jpg")).save(path("photo_jpg_decoded.png"))

# The same, stored lying on its side: Exif orientation 6 asks for a quarter turn clockwise.
exif = Image.Exif()
exif[0x0112] = 6
lying = Image.fromarray(np.ascontiguousarray(np.rot90(photo)))
lying.save(path("lying.jpg"), quality=90, subsampling="4:2:0", exif=exif)

# A header that claims 100000 x 100000 pixels, and next to nothing behind it.
header = chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0))
body = chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
(HERE / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + body)
