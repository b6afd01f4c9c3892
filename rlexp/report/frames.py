"""What environments' render() gives, as pictures (H, W, 3) uint8 where its meaning is clear."""

from typing import Any

import numpy as np

from rlexp.report.encode import CannotRender

CHANNELS = (1, 3, 4)  # grey, colours, colours and opacity


def as_picture(frame: Any) -> np.ndarray:
    """`frame` as (H, W, 3) uint8. A list is taken for the frames since the last call; colours may come first; floats
    are shares of full brightness where none is above 1. Raises CannotRender for what is no picture."""
    if isinstance(frame, list | tuple) and frame:
        frame = frame[-1]
    if not isinstance(frame, np.ndarray) or frame.dtype.kind not in "buif" or frame.size == 0:
        raise _no_picture(frame)
    picture = _channels_last(frame)
    if picture is None:
        raise _no_picture(frame)
    picture = _bytes(picture)
    if picture is None:
        raise _no_picture(frame)
    if picture.shape[2] == 1:
        return np.repeat(picture, 3, axis=2)
    return _on_white(picture) if picture.shape[2] == 4 else picture


def _channels_last(frame: np.ndarray) -> np.ndarray | None:
    """(H, W, C) with C one of CHANNELS; None where no axis is that of the colours."""
    if frame.ndim == 2:
        return frame[:, :, None]
    if frame.ndim != 3:
        return None
    if frame.shape[2] in CHANNELS:
        return frame
    return frame.transpose(1, 2, 0) if frame.shape[0] in CHANNELS else None


def _bytes(frame: np.ndarray) -> np.ndarray | None:
    """Brightness from 0 to 255; None for numbers that are no brightness."""
    if frame.dtype == np.uint8:
        return frame
    low, high = float(frame.min()), float(frame.max())
    if not (low >= 0 and high <= 255):  # NaN too
        return None
    shares = frame.dtype.kind == "b" or (frame.dtype.kind == "f" and high <= 1)
    return np.rint(frame * 255.0 if shares else frame).astype(np.uint8)


def _on_white(frame: np.ndarray) -> np.ndarray:
    """(H, W, 4), the last of them opacity, seen before white."""
    if (frame[:, :, 3] == 255).all():
        return np.ascontiguousarray(frame[:, :, :3])
    opacity = frame[:, :, 3:] / 255.0
    return np.rint(frame[:, :, :3] * opacity + 255 * (1 - opacity)).astype(np.uint8)


def _no_picture(frame: Any) -> CannotRender:
    what = type(frame).__name__
    if isinstance(frame, np.ndarray):
        what = f"an array of shape {frame.shape} ({frame.dtype})"
        if frame.size and frame.dtype.kind in "uif":
            what += f" from {frame.min():g} to {frame.max():g}"
    return CannotRender(f"rendering gave {what} instead of a picture")
