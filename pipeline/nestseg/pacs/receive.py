"""A DICOM listener: C-STORE and C-ECHO from senders that are known, into :mod:`.incoming`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from nestseg.pacs import addresses, extra
from nestseg.pacs.incoming import CANNOT_UNDERSTAND, Incoming
from nestseg_prep.errors import InputError

# An object is held in memory while it arrives: four times the largest CT that is sent as one.
OBJECT_BYTES_LIMIT: Final = 2 * 2**30
_SECONDS: Final = 60
_PDU_BYTES: Final = 262_144
_MOST_ASSOCIATIONS: Final = 8


@dataclass(frozen=True)
class Listener:
    """Where to listen, and to whom.

    Attributes:
        aet: our AE title; associations that call another one are rejected.
        host: address to bind to.
        port: TCP; 0 for any that is free.
        senders: AE titles that may send; empty for any, on this machine only.

    Raises:
        InputError: an AE title is wrong, or anybody on a network could send.
    """

    aet: str
    host: str
    port: int
    senders: Sequence[str] = ()

    def __post_init__(self) -> None:
        for title in (self.aet, *self.senders):
            addresses.ae_title(title)
        if not self.senders and not addresses.is_loopback(self.host):
            raise InputError(
                f"{self.host}: anybody on the network could send; name the senders with --allow"
            )


@contextmanager
def listening(listener: Listener, incoming: Incoming) -> Iterator[int]:
    """Receive in the background.

    Yields:
        The port.

    Raises:
        InputError: pynetdicom is not installed, or the address is taken.
    """
    pynetdicom = extra.load("pynetdicom")
    events = extra.load("pynetdicom.events")
    entity = pynetdicom.AE(ae_title=listener.aet)
    entity.require_called_aet = True
    entity.require_calling_aet = list(listener.senders)
    entity.maximum_associations = _MOST_ASSOCIATIONS
    entity.maximum_pdu_size = _PDU_BYTES
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = _SECONDS
    entity.supported_contexts = [
        pynetdicom.build_context(context.abstract_syntax, pynetdicom.ALL_TRANSFER_SYNTAXES)
        for context in pynetdicom.AllStoragePresentationContexts
    ]
    entity.add_supported_context("1.2.840.10008.1.1")  # C-ECHO
    handlers = [
        (events.EVT_C_STORE, _store, [incoming]),
        (events.EVT_DATA_RECV, _count),
    ]
    try:
        server = entity.start_server(
            (listener.host, listener.port), block=False, evt_handlers=handlers
        )
    except OSError as error:
        raise InputError(
            f"{listener.host}:{listener.port}: cannot listen ({error.strerror}); choose another"
        ) from error
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        entity.shutdown()


def _store(event: Any, incoming: Incoming) -> int:
    event.assoc.nestseg_bytes = 0
    try:
        return incoming.store(event.encoded_dataset(), str(event.request.AffectedSOPInstanceUID))
    # Whatever a sender may send, the next one must find the listener well.
    except Exception:  # noqa: BLE001
        return CANNOT_UNDERSTAND


def _count(event: Any) -> None:
    """Ends an association whose object grows beyond all measure, before memory is full."""
    received = getattr(event.assoc, "nestseg_bytes", 0) + len(event.data)
    event.assoc.nestseg_bytes = received
    if received > OBJECT_BYTES_LIMIT:
        event.assoc.abort()
