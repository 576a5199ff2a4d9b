"""What the commands share that fetch from a PACS or send to one. Never imports torch."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from nestseg.cli import tables
from nestseg.pacs import addresses
from nestseg.pacs.addresses import Address, Node, Web
from nestseg.pacs.retrieve import Query, fetch, find, matches
from nestseg.pacs.send import Sent, dicom_files, send
from nestseg.pacs.tls import Tls
from nestseg_prep.disk import check_writable
from nestseg_prep.errors import InputError

ALL_DONE = 0
SOME_FAILED = 1
_PAUSES_SECONDS = (5, 30)


@dataclass(frozen=True)
class Source:
    """What to fetch, as the command line says it."""

    address: str
    study: str = ""
    series: str = ""
    match: Sequence[str] = ()


@dataclass(frozen=True)
class Pacs:
    """Where series come from and results go.

    Attributes:
        source: what to fetch; ``None`` for nothing.
        deidentify: take what names patients out of DICOM results.
        send_to: address for DICOM results; ``""`` for none.
        tls: our certificate, and whom to trust.
    """

    source: Source | None = None
    deidentify: bool = False
    send_to: str = ""
    tls: Tls = field(default_factory=Tls)


def check_address(text: str, tls: Tls | None = None) -> Address | None:
    """Read an address, and warn where patient data would travel to it unencrypted.

    Raises:
        InputError: it is no address, or a certificate for it cannot be used.
    """
    if not text:
        return None
    address = addresses.parse(text, tls)
    if isinstance(address, Node) and address.tls:
        address.tls.for_sending()
    if addresses.is_plain(address):
        tables.stderr.print(
            "[yellow]Patient data travel unencrypted to this address; use https:// or a tunnel[/]"
        )
    return address


@contextmanager
def fetched(
    source: Source, out: Path, modalities: Sequence[str] | None, tls: Tls | None = None
) -> Iterator[Path]:
    """Fetch the series of a query into a folder that is deleted afterwards.

    Args:
        source: what to fetch.
        out: the folder is made in it, since there is room for results there.
        modalities: series of others are left where they are.
        tls: our certificate, and whom to trust.

    Raises:
        InputError: the server does not answer, or has nothing that fits.
    """
    web = check_address(source.address, tls)
    if not isinstance(web, Web):
        raise InputError(f"{source.address}: series are fetched by DICOMweb; give such an address")
    query = Query(source.study, source.series, matches(source.match), modalities)
    found = find(web, query)
    if not found:
        wanted = f" of modality {', '.join(modalities)}" if modalities else ""
        raise InputError(f"{web.url}: no series{wanted} for this query; check the filters")
    check_writable(out, mode=0o700)
    with (
        tempfile.TemporaryDirectory(dir=out, prefix=".fetched-") as folder,
        tables.stderr.status("Fetching …") as status,
    ):
        fetch(
            web,
            found,
            Path(folder),
            on_file=lambda count: status.update(f"Fetching … {count} objects"),
        )
        status.stop()
        tables.console.print(f"{len(found)} series fetched")
        yield Path(folder)


def send_folder(paths: Sequence[Path], address: Address, *, patient: bool = False) -> int:
    """Send every DICOM file below folders.

    Args:
        paths: folders or files.
        address: where to.
        patient: try again what failed, after a pause.

    Returns:
        0 if every file was stored, else 1.

    Raises:
        InputError: there is no DICOM file, or the address cannot be reached.
    """
    unread: list[str] = []
    files = dicom_files(paths, unread.append)
    if not files and not unread:
        raise InputError(f"{paths[0]}: no DICOM files to send")
    pauses = list(_PAUSES_SECONDS) if patient else []
    outcomes: dict[Path, Sent] = {}
    while files:
        try:
            rest = [path for path in files if path not in outcomes or outcomes[path].error]
            outcomes |= {one.path: one for one in send(rest, address)}
        except InputError:
            if not pauses:
                raise
        failed = [one.error for one in outcomes.values() if one.error]
        if (len(outcomes) == len(files) and not failed) or not pauses:
            break
        time.sleep(pauses.pop(0))
    errors = Counter(one.error for one in outcomes.values() if one.error)
    stored = len(files) - errors.total()
    errors.update(f"cannot be read ({why})" for why in unread)
    for error, count in sorted(errors.items()):
        tables.stderr.print(f"nestseg: {count} not stored: {error}", soft_wrap=True)
    tables.console.print(f"{stored} of {len(files) + len(unread)} files stored")
    return SOME_FAILED if errors else ALL_DONE
