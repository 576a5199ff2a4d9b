"""The organs of the phantom, as data: no imports, so that every environment can read them."""

from __future__ import annotations

# Densities lie far apart, so that a network learns them in minutes.
# Name, HU, centre and semi-axes as fractions of each axis: columns, rows downwards, slices upwards.
ORGANS: tuple[tuple[str, int, tuple[float, float, float], tuple[float, float, float]], ...] = (
    ("lung right", -850, (0.30, 0.47, 0.80), (0.11, 0.19, 0.24)),
    ("lung left", -730, (0.70, 0.47, 0.80), (0.11, 0.19, 0.24)),
    ("bowel", -610, (0.50, 0.42, 0.22), (0.15, 0.12, 0.13)),
    ("bladder", -370, (0.50, 0.52, 0.06), (0.09, 0.08, 0.07)),
    ("liver", 160, (0.30, 0.46, 0.46), (0.15, 0.16, 0.11)),
    ("pancreas", 280, (0.50, 0.49, 0.42), (0.07, 0.06, 0.05)),
    ("spleen", 400, (0.78, 0.52, 0.47), (0.07, 0.10, 0.08)),
    ("kidney right", 520, (0.30, 0.60, 0.27), (0.07, 0.07, 0.09)),
    ("kidney left", 640, (0.70, 0.60, 0.28), (0.07, 0.07, 0.09)),
    ("heart", 760, (0.53, 0.44, 0.72), (0.09, 0.10, 0.11)),
    ("stomach", -490, (0.66, 0.40, 0.46), (0.06, 0.08, 0.08)),
    ("aorta", 870, (0.56, 0.58, 0.55), (0.025, 0.03, 0.50)),
    ("spine", 980, (0.50, 0.68, 0.50), (0.05, 0.06, 2.0)),
)
LABELS = {0: "background"} | {number: row[0] for number, row in enumerate(ORGANS, start=1)}
