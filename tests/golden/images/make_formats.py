"""Makes a file of every format and layout, with Pillow, OpenCV, tifffile and OpenEXR, which our
decoders are held against. Sample i of a page, in the order height, width, channel, is (7919 i + 104729 page) mod
(max + 1), and for floats (7919 i mod 1009) / 64 - 2.

    python tests/golden/images/make_formats.py
"""

import struct
import zlib
from io import BytesIO
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import OpenEXR
import tifffile
from PIL import Image, ImageCms

HERE = Path(__file__).parent
HEIGHT, WIDTH = 7, 10


def path(name):
    return str(HERE / name)


def samples(channels, dtype, height=HEIGHT, width=WIDTH, page=0):
    shape = (height, width, channels) if channels > 1 else (height, width)
    i = np.arange(height * width * channels, dtype=np.int64).reshape(shape)
    if dtype == np.float32:
        return ((7919 * i % 1009) / 64 - 2).astype(dtype)
    return ((7919 * i + 104729 * page) % (np.iinfo(dtype).max + 1)).astype(dtype)


u8, u16, f32 = np.uint8, np.uint16, np.float32

# TIFF: layouts and byte orders (tifffile), compressions (Pillow, through libtiff).
tifffile.imwrite(path("strips_u16_rgb_big.tif"), samples(3, u16), photometric="rgb", byteorder=">", rowsperstrip=3)
tifffile.imwrite(path("strip_u8_grey.tif"), samples(1, u8), photometric="minisblack")
tifffile.imwrite(path("tiles_u16_rgb.tif"), samples(3, u16, 37, 41), photometric="rgb", tile=(16, 32), compression="zlib")
tifffile.imwrite(path("tiles_f32_grey_big.tif"), samples(1, f32, 37, 41), photometric="minisblack", byteorder=">", tile=(16, 16), compression="zlib")
tifffile.imwrite(path("planes_u8_rgb.tif"), np.moveaxis(samples(3, u8), 2, 0), photometric="rgb", planarconfig="separate", rowsperstrip=2)
tifffile.imwrite(path("planes_f32_bands.tif"), np.moveaxis(samples(5, f32), 2, 0), photometric="minisblack", planarconfig="separate", compression="zlib")
tifffile.imwrite(path("bigtiff_f32_rgb.tif"), samples(3, f32), photometric="rgb", bigtiff=True)
tifffile.imwrite(path("f16_grey.tif"), samples(1, f32).astype(np.float16), photometric="minisblack")
tifffile.imwrite(path("rgba_u16.tif"), samples(4, u16), photometric="rgb", extrasamples=["unassalpha"])
tifffile.imwrite(path("cmyk_u8.tif"), samples(4, u8), photometric="separated")
tifffile.imwrite(path("white_is_zero_u8.tif"), 255 - samples(1, u8), photometric="miniswhite")
tifffile.imwrite(path("f64_grey.tif"), samples(1, f32).astype(np.float64), photometric="minisblack")
Image.fromarray(samples(3, u8)).save(path("lzw_u8_rgb.tif"), compression="tiff_lzw")
Image.fromarray(samples(1, u8)).save(path("packbits_u8_grey.tif"), compression="packbits")
Image.fromarray(samples(1, u8) > 127).save(path("group4_one_bit.tif"), compression="group4")
cv2.imwrite(path("predicted_u16_rgb.tif"), samples(3, u16)[..., ::-1])  # LZW, horizontal predictor
y, x = np.mgrid[0:24, 0:40]
photo = np.stack([6 * x, 10 * y, 255 - 3 * x - 5 * y], axis=-1).astype(np.uint8)
Image.fromarray(photo).save(path("jpeg_u8_rgb.tif"), compression="jpeg", quality=95)

# A stack as ImageJ keeps them, with a resolution; and one whose pages differ.
stack = np.stack([samples(1, u16, page=page) for page in range(3)])
tifffile.imwrite(path("imagej_u16_stack.tif"), stack, imagej=True, resolution=(2.5, 2.5), metadata={"unit": "um", "axes": "ZYX"})
with tifffile.TiffWriter(path("mixed_pages.tif")) as mixed:
    mixed.write(samples(3, u8), photometric="rgb", description="first")
    mixed.write(samples(1, f32, 3, 4), photometric="minisblack")

