"""Films as files: frames are encoded as mp4, and thinned as GIF, while they come."""

import math
from pathlib import Path
from typing import Any

import numpy as np

COLUMNS = 4  # of a picture of many frames
FLAT = 3  # times as wide as high: such frames stand below each other
GAP = 6  # pixels between them


class CannotRender(Exception):
    """There will be no film; one line says why, and what to install where that is the reason."""


class FilmWriter:
    """Encodes frames as they come. The film appears under its name when it is complete, or not at all."""

    def __init__(self, path: Path, first: np.ndarray, fps: float, gif_stride: int, still_stride: int = 0):
        """Begin a film with the frame `first` (H, W, 3) uint8. Raises CannotRender.

        fps: frames a second
        gif_stride: every how many frames one goes into a GIF beside the film; 0: there is no GIF
        still_stride: every how many frames one stands in a picture beside the film; 0: there is none
        """
        self.path = path
        self.part = path.with_name(f".part_{path.name}")
        self.fps = fps
        self.gif_stride = gif_stride
        self.gif_frames: list[Any] = []
        self.still_stride = still_stride
        self.stills: list[np.ndarray] = []
        self.count = 0
        self.shape = first.shape
        height, width = first.shape[:2]
        # Height and width become even: yuv420p has one colour for 2×2 pixels.
        self.padding = [(0, height % 2), (0, width % 2), (0, 0)]
        try:
            self.stream = self._stream(width + width % 2, height + height % 2)
        except ImportError:
            raise CannotRender("films need imageio-ffmpeg: pip install imageio-ffmpeg") from None
        except (OSError, RuntimeError) as error:  # no ffmpeg here, a folder that cannot be written
            raise CannotRender(f"cannot start ffmpeg for {path}: {_first_line(error)}") from None
        self.add(first)

    def _stream(self, width: int, height: int) -> Any:
        """A generator that takes frames and gives them to ffmpeg."""
        import imageio_ffmpeg

        self.part.parent.mkdir(parents=True, exist_ok=True)
        stream = imageio_ffmpeg.write_frames(
            str(self.part),
            (width, height),
            fps=self.fps,
            macro_block_size=1,
            ffmpeg_log_level="error",
            output_params=["-threads", "1", "-preset", "veryfast", "-movflags", "+faststart"],
        )
        stream.send(None)
        return stream

    def add(self, frame: np.ndarray, times: int = 1) -> None:
        """Append one frame (H, W, 3) uint8, shown as long as so many. Raises CannotRender."""
        if frame.shape != self.shape:
            raise CannotRender(f"rendering gave pictures of two sizes, {self.shape[:2]} and {frame.shape[:2]}")
        padded = np.ascontiguousarray(np.pad(frame, self.padding, mode="edge"))
        for _ in range(times):
            self._add(frame, padded)

    def _add(self, frame: np.ndarray, padded: np.ndarray) -> None:
        try:
            self.stream.send(padded)
        except OSError as error:
            raise self._cannot_write(error) from None
        if self.gif_stride and self.count % self.gif_stride == 0:
            from PIL import Image

            picture = Image.fromarray(frame)
            self.gif_frames.append(picture.quantize(64, method=Image.Quantize.FASTOCTREE))
        if self.still_stride and self.count % self.still_stride == 0:
            self.stills.append(frame)
        self.count += 1

    def __enter__(self) -> "FilmWriter":
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        self.stream.close()  # waits for ffmpeg
        try:
            if kind is None:
                self._finish()
        except OSError as error:
            raise self._cannot_write(error) from None
        finally:
            self.part.unlink(missing_ok=True)

    def _finish(self) -> None:
        if self.gif_frames:
            self._save_gif()
        if self.stills:
            self._save_stills()
        if not self.part.exists() or self.part.stat().st_size == 0:
            raise OSError("ffmpeg wrote nothing; is the disk full?")
        self.part.replace(self.path)

    def _save_gif(self) -> None:
        first, *rest = self.gif_frames
        hundredths = round(100 * self.gif_stride / self.fps)  # of a second, in which GIF counts
        first.save(
            self.path.with_suffix(".gif"),
            save_all=True,
            append_images=rest,
            duration=hundredths * 10,
            loop=0,
        )

    def _save_stills(self) -> None:
        """The kept frames in rows, the first at the top left; of flat pictures below each other."""
        from PIL import Image

        height, width = self.shape[:2]
        columns = 1 if width > FLAT * height else COLUMNS
        rows = math.ceil(len(self.stills) / columns)
        sheet = np.full((rows * (height + GAP), columns * (width + GAP), 3), 255, np.uint8)
        for place, frame in enumerate(self.stills):
            row, column = divmod(place, columns)
            y, x = row * (height + GAP), column * (width + GAP)
            sheet[y : y + height, x : x + width] = frame
        Image.fromarray(sheet).save(self.path.with_suffix(".png"))

    def _cannot_write(self, error: OSError) -> CannotRender:
        return CannotRender(f"cannot write {self.path}: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
