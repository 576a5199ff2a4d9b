"""From an exception to why an attempt failed, in a line that names no patient."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from nestseg.batch.states import Cause
from nestseg.bundle import trace
from nestseg.bundle.caged import BundleCodeError, BundleProcessError
from nestseg_prep import process_memory
from nestseg_prep.errors import FileError, InputError, OutputError, describe

_GONE = (errno.ENOENT, errno.ESTALE)
_CLOSED = (errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ELOOP)


class InputChangedError(FileError):
    """A file of the input changed while it was read."""


def judge(error: BaseException, stage: str) -> tuple[Cause, str]:
    """Why a stage of a case failed, and the same for a person.

    Texts of foreign exceptions may quote paths and tags, which may name a patient: of those the
    kind and the place in the code are told, and the text only where it was raised by code that
    gets voxels alone (:func:`nestseg.bundle.trace.told`).

    Args:
        error: what was raised.
        stage: ``"read"``, ``"infer"`` or ``"write"``.
    """
    chain = list(_chain(error))
    if process_memory.ran_out(error):
        return Cause.MEMORY, f"out of memory in stage {stage}; allow or find more"
    for one in chain:
        if isinstance(one, InputError | OutputError):
            cause = Cause.INPUT if isinstance(one, InputError) else Cause.STORAGE
            return cause, describe(one)
        if isinstance(one, InputChangedError):
            return Cause.CHANGED, "the input changed while it was read; run again when it is whole"
        if isinstance(one, OSError):
            return _of_system(one, stage)
        if isinstance(one, BundleProcessError):
            return Cause.KILLED, str(one)
    root, of_arrays = chain[-1], stage == "infer"
    if isinstance(root, BundleCodeError):
        kind, told, lasts = root.kind, root.told, root.lasts
    else:
        kind, told = type(root).__name__, trace.told(error, of_arrays=of_arrays)
        lasts = trace.lasts(root, of_arrays=of_arrays)
    return Cause.CODE if lasts else Cause.ERROR, f"{kind} in stage {stage}{told}"


def _of_system(error: OSError, stage: str) -> tuple[Cause, str]:
    line = f"{type(error).__name__}: {error.strerror or 'a failure of the disk'} in stage {stage}"
    if stage == "write":
        return Cause.STORAGE, line
    if stage == "read" and error.errno in _GONE:
        return Cause.CHANGED, "a file of the input is gone; run again when it is whole"
    if stage == "read" and error.errno in _CLOSED:
        return Cause.INPUT, line
    return Cause.ERROR, line


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The exception and what it was raised from, the root last."""
    while error is not None:
        yield error
        error = error.__cause__
