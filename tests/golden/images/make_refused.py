"""Makes files of kinds that are refused, with OpenEXR; and OpenEXRs in DWAA and DWAB, with what OpenEXR makes of
one. Other kinds are made by the tests, which change a tag or a header.

    python tests/golden/images/make_refused.py
"""

from pathlib import Path

import numpy as np
import OpenEXR

HERE = Path(__file__).parent


def path(name):
    return str(HERE / name)


def write(name, channels, compression=OpenEXR.ZIP_COMPRESSION, kind=OpenEXR.scanlineimage, **header):
    OpenEXR.File({"compression": compression, "type": kind, **header}, channels).write(path(name))


y, x = np.mgrid[0:24, 0:40]
photo = np.stack([6 * x, 10 * y, 255 - 3 * x - 5 * y], axis=-1).astype(np.float32) / 255
half = {name: np.ascontiguousarray(photo[..., i]).astype(np.float16) for i, name in enumerate("RGB")}
write("dwaa.exr", half, OpenEXR.DWAA_COMPRESSION)
write("dwab.exr", half, OpenEXR.DWAB_COMPRESSION, dwaCompressionLevel=45.0)
write("level.exr", half, dwaCompressionLevel=85.0)
decoded = OpenEXR.File(path("dwaa.exr"), separate_channels=True).channels()
write("dwaa_decoded.exr", {name: decoded[name].pixels for name in "RGB"})

small = np.zeros((4, 4), np.float32)
header = {"type": OpenEXR.scanlineimage, "compression": OpenEXR.ZIP_COMPRESSION}
parts = [OpenEXR.Part({**header, "name": name}, {"Y": small}, name) for name in ("left", "right")]
OpenEXR.File(parts).write(path("layers.exr"))
write("large_id.exr", {"Y": small, "id": np.full((4, 4), 2**24 + 1, np.uint32)})
deep = np.empty((4, 4), object)
for at in np.ndindex(4, 4):
    deep[at] = np.zeros(1, np.float32)
write("deep.exr", {"Y": deep}, OpenEXR.ZIPS_COMPRESSION, OpenEXR.deepscanline)
