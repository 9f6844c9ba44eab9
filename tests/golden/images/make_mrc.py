"""Makes the MRCs that `crates/n2n/tests/mrc.rs` reads, with mrcfile.

Sample i of section s is (7919 i + 104729 s) mod 2^bits, minus 2^(bits - 1) for signed integers, and for floats
(7919 i mod 1009) / 64 - 2.

    python tests/golden/images/make_mrc.py
"""

from pathlib import Path

import mrcfile
import numpy as np

HERE = Path(__file__).parent
HEIGHT, WIDTH, SECTIONS = 7, 10, 3


def samples(kind):
    i, s = np.arange(HEIGHT * WIDTH), np.arange(SECTIONS)[:, None]
    letter, bits = kind[0], 8 * int(kind[1:])
    if letter == "f":
        values = np.broadcast_to((7919 * i % 1009) / 64 - 2, (SECTIONS, HEIGHT * WIDTH))
    else:
        values = (7919 * i + 104729 * s) % 2**bits - (2 ** (bits - 1) if letter == "i" else 0)
    return values.astype(kind).reshape(SECTIONS, HEIGHT, WIDTH)


def main():
    for kind, order in [("i1", "<"), ("i2", "<"), ("f4", ">"), ("u2", ">"), ("f2", "<")]:
        with mrcfile.new(HERE / f"stack_{kind}.mrc", overwrite=True) as file:
            data = samples(kind)
            file.set_data(data.astype(data.dtype.newbyteorder(order)))
            if kind == "i2":
                file.set_image_stack()
                file.set_extended_header(np.arange(96, dtype="u1"))
                file.header.exttyp = b"SERI"
            file.voxel_size = 1.25
            file.add_label("n2n")
            # The date of today would make another file every day.
            file.header.label = [label.split(b"  ")[0][:3] for label in file.header.label]
    # IMOD's bytes have no sign.
    with mrcfile.new(HERE / "stack_imod.mrc", overwrite=True) as file:
        file.set_data(samples("u1").view("i1"))
        file.header.label = [b""] * 10
        file.header.nlabl = 0
    path = HERE / "stack_imod.mrc"
    data = bytearray(path.read_bytes())
    data[152:160] = (1146047817).to_bytes(4, "little") + bytes(4)
    path.write_bytes(data)


main()
