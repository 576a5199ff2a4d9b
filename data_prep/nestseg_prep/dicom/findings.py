"""What can be wrong with an input: one table of code, severity, sentence and remedy.

Nothing else in the package words a finding. Sentences and details never hold what a tag says
about a patient: they speak of geometry, counts and formats.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple


class Severity(StrEnum):
    """How much a finding weighs."""

    INFO = "info"
    """Noted: the image is used as it is."""
    WARNING = "warning"
    """Used, but a person should look."""
    REFUSE = "refuse"
    """Not used: whatever we made of it might be silently wrong."""


class Code(StrEnum):
    """Name of a finding: stable, for machines and for documentation."""

    # A file by itself
    NOT_AN_IMAGE_FILE = "not-an-image-file"
    UNREADABLE = "unreadable"
    WRONG_CONTENT = "wrong-content"
    OTHER_FORMAT = "other-format"
    NOT_A_REGULAR_FILE = "not-a-regular-file"
    DICOMDIR = "dicomdir"
    NO_PIXELS = "no-pixels"
    ARCHIVE = "archive"
    ARCHIVE_REFUSED = "archive-refused"
    ANALYZE = "analyze"
    NIFTI_REFUSED = "nifti-refused"
    NIFTI_STRAIGHTENED = "nifti-straightened"
    RESULT = "result"
    LABEL_LIKE = "label-like"
    NIFTI_UNIT = "nifti-unit"
    # An object that is no volume by its nature
    NOT_AN_IMAGE_VOLUME = "not-an-image-volume"
    LOCALIZER = "localizer"
    COLOUR = "colour"
    MOSAIC = "mosaic"
    # Pixels
    TRUNCATED = "truncated"
    FLOAT_PIXELS = "float-pixels"
    WRONG_TRANSFER_SYNTAX = "wrong-transfer-syntax"
    UNSUPPORTED_TRANSFER_SYNTAX = "unsupported-transfer-syntax"
    TOO_LARGE = "too-large"
    COMPRESSED_FILE = "compressed-file"
    MONOCHROME1 = "monochrome1"
    RESCALE_MISSING = "rescale-missing"
    RESCALE_INCOMPLETE = "rescale-incomplete"
    RESCALE_UNUSABLE = "rescale-unusable"
    OTHER_QUANTITY = "other-quantity"
    UNSPECIFIED_UNIT = "unspecified-unit"
    IMPLAUSIBLE_HOUNSFIELD = "implausible-hounsfield"
    HIGH_BIT = "high-bit"
    SHIFTED_PIXELS = "shifted-pixels"
    PADDING_VALUE = "padding-value"
    # Geometry
    NO_GEOMETRY = "no-geometry"
    BAD_ORIENTATION = "bad-orientation"
    NO_FRAME_OF_REFERENCE = "no-frame-of-reference"
    TOO_FEW_SLICES = "too-few-slices"
    FEW_SLICES = "few-slices"
    MISSING_SLICE = "missing-slice"
    MISSING_SLICE_FILLED = "missing-slice-filled"
    UNEVEN_SPACING = "uneven-spacing"
    SCATTERED_SLICES = "scattered-slices"
    GANTRY_TILT = "gantry-tilt"
    SAME_POSITION = "same-position"
    DUPLICATE_POSITION = "duplicate-position"
    DUPLICATE_DROPPED = "duplicate-dropped"
    MULTI_PHASE = "multi-phase"
    MULTI_FRAME = "multi-frame"
    MIXED_SETTINGS = "mixed-settings"
    ALTERNATING_ACQUISITIONS = "alternating-acquisitions"
    # Splitting
    MIXED_OWNERS = "mixed-owners"
    PATIENT_UNNAMED = "patient-unnamed"
    SPLIT_BY_PATIENT = "split-by-patient"
    SERIES_PER_SLICE = "series-per-slice"
    REGROUPED = "regrouped"
    NO_SERIES_UID = "no-series-uid"
    SPLIT_BY_STUDY = "split-by-study"
    SPLIT_BY_FRAME_OF_REFERENCE = "split-by-frame-of-reference"
    SPLIT_BY_KIND = "split-by-kind"
    SPLIT_BY_SIZE = "split-by-size"
    SPLIT_BY_SPACING = "split-by-spacing"
    SPLIT_BY_ORIENTATION = "split-by-orientation"
    SPLIT_BY_PHASE = "split-by-phase"
    UNREADABLE_NEIGHBOUR = "unreadable-neighbour"
    UNREADABLE_MEMBER = "unreadable-member"


class Entry(NamedTuple):
    """One row of the table."""

    severity: Severity
    sentence: str
    remedy: str


_SEPARATE: Final = "Nothing to do: each part is a series of its own with its own key."

TABLE: Final[dict[Code, Entry]] = {
    Code.NOT_AN_IMAGE_FILE: Entry(
        Severity.INFO,
        "The file is neither DICOM nor a volume in a format that this program reads.",
        "Nothing to do; convert it to DICOM or NIfTI if it holds an image.",
    ),
    Code.UNREADABLE: Entry(
        Severity.REFUSE,
        "The file or folder cannot be read: it is damaged, or the system does not give access.",
        "Check the link, the rights and the disk or share, or copy it again from its source.",
    ),
    Code.WRONG_CONTENT: Entry(
        Severity.REFUSE,
        "The file has the name of an image but holds something else.",
        "Get the image itself: fetch it (git lfs pull, git annex get) or download it again.",
    ),
    Code.OTHER_FORMAT: Entry(
        Severity.REFUSE,
        "The file holds an image in a format that this program does not read.",
        "Convert it to NIfTI (.nii.gz).",
    ),
    Code.NOT_A_REGULAR_FILE: Entry(
        Severity.INFO,
        "The entry is a socket, a pipe or a device.",
        "Nothing to do.",
    ),
    Code.DICOMDIR: Entry(
        Severity.INFO,
        "The file is a DICOMDIR index; the files themselves are read instead.",
        "Nothing to do.",
    ),
    Code.NO_PIXELS: Entry(
        Severity.INFO,
        "The DICOM object holds no image: a report, a document, contours or a presentation.",
        "Nothing to do.",
    ),
    Code.ARCHIVE: Entry(
        Severity.WARNING,
        "The file is an archive whose content was not looked at.",
        "Give the archive itself as input, or unpack it; archives in archives are never opened.",
    ),
    Code.ARCHIVE_REFUSED: Entry(
        Severity.REFUSE,
        "The archive is broken or not safe to unpack.",
        "Pack the study anew: plain files, no links, no password; or give the folder.",
    ),
    Code.ANALYZE: Entry(
        Severity.REFUSE,
        "Analyze and two-file NIfTI images do not say reliably which side is left.",
        "Convert the original DICOM series to NIfTI (.nii.gz).",
    ),
    Code.NIFTI_REFUSED: Entry(
        Severity.REFUSE,
        "The file is damaged or its geometry cannot be trusted.",
        "Fix what the detail names, or convert the original DICOM series again.",
    ),
    Code.NIFTI_STRAIGHTENED: Entry(
        Severity.WARNING,
        "The axes of the file stood slightly askew and were made to stand at right angles.",
        "Nothing to do: no voxel moved by more than a thousandth of its distance to the centre.",
    ),
    Code.RESULT: Entry(
        Severity.INFO,
        "The file is a label map or another result of a program, as its header says.",
        "Nothing to do: give the image itself.",
    ),
    Code.LABEL_LIKE: Entry(
        Severity.WARNING,
        "The image holds few different whole numbers, as label maps do.",
        "Check that it is an image, and not a mask.",
    ),
    Code.NIFTI_UNIT: Entry(
        Severity.WARNING,
        "The NIfTI file gives its geometry in another unit than mm: it was converted to mm.",
        "Check that the size in mm is right: some programs write a wrong unit.",
    ),
    Code.NOT_AN_IMAGE_VOLUME: Entry(
        Severity.REFUSE,
        "The images are not CT, MR or PET slices.",
        "Give the series of cross-sections itself.",
    ),
    Code.LOCALIZER: Entry(
        Severity.REFUSE,
        "The series is a localizer (scout), taken to plan others.",
        "Give the diagnostic series of the study.",
    ),
    Code.COLOUR: Entry(
        Severity.REFUSE,
        "The images are in colour: a screen capture, a fused view or a dose page.",
        "Give the original grey series.",
    ),
    Code.MOSAIC: Entry(
        Severity.REFUSE,
        "Each image is a mosaic: many slices tiled in one picture.",
        "Convert the series with dcm2niix and give the NIfTI file.",
    ),
    Code.TRUNCATED: Entry(
        Severity.REFUSE,
        "At least one file of the series holds fewer pixels than its header declares.",
        "Send the series again from its source.",
    ),
    Code.FLOAT_PIXELS: Entry(
        Severity.REFUSE,
        "The pixels are floating-point numbers (Float or Double Float Pixel Data), which this "
        "program does not read.",
        "Convert the series to NIfTI, or export the original series with integer pixels.",
    ),
    Code.WRONG_TRANSFER_SYNTAX: Entry(
        Severity.REFUSE,
        "The file is encoded in another way than its transfer syntax says.",
        "Export the series again, uncompressed (Explicit VR Little Endian).",
    ),
    Code.UNSUPPORTED_TRANSFER_SYNTAX: Entry(
        Severity.REFUSE,
        "The pixels are compressed in a way that this program does not decode.",
        "Export the series uncompressed (Explicit VR Little Endian).",
    ),
    Code.TOO_LARGE: Entry(
        Severity.REFUSE,
        "The headers declare more voxels than this program will allocate.",
        "Check that the headers are sound; crop the volume if they are.",
    ),
    Code.COMPRESSED_FILE: Entry(
        Severity.INFO,
        "The DICOM files are gzip-compressed and were unpacked in memory.",
        "Nothing to do.",
    ),
    Code.MONOCHROME1: Entry(
        Severity.INFO,
        "The images are meant to be shown inverted (MONOCHROME1); values are used as stored.",
        "Nothing to do.",
    ),
    Code.RESCALE_MISSING: Entry(
        Severity.WARNING,
        "The CT images carry no rescale slope and intercept: values may not be Hounsfield units.",
        "Check that air is near -1000; otherwise export the original series.",
    ),
    Code.RESCALE_INCOMPLETE: Entry(
        Severity.REFUSE,
        "Some slices carry a rescale slope and intercept and others do not: their values are on "
        "different scales.",
        "Export the original series.",
    ),
    Code.OTHER_QUANTITY: Entry(
        Severity.WARNING,
        "The values are not those of a plain CT or MR image (Hounsfield units, magnitude) but of a "
        "phase image or a map of another quantity.",
        "Give the plain series of the study, unless the bundle was trained on such maps.",
    ),
    Code.UNSPECIFIED_UNIT: Entry(
        Severity.WARNING,
        "The CT images call the unit of their values unspecified (RescaleType US): they may not be "
        "Hounsfield units.",
        "Check that air is near -1000; otherwise export the original series.",
    ),
    Code.IMPLAUSIBLE_HOUNSFIELD: Entry(
        Severity.WARNING,
        "The values of the CT images cannot be Hounsfield units: the offset may be lost or applied "
        "twice, or the values were scaled to eight bits.",
        "Export the original series.",
    ),
    Code.HIGH_BIT: Entry(
        Severity.REFUSE,
        "HighBit does not say where in their bytes the pixel values lie.",
        "Export the original series, uncompressed (Explicit VR Little Endian).",
    ),
    Code.SHIFTED_PIXELS: Entry(
        Severity.INFO,
        "Pixel values do not begin at the lowest bit (HighBit): they are shifted into place.",
        "Nothing to do.",
    ),
    Code.RESCALE_UNUSABLE: Entry(
        Severity.REFUSE,
        "True values cannot be had: the rescale slope is zero, or a lookup table replaces it.",
        "Export the original series.",
    ),
    Code.PADDING_VALUE: Entry(
        Severity.INFO,
        "The scanner filled pixels outside its field of view with a value of its own.",
        "Nothing to do: a network sees the lowest other value of the image there.",
    ),
    Code.NO_GEOMETRY: Entry(
        Severity.REFUSE,
        "Pixel spacing, position or orientation is missing, zero or not a number.",
        "Export the original series: derived images often lose their geometry.",
    ),
    Code.BAD_ORIENTATION: Entry(
        Severity.REFUSE,
        "The row and column directions are not unit vectors at right angles.",
        "Export the original series, with at least four digits in ImageOrientationPatient.",
    ),
    Code.NO_FRAME_OF_REFERENCE: Entry(
        Severity.INFO,
        "FrameOfReferenceUID is missing: the series cannot be related to others of the study.",
        "Nothing to do; geometry within the series is not touched.",
    ),
    Code.TOO_FEW_SLICES: Entry(
        Severity.REFUSE,
        "The series has fewer than three slices: their spacing cannot be verified.",
        "Give the whole series, or ask for volumes of fewer slices if it is whole.",
    ),
    Code.FEW_SLICES: Entry(
        Severity.WARNING,
        "The series has one or two slices, as was asked for: their distance is not verified.",
        "Check that the series is whole.",
    ),
    Code.MISSING_SLICE: Entry(
        Severity.REFUSE,
        "At least one slice inside the series is missing.",
        "Send the series again from its source.",
    ),
    Code.MISSING_SLICE_FILLED: Entry(
        Severity.WARNING,
        "Missing slices were interpolated from their neighbours, as was asked for.",
        "Look at the result near the gap, or send the series again from its source.",
    ),
    Code.UNEVEN_SPACING: Entry(
        Severity.WARNING,
        "The slices are not evenly spaced: they were interpolated onto an even grid.",
        "Nothing to do: masks can be taken back to the slices; compare with an even series.",
    ),
    Code.SCATTERED_SLICES: Entry(
        Severity.REFUSE,
        "The slices do not lie along one line, or the gaps between them are too unequal.",
        "Give the series of evenly spaced cross-sections itself.",
    ),
    Code.GANTRY_TILT: Entry(
        Severity.WARNING,
        "The slices are not stacked at right angles to their plane (gantry tilt): they were "
        "interpolated onto an upright grid.",
        "Nothing to do: masks can be taken back to the slices.",
    ),
    Code.SAME_POSITION: Entry(
        Severity.REFUSE,
        "All images lie at one and the same position.",
        "Give the series of cross-sections itself: this is a time series or a set of captures.",
    ),
    Code.DUPLICATE_POSITION: Entry(
        Severity.REFUSE,
        "Some positions occur twice with different pixels, and no tag tells which belong together.",
        "Export the series again, one acquisition at a time.",
    ),
    Code.DUPLICATE_DROPPED: Entry(
        Severity.INFO,
        "Copies of the same image were found; one of each is used.",
        "Nothing to do.",
    ),
    Code.MULTI_PHASE: Entry(
        Severity.REFUSE,
        "Every position occurs several times (phases, echoes), and no tag separates them cleanly.",
        "Export each phase as a series of its own.",
    ),
    Code.MIXED_SETTINGS: Entry(
        Severity.WARNING,
        "Settings of the scanner that change the picture differ between the slices.",
        "Look at the slices: some may belong to another acquisition.",
    ),
    Code.ALTERNATING_ACQUISITIONS: Entry(
        Severity.WARNING,
        "Slices of several acquisitions (AcquisitionNumber) lie between each other.",
        "Look at the slices: if they belong to two phases, export each as a series of its own.",
    ),
    Code.MULTI_FRAME: Entry(
        Severity.REFUSE,
        "The file holds several frames without the functional groups that say where each lies.",
        "Export the series as enhanced CT/MR or as single slices.",
    ),
    Code.NO_SERIES_UID: Entry(
        Severity.WARNING,
        "SeriesInstanceUID is empty: files of one folder are taken for one series.",
        "Export the original series; outputs cannot name their source.",
    ),
    Code.MIXED_OWNERS: Entry(
        Severity.REFUSE,
        "The files under one SeriesInstanceUID name several patients or studies, and whose some of "
        "the slices are is not certain.",
        "Export the series of each patient again from its source.",
    ),
    Code.PATIENT_UNNAMED: Entry(
        Severity.WARNING,
        "Some files of the series lack PatientID or its issuer: they are taken for slices of the "
        "patient that the others name.",
        "Check that all slices are of one patient, or export the series again.",
    ),
    Code.SPLIT_BY_PATIENT: Entry(
        Severity.WARNING, "One SeriesInstanceUID occurs with several patients.", _SEPARATE
    ),
    Code.SERIES_PER_SLICE: Entry(
        Severity.REFUSE,
        "Each slice has a SeriesInstanceUID of its own, though together they look like one series.",
        "Export the original series, or run again with --regroup to take them for one.",
    ),
    Code.REGROUPED: Entry(
        Severity.WARNING,
        "Slices with a SeriesInstanceUID each were taken for one series, as was asked for.",
        "Check that they belong together; no DICOM result can refer to them.",
    ),
    Code.SPLIT_BY_STUDY: Entry(
        Severity.WARNING, "One SeriesInstanceUID occurs in several studies.", _SEPARATE
    ),
    Code.SPLIT_BY_FRAME_OF_REFERENCE: Entry(
        Severity.WARNING,
        "The series mixes frames of reference: its parts cannot be placed relative to each other.",
        _SEPARATE,
    ),
    Code.SPLIT_BY_KIND: Entry(Severity.INFO, "The series mixes kinds of DICOM objects.", _SEPARATE),
    Code.SPLIT_BY_SIZE: Entry(Severity.INFO, "The series mixes image sizes.", _SEPARATE),
    Code.SPLIT_BY_SPACING: Entry(Severity.INFO, "The series mixes pixel spacings.", _SEPARATE),
    Code.SPLIT_BY_ORIENTATION: Entry(
        Severity.INFO, "The series mixes slice orientations.", _SEPARATE
    ),
    Code.SPLIT_BY_PHASE: Entry(
        Severity.INFO,
        "The series holds several volumes (phases, echoes, time points) that a tag tells apart.",
        _SEPARATE,
    ),
    Code.UNREADABLE_NEIGHBOUR: Entry(
        Severity.WARNING,
        "Something unreadable lies in the folder of this series and may belong to it.",
        "Check that the series is complete at both ends, or send it again.",
    ),
    Code.UNREADABLE_MEMBER: Entry(
        Severity.REFUSE,
        "An unreadable file lies among the files of this series alone: it may be one of its "
        "slices.",
        "Make the file readable, send the series again from its source, or remove the file.",
    ),
}


@dataclass(frozen=True, order=True)
class Finding:
    """One thing that was found.

    Attributes:
        code: which row of the table.
        detail: figures of this case ("3 of 40 files"); never what a tag says about a patient.
    """

    code: Code
    detail: str = ""

    @property
    def severity(self) -> Severity:
        return TABLE[self.code].severity

    @property
    def sentence(self) -> str:
        return TABLE[self.code].sentence

    @property
    def remedy(self) -> str:
        return TABLE[self.code].remedy

    @property
    def refuses(self) -> bool:
        """Whether the image is not used because of this."""
        return self.severity is Severity.REFUSE

    def __str__(self) -> str:
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.code}: {self.sentence}{detail} {self.remedy}"

    def to_json(self) -> dict[str, str]:
        """The finding with its sentence and remedy, for ``--json``."""
        return {
            "code": str(self.code),
            "severity": str(self.severity),
            "sentence": self.sentence,
            "detail": self.detail,
            "remedy": self.remedy,
        }


def unreadable(error: OSError) -> Finding:
    """The finding for what the system could not read, with the name of its error (``EIO``).

    The error's own text is left out: it holds a path, and folders are named after patients.
    """
    name = errno.errorcode.get(error.errno or 0, type(error).__name__)
    return Finding(Code.UNREADABLE, name)


def page() -> str:
    """The table as the page ``docs/findings.md``."""
    lines = [
        "# Findings: what is noticed about an input",
        "",
        "`nestseg scan` names these codes, `--json` gives them with their figures. "
        "`refuse`: not used, since whatever we made of it might be silently wrong. "
        "`warning`: used, but a person should look. `info`: noted.",
        "",
        "Made by `make docs/findings.md` from `nestseg_prep/dicom/findings.py`.",
    ]
    for severity in (Severity.REFUSE, Severity.WARNING, Severity.INFO):
        lines += [
            "",
            f"## {severity}",
            "",
            "| code | what it means | what to do |",
            "|---|---|---|",
        ]
        lines += [
            f"| `{code}` | {entry.sentence} | {entry.remedy} |"
            for code, entry in sorted(TABLE.items())
            if entry.severity is severity
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
