"""What may be told of an error that nobody expected. No torch.

Tracebacks and the texts of errors quote values, and values of headers are a patient's: they go to
a terminal where somebody asked for them (``--debug``), and never into a journal, log or report.
"""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from nestseg.bundle import cage

DEBUG: Final = "NESTSEG_DEBUG"
"""Variable by which worker processes and cages know that tracebacks are wanted."""

# Code that gets voxels, affines and weights, and from there alone can quote nothing but numbers:
# headers and paths of images end before it. What reads and writes files (nestseg_prep,
# nestseg.outputs, pydicom …) and the code of bundles are not among it.
_SEES_ARRAYS: Final = re.compile(
    r"(torch|monai|numpy|scipy|openvino|nestseg\.(networks|inferers|runtime))(\.|$)"
)
_KNOWN: Final = {
    *("nestseg", "nestseg_prep", "torch", "monai", "ignite", "numpy", "scipy", "openvino"),
    *("pydicom", "highdicom", "nibabel", "SimpleITK", "PIL"),
}
_CALLS_ANY: Final = "torch.nn.modules.module"  # every module of a network is called from there
_LONGEST: Final = 160
MOST_LINES: Final = 200
"""Of a traceback that comes out of a cage."""
_LASTING: Final = (
    *(TypeError, ValueError, LookupError, AttributeError, NameError),
    *(ArithmeticError, AssertionError, NotImplementedError, ImportError),
)
_PASSING: Final = re.compile(
    r"CUDA|cuDNN|cuBLAS|NCCL|\bHIP\b|accelerator|tim(ed|e)[ -]?out|worker", re.IGNORECASE
)


def wanted() -> bool:
    """Whether somebody asked for tracebacks."""
    return bool(os.environ.get(DEBUG))


def show(error: BaseException) -> None:
    """Print the traceback of an error on stderr, if somebody asked for it."""
    if wanted():
        sys.stderr.write("".join(traceback.format_exception(error)))
        sys.stderr.flush()


def lines(error: BaseException) -> list[str]:
    """The traceback of an error as printable lines."""
    text = "".join(traceback.format_exception(error))
    return [cage.printable(line) for line in text.splitlines()[-MOST_LINES:]]


def told(error: BaseException, *, of_arrays: bool) -> str:
    """Where an error was raised, and its first line where that can name no patient.

    Args:
        error: the innermost of those that it was raised from and that has a traceback is told.
        of_arrays: whether what failed was given voxels and affines alone.

    Returns:
        ``" at torch/nn/modules/conv.py:717: Given groups=1 …"``, or a beginning of it.
    """
    while error.__cause__ is not None and error.__cause__.__traceback__ is not None:
        error = error.__cause__
    frames = list(_frames(error))
    place = next((f" at {shown}" for name, shown in frames if shown and name != _CALLS_ANY), "")
    if not frames or not place:
        return ""
    if not frames[0][1]:
        return f" in the bundle's code, called{place}" if of_arrays else place
    first = (str(error).strip().splitlines() or [""])[0]
    if of_arrays and first and _SEES_ARRAYS.match(frames[0][0]):
        return f"{place}: {cage.printable(first, _LONGEST)}"
    return place


def lasts(error: BaseException, *, of_arrays: bool) -> bool:
    """Whether the same code would fail on the same input again.

    Args:
        error: the innermost one.
        of_arrays: as of :func:`told`. Libraries that read and write files raise RuntimeErrors for
            disks that fail, and GPUs for faults that pass.
    """
    if isinstance(error, RuntimeError) and not isinstance(error, _LASTING):
        return of_arrays and not _PASSING.search(f"{type(error).__name__} {error}")
    return isinstance(error, _LASTING)


def _frames(error: BaseException) -> Iterator[tuple[str, str]]:
    """Module and place of each frame, the innermost first; no place in code that is not known."""
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        module = str(frame.f_globals.get("__name__", ""))
        parts, top = Path(frame.f_code.co_filename).parts, module.partition(".")[0]
        inside = top in _KNOWN and top in parts
        start = len(parts) - 1 - parts[::-1].index(top) if inside else 0
        yield module, f"{'/'.join(parts[start:])}:{line}" if inside else ""
