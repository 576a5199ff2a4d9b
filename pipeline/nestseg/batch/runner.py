"""Run a bundle over cases: the model is loaded once, and each case ends as done or as failed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from nestseg.batch.cases import Case
from nestseg.bundle.loaded import LoadedBundle
from nestseg.outputs.preview import draw_preview, write_png
from nestseg.outputs.volumetry import volumes_ml
from nestseg_prep.errors import describe
from nestseg_prep.nifti import write_nifti
from nestseg_prep.reading import read_volume


@dataclass(frozen=True)
class Result:
    """What became of a case.

    Attributes:
        case: the case.
        error: why it failed, one line; empty if it was done.
        mask: the label map as NIfTI on the grid of the source.
        preview: a picture of it.
        volumes_ml: size of each label.
        seconds: wall time of the case.
    """

    case: Case
    error: str = ""
    mask: Path | None = None
    preview: Path | None = None
    volumes_ml: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def done(self) -> bool:
        """Whether every output was written."""
        return not self.error


def run(
    cases: Iterable[Case],
    bundle: LoadedBundle,
    out: Path,
    *,
    on_result: Callable[[Result], None] | None = None,
) -> list[Result]:
    """Segment every case into ``out``: ``NAME_seg.nii.gz`` and ``NAME_preview.png``.

    Args:
        cases: what to segment.
        bundle: with what.
        out: an existing folder.
        on_result: called when a case is finished.
    """
    results = []
    for case in cases:
        results.append(_run_case(case, bundle, out))
        if on_result is not None:
            on_result(results[-1])
    return results


def _run_case(case: Case, bundle: LoadedBundle, out: Path) -> Result:
    start = time.perf_counter()
    mask_path = out / f"{case.name}_seg.nii.gz"
    preview_path = out / f"{case.name}_preview.png"
    try:
        image = read_volume(case.ref)
        mask = bundle.segment(image)
        picture = draw_preview(image, mask, bundle.labels)
        write_nifti(mask, mask_path)
        write_png(picture, preview_path)
    except Exception as error:  # noqa: BLE001  one bad case must never stop the others
        return Result(case, error=describe(error), seconds=time.perf_counter() - start)
    return Result(
        case,
        mask=mask_path,
        preview=preview_path,
        volumes_ml=volumes_ml(mask, bundle.labels),
        seconds=time.perf_counter() - start,
    )
