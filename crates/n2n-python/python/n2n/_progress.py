"""Progress of a call, shown on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: Seconds after which progress is shown.
PATIENCE = 2.0


class Line:
    """A line on a terminal or in a notebook, for calls that take longer than `PATIENCE`."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.shown = ""

    def __call__(self, fraction: float) -> None:
        elapsed = time.monotonic() - self.started
        if elapsed < PATIENCE or fraction <= 0:
            return
        left = elapsed * (1 / fraction - 1)
        line = f"n2n: {fraction:4.0%}, {left:.0f} s left"
        if line != self.shown:
            sys.stderr.write("\r" + line.ljust(len(self.shown)))
            sys.stderr.flush()
            self.shown = line

    def clear(self) -> None:
        """Erases the line."""
        if self.shown:
            sys.stderr.write("\r" + " " * len(self.shown) + "\r")
            sys.stderr.flush()


@contextmanager
def shown(
    progress: bool | Callable[[float], object],
) -> Iterator[Callable[[float], object] | None]:
    """The function to call with the fraction done, 0 to 1; ``None`` if nothing is to be shown."""
    if callable(progress):
        yield progress
        return
    stderr = sys.stderr
    watched = stderr is not None and (stderr.isatty() or "ipykernel" in sys.modules)
    if not progress or not watched:
        yield None
        return
    line = Line()
    try:
        yield line
    finally:
        line.clear()
