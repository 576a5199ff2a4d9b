"""Stands in for pydicom-seg, which MONAI Label imports at its start.

pydicom-seg 0.4.1 (2023, no longer kept) fails with pydicom 3 and asks for NumPy 1. Segmentation
objects are written and read by nestseg here, so nothing of it is called. This can go when a MONAI
Label newer than 0.8.5 writes with highdicom (its main branch does).
"""

from __future__ import annotations

from typing import NoReturn


def __getattr__(name: str) -> NoReturn:
    raise AttributeError(f"pydicom_seg.{name}: segmentation objects are nestseg's own here")
