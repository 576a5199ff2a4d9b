"""Data sets that are not there: a config that names one can still be built."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from nestseg_prep.errors import InputError


class Absent(Sequence[Any]):
    """What stands for a data set that is not there: one case, and reading it says what is missing.

    Not empty: MONAI skips an empty run with a warning and exit code 0, and torch shuffles no empty
    data set.

    Args:
        error: that listing the cases raised.
    """

    def __init__(self, error: InputError) -> None:
        self._error = error

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: Any) -> NoReturn:
        """Raise the error."""
        raise self._error

    def __mul__(self, times: int) -> Absent:
        """As a list of cases is repeated, for more crops of each an epoch."""
        return self


def deferred(listing: Callable[..., Sequence[Any]], *arguments: Any) -> Sequence[Any]:
    """List cases; where that fails, fail when the first of them is read.

    MONAI's tools build everything that a config names, on machines without the data set.

    Args:
        listing: such as :func:`nestseg_prep.cohort.cases`.
        arguments: of it.
    """
    try:
        return listing(*arguments)
    except InputError as error:
        return Absent(error)
