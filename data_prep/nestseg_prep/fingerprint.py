"""The fingerprint of a data set: what a plan for a network has to know about its images.

Spacings, sizes, the box around the foreground and the intensities, case by case with one volume in
memory at a time, summed up by medians and percentiles, so that one odd case moves nothing. Axes are
the patient's, in the order right, anterior, superior (RAS), whatever the order in the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from nestseg_prep import affine as affines
from nestseg_prep.errors import InputError
from nestseg_prep.layouts import LabelledCase
from nestseg_prep.reading import read_file
from nestseg_prep.volume import Volume

SAMPLES: Final = 10_000
"""Voxels drawn of each case, once of its foreground and once of all: every case weighs the same."""

LABEL_LIMIT: Final = 255
_SAME_GRID_VOXELS: Final = 0.1

Values: TypeAlias = npt.NDArray[np.float64]
Triple: TypeAlias = tuple[float, float, float]


@dataclass(frozen=True)
class Intensities:
    """How values spread.

    Attributes:
        low: the 0.5th percentile.
        median: of all values.
        high: the 99.5th percentile.
        mean: of the values clipped to ``low`` and ``high``: no implant moves it.
        sd: likewise.
    """

    low: float
    median: float
    high: float
    mean: float
    sd: float

    @classmethod
    def of(cls, values: Values) -> Intensities:
        """Sum up values, at least one."""
        low, median, high = np.percentile(values, (0.5, 50, 99.5))
        clipped = np.clip(values, low, high)
        numbers = (low, median, high, clipped.mean(), clipped.std())
        return cls(*(round(float(number), 4) for number in numbers))


@dataclass(frozen=True, eq=False)
class CaseFacts:
    """What is kept of one case.

    Attributes:
        shape: voxels along R, A and S.
        spacing: mm along R, A and S.
        voxels: label value → voxels.
        box_mm: edges of the box around all foreground; ``None`` without foreground.
        zeros: share of voxels that are exactly 0.
        foreground: up to :data:`SAMPLES` values inside the foreground.
        overall: as many values of all voxels.
    """

    shape: tuple[int, int, int]
    spacing: Triple
    voxels: dict[int, int]
    box_mm: Triple | None
    zeros: float
    foreground: Values
    overall: Values


@dataclass(frozen=True)
class LabelFacts:
    """How often a label occurs.

    Attributes:
        cases: that hold it.
        median_ml: its volume in those; 0 where there is none.
        share: of all voxels of all cases.
    """

    cases: int
    median_ml: float
    share: float


@dataclass(frozen=True)
class LeftOut:
    """A case that could not be used, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Fingerprint:
    """A data set in numbers. All triples run along R, A and S.

    Attributes:
        cases: names of the cases that were used.
        shapes: voxels of each of them.
        spacings: mm of each of them.
        labels: of every value found, the background among them.
        box_mm: median edges of the box around the foreground; ``None`` if there is none anywhere.
        zeros: median share of voxels that are exactly 0, as outside of a stripped skull.
        foreground: values inside the foreground; ``None`` if there is none anywhere.
        overall: values everywhere.
        left_out: cases that were not used.
    """

    cases: tuple[str, ...]
    shapes: tuple[tuple[int, int, int], ...]
    spacings: tuple[Triple, ...]
    labels: dict[int, LabelFacts]
    box_mm: Triple | None
    zeros: float
    foreground: Intensities | None
    overall: Intensities
    left_out: tuple[LeftOut, ...] = ()

    def median_spacing(self) -> Triple:
        """Median distance in mm between voxels, per axis."""
        return _triple(np.median(self.spacings, axis=0))

    def fine_spacing(self) -> Triple:
        """The 10th percentile of the distances between voxels, per axis."""
        return _triple(np.percentile(self.spacings, 10, axis=0))

    def median_shape(self, spacing: Triple | None = None) -> tuple[int, int, int]:
        """Median voxels per axis, as they are or resampled to ``spacing`` in mm."""
        shapes = np.asarray(self.shapes, dtype=float)
        if spacing is not None:
            shapes = shapes * np.asarray(self.spacings) / np.asarray(spacing)
        i, j, k = (max(1, round(float(n))) for n in np.median(shapes, axis=0))
        return i, j, k

    def to_json(self) -> dict[str, Any]:
        """The numbers, without the name of any case."""
        return {
            "cases": len(self.cases),
            "left_out": len(self.left_out),
            "axes": "RAS",
            "median_shape": self.median_shape(),
            "median_spacing_mm": self.median_spacing(),
            "fine_spacing_mm": self.fine_spacing(),
            "spacing_range_mm": np.stack(
                [np.min(self.spacings, axis=0), np.max(self.spacings, axis=0)]
            )
            .round(4)
            .tolist(),
            "labels": {str(value): asdict(facts) for value, facts in self.labels.items()},
            "foreground_box_mm": self.box_mm,
            "zero_share": self.zeros,
            "foreground": None if self.foreground is None else asdict(self.foreground),
            "overall": asdict(self.overall),
        }


