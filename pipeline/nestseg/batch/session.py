"""An output folder under one runner: lease, staging, journal; then the loop; then the record."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from nestseg.batch import publish, record, schema
from nestseg.batch.cases import Names
from nestseg.batch.discovery import Discovery, Inputs
from nestseg.batch.events import Event, Kind, Listener
from nestseg.batch.header_cache import HeaderCache, cache_beside
from nestseg.batch.holders import Timing
from nestseg.batch.intake import Intake
from nestseg.batch.jobs import Loaded
from nestseg.batch.journal import Journal, now
from nestseg.batch.lease import Lease
from nestseg.batch.pool import Pool
from nestseg.batch.read import read_view
from nestseg.batch.rebuilding import rebuild
from nestseg.batch.runner import Loop, Wishes
from nestseg.batch.settlement import Settlement
from nestseg.batch.shards import Shard, check_division
from nestseg.batch.states import State
from nestseg.batch.stops import StorageError
from nestseg.batch.view import RunView
from nestseg_prep.dicom.references import OtherFile

_REWRITTEN: Final = ("seg", "sr", "rtstruct")  # by --deidentify, when the run is over


@dataclass(frozen=True)
class Order:
    """What is to be done, apart from how.

    Attributes:
        out: the output folder; there is one.
        inputs: what is segmented.
        settings_digest: of what changes the results.
        options: the same for readers, as plain data.
        shard: ``(3, 8)`` for the third of eight; ``None`` for everything.
        retry: whether quarantined cases are tried again.
        patience_s: how long running cases may go on after a signal.
        timing: of the lease.
    """

    out: Path
    inputs: Inputs
    settings_digest: str
    options: dict[str, Any] = field(default_factory=dict)
    shard: Shard = None
    retry: bool = False
    patience_s: float = 30.0
    timing: Timing = field(default_factory=Timing)


@dataclass(frozen=True)
class Ending:
    """What came of a run.

    Attributes:
        view: its journal at the end.
        finished: whether every case was looked at; ``False`` after a signal.
        fitting: how many series of the inputs fit, those of other shards too.
        kept: how many cases were done before and are unchanged.
        files: how many files were seen.
        unseen: folders of the inputs that could not be read: series may be missing.
    """

    view: RunView
    finished: bool
    fitting: int
    kept: int
    files: int
    unseen: tuple[OtherFile, ...] = ()


def run(
    order: Order,
    make_pool: Callable[[], Pool],
    tell: Listener,
    *,
    stop: Callable[[], bool] = lambda: False,
) -> Ending:
    """Segment everything that the order asks for and that is not yet done.

    Args:
        order: what.
        make_pool: with what; called only if there is something to do.
        tell: is told of everything.
        stop: whether to begin nothing more.

    Raises:
        HeldError: another runner works on the folder.
        LeaseLostError: one has taken over.
        StorageError: the folder takes no more.
        InputError: the bundle cannot be loaded, an input is not there, or the folder is divided
            into other shards or has a damaged journal.
    """
    path = order.out / schema.journal_name(order.shard)
    check_division(order.out, path)
    with _held(path, order.shard, order.timing, tell) as (lease, journal, staging):
        kept = rebuild(journal, order.out, order.shard)
        if kept is not None:
            tell(Event(Kind.REBUILT, text=str(kept)))
        names = Names(_names_in(order.out))
        settlement = Settlement(journal, order.out, staging, tell)
        fenced = publish.fence(staging.parent, lease.token)
        settlement.recover(fenced)
        publish.clear(fenced)
        journal.note(**_header(order))
        intake = Intake(
            journal,
            order.out,
            names,
            order.settings_digest,
            shard=order.shard,
            retry=order.retry,
            tell=tell,
        )
        unpacked = staging / "unpacked"
        unpacked.mkdir()
        cache = HeaderCache(cache_beside(path), but=unpacked)
        discovery = Discovery(order.inputs, unpacked, cache.read)
        try:
            finished = Loop(
                journal,
                discovery,
                intake,
                settlement,
                make_pool,
                lambda loaded: journal.note(**_loaded(loaded)),
                Wishes(stop, lease.lost.is_set),
                tell,
                order.patience_s,
            ).run()
        finally:
            discovery.close()
            cache.close()
        if finished:
            journal.note(finished=now())
        view = read_view(order.out, only=path)
        record.write_record(order.out, read_view(order.out), staging)
        unseen = tuple(discovery.unseen)
        return Ending(view, finished, intake.fitting, intake.kept, discovery.files, unseen)


def restamp(out: Path, shard: Shard = None) -> None:
    """Put DICOM results on record as they are, after they were rewritten without their patients.

    Args:
        out: an output folder.
        shard: whose cases; as for :class:`Order`.

    Raises:
        HeldError: another runner works on the folder.
        StorageError: the folder is not writable.
        InputError: the journal is damaged.
    """
    path = out / schema.journal_name(shard)
    with _held(path, shard, Timing(), lambda _: None) as (_, journal, staging):
        rows = [row for row in read_view(out, only=path).rows if row.state is State.DONE]
        new = {row.key: publish.as_they_are(out, row.outputs, _REWRITTEN) for row in rows}
        journal.restamp({row.key: new[row.key] for row in rows if new[row.key] != row.outputs})
        record.write_record(out, read_view(out), staging)


@contextmanager
def _held(
    path: Path, shard: Shard, timing: Timing, tell: Listener
) -> Iterator[tuple[Lease, Journal, Path]]:
    """The lease, the journal and the staging folder of a run."""
    lease = Lease(path, timing)
    journal = Journal(path, lease.token)
    staging = publish.staging_root(path.parent, shard) / str(lease.token)
    try:
        if lease.taken_from:
            tell(Event(Kind.TAKEN_OVER, text=lease.taken_from))
        staging.mkdir(parents=True)
        yield lease, journal, staging
    except OSError as error:
        journal.note()  # raises what is truly wrong, if another runner has taken the folder away
        raise StorageError(f"{error.strerror}; mend it and run the same command again") from error
    finally:
        publish.leave(staging)
        journal.close()
        lease.release()


def _names_in(out: Path) -> dict[str, str]:
    """Names of all journals: shards must not give one name twice."""
    return {row.name: row.key for row in read_view(out).rows}


def _header(order: Order) -> dict[str, Any]:
    return {
        "nestseg": version("nestseg"),
        "options": order.options,
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in ("torch", "monai", "pydicom", "nibabel")},
        "started": now(),
        "finished": None,
        "scanned": False,
        "shard_count": order.shard[1] if order.shard else 1,
    }


def _loaded(loaded: Loaded) -> dict[str, Any]:
    return {
        "bundle": {
            "name": loaded.name,
            "version": loaded.version,
            "weights_sha256": loaded.weights_sha256,
        },
        "labels": loaded.labels,
        "device": loaded.device,
    }
