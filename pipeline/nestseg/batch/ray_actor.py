"""What runs on a node of a cluster: the bundle in memory, and case after case."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from nestseg.batch.jobs import Job, Limits, Loaded, Outcome, Settings
from nestseg.batch.messages import Refused
from nestseg.batch.worker import (
    describe_bundle,
    leave_nothing,
    limit_memory,
    load,
    not_loaded,
    start_lean,
)
from nestseg_prep.errors import InputError, describe

if TYPE_CHECKING:
    from nestseg.bundle.bundle import Bundle


class CaseActor:
    """A worker that Ray starts; see :mod:`nestseg.batch.worker`."""

    def __init__(self) -> None:
        self._bundle: Bundle | None = None
        self._settings: Settings | None = None

    def load(self, settings: Settings, limits: Limits) -> Loaded | Refused:
        """Get ready."""
        leave_nothing()
        _hush()
        try:
            start_lean(settings)
            self._bundle, self._settings = load(settings, limits), settings
            limit_memory(limits)
        except InputError as error:
            return Refused(describe(error))
        except Exception as error:  # noqa: BLE001  the driver tells the person
            return Refused(not_loaded(settings, error))
        return describe_bundle(self._bundle)

    def run(self, job: Job) -> Outcome:
        """Segment one series into its staging folder."""
        from nestseg.batch.case import run_case  # noqa: PLC0415  torch comes with the bundle

        if self._bundle is None or self._settings is None:
            raise RuntimeError("load comes first")
        return run_case(job, self._bundle, self._settings)


def _hush() -> None:
    """Print nowhere: Ray would keep in its logs what a decoder says, which may name a patient."""
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
