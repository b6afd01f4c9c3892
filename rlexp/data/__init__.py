"""Recorded episodes: one flat form in memory, Minari data sets on disk, other people's files, and the generator."""

from rlexp.data.dataset import Dataset, Windows
from rlexp.data.load import BufferConfig, load

__all__ = ["BufferConfig", "Dataset", "Windows", "load"]
