"""What goes wrong with somebody's input, said in one line."""

from __future__ import annotations


class InputError(ValueError):
    """An input that we refuse, or an output that we cannot write.

    The message is one line: what is wrong, and how to mend it. It never holds what a DICOM tag
    says about a patient.
    """
