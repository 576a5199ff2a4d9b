"""A DICOM listener: C-STORE and C-ECHO from senders that are known, into :mod:`.incoming`."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from pydicom.filereader import read_partial
from pydicom.tag import Tag

from nestseg.pacs import addresses, extra
from nestseg.pacs.incoming import CANNOT_UNDERSTAND, Incoming
from nestseg.pacs.tls import Tls
from nestseg_prep.errors import InputError

# An object is held in memory while it arrives: four times the largest CT that is sent as one.
OBJECT_BYTES_LIMIT: Final = 2 * 2**30
_MOST_CONTEXTS: Final = 128  # that an association can have (PS3.8)
_STORAGE_SERVICE: Final = "1.2.840.10008.4.2"
_STUDY_UID: Final = Tag("StudyInstanceUID")
_SERIES_UID: Final = Tag("SeriesInstanceUID")
_LOOK_SECONDS: Final = 0.1  # how soon the server notices that it is to stop


@dataclass(frozen=True)
class Listener:
    """Where to listen, and to whom.

    Attributes:
        aet: our AE title; associations that call another one are rejected.
        host: address to bind to.
        port: TCP; 0 for any that is free.
        senders: AE titles that may send; empty for any, on this machine only or with a certificate.
        tls: our certificate, and who signs those of senders; without one nothing is encrypted.

    Raises:
        InputError: an AE title is wrong, or anybody on a network could send.
    """

    aet: str
    host: str
    port: int
    senders: Sequence[str] = ()
    tls: Tls = field(default_factory=Tls)

    def __post_init__(self) -> None:
        for title in (self.aet, *self.senders):
            addresses.ae_title(title)
        known = bool(self.senders) or self.tls.ca is not None
        if not known and not addresses.is_loopback(self.host):
            raise InputError(
                f"{self.host}: anybody on the network could send; name the senders with --allow, "
                "or ask for certificates with --ca"
            )

    @property
    def is_plain(self) -> bool:
        """Whether what is received travels over a network unencrypted."""
        return self.tls.certificate is None and not addresses.is_loopback(self.host)


@contextmanager
def listening(listener: Listener, incoming: Incoming) -> Iterator[int]:
    """Receive in the background.

    Yields:
        The port.

    Raises:
        InputError: pynetdicom is not installed, a certificate cannot be used, or the address is
            taken.
    """
    pynetdicom = extra.load("pynetdicom")
    from nestseg.pacs import gate  # noqa: PLC0415  needs pynetdicom

    events = extra.load("pynetdicom.events")
    entity = pynetdicom.AE(ae_title=listener.aet)
    entity.require_called_aet = True
    entity.require_calling_aet = list(listener.senders)
    entity.maximum_associations = gate.MOST_CONNECTIONS
    entity.maximum_pdu_size = gate.PDU_BYTES
    entity.acse_timeout = gate.WAIT_SECONDS
    entity.dimse_timeout = entity.network_timeout = gate.SECONDS
    # Those of storage are added where they are asked for: pynetdicom copies all of them for each
    # connection, which takes 0.1 s for as many as there are.
    entity.add_supported_context("1.2.840.10008.1.1")  # C-ECHO
    handlers = [
        (events.EVT_C_STORE, _store, [incoming]),
        (events.EVT_SOP_COMMON, _accept),
        (events.EVT_ACSE_RECV, _released, [incoming]),
        (events.EVT_DATA_RECV, _count),
    ]
    try:
        server = entity.make_server(
            (listener.host, listener.port),
            ssl_context=listener.tls.for_listening(),
            evt_handlers=handlers,
            server_class=gate.Server,
        )
    except OSError as error:
        raise InputError(
            f"{listener.host}:{listener.port}: cannot listen ({error.strerror}); choose another"
        ) from error
    thread = threading.Thread(target=server.serve_forever, args=(_LOOK_SECONDS,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.stop()
        entity.shutdown()


def _store(event: Any, incoming: Incoming) -> int:
    event.assoc.nestseg_bytes = 0
    try:
        if event.request.AffectedSOPClassUID not in _kept_classes():
            return _drop(event, incoming)
        return incoming.store(
            event.encoded_dataset(), str(event.request.AffectedSOPInstanceUID), event.assoc
        )
    # Whatever a sender may send, the next one must find the listener well.
    except Exception:  # noqa: BLE001
        return CANNOT_UNDERSTAND


def _drop(event: Any, incoming: Incoming) -> int:
    """Accept an object of a class that is not kept; it says which study it belongs to."""
    ds = read_partial(
        io.BytesIO(event.encoded_dataset()),
        stop_when=lambda tag, *_: tag > _SERIES_UID,
        specific_tags=[_STUDY_UID, _SERIES_UID],
    )
    if not ds.get("StudyInstanceUID"):
        return CANNOT_UNDERSTAND
    series = str(ds.get("SeriesInstanceUID", ""))
    return incoming.drop(str(ds.StudyInstanceUID), series, event.assoc)


def _accept(event: Any) -> dict[str, Any]:
    """Offer what a sender asks for: classes of storage, and those that no service is known for.

    Some senders end a transfer at the first object that has no presentation context, and scanners
    send objects of private classes with every study. pynetdicom has a switch for them, which would
    take whatever encoding an image is first proposed in.
    """
    from pynetdicom import ALL_TRANSFER_SYNTAXES, build_context  # noqa: PLC0415
    from pynetdicom.pdu_primitives import SOPClassCommonExtendedNegotiation  # noqa: PLC0415
    from pynetdicom.service_class import ServiceClass  # noqa: PLC0415
    from pynetdicom.sop_class import uid_to_service_class  # noqa: PLC0415

    primitive = event.assoc.requestor.primitive
    answers, contexts = {}, list(event.assoc.acceptor.supported_contexts)
    for asked in primitive.presentation_context_definition_list[:_MOST_CONTEXTS]:
        name = asked.abstract_syntax
        if name in _kept_classes():
            contexts.append(build_context(name, ALL_TRANSFER_SYNTAXES))
        elif uid_to_service_class(name) is ServiceClass:
            answers[name] = answer = SOPClassCommonExtendedNegotiation()
            answer.sop_class_uid = name
            answer.service_class_uid = _STORAGE_SERVICE
            # Its encoding does not matter: nobody decodes it.
            contexts.append(build_context(name, asked.transfer_syntax))
    event.assoc.acceptor.supported_contexts = contexts
    return answers


@cache
def _kept_classes() -> frozenset[str]:
    from pynetdicom import AllStoragePresentationContexts  # noqa: PLC0415

    return frozenset(str(one.abstract_syntax) for one in AllStoragePresentationContexts)


def _released(event: Any, incoming: Incoming) -> None:
    """Note the end of an association that ends in order: asked for, between two objects."""
    dimse = event.assoc.dimse
    asked = type(event.primitive).__name__ == "A_RELEASE"
    if asked and dimse.message is None and dimse.msg_queue.empty():
        incoming.released(event.assoc)


def _count(event: Any) -> None:
    """Abort an association whose object grows too large, before memory is full."""
    received = getattr(event.assoc, "nestseg_bytes", 0) + len(event.data)
    event.assoc.nestseg_bytes = received
    if received > OBJECT_BYTES_LIMIT:
        event.assoc.abort()
