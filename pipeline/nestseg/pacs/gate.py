"""The gate before pynetdicom: what a connection may do before, and while, it is an association.

pynetdicom reads a PDU for as long as it says it is, waits without a limit for the rest of one, does
TLS handshakes one after the other in the thread that accepts connections, and counts connections
that never asked for anything as associations. Imported only where pynetdicom is installed.
"""

from __future__ import annotations

import socket
import ssl
import struct
import threading
import time
from contextlib import suppress
from socketserver import BaseServer
from typing import Any, Final

from pynetdicom import events
from pynetdicom.transport import ThreadedAssociationServer

PDU_BYTES: Final = 262_144
"""Longest PDU that senders are told they may send."""

_PDU_BYTES_LIMIT: Final = 2 * PDU_BYTES  # a request for 128 contexts in all encodings is as long
_HEADER: Final = struct.Struct(">xxL")

WAIT_SECONDS: Final = 10
"""How long a connection may take, TLS included, to become an association."""

SECONDS: Final = 60
"""How long an association may be silent, and a PDU of it be on its way."""

_MOST_WAITING, _MOST_WAITING_OF_ONE = 64, 16
_MOST_ASSOCIATIONS, _MOST_ASSOCIATIONS_OF_ONE = 8, 6
MOST_CONNECTIONS: Final = 1000  # for pynetdicom: what it counts is limited here
_TRANSIENT, _PRESENTATION, _LIMIT_EXCEEDED = 0x02, 0x03, 0x02  # PS3.8, table 9-21


class _Framed:
    """A socket that follows the frames of PDUs in what it receives.

    It fails as if the connection were lost at a PDU that is too long, before any of it is read, and
    at one that is too slow.
    """

    _header = b""
    _rest = 0  # bytes of the PDU that are still to come
    _until = 0.0

    def patient_until(self, moment: float) -> None:
        """Allow the PDU that comes next until a moment of the monotonic clock."""
        self._until = moment

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Receive as a socket does.

        Raises:
            OSError: the PDU that begins is too long, or the one on its way too slow.
        """
        content: bytes = super().recv(size, flags)  # type: ignore[misc]
        self._follow(content)
        return content

    def _follow(self, content: bytes) -> None:
        moment = time.monotonic()
        self._until = self._until or moment + SECONDS
        if moment > self._until:
            raise TimeoutError("a PDU is too slow")
        while content:
            if self._rest:
                taken = min(self._rest, len(content))
                self._rest -= taken
            else:
                taken = _HEADER.size - len(self._header)
                self._header += content[:taken]
                if len(self._header) < _HEADER.size:
                    return
                (self._rest,) = _HEADER.unpack(self._header)
                if self._rest > _PDU_BYTES_LIMIT:
                    raise OSError("a PDU is too long")
                self._header = b""
            content = content[taken:]
            if not self._rest:
                self._until = 0.0


class _Plain(_Framed, socket.socket):
    """Without TLS."""


class _Encrypted(_Framed, ssl.SSLSocket):  # type: ignore[misc]  # names its arguments otherwise
    """With TLS."""


class Server(ThreadedAssociationServer):
    """Accepts associations.

    Connections that are no association yet have a place in a queue of their own: when it is full,
    that of the address or that of all, the one that has waited longest is closed. A sender that
    asks at once for an association is never among those.
    """

    request_queue_size = 128  # with pynetdicom's 5, some that call at once wait for a second

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # By address and port, the oldest first.
        self._waiting: dict[tuple[Any, ...], socket.socket] = {}
        self._lock = threading.Lock()
        super().__init__(*args, **kwargs)
        if self.ssl_context is not None:
            self.ssl_context.sslsocket_class = _Encrypted
        self.bind(events.EVT_REQUESTED, self._requested)
        self.bind(events.EVT_ESTABLISHED, self._established)
        self.bind(events.EVT_CONN_CLOSE, self._closed)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection; its TLS handshake waits for a thread of its own."""
        accepted, address = self.socket.accept()  # type: ignore[union-attr]  # it listens
        wire: socket.socket = _Plain(fileno=accepted.detach())
        wire.settimeout(WAIT_SECONDS)
        if self.ssl_context is not None:
            try:
                wire = self.ssl_context.wrap_socket(
                    wire, server_side=True, do_handshake_on_connect=False
                )
            except (OSError, ValueError) as error:  # it is gone already
                wire.close()
                raise ConnectionError from error
        wire.patient_until(time.monotonic() + WAIT_SECONDS)  # type: ignore[attr-defined]
        return wire, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Let a connection in; the one that has waited longest may have to make room."""
        with self._lock:
            self._waiting[client_address] = request
            of_one = [one for one in self._waiting if one[0] == client_address[0]]
            oldest = None
            if len(of_one) > _MOST_WAITING_OF_ONE:
                oldest = self._waiting.pop(of_one[0])
            elif len(self._waiting) > _MOST_WAITING:
                oldest = self._waiting.pop(next(iter(self._waiting)))
        if oldest is not None:
            _hang_up(oldest)
        return True

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Shake hands, if there is TLS, and begin an association."""
        if isinstance(request, ssl.SSLSocket):
            try:
                request.do_handshake()
            except (OSError, ValueError):  # a stranger, a scan of ports, or closed meanwhile
                self._forget(client_address)
                self.shutdown_request(request)
                return
        super().process_request_thread(request, client_address)

    def stop(self) -> None:
        """Accept nothing more, and close what waits."""
        # Not its own `shutdown`, which asks for an entity that started the server by itself.
        BaseServer.shutdown(self)
        with self._lock:
            waiting = list(self._waiting.values())
        for one in waiting:
            _hang_up(one)
        for association in self.active_associations:
            if not getattr(association, "nestseg_asked", False):
                association.join(1)  # one that asked for nothing cannot be aborted
        self.server_close()

    def _requested(self, event: Any) -> None:
        """Reject an association where there are too many; pynetdicom also counts who waits."""
        own = event.assoc
        own.nestseg_asked = True
        own.dul.socket.socket.settimeout(SECONDS)
        address = own.requestor.address_info.as_tuple[0]
        busy: list[Any] = [
            one.requestor.address_info
            for one in self.active_associations
            if getattr(one, "nestseg_asked", False) and not (one.is_rejected or one.is_aborted)
        ]
        of_one = sum(one.as_tuple[0] == address for one in busy)
        if len(busy) > _MOST_ASSOCIATIONS or of_one > _MOST_ASSOCIATIONS_OF_ONE:
            own.acse.send_reject(_TRANSIENT, _PRESENTATION, _LIMIT_EXCEEDED)
            own.kill()

    def _established(self, event: Any) -> None:
        self._forget(event.assoc.requestor.address_info.as_tuple)

    def _closed(self, event: Any) -> None:
        """End the thread of a connection that asked for nothing, as its time-out would."""
        self._forget(event.address)
        if not getattr(event.assoc, "nestseg_asked", False):
            event.assoc.dul.to_user_queue.put(None)

    def _forget(self, address: tuple[Any, ...]) -> None:
        with self._lock:
            self._waiting.pop(address, None)


def _hang_up(wire: socket.socket) -> None:
    """Close a connection that other threads read from: they see its end."""
    with suppress(OSError):
        # Not the method of a TLS socket, behind which they would read on without TLS.
        socket.socket.shutdown(wire, socket.SHUT_RDWR)