# The others.
Image.fromarray(samples(3, u8)).save(path("lossless.webp"), lossless=True)
Image.fromarray(samples(4, u8)).save(path("alpha.webp"), lossless=True, exact=True)
Image.fromarray(samples(3, u8)).save(path("rgb.bmp"))
Image.fromarray(samples(1, u8)).save(path("grey.bmp"))
cv2.imwrite(path("rgb16.ppm"), samples(3, u16)[..., ::-1])
cv2.imwrite(path("grey16.pgm"), samples(1, u16))


def exr(name, **channels):
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    channels = {key.replace("_", "."): np.ascontiguousarray(values) for key, values in channels.items()}
    OpenEXR.File(header, channels).write(path(name))


floats = samples(4, f32)
rgba = dict(zip("RGBA", np.moveaxis(floats, 2, 0)))
rgb = dict(zip("RGB", np.moveaxis(samples(3, f32), 2, 0)))
exr("rgb_f32.exr", **rgb)
exr("rgba_f32.exr", **rgba)
exr("rgb_f16.exr", **{name: values.astype(np.float16) for name, values in rgb.items()})
exr("grey_f32.exr", Y=samples(1, f32))

# A JPEG whose four components are ink.
Image.fromarray(photo).convert("CMYK").save(path("cmyk.jpg"), quality=95)

# Lying on its side, with a colour profile and 300 dots an inch.
profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
exif = Image.Exif()
exif[0x0112] = 6
marked = Image.fromarray(samples(3, u8))
for name in ["marked.png", "marked.jpg", "marked.webp"]:
    marked.save(path(name), icc_profile=profile, exif=exif, dpi=(300, 300), lossless=True)
marked.save(path("marked.tif"), icc_profile=profile, tiffinfo={0x0112: 6}, dpi=(300, 300))

# Formats of one page, old and new; a GIF of two frames, the second of which changes two pixels.
Image.fromarray(samples(3, u8)).save(path("rgb.tga"), compression="tga_rle")
Image.fromarray(samples(4, u8)).save(path("rgba.tga"))
Image.fromarray(samples(1, u8)).save(path("grey.tga"))
Image.fromarray(samples(3, u8)).save(path("rgb.dib"))
cv2.imwrite(path("rgb.pfm"), samples(3, f32)[..., ::-1])
cv2.imwrite(path("grey.pfm"), samples(1, f32))
Image.fromarray(samples(1, u8)).save(path("grey.gif"))
moved = samples(1, u8)
moved[3, 4:6] = [1, 2]
frames = [Image.fromarray(frame) for frame in (samples(1, u8), moved)]
frames[0].save(path("two.gif"), save_all=True, append_images=frames[1:])
# Animations whose second frame changes two samples and whose third hides a pixel: Pillow stores the part that differs.
still = samples(3, u8)
moved = still.copy()
moved.flat[34:36] = [1, 2]
hidden = np.dstack([moved, np.full((HEIGHT, WIDTH), 255, u8)])
hidden[2, 5, 3] = 0
for name, mode, frames in [("animation.png", "RGB", [still, moved]), ("hidden.png", "RGBA", [still, moved, hidden])]:
    frames = [Image.fromarray(frame).convert(mode) for frame in frames]
    frames[0].save(path(name), save_all=True, append_images=frames[1:])
grays = [Image.fromarray(samples(1, u8, page=page)) for page in range(2)]
still_image = Image.new("L", (WIDTH, HEIGHT), 77)
still_image.save(path("beside.png"), save_all=True, append_images=grays, default_image=True)
flat = [Image.fromarray(np.full((4, 4), level, u16)) for level in (0, 65535)]
flat[0].save(path("animation16.png"), save_all=True, append_images=flat[1:])

# An animation in WebP: a frame of everything, then parts of it, half transparent, lossless and lossy, blended or not,
# cleared or not; and what libwebp shows of them, one below the other.
def still_chunks(pixels, **how):
    still = BytesIO()
    Image.fromarray(pixels).save(still, "webp", exact=True, **how)
    content = still.getvalue()[12:]
    return content[18:] if content.startswith(b"VP8X") else content


def riff(kind, content):
    return kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def three(*numbers):
    return b"".join(number.to_bytes(3, "little") for number in numbers)


