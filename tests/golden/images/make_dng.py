"""Makes the DNGs that `crates/n2n/tests/dng.rs` reads, tag by tag in the layout of DNG 1.6, with lossless JPEGs by
libjpeg-turbo through imagecodecs, and asks LibRaw through rawpy whether the mosaics are what they should be.

Sample i of a sensor, row by row, is (7919 i) mod 2^bits, for floats (7919 i mod 1009) / 1024.

    python tests/golden/images/make_dng.py
"""

import struct
from pathlib import Path

import imagecodecs
import numpy as np
import rawpy

HERE = Path(__file__).parent
HEIGHT, WIDTH = 50, 70
BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, SRATIONAL, DOUBLE = 1, 2, 3, 4, 5, 7, 10, 12
FORMATS = {BYTE: "B", ASCII: "c", SHORT: "H", LONG: "I", RATIONAL: "2I", UNDEFINED: "B", SRATIONAL: "2i", DOUBLE: "d"}
RGGB, GRBG = [0, 1, 1, 2], [1, 0, 2, 1]


def samples(bits, channels=1):
    i = np.arange(HEIGHT * WIDTH * channels, dtype=np.int64)
    values = 7919 * i % 2**bits if bits else (7919 * i % 1009) / 1024
    values = values.astype("u2" if bits else "f4")
    return values.reshape((HEIGHT, WIDTH, channels) if channels > 1 else (HEIGHT, WIDTH))


class File:
    """A TIFF, in which directories lie behind what they point at."""

    def __init__(self, order):
        self.order = order
        self.bytes = bytearray((b"II" if order == "<" else b"MM") + self.pack("HI", 42, 0))

    def pack(self, format, *values):
        return struct.pack(self.order + format, *values)

    def put(self, data):
        self.bytes += bytes(len(self.bytes) % 2)
        self.bytes += data
        return len(self.bytes) - len(data)

    def directory(self, fields):
        entries = b""
        for tag, (kind, values) in sorted(fields.items()):
            values = [values] if np.isscalar(values) else values
            if kind == ASCII:
                value = values[0] + b"\0"
                count = len(value)
            else:
                flat = [x for value in values for x in (value if isinstance(value, tuple) else [value])]
                value = b"".join(self.pack(FORMATS[kind][-1], x) for x in flat)
                count = len(values)
            where = value.ljust(4, b"\0") if len(value) <= 4 else self.pack("I", self.put(value))
            entries += self.pack("HHI", tag, kind, count) + where
        return self.put(self.pack("H", len(fields)) + entries + bytes(4))

    def save(self, name, first):
        self.bytes[4:8] = self.pack("I", first)
        (HERE / name).write_bytes(self.bytes)


def common(file):
    """What every camera says: version, make, model, colors, and the maker's own."""
    exif = file.directory({33434: (RATIONAL, [(1, 125)]), 34855: (SHORT, 3200), 37500: (UNDEFINED, list(b"maker" * 4))})
    return {
        271: (ASCII, [b"Nobody"]),
        272: (ASCII, [b"Nothing 1"]),
        274: (SHORT, 1),
        34665: (LONG, exif),
        50706: (BYTE, [1, 6, 0, 0]),
        50708: (ASCII, [b"Nobody Nothing 1"]),
        50721: (SRATIONAL, [(x, 10000) for x in [6722, -635, -963, -4287, 12460, 2028, -908, 2162, 5668]]),
        50728: (RATIONAL, [(1, 2), (1, 1), (2, 3)]),
        50778: (SHORT, 21),
        50781: (BYTE, list(range(16))),
        51111: (BYTE, list(range(16))),
    }


def mosaic(pattern):
    return {
        262: (SHORT, 32803),
        277: (SHORT, 1),
        33421: (SHORT, [2, 2]),
        33422: (BYTE, pattern),
        50710: (BYTE, [0, 1, 2]),
        50711: (SHORT, 1),
    }


def size(bits, channels=1, compression=1):
    return {
        254: (LONG, 0),
        256: (LONG, WIDTH),
        257: (LONG, HEIGHT),
        258: (SHORT, [bits] * channels),
        259: (SHORT, compression),
        277: (SHORT, channels),
        284: (SHORT, 1),
    }


def strips(file, data, rows):
    """Uncompressed strips, one behind the other."""
    data = data.astype(data.dtype.newbyteorder(file.order))
    places = [(file.put(data[y : y + rows].tobytes()), data[y : y + rows].nbytes) for y in range(0, HEIGHT, rows)]
    return {
        273: (LONG, [at for at, _ in places]),
        278: (LONG, rows),
        279: (LONG, [length for _, length in places]),
    }


