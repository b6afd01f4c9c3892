"""TensorBoard event files in the seed's folder: `tensorboard --logdir runs`."""

import struct
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlexp.loggers.base import COUNTERS, LoggedSeed, Logger, Row, Status, film_name
from rlexp.util.params import Params, param

FILES = "events.out.tfevents.*"


class TensorBoard(Logger):
    """One scalar per metric; pictures; films as GIFs, for TensorBoard plays no others."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Params):
        flush_every: int = param("longest time until a row can be seen", unit="s", ge=1)

    def __init__(self, config: Config, seed: LoggedSeed):
        from torch.utils.tensorboard import FileWriter

        folder = seed.folder / "tensorboard"
        self.scalars: set[int] = set()  # steps that have any
        self.media: set[tuple[str, int]] = set()  # name, step
        for event in _events(folder):
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == "images":
                    self.media.add((value.tag, event.step))
                else:
                    self.scalars.add(event.step)
        self.writer = FileWriter(str(folder), flush_secs=config.flush_every)

    def last_step(self) -> int:
        return max(self.scalars, default=-1)

    def log(self, row: Row) -> None:
        """One event, so that a row is in the file whole or not at all."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        metrics = {name: value for name, value in row.items() if name not in COUNTERS}
        values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        self.writer.add_summary(Summary(value=values), row["step"])

    def log_film(self, path: Path, step: int) -> None:
        name = f"films/{film_name(path)}"
        if (name, step) not in self.media:
            self._add_image(name, _gif(path), step)

    def log_picture(self, path: Path, step: int) -> None:
        name = f"pictures/{path.stem}"
        if (name, step) not in self.media:
            self._add_image(name, path.read_bytes(), step)

    def _add_image(self, name: str, data: bytes, step: int) -> None:
        """`data`: a whole PNG or GIF file."""
        from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata

        metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="images"))
        image = Summary.Image(encoded_image_string=data)
        value = Summary.Value(tag=name, image=image, metadata=metadata)
        self.writer.add_summary(Summary(value=[value]), step)
        self.media.add((name, step))

    def close(self, status: Status) -> None:
        self.writer.close()


def _events(folder: Path) -> Iterator[Any]:
    """The events in all files of a folder."""
    for file in sorted(folder.glob(FILES)):
        yield from events(file)


def events(file: Path) -> Iterator[Any]:
    """The events in a file; where its end was not written, by a process that was killed, or is broken, up to there.

    Records as TFRecord has them: length (8 bytes, little-endian), its checksum (4), the event, its checksum (4).
    TensorBoard's own reader checks the checksums in Python, which takes half a minute where this takes one second.
    """
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.event_pb2 import Event

    left = file.stat().st_size
    with open(file, "rb") as stream:
        while left >= 12:
            (length,) = struct.unpack("<Q", stream.read(12)[:8])
            left -= 12 + length + 4
            if left < 0:
                return
            data = stream.read(length)
            stream.seek(4, 1)
            try:
                yield Event.FromString(data)
            except DecodeError:
                return


def _gif(film: Path) -> bytes:
    """The film as a small GIF: 10 frames a second, 240 pixels wide, its first 20 s."""
    import imageio_ffmpeg

    with tempfile.TemporaryDirectory() as folder:
        gif = Path(folder) / "film.gif"
        scale = ["-vf", "fps=10,scale=240:-2", "-t", "20", "-threads", "1"]
        words = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(film), *scale, str(gif)]
        subprocess.run(words, check=True, stdin=subprocess.DEVNULL, capture_output=True)
        return gif.read_bytes()
