"""Makes the TIFFs that `crates/n2n/tests/tiff.rs` reads, with tifffile, imagecodecs, and libtiff through
Pillow.

Sample i of a page, in the order height, width, channel, is (7919 i + 104729 page) mod 2^bits, minus 2^(bits - 1)
for signed integers, and for floats (7919 i mod 1009) / 64 - 2.

    python tests/golden/images/make_tiff.py
"""

import gzip
import itertools
import json
import re
import struct
from io import BytesIO
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

HERE = Path(__file__).parent
HEIGHT, WIDTH = 17, 18


def samples(kind, channels, page=0, height=HEIGHT, width=WIDTH):
    """`kind` is u12, i16, f32 and the like."""
    letter, bits = kind[0], int(kind[1:])
    shape = (height, width, channels) if channels > 1 else (height, width)
    i = np.arange(height * width * channels, dtype=np.int64).reshape(shape)
    size = next(size for size in (8, 16, 32, 64) if bits <= size)
    if letter == "f":
        return ((7919 * i % 1009) / 64 - 2).astype(f"f{size // 8}")
    values = (7919 * i + 104729 * page) % 2**bits
    return (values - (2 ** (bits - 1) if letter == "i" else 0)).astype(f"{letter}{size // 8}")


def matrix():
    """Every 29th of all combinations: a prime, so that every two of the choices meet."""
    choices = itertools.product(
        ["u8", "u16", "u32", "i8", "i16", "i32", "f16", "f32", "f64"],
        [1, 3, 5],
        ["strips", "tiles"],
        ["contig", "separate"],
        [None, "lzw", "zlib", "packbits", "zstd", "lzma"],
        [None, 2, 3],
        "<>",
        [1, 3],
    )
    at = 0
    for kind, channels, cut, planar, compression, predictor, order, pages in choices:
        if channels == 1 and planar == "separate":
            continue
        if predictor and (compression in (None, "packbits") or (predictor == 3) != (kind[0] == "f")):
            continue
        at += 1
        if at % 29:
            continue
        out = BytesIO()
        with tifffile.TiffWriter(out, byteorder=order) as file:
            for page in range(pages):
                data = samples(kind, channels, page)
                if planar == "separate":
                    data = np.ascontiguousarray(np.moveaxis(data, 2, 0))
                file.write(
                    data,
                    photometric="rgb" if channels == 3 else "minisblack",
                    planarconfig=planar if channels > 1 else None,
                    compression=compression,
                    predictor=predictor,
                    metadata=None,
                    **({"tile": (16, 16)} if cut == "tiles" else {"rowsperstrip": 5}),
                )
        words = [cut, planar, compression or "raw", f"predictor {predictor}", "little" if order == "<" else "big"]
        yield {"kind": kind, "channels": channels, "pages": pages, "layout": ", ".join(words)}, out.getvalue()


def bits():
    """Samples of other than 8, 16 or 32 bits."""
    for count in [*range(1, 8), *range(9, 16), 20, 24, 31]:
        for channels in [1, 3]:
            if count > 16 and channels == 3:
                continue
            out = BytesIO()
            tifffile.imwrite(
                out,
                samples(f"u{count}", channels),
                photometric="rgb" if channels == 3 else "minisblack",
                bitspersample=count,
                metadata=None,
            )
            yield {"kind": f"u{count}", "channels": channels, "pages": 1, "layout": "bits"}, out.getvalue()