def tiles(file, data, bits, predictors, side=(32, 48)):
    """Lossless JPEGs of half the columns and two components, as Adobe writes them."""
    down, across = side
    padded = np.pad(data, ((0, -HEIGHT % down), (0, -WIDTH % across)), "edge")
    places = []
    for n, (y, x) in enumerate((y, x) for y in range(0, HEIGHT, down) for x in range(0, WIDTH, across)):
        tile = padded[y : y + down, x : x + across].reshape(down, across // 2, 2)
        predictor = predictors[n % len(predictors)]
        jpeg = imagecodecs.jpeg_encode(np.ascontiguousarray(tile), lossless=True, predictor=predictor, bitspersample=bits)
        places.append((file.put(jpeg), len(jpeg)))
    return {
        322: (LONG, across),
        323: (LONG, down),
        324: (LONG, [at for at, _ in places]),
        325: (LONG, [length for _, length in places]),
    }


def check(name, expected, **said):
    """LibRaw has the same samples, and levels."""
    with rawpy.imread(str(HERE / name)) as raw:
        assert np.array_equal(raw.raw_image, expected), name
        for key, value in said.items():
            found = getattr(raw, key)
            assert list(found) == value if isinstance(value, list) else found == value, (name, key, found)


def main():
    # A phone's: the samples in the first directory, in strips at the end of the file.
    data, at = samples(12), 0
    for _ in range(2):
        file = File("<")
        fields = common(file) | size(16) | mosaic(RGGB)
        fields |= {
            273: (LONG, [at + 10 * 2 * WIDTH * i for i in range(5)]),
            278: (LONG, 10),
            279: (LONG, [10 * 2 * WIDTH] * 5),
            50713: (SHORT, [2, 2]),
            50714: (RATIONAL, [(256, 1), (257, 1), (258, 1), (511, 2)]),
            50717: (LONG, 4095),
            51041: (DOUBLE, [1e-3, 1e-5, 2e-3, 2e-5, 3e-3, 3e-5]),
        }
        first = file.directory(fields)
        at = file.put(data.astype("<u2").tobytes())
    file.save("mosaic.dng", first)
    check("mosaic.dng", data, white_level=4095)

    # A camera's: a preview, and the samples behind it in tiles of lossless JPEG with every predictor, a border
    # without light, and an area that begins at odd places and has odd sides.
    file = File(">")
    data = samples(14)
    raw = file.directory(
        size(14, compression=7)
        | mosaic(GRBG)
        | tiles(file, data, 14, [1, 2, 3, 4, 5, 6, 7], (16, 36))
        | {50714: (SHORT, 512), 50717: (LONG, 16383), 50829: (LONG, [3, 5, 50, 68])}
    )
    preview = np.full((4, 6, 3), 128, "u1")
    fields = common(file) | {
        254: (LONG, 1),
        256: (LONG, 6),
        257: (LONG, 4),
        258: (SHORT, [8, 8, 8]),
        259: (SHORT, 1),
        262: (SHORT, 2),
        273: (LONG, file.put(preview.tobytes())),
        277: (SHORT, 3),
        278: (LONG, 4),
        279: (LONG, preview.nbytes),
        330: (LONG, raw),
        51041: (DOUBLE, [1e-3, 1e-5]),
    }
    file.save("mosaic_lossless.dng", file.directory(fields))
    check("mosaic_lossless.dng", data, white_level=16383)

    # Samples of 8 bits that are looked up.
    file = File("<")
    data = samples(8).astype("u1")
    table = np.round(np.linspace(0, 1, 256) ** 2 * 4095).astype(int)
    fields = common(file) | size(8) | mosaic(RGGB) | strips(file, data, HEIGHT)
    fields |= {50712: (SHORT, table.tolist()), 50714: (SHORT, 16), 50717: (LONG, 4095)}
    file.save("mosaic_table.dng", file.directory(fields))
    check("mosaic_table.dng", table[data])

    # Of all colors at every pixel: integers, and floats.
    for name, bits in [("linear.dng", 16), ("linear_float.dng", 0)]:
        file = File("<")
        data = samples(bits, 3)
        fields = common(file) | size(bits or 32, 3) | strips(file, data, 16)
        fields |= {262: (SHORT, 34892), 339: (SHORT, [1 if bits else 3] * 3)}
        if bits:
            fields |= {50714: (SHORT, [100, 200, 300]), 50713: (SHORT, [1, 1]), 50717: (LONG, [60000] * 3)}
        file.save(name, file.directory(fields))


main()