animated = riff(b"VP8X", bytes([0x12, 0, 0, 0]) + three(11, 9)) + riff(b"ANIM", bytes(6))
for at, (left, top, height, width, flags) in enumerate([(0, 0, 10, 12, 2), (2, 4, 5, 6, 0), (4, 2, 7, 5, 1), (0, 0, 4, 4, 2), (6, 4, 6, 6, 3), (2, 2, 6, 8, 0)]):
    frame = np.dstack([samples(3, u8, height, width, page=at), np.full((height, width), 255 - 40 * at, u8)])
    frame[0, :2, 3] = 0, 255
    if at == 5:
        frame[..., :3] = [200, 120, 40]
    how = {"quality": 90, "alpha_quality": 100} if at == 5 else {"lossless": True}
    place = three(left // 2, top // 2, width - 1, height - 1, 100) + bytes([flags])
    animated += riff(b"ANMF", place + still_chunks(frame, **how))
(HERE / "animation.webp").write_bytes(riff(b"RIFF", b"WEBP" + animated))
with Image.open(path("animation.webp")) as animation:
    decoded = []
    for at in range(animation.n_frames):
        animation.seek(at)
        decoded.append(np.asarray(animation.convert("RGBA")))
Image.fromarray(np.concatenate(decoded)).save(path("animation_webp_decoded.png"))


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def interlaced(pixels):
    """The seven passes of Adam7, without filters."""
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    parts = [pixels[y::down, x::across].astype(">u2") for y, x, down, across in passes]
    return zlib.compress(b"".join(b"\0" + row.tobytes() for part in parts if part.size for row in part))


# An interlaced animation of 16 bits, which Pillow does not write: the second frame is a part of the image.
first, second = samples(3, u16), samples(3, u16, 3, 5, page=1)
control = [struct.pack(">IIIIIHHBB", n, w, h, x, y, 1, 10, 0, 0) for n, w, h, x, y in [(0, 10, 7, 0, 0), (1, 5, 3, 4, 2)]]
chunks = [
    (b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, 2, 0, 0, 1)),
    (b"acTL", struct.pack(">II", 2, 0)),
    (b"fcTL", control[0]),
    (b"IDAT", interlaced(first)),
    (b"fcTL", control[1]),
    (b"fdAT", struct.pack(">I", 2) + interlaced(second)),
    (b"IEND", b""),
]
(HERE / "interlaced16.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*found) for found in chunks))

# Lossless JPEG (libjpeg-turbo).
for name, channels, dtype, bits in [("lossless_u8_rgb.jpg", 3, u8, 8), ("lossless_u12.jpg", 1, u16, 12), ("lossless_u16.jpg", 1, u16, 16)]:
    pixels = samples(channels, dtype) >> (8 * np.dtype(dtype).itemsize - bits)
    color = {"colorspace": "RGB", "outcolorspace": "RGB"} if channels == 3 else {}
    packed = imagecodecs.jpeg_encode(pixels, lossless=True, predictor=4, bitspersample=bits, **color)
    (HERE / name).write_bytes(packed)

cv2.imwrite(path("flat.hdr"), np.full((7, 10, 3), [0.25, 0.5, 2.0], f32)[..., ::-1])

# What other programs say beside the pixels.
Image.fromarray(samples(3, u8)).save(path("resolution.bmp"), dpi=(300, 300))
plain = BytesIO()
Image.fromarray(samples(3, u8)).save(plain, "png")
plain = plain.getvalue()
said = b""
for content in [b"sBIT" + bytes([5, 6, 5]), b"sCAL\x010.5\x000.25"]:
    said += struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
end_of_header = 8 + 25
(HERE / "said.png").write_bytes(plain[:end_of_header] + said + plain[end_of_header:])

# A JPEG one of whose restart intervals is missing.
whole = BytesIO()
Image.fromarray(np.repeat(photo, 4, axis=0)).save(whole, "jpeg", quality=50, restart_marker_rows=1)
whole = whole.getvalue()
start, end = whole.index(b"\xff\xd1"), whole.index(b"\xff\xd2")
(HERE / "gap.jpg").write_bytes(whole[:start] + whole[end:])

# Layers by name in lossy B44, and a channel of integers.
half = samples(3, f32).astype(np.float16)
header = {"compression": OpenEXR.B44_COMPRESSION, "type": OpenEXR.scanlineimage}
left = {f"left.{name}": np.ascontiguousarray(half[..., i]) for i, name in enumerate("RGB")}
OpenEXR.File(header, left).write(path("left_b44.exr"))
integers = np.arange(HEIGHT * WIDTH, dtype=np.uint32).reshape(HEIGHT, WIDTH)
OpenEXR.File({"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}, {"Y": samples(1, f32), "id": integers}).write(path("id.exr"))
