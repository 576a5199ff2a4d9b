"""What a scan returns: series, and files that are none."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from nestseg_prep.affine import Affine, Orientation
from nestseg_prep.dicom.findings import Finding
from nestseg_prep.source import SourceGrid


class SliceRef(NamedTuple):
    """Where one slice of a series is stored.

    Attributes:
        path: its file.
        frame: number of the frame within the file, from 0.
        sop_uid: SOPInstanceUID of the file.
        slope: true value = stored value x slope + intercept.
        intercept: see ``slope``.
        padding: range of stored values that stand where there is no image, if there is one.
    """

    path: Path
    frame: int
    sop_uid: str
    slope: float
    intercept: float
    padding: tuple[int, int] | None = None


@dataclass(frozen=True)
class SeriesRef:
    """One series (or a part of one that was split), as its headers describe it.

    Attributes:
        kind: what its files are; ``"nifti"`` stands for NRRD, MetaImage and MGH too.
        key: short, unique within a scan, stable, and free of patient data: fit for a file name.
        study_key: the same for its study and patient; ``""`` for NIfTI.
        series_uid: SeriesInstanceUID; ``""`` for NIfTI and where the tag is empty.
        study_uid: StudyInstanceUID, likewise.
        modality: ``"CT"``, ``"MR"``, ``"PT"`` ..., ``None`` for NIfTI and pictures; ``"OTHER"`` for
            what is not a defined term.
        body_part: BodyPartExamined in defined terms (``terms.body_part``), ``""`` where not given.
        orientation: plane of the slices, ``None`` without geometry.
        shape: voxels along ``(i, j, k)``.
        spacing: mm along ``(i, j, k)``, ``None`` without geometry.
        affine: ``(4, 4)``, voxel → RAS mm; ``None`` where geometry was refused.
        files: each file once, ordered along the slice axis.
        findings: everything that was found, in the order of the checks.
        body_part_said: BodyPartExamined as the header has it: free text, as the next two are.
        description: SeriesDescription: free text, which may name a patient.
        kernel: ConvolutionKernel of a CT, free text as well.
        part: what it is among the volumes of a series that was split ("echo 2, magnitude"), from
            numbers and defined terms alone; ``""`` for a whole series.
        quantity: what its values are (``kinds.QUANTITIES``); ``""`` for plain images.
        acquired: when its first image was made: digits of date and time, ``""`` if not given.
        slices: where each slice is stored, ordered along ``k``; empty for NIfTI and where refused.
        source: where the pixels of those slices lie in the grid of the volume, likewise.
        stored_range: lowest and highest stored value that the header can express.
    """

    kind: Literal["dicom", "nifti", "picture"]
    key: str
    study_key: str
    series_uid: str = field(repr=False)
    study_uid: str = field(repr=False)
    modality: str | None
    body_part: str
    orientation: Orientation | None
    shape: tuple[int, int, int] | None
    spacing: tuple[float, float, float] | None
    affine: Affine | None = field(repr=False, compare=False)
    files: tuple[Path, ...] = field(repr=False)
    findings: tuple[Finding, ...] = ()
    body_part_said: str = field(default="", repr=False)
    description: str = field(default="", repr=False)
    kernel: str = field(default="", repr=False)
    acquired: str = field(default="", repr=False)
    part: str = ""
    quantity: str = ""
    slices: tuple[SliceRef, ...] = field(default=(), repr=False)
    source: SourceGrid | None = field(default=None, repr=False, compare=False)
    stored_range: tuple[int, int] = (0, 0)

    @property
    def accepted(self) -> bool:
        """Whether nothing stands in the way of reading the series."""
        return not any(finding.refuses for finding in self.findings)

    @property
    def resampled(self) -> bool:
        """Whether the voxels of the volume are not the stored pixels, but interpolated."""
        return bool(self.source and self.shape and not self.source.holds_voxels_of(self.shape))

    @property
    def refusal(self) -> Finding | None:
        """The first finding that refuses the series."""
        return next((finding for finding in self.findings if finding.refuses), None)

    @property
    def reason(self) -> str:
        """Why the series is refused, in a sentence; ``""`` where it is accepted."""
        return self.refusal.sentence if self.refusal else ""

    def noting(self, finding: Finding) -> SeriesRef:
        """The same series with one more finding."""
        return replace(self, findings=(*self.findings, finding))

    def renamed(self, key: str) -> SeriesRef:
        """The same series under another key."""
        return replace(self, key=key)

    def to_json(self, *, show_phi: bool = False) -> dict[str, Any]:
        """The series for ``--json``.

        Args:
            show_phi: also give paths, UIDs and the description, which may lead to a patient:
                hospitals name folders after people.
        """
        found: dict[str, Any] = {
            "key": self.key,
            "study_key": self.study_key,
            "kind": self.kind,
            "modality": self.modality,
            "body_part": self.body_part,
            "part": self.part,
            "quantity": self.quantity,
            "orientation": self.orientation,
            "shape": self.shape and list(self.shape),
            "spacing": self.spacing and list(self.spacing),
            "affine": None if self.affine is None else self.affine.tolist(),
            "files": len(self.files),
            "accepted": self.accepted,
            "findings": [finding.to_json() for finding in self.findings],
        }
        if show_phi:
            found["series_uid"] = self.series_uid
            found["study_uid"] = self.study_uid
            found["body_part"] = self.body_part_said
            found["description"] = self.description
            found["kernel"] = self.kernel
            found["paths"] = [str(path) for path in self.files]
        return found


@dataclass(frozen=True)
class OtherFile:
    """A file that belongs to no series, or a folder that cannot be read.

    Attributes:
        path: where it lies.
        finding: what it is, or why it cannot be read.
        kind: ``"folder"`` for a folder or archive whose content nobody has seen, ``"unknown"`` for
            what cannot even be looked at and may be one, ``"file"`` for everything else.
    """

    path: Path = field(repr=False)
    finding: Finding
    kind: Literal["file", "folder", "unknown"] = "file"

    def to_json(self, *, show_phi: bool = False) -> dict[str, Any]:
        """The file for ``--json``; its path only with ``show_phi``."""
        found: dict[str, Any] = dict(self.finding.to_json())
        return found | {"path": str(self.path)} if show_phi else found


@dataclass(frozen=True)
class ScanResult:
    """Everything that a folder holds, in an order that does not depend on the file system."""

    series: tuple[SeriesRef, ...]
    others: tuple[OtherFile, ...]

    @property
    def accepted(self) -> tuple[SeriesRef, ...]:
        """The series that can be read."""
        return tuple(ref for ref in self.series if ref.accepted)

    @property
    def unseen(self) -> tuple[OtherFile, ...]:
        """Folders that could not be read, so that series may be missing from this result."""
        return tuple(other for other in self.others if other.kind != "file")

    def to_json(self, *, show_phi: bool = False) -> dict[str, Any]:
        """The scan for ``--json``; without ``show_phi`` other files are only counted by code."""
        others: Any = dict(
            sorted(Counter(str(other.finding.code) for other in self.others).items())
        )
        if show_phi:
            others = [other.to_json(show_phi=True) for other in self.others]
        return {
            "series": [ref.to_json(show_phi=show_phi) for ref in self.series],
            "others": others,
        }
