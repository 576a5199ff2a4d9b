"""How good a segmentation is, in the terms of the electron-microscopy challenges.

MONAI has the overlap and distance metrics; these count what matters for cells: splits, mergers and
holes. Arrays in, numbers out.
"""

from nestseg.metrics.pixels import pixel_error
from nestseg.metrics.segments import SplitMerge, segments_of, v_info, v_rand
from nestseg.metrics.warping import topological_errors, warping_error

__all__ = [
    "SplitMerge",
    "pixel_error",
    "segments_of",
    "topological_errors",
    "v_info",
    "v_rand",
    "warping_error",
]
