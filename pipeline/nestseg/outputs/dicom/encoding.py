"""How a label map is stored in a segmentation object."""

from __future__ import annotations

from enum import StrEnum


class Encoding(StrEnum):
    """SegmentationType of an object made of labels."""

    BINARY = "binary"
    """One bit for each voxel and segment: what every reader knows."""
    LABELMAP = "labelmap"
    """One number for each voxel: small, and for newer readers."""
