"""Synthetic CT and MR studies written as real DICOM, with known truth.

``Phantom`` describes a clean series; ``datasets`` makes it; functions ``list[Dataset] →
list[Dataset]`` damage it the way hospitals do; ``write`` puts it on disk::

    write(without_slice(5)(Phantom().datasets()), folder)

Spacing differs between rows and columns on purpose: a swap of the two cannot hide. ``kinds`` holds
the catalogue of odd series; ``python -m nestseg_prep.torture`` runs it.
"""

from nestseg_prep.phantom.damage import (
    Damage,
    as_one_series,
    every,
    in_order,
    moved,
    only,
    phases,
    setting,
    shuffled,
    tilted,
    uneven,
    with_copy,
    with_marker,
    without_slice,
)
from nestseg_prep.phantom.files import (
    cut_file,
    jpeg_lossless,
    relabel,
    write,
)
from nestseg_prep.phantom.markers import marked_everywhere
from nestseg_prep.phantom.series import (
    PLANES,
    Phantom,
    Plane,
    Series,
    get_pixels,
    set_pixels,
)

__all__ = [
    "PLANES",
    "Damage",
    "Phantom",
    "Plane",
    "Series",
    "as_one_series",
    "cut_file",
    "every",
    "get_pixels",
    "in_order",
    "jpeg_lossless",
    "marked_everywhere",
    "moved",
    "only",
    "phases",
    "relabel",
    "set_pixels",
    "setting",
    "shuffled",
    "tilted",
    "uneven",
    "with_copy",
    "with_marker",
    "without_slice",
    "write",
]
