"""Results → a PACS: C-STORE or STOW-RS, each object with its own outcome."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from nestseg.pacs import extra
from nestseg.pacs.addresses import Address, Node, Web
from nestseg_prep.dicom.findings import Code, unreadable
from nestseg_prep.dicom.references import OtherFile
from nestseg_prep.dicom.walk import files_below
from nestseg_prep.errors import InputError

AE_TITLE: Final = "NESTSEG"
_SECONDS: Final = 60
_PDU_BYTES: Final = 262_144
_MOST_CONTEXTS: Final = 128
_MAGIC_AT: Final = 128


@dataclass(frozen=True)
class Sent:
    """What became of one file.

    Attributes:
        path: the file.
        error: why it was not stored; ``""`` if it was.
    """

    path: Path
    error: str = ""


def dicom_files(
    paths: Sequence[Path], on_unread: Callable[[str], None] = lambda _: None
) -> list[Path]:
    """Find every DICOM file below folders by its content, sorted; hidden ones are left alone.

    Args:
        paths: folders or files.
        on_unread: called with the reason for each file or folder that cannot be read.

    Raises:
        InputError: a path does not exist.
    """
    found = []
    for one in files_below(paths, None):
        if isinstance(one, OtherFile):
            if one.finding.code is Code.UNREADABLE:
                on_unread(one.finding.detail)
            continue
        if any(part.startswith(".") for part in one.name.split("/")):
            continue
        try:
            if _is_dicom(one.path):
                found.append(one.path)
        except OSError as error:
            on_unread(unreadable(error).detail)
    return found


def send(files: Sequence[Path], address: Address, *, calling: str = AE_TITLE) -> list[Sent]:
    """Store DICOM files at an address; what is already there is replaced or kept, as it likes.

    Args:
        files: DICOM files.
        address: where to.
        calling: our own AE title, which a PACS may have to know.

    Returns:
        One outcome for each file, in order.

    Raises:
        InputError: the address cannot be reached or refuses us.
    """
    if isinstance(address, Node):
        return _store(files, address, calling)
    return _stow(files, address)


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(_MAGIC_AT + 4)[_MAGIC_AT:] == b"DICM"


def _store(files: Sequence[Path], node: Node, calling: str) -> list[Sent]:
    """C-STORE. Each association proposes what its files are, encoded as they are."""
    pynetdicom = extra.load("pynetdicom")
    outcomes: list[Sent] = []
    pending = list(files)
    while pending:
        batch, contexts = _fitting(pending)
        pending = pending[len(batch) :]
        if not contexts:
            outcomes += [Sent(path, "cannot be read") for path in batch]
            continue
        entity = pynetdicom.AE(ae_title=calling)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = _SECONDS
        entity.connection_timeout = _SECONDS
        for sop_class, syntax in sorted(contexts):
            entity.add_requested_context(sop_class, syntax)
        association = entity.associate(
            node.host,
            node.port,
            ae_title=node.aet,
            max_pdu=_PDU_BYTES,
            tls_args=(node.tls.for_sending(), node.host) if node.tls else None,
        )
        if not association.is_established:
            why = "refuses us" if association.is_rejected else "does not answer"
            check = "certificates, address and AE titles" if node.tls else "address and AE titles"
            raise InputError(f"{node} {why}; check {check} (ours is {calling})")
        outcomes += [_store_one(association, path) for path in batch]
        association.release()
    return outcomes


def _fitting(files: Sequence[Path]) -> tuple[list[Path], set[tuple[str, str]]]:
    """The first files that one association can propose contexts for."""
    contexts: set[tuple[str, str]] = set()
    batch: list[Path] = []
    for path in files:
        try:
            meta = dcmread(path, stop_before_pixels=True).file_meta
            context = (str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID))
        except (InvalidDicomError, AttributeError, OSError):
            batch.append(path)
            continue
        if len(contexts | {context}) > _MOST_CONTEXTS:
            break
        contexts.add(context)
        batch.append(path)
    return batch, contexts


def _store_one(association: Any, path: Path) -> Sent:
    if not association.is_established:
        return Sent(path, "the connection was lost; send again")
    try:
        status = association.send_c_store(path)
    except (ValueError, AttributeError, InvalidDicomError, OSError) as error:
        # Its text may hold values of tags.
        return Sent(path, f"incomplete, or not accepted in its encoding ({type(error).__name__})")
    if "Status" not in status:
        return Sent(path, "no answer; send again")
    # Warnings (B000, B006, B007) mean stored, with a remark.
    stored = status.Status == 0 or status.Status >> 12 == 0xB
    return Sent(path) if stored else Sent(path, f"refused with status {status.Status:04X}")


def _stow(files: Sequence[Path], web: Web) -> list[Sent]:
    client = web_client(web)
    return [_stow_one(client, web, path) for path in files]


def _stow_one(client: Any, web: Web, path: Path) -> Sent:
    import requests  # noqa: PLC0415  comes with the extra

    try:
        answer: Dataset = client.store_instances([dcmread(path)])
    except requests.ConnectionError:
        raise InputError(f"{web.url} does not answer; check the address") from None
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status in (401, 403):
            raise InputError(f"{web.url} refuses us ({status}); put access into ~/.netrc") from None
        return Sent(path, f"refused with HTTP status {status}")
    except (requests.RequestException, InvalidDicomError, OSError) as error:
        return Sent(path, f"not sent ({type(error).__name__})")
    if failed := answer.get("FailedSOPSequence"):
        return Sent(path, f"refused with status {failed[0].get('FailureReason', 0):04X}")
    return Sent(path)


def web_client(web: Web) -> Any:
    """A DICOMweb client; access data come from ``~/.netrc``.

    Raises:
        InputError: the library is not installed, or a certificate cannot be used.
    """
    extra.load("dicomweb_client")
    import requests  # noqa: PLC0415  comes with the extra

    session = requests.Session()
    if web.url.startswith("https:"):
        web.tls.for_sending()  # says what is wrong with the files, if anything is
        if web.tls.ca is not None:
            session.verify = str(web.tls.ca)
        if web.tls.certificate is not None:
            session.cert = (str(web.tls.certificate), str(web.tls.key))
    return extra.load("dicomweb_client.api").DICOMwebClient(url=web.url, session=session)
