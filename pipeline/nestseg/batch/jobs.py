"""What goes to a worker and comes back: plain data that pickles, free of torch."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from nestseg.batch.states import Cause, Facts, Output
from nestseg.bundle.options import SegmentOptions
from nestseg.outputs.dicom.encoding import Encoding
from nestseg_prep.dicom.references import SeriesRef
from nestseg_prep.errors import InputError, check_number

_DEVICES: Final = r"cpu|cuda(:\d+(,\d+)*)?"


@dataclass(frozen=True)
class Settings:
    """What all cases of a run share.

    Attributes:
        bundle: its folder.
        dicom: how the SEG of a DICOM series stores labels; ``None`` for no SEG and SR.
        device: ``"cpu"``, ``"cuda"``, or ``"cuda:0,2"`` for one worker after the other on these
            GPUs; ``None`` for what the bundle says.
        options: what is computed besides the mask, and how; its level is no longer ``"auto"``.
        threads: of a worker's computation; 0 shares the processor's cores among the workers.
        rtstruct: whether to write RTSTRUCT as well; needs ``dicom``.

    Raises:
        InputError: a setting has a value that it does not take; one line.
    """

    bundle: Path
    dicom: Encoding | None = None
    device: str | None = None
    options: SegmentOptions = field(default_factory=SegmentOptions)
    threads: int = 0
    rtstruct: bool = False

    def __post_init__(self) -> None:
        if self.device is not None and not re.fullmatch(_DEVICES, str(self.device)):
            raise InputError(f"device {self.device!r}: give cpu, cuda, or cuda:0,2 for some GPUs")
        dicom: Any = self.dicom
        if dicom is not None and not isinstance(dicom, Encoding):
            raise InputError(f"dicom {dicom!r}: give a member of Encoding, or None")
        if self.rtstruct and self.dicom is None:
            raise InputError("rtstruct: contours refer to a SEG; give dicom too")
        check_number("threads", self.threads, 0, whole=True)


@dataclass(frozen=True)
class Limits:
    """What one case may take.

    Attributes:
        memory_mb: resident memory of its worker, in units of 10⁶ bytes; ``None`` for all there is.
        timeout_s: wall time of its reading, inference and writing; ``None`` for any.

    Raises:
        InputError: a limit is not a number above 0; one line.
    """

    memory_mb: int | None = None
    timeout_s: float | None = None

    def __post_init__(self) -> None:
        if self.memory_mb is not None:
            check_number("memory_mb", self.memory_mb, 1, whole=True)
        if self.timeout_s is not None:
            check_number("timeout_s", self.timeout_s, 0)


@dataclass(frozen=True)
class Job:
    """One attempt at one case.

    Attributes:
        name: of the case; its outputs are called ``NAME_seg.nii.gz`` and so on.
        ref: the series.
        attempt: counted from 1.
        staging: folder for this attempt's files, made by the worker. Its parent must exist: the
            worker of a runner that lost its lease finds it gone, and writes nothing.
        gentle: whether to compute in smaller pieces, after the memory did not suffice.
    """

    name: str
    ref: SeriesRef
    attempt: int
    staging: Path
    gentle: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of an attempt.

    Attributes:
        name: of the case.
        attempt: which.
        cause: why it failed; ``None`` if every output lies whole in the staging folder.
        reason: the same as one line for a person, free of patient data; ``""`` if it did not fail.
        outputs: the files, their paths relative to the staging folder, as later to the output
            folder.
        facts: what else is known.
        worker: which one it was, ``"HOST:PID"``.
    """

    name: str
    attempt: int
    cause: Cause | None = None
    reason: str = ""
    outputs: tuple[Output, ...] = ()
    facts: Facts = field(default_factory=Facts)
    worker: str = ""


@dataclass(frozen=True)
class Loaded:
    """The bundle as a worker loaded it.

    Attributes:
        name: of the bundle.
        version: from its metadata.
        weights_sha256: of its weights.
        labels: value in the mask → name.
        device: where it computes.
    """

    name: str
    version: str
    weights_sha256: str
    labels: dict[int, str]
    device: str
