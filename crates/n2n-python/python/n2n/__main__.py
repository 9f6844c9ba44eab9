"""``python -m n2n``: commands for formats that the program n2n does not read."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from . import _n2n, models


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns the exit status."""
    parser = argparse.ArgumentParser(
        "python -m n2n", description="Denoise images in formats that the program n2n does not read."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    zarr = commands.add_parser(
        "zarr",
        help="denoise an OME-Zarr image",
        description="Denoise an OME-Zarr image, version 0.4 or 0.5. Axes, scale, channels and pyramid are kept. "
        "After an interrupt, the same command resumes where it stopped.",
    )
    zarr.add_argument("input", help="the OME-Zarr group of the image")
    zarr.add_argument("output", help="the group to write; named OUTPUT.partial until it is complete")
    zarr.add_argument(
        "--model",
        default=_n2n.DEFAULT,
        help=f"a weight file, or one of {', '.join(models())} (default: %(default)s)",
    )
    zarr.add_argument(
        "--range",
        default="auto",
        help="values that map to the network's 0 and 1: auto, percentile or MIN,MAX (default: %(default)s)",
    )
    zarr.add_argument(
        "--strength",
        type=float,
        default=1.0,
        help="fraction of the noise to remove, 0 to 1 (default: %(default)s)",
    )
    zarr.add_argument("--threads", type=int, help="number of threads (default: all cores)")
    zarr.add_argument(
        "--rgb",
        action="store_true",
        help="the 3 channels are red, green and blue; by default, each is denoised separately",
    )
    zarr.add_argument(
        "--missing", action="store_true", help="treat missing chunks as empty instead of as an error"
    )
    zarr.add_argument("--overwrite", action="store_true", help="replace an existing output")
    zarr.add_argument("--quiet", action="store_true", help="no progress")
    args = parser.parse_args(arguments)
    try:
        from .zarr import denoise

        denoise(
            args.input,
            args.output,
            model=args.model,
            range=_range(args.range),
            strength=args.strength,
            threads=args.threads,
            rgb=args.rgb,
            missing=args.missing,
            overwrite=args.overwrite,
            progress=not args.quiet,
        )
    except KeyboardInterrupt:
        print("n2n: interrupted; run the same command again to resume", file=sys.stderr)
        return 130
    except (OSError, ValueError, TypeError, MemoryError, ModuleNotFoundError) as error:
        print(f"n2n: {error}", file=sys.stderr)
        return 1
    return 0


def _range(text: str) -> str | tuple[float, float]:
    low, comma, high = text.partition(",")
    try:
        return (float(low), float(high)) if comma else text
    except ValueError:
        return text


if __name__ == "__main__":
    sys.exit(main())
