"""The errors of nestseg, and how they are put into one line.

All of them derive from ``NestsegError``. The first two, and those of a bundle or a run, are what
Python code meets; the others are caught inside nestseg.

::

    NestsegError
    ├── InputError (ValueError)       an image, option or bundle that cannot be used
    │   ├── ColourError                   NIfTI voxels are colours
    │   └── NotReferableError             no DICOM object can refer to a series
    ├── OutputError                   a result that cannot be written
    ├── StopError                     a run that ends before its time
    │   ├── HeldError                     another run works on the folder
    │   ├── LeaseLostError                another run has taken over
    │   └── StorageError (OutputError)    the output folder is not writable
    ├── BundleError                   code of a bundle, or what runs it, that fails
    │   ├── BundleCodeError               it raised an error in its cage
    │   ├── BundleProcessError            its cage died
    │   ├── BuildError                    an item of a config cannot be built
    │   ├── ChannelError                  the other side of a pipe is gone
    │   └── UnavailableError              a library cannot compute this network here
    └── FileError                     bytes that are not what they should be
        ├── ArchiveError                  an archive is broken or unsafe
        ├── DamagedFileError              DICOM that is cut or broken
        ├── NotDicomError                 not DICOM
        ├── PixelError                    pixel data is broken
        ├── DoubtError                    a file may show who the patient is
        └── InputChangedError             a file changed while it was read
"""

from __future__ import annotations

import math
from typing import Any


class NestsegError(Exception):
    """The base of every error that nestseg raises of its own accord."""


class InputError(NestsegError, ValueError):
    """An input that nestseg refuses: an image, an option, a bundle.

    The message is one line: what is wrong, and what to do. It never holds what a DICOM tag says
    about a patient.
    """


class OutputError(NestsegError):
    """A result that cannot be written; the message is one line, as of :class:`InputError`."""


class BundleError(NestsegError):
    """The code of a bundle, or what runs it, failed."""


class FileError(NestsegError):
    """The bytes of a file are not what they should be."""


def describe(error: BaseException) -> str:
    """Put what went wrong into one line: our own messages as they are, of others only the kind.

    Foreign messages quote the value they are about, and values of headers are a patient's.
    """
    ours = (InputError, OutputError)
    root = error
    while root.__cause__ is not None and not isinstance(root, ours):
        root = root.__cause__
    line = (str(root).strip().splitlines() or [""])[0]
    if isinstance(root, ours):
        return line
    if isinstance(root, MemoryError):
        return "out of memory; run it on a machine with more"
    if isinstance(root, OSError):  # its text holds the path, and folders are named after patients
        return f"{type(root).__name__}: {root.strerror}"
    return type(root).__name__


def check_number(name: str, value: Any, least: float, *, whole: bool = False) -> None:
    """Pass if an option holds a finite number that is not below ``least``.

    Args:
        name: of the option.
        value: what was given.
        least: the smallest number that is allowed.
        whole: allow integers only.

    Raises:
        InputError: the value is not such a number; one line.
    """
    kinds = int if whole else (int, float)
    proper = isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)
    if not proper or value < least:
        kind = "whole number" if whole else "number"
        raise InputError(f"{name} {value!r}: give a {kind} from {least:g} up")


def check_bool(name: str, value: Any) -> None:
    """Pass if an option holds ``True`` or ``False``.

    Raises:
        InputError: it holds something else; one line.
    """
    if not isinstance(value, bool):
        raise InputError(f"{name} {value!r}: give True or False")
