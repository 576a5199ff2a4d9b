"""An output folder under one runner: lease, staging, journal; then the loop; then the record."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

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
from nestseg.batch.runner import Loop, Wishes
from nestseg.batch.settlement import Settlement
from nestseg.batch.shards import Shard, check_division
from nestseg.batch.stops import StorageError
from nestseg.batch.view import RunView
from nestseg_prep.dicom.references import OtherFile


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
            into other shards.
    """
    path = order.out / schema.journal_name(order.shard)
    check_division(order.out, path)
    with _held(path, order, tell) as (lease, journal, staging):
        settlement = Settlement(journal, order.out, staging, tell)
        fenced = publish.fence(staging.parent, lease.token)
        settlement.recover(fenced)
        publish.clear(fenced)
        journal.note(**_header(order))
        names = Names(_names_in(order.out))
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


@contextmanager
def _held(path: Path, order: Order, tell: Listener) -> Iterator[tuple[Lease, Journal, Path]]:
    """The lease, the journal and the staging folder of a run."""
    lease = Lease(path, order.timing)
    journal = Journal(path, lease.token)
    root = publish.staging_root(order.out, order.shard)
    staging = root / str(lease.token)
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