def read_case(case: LabelledCase, labels: Iterable[int] | None = None) -> CaseFacts:
    """Read one case and keep what counts.

    Args:
        case: image and label map.
        labels: the values that may occur; ``None`` for any up to :data:`LABEL_LIMIT`.

    Raises:
        InputError: a file is missing or damaged, the two do not lie on one grid, or a value of the
            label map is no label.
    """
    volumes = []
    for path in (case.image, case.label):
        try:
            volumes.append(read_file(path))
        except OSError as error:
            raise InputError(f"{path.name}: {error.strerror or 'cannot be read'}") from error
    image, label = volumes
    _check_grids(image, label, case)
    voxels = _count(label, case, None if labels is None else frozenset(labels))
    order = [["RL", "AP", "SI"].index(_axis(code)) for code in affines.axis_codes(image.affine)]
    spacing = affines.spacing(image.affine)
    values = image.array.ravel(order="F")
    inside = np.flatnonzero(label.array.ravel(order="F"))
    box = _box_mm(label, spacing)
    return CaseFacts(
        shape=_to_ras(image.shape, order),
        spacing=_to_ras(spacing, order),
        voxels=voxels,
        box_mm=None if box is None else _to_ras(box, order),
        zeros=1 - np.count_nonzero(values) / values.size,
        foreground=_draw(values, inside),
        overall=_draw(values, None),
    )


def summarise(facts: dict[str, CaseFacts], left_out: Iterable[LeftOut] = ()) -> Fingerprint:
    """Sum up cases.

    Args:
        facts: name of a case → its facts; at least one.
        left_out: cases that were not used.
    """
    cases = list(facts.values())
    boxes = [case.box_mm for case in cases if case.box_mm is not None]
    inside = np.concatenate([case.foreground for case in cases])
    return Fingerprint(
        cases=tuple(facts),
        shapes=tuple(case.shape for case in cases),
        spacings=tuple(_triple(np.asarray(case.spacing)) for case in cases),
        labels=_label_facts(cases),
        box_mm=_triple(np.median(boxes, axis=0)) if boxes else None,
        zeros=round(float(np.median([case.zeros for case in cases])), 4),
        foreground=Intensities.of(inside) if inside.size else None,
        overall=Intensities.of(np.concatenate([case.overall for case in cases])),
        left_out=tuple(left_out),
    )


def fingerprint(
    cases: Iterable[LabelledCase],
    labels: Iterable[int] | None = None,
    on_case: Callable[[str], None] = lambda _: None,
) -> Fingerprint:
    """Read every case, one at a time; one that cannot be used is left out.

    Args:
        cases: of the data set.
        labels: the values that may occur; ``None`` for any.
        on_case: called with the name of each case when it was read.

    Raises:
        InputError: none is left, or none has any foreground.
    """
    allowed = None if labels is None else tuple(labels)
    facts: dict[str, CaseFacts] = {}
    left_out = []
    for case in cases:
        try:
            facts[case.name] = read_case(case, allowed)
        except InputError as error:
            left_out.append(LeftOut(case.name, str(error)))
        on_case(case.name)
    if not facts:
        first = f"; the first: {left_out[0].reason}" if left_out else ""
        raise InputError(f"none of {len(left_out)} cases can be used{first}")
    result = summarise(facts, left_out)
    if result.foreground is None:
        raise InputError(f"no foreground in any of {len(facts)} label maps; check the labels")
    return result