with open(HERE / "tiff_layouts.gz", "wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as archive:
    for about, content in itertools.chain(matrix(), bits()):
        about = json.dumps(about).encode()
        archive.write(struct.pack("<II", len(about), len(content)) + about + content)


def path(name):
    return str(HERE / f"{name}.tif")


# Frames behind one directory, as tifffile and ImageJ store what is beyond 4 GB, and big-endian private tags.
stack = np.stack([samples("u16", 1, page, 7, 10) for page in range(3)])
tifffile.imwrite(path("truncated"), stack, truncate=True, photometric="minisblack")
tifffile.imwrite(path("truncated_imagej"), stack, truncate=True, imagej=True, byteorder=">", metadata={"axes": "ZYX"})
labels = {"axes": "ZYX", "Labels": ["a", "b", "c"], "Ranges": (0.0, 4095.0)}
tifffile.imwrite(path("imagej_big"), stack, imagej=True, byteorder=">", metadata=labels)

# Channels, slices and times.
hyper = np.stack([samples("u16", 1, page, 7, 10) for page in range(12)]).reshape(2, 3, 2, 7, 10)
tifffile.imwrite(path("hyperstack_imagej"), hyper, imagej=True, metadata={"axes": "TZCYX"})
ome = BytesIO()
tifffile.imwrite(ome, hyper, ome=True, metadata={"axes": "TCZYX"})
# The same file every time.
ome = re.sub(rb"uuid:[0-9a-f-]{36}", b"uuid:" + b"0" * 36, ome.getvalue())
(HERE / "hyperstack_ome.tif").write_bytes(ome)

# What is no value.
holes = samples("f32", 1, 0, 7, 10)
holes[2, 3:6] = -9999
tifffile.imwrite(path("nodata_f32"), holes, metadata=None, extratags=[(42113, 2, 0, "-9999", True)])
tifffile.imwrite(path("nodata_u8"), samples("u8", 1, 0, 7, 10), metadata=None, extratags=[(42113, 2, 0, "0", True)])

# A thumbnail and a mask behind the image.
with tifffile.TiffWriter(path("thumbnail")) as file:
    file.write(samples("u8", 3, 0, 7, 10), photometric="rgb", metadata=None)
    file.write(samples("u8", 3, 1, 3, 4), photometric="rgb", subfiletype=1, metadata=None)
    file.write(samples("u8", 1, 2, 7, 10) > 127, photometric="mask", subfiletype=4, metadata=None)

# A thumbnail between two images.
with tifffile.TiffWriter(path("between")) as file:
    file.write(samples("u8", 1, 0, 7, 10), photometric="minisblack", metadata=None)
    file.write(samples("u8", 1, 1, 3, 4), photometric="minisblack", subfiletype=1, metadata=None)
    file.write(samples("u8", 1, 2, 7, 10), photometric="minisblack", metadata=None)

# Palettes of colours and of greys; a fourth channel that is no transparency; white as zero in 12 bits.
ramp = np.arange(256, dtype=np.uint16) * 257
tifffile.imwrite(path("palette_rgb"), samples("u8", 1, 0, 7, 10), photometric="palette", colormap=np.stack([ramp, ramp[::-1], ramp // 2]), metadata=None)
tifffile.imwrite(path("palette_grey"), samples("u8", 1, 0, 7, 10), photometric="palette", colormap=np.stack([ramp] * 3), metadata=None)
for bits in [8, 12]:
    # tifffile says that these are luma and chroma, which no lossless JPEG is.
    tifffile.imwrite(
        path(f"lossless_u{bits}_rgb"),
        samples(f"u{bits}", 3),
        photometric="rgb",
        compression="jpeg",
        compressionargs={"lossless": True, "predictor": 4, "bitspersample": bits},
        bitspersample=bits,
        metadata=None,
    )
tifffile.imwrite(path("infrared"), samples("u8", 4, 0, 7, 10), photometric="rgb", extrasamples=["unspecified"], metadata=None)
tifffile.imwrite(path("white_is_zero_u12"), samples("u12", 1, 0, 7, 10), photometric="miniswhite", bitspersample=12, metadata=None)
tifffile.imwrite(path("white_is_zero_f32"), samples("f32", 1, 0, 7, 10), photometric="miniswhite", metadata=None)

# Integers that 32-bit floats do not hold.
tifffile.imwrite(path("large_u32"), 2**31 + 1 + samples("u8", 1, 0, 7, 10).astype(np.uint32), photometric="minisblack", metadata=None)

# A palette with transparency beside the indices.
# tifffile writes a palette for single samples alone.
indices = BytesIO()
tifffile.imwrite(indices, samples("u8", 2, 0, 7, 10), photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"], extratags=[(320, 3, 768, np.stack([ramp, ramp[::-1], ramp // 2]).ravel().tolist(), True)], metadata=None)
patched = indices.getvalue()
(HERE / "palette_alpha.tif").write_bytes(patched.replace(struct.pack("<HHII", 262, 3, 1, 1), struct.pack("<HHII", 262, 3, 1, 3)))

# What is refused.
tifffile.imwrite(path("volume"), np.stack([samples("u8", 1, page, 16, 16) for page in range(3)]), photometric="minisblack", volumetric=True, tile=(1, 16, 16), metadata=None)
tifffile.imwrite(path("complex"), samples("f32", 1, 0, 7, 10).astype(np.complex64), metadata=None)

# By libtiff: facsimile, and the bits of bytes in reverse order. Then a JPEG with Exif.
grey = Image.fromarray(samples("u8", 1, 0, 7, 10))
grey.point(lambda value: 255 * (value > 127)).convert("1").save(path("group3"), compression="group3")
grey.save(path("fill_order"), compression="tiff_lzw", tiffinfo={266: 2})
exif = Image.Exif()
exif[0x010F] = "maker"
exif.get_ifd(0x8769).update({0x829A: 0.004, 0x9003: "2026:01:02 03:04:05"})
exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 51.0, 30.0)})
grey.convert("RGB").save(HERE / "exif.jpg", exif=exif, quality=95)
