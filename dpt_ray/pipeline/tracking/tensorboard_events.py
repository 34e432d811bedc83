"""TensorBoard's event files beside a run, in any store.

tensorboardX encodes events, and this module stores them: its own writer appends to local files, or needs boto3.
"""

import io
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from dpt_ray.data.storage import stores
from dpt_ray.data.storage.growing_file import GrowingFile
from dpt_ray.distributed.measurements import Measurement, Picture
from dpt_ray.pipeline.artifacts.run_record import Outcome
from dpt_ray.pipeline.tracking.tracker import FIGURES, tag

FOLDER = "tensorboard"
_RGBA = 4
"""TensorBoard's number of the colours of a PNG with transparency."""


class TensorBoardEvents:
    """Writes scalars against the number of finished units.

    Args:
        folder: URL of the run's folder.
    """

    name = "TensorBoard"

    def __init__(self, folder: str):
        from tensorboardX.proto import event_pb2, summary_pb2

        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.dpt"
        self._file = GrowingFile(stores.join(folder, FOLDER, name))
        self._file.write(_record(self._event(wall_time=time.time(), file_version="brain.Event:2")))

    def write(self, measurements: Sequence[Measurement]) -> None:
        """Append measurements."""
        for one in measurements:
            self._add(one.seconds, one.done, {tag(one.step, name): value for name, value in one.values.items()})
        self._file.flush()

    def show(self, pictures: Sequence[Picture]) -> None:
        """Append pictures."""
        for one in pictures:
            with Image.open(io.BytesIO(one.png)) as opened:
                width, height = opened.size
            image = self._summary.Image(height=height, width=width, colorspace=_RGBA, encoded_image_string=one.png)
            value = self._summary.Value(tag=tag(one.step, "picture"), image=image)
            self._file.write(
                _record(self._event(wall_time=one.seconds, step=one.done, summary=self._summary(value=[value])))
            )
        self._file.flush()

    def close(self, outcome: Outcome, figures: Mapping[str, float]) -> None:
        """Append the figures."""
        self._add(time.time(), 0, {tag(FIGURES, name): value for name, value in figures.items()})
        self._file.flush()

    def _add(self, seconds: float, step: int, scalars: Mapping[str, float]) -> None:
        if scalars:
            values = [self._summary.Value(tag=name, simple_value=value) for name, value in scalars.items()]
            self._file.write(_record(self._event(wall_time=seconds, step=step, summary=self._summary(value=values))))


def _record(event: Any) -> bytes:
    """Return an event as a TFRecord: length and content, each with its checksum."""
    from tensorboardX.record_writer import masked_crc32c

    content = event.SerializeToString()
    length = struct.pack("<Q", len(content))
    return b"".join(
        [length, struct.pack("<I", masked_crc32c(length)), content, struct.pack("<I", masked_crc32c(content))]
    )