def _check_grids(image: Volume, label: Volume, case: LabelledCase) -> None:
    if image.shape != label.shape:
        sizes = " and ".join("×".join(map(str, v.shape)) for v in (image, label))
        raise InputError(f"{case.label.name}: image and label have {sizes} voxels; resample one")
    apart = affines.corner_distance(image.affine, label.affine, image.shape)
    if apart > _SAME_GRID_VOXELS * min(affines.spacing(image.affine)):
        raise InputError(
            f"{case.label.name}: image and label lie {apart:.2f} mm apart; copy the image's header"
        )


def _count(label: Volume, case: LabelledCase, allowed: frozenset[int] | None) -> dict[int, int]:
    """Voxels of each label, slice by slice: counting a whole volume would copy it as 64 bits."""
    counts = np.zeros(LABEL_LIMIT + 1, dtype=np.int64)
    for k in range(label.shape[2]):
        plane = label.array[:, :, k]
        whole = plane.astype(np.int64)
        if not np.array_equal(whole, plane) or whole.min() < 0 or whole.max() > LABEL_LIMIT:
            raise InputError(
                f"{case.label.name}: values that are no labels (0 to {LABEL_LIMIT}); "
                "is this an image?"
            )
        counts += np.bincount(whole.ravel(), minlength=LABEL_LIMIT + 1)
    found = {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    strange = sorted(set(found) - allowed) if allowed is not None else []
    if strange:
        raise InputError(
            f"{case.label.name}: label {', '.join(map(str, strange))} is not declared; "
            "declare it or correct the label map"
        )
    return found


def _box_mm(label: Volume, spacing: Triple) -> Triple | None:
    mask = label.array != 0
    edges = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        occupied = np.flatnonzero(mask.any(axis=others))
        if not occupied.size:
            return None
        edges.append(float(occupied[-1] - occupied[0] + 1) * spacing[axis])
    return edges[0], edges[1], edges[2]


def _draw(values: npt.NDArray[Any], among: npt.NDArray[np.intp] | None) -> Values:
    """Up to :data:`SAMPLES` values without replacement, the same ones every time."""
    available = values.size if among is None else among.size
    if available > SAMPLES:
        drawn = np.random.default_rng(0).choice(available, SAMPLES, replace=False, shuffle=False)
        among = drawn if among is None else among[drawn]
    chosen = values if among is None else values[among]
    return np.asarray(chosen, dtype=np.float64)


def _label_facts(cases: list[CaseFacts]) -> dict[int, LabelFacts]:
    total = sum(sum(case.voxels.values()) for case in cases)
    facts = {}
    for value in sorted({value for case in cases for value in case.voxels}):
        having = [case for case in cases if value in case.voxels]
        ml = [case.voxels[value] * float(np.prod(case.spacing)) / 1000 for case in having]
        share = sum(case.voxels[value] for case in having) / total
        facts[value] = LabelFacts(len(having), round(float(np.median(ml)), 4), share)
    return facts


def _axis(code: str) -> str:
    """Both letters of the patient axis that one of them names."""
    return next(pair for pair in ("RL", "AP", "SI") if code in pair)


def _to_ras(per_array_axis: Any, order: list[int]) -> Any:
    """Reorder a triple per array axis; ``order`` holds the patient axis of each array axis."""
    return tuple(per_array_axis[order.index(world)] for world in range(3))


def _triple(values: npt.NDArray[Any]) -> Triple:
    i, j, k = (round(float(value), 4) for value in values)
    return i, j, k
