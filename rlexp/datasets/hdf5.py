"""What an hdf5 file may not do: take its arrays from other files, or declare more numbers than it holds."""

import math
from typing import Any

from rlexp.datasets.arrays import Wrong

DENSEST = 1100  # bytes that one may stand for: gzip reaches 1032
SLACK = 1_000_000  # bytes that may be declared in any case


def check_links(file: Any) -> None:
    """Raise Wrong where an open `h5py.File` links to other files: those would be read as if they were data."""
    from h5py import h5l

    def elsewhere(name: bytes, link: Any) -> bytes | None:
        return None if link.type in (h5l.TYPE_HARD, h5l.TYPE_SOFT) else name

    found = file.id.links.visit(elsewhere, info=True)  # the first that is not None
    if found is not None:
        raise Wrong(f"'{found.decode(errors='replace')}' is in another file; only what is in this one is read")


def check_array(array: Any) -> None:
    """Raise Wrong where an array, a low-level `h5py.h5d.DatasetID`, lies elsewhere or is mostly made up."""
    from h5py import h5d

    how = array.get_create_plist()
    if how.get_layout() == h5d.VIRTUAL or how.get_external_count() > 0:
        raise Wrong("has an array that lies in another file; only what is in this one is read")
    declared = math.prod(array.shape) * array.dtype.itemsize
    stored = array.get_storage_size()
    most = stored * DENSEST if how.get_nfilters() else stored
    if declared > most + SLACK:
        raise Wrong(f"declares an array of {declared:,} bytes, and holds {stored:,} of it")
