"""Run a bundle over cases: the model is loaded once, and each case ends as done or as failed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nestseg.batch.cases import Case
from nestseg.bundle.loaded import LoadedBundle
from nestseg.outputs.dicom.encoding import Encoding
from nestseg.outputs.preview import draw_preview, write_png
from nestseg.outputs.volumetry import volumes_ml
from nestseg_prep.errors import describe
from nestseg_prep.nifti import write_nifti
from nestseg_prep.picture import write_picture
from nestseg_prep.reading import read_volume
from nestseg_prep.volume import Volume

if TYPE_CHECKING:
    from nestseg.outputs.dicom.results import DicomFiles


@dataclass(frozen=True)
class Result:
    """What became of a case.

    Attributes:
        case: the case.
        error: why it failed, one line; empty if it was done.
        mask: the label map on the grid of the source.
        preview: a picture of it.
        dicom: the same as DICOM objects, where they were asked for and the source is DICOM.
        volumes_ml: size of each label.
        seconds: wall time of the case.
    """

    case: Case
    error: str = ""
    mask: Path | None = None
    preview: Path | None = None
    dicom: DicomFiles | None = None
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
    dicom: Encoding | None = None,
    on_result: Callable[[Result], None] | None = None,
) -> list[Result]:
    """Segment every case into ``out``: ``NAME_seg.nii.gz`` and ``NAME_preview.png``.

    The mask of a picture is a picture, ``NAME_seg.png``, whose values are the labels. With
    ``dicom``, DICOM series also get ``NAME_seg.dcm`` and ``NAME_sr.dcm``.

    Args:
        cases: what to segment.
        bundle: with what.
        out: an existing folder.
        dicom: how the SEG stores labels; ``None`` for no DICOM results.
        on_result: called when a case is finished.
    """
    results = []
    for case in cases:
        results.append(_run_case(case, bundle, out, dicom))
        if on_result is not None:
            on_result(results[-1])
    return results


def _run_case(case: Case, bundle: LoadedBundle, out: Path, dicom: Encoding | None) -> Result:
    start = time.perf_counter()
    is_picture = (
        case.ref.kind == "picture" and case.ref.shape is not None and case.ref.shape[2] == 1
    )
    mask_path = out / f"{case.name}_seg{'.png' if is_picture else '.nii.gz'}"
    write_mask = write_picture if is_picture else write_nifti
    preview_path = out / f"{case.name}_preview.png"
    try:
        image = read_volume(case.ref)
        mask = bundle.segment(image)
        picture = draw_preview(image, mask, bundle.labels)
        write_mask(mask, mask_path)
        write_png(picture, preview_path)
        sizes = volumes_ml(mask, bundle.labels)
        files = _write_dicom(case, mask, sizes, bundle, out, dicom) if dicom else None
    except Exception as error:  # noqa: BLE001  one bad case must never stop the others
        return Result(case, error=describe(error), seconds=time.perf_counter() - start)
    return Result(
        case,
        mask=mask_path,
        preview=preview_path,
        dicom=files,
        volumes_ml=sizes,
        seconds=time.perf_counter() - start,
    )


def _write_dicom(
    case: Case,
    mask: Volume,
    sizes: dict[str, float],
    bundle: LoadedBundle,
    out: Path,
    encoding: Encoding,
) -> DicomFiles | None:
    """SEG and SR of a DICOM series; a NIfTI file has no patient and no slices to refer to."""
    if case.ref.kind != "dicom":
        return None
    # Imported here: highdicom costs half a second, and most runs write no DICOM.
    from nestseg.outputs.dicom.algorithm import Algorithm  # noqa: PLC0415
    from nestseg.outputs.dicom.results import write_results  # noqa: PLC0415

    algorithm = Algorithm(bundle.name, bundle.version, bundle.weights_sha256, bundle.segment_codes)
    return write_results(mask, case.ref, sizes, bundle.labels, algorithm, out / case.name, encoding)
