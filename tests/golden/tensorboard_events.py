"""Writes tensorboard/events.bin with PyPI's tensorboard, and with it reads what `n2n train` writes.

    python tests/golden/tensorboard_events.py             # makes the fixture again
    python tests/golden/tensorboard_events.py RUN         # lists the curves and pictures of a run

Needs only the package tensorboard.
"""

import struct
import sys
from pathlib import Path

from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

FIXTURE = Path(__file__).parent / "tensorboard/events.bin"


def make():
    scalar = summary_pb2.Summary.Value(tag="loss/loss1", simple_value=0.25)
    rate = summary_pb2.Summary.Value(tag="schedule/learning_rate", simple_value=3e-4)
    image = summary_pb2.Summary.Value(tag="denoised", image=summary_pb2.Summary.Image(
        height=2, width=3, colorspace=1, encoded_image_string=b"\x89PNG"))
    events = [
        event_pb2.Event(wall_time=1700000000.5, file_version="brain.Event:2"),
        event_pb2.Event(
            wall_time=1700000001.25, step=300,
            summary=summary_pb2.Summary(value=[scalar, rate, image])),
    ]
    FIXTURE.parent.mkdir(exist_ok=True)
    with open(FIXTURE, "wb") as file:
        writer = RecordWriter(file)
        for event in events:
            writer.write(event.SerializeToString(deterministic=True))
        writer.flush()


def show(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(run, size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    for tag in events.Tags()["scalars"]:
        points = events.Scalars(tag)
        last = points[-1]
        print(f"{tag}: {len(points)} points, last {last.value:.6g} at step {last.step}")
    for tag in events.Tags()["images"]:
        picture = events.Images(tag)[-1]
        png = picture.encoded_image_string
        size = struct.unpack(">II", png[16:24])
        assert size == (picture.width, picture.height), size
        print(f"{tag}: {len(events.Images(tag))} pictures, {picture.width}x{picture.height}")


if __name__ == "__main__":
    show(sys.argv[1]) if len(sys.argv) > 1 else make()
