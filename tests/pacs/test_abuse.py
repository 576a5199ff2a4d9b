"""What may come to a listener from strangers, and from senders that break off."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

pytest.importorskip("pynetdicom", reason="needs the extra `pacs`")

from pynetdicom import events

from nestseg.pacs import gate
from nestseg.pacs.incoming import STORED, Incoming
from nestseg.pacs.receive import Listener, listening
from nestseg_prep.phantom import Phantom

from .conftest import CT, as_file, association, forgets, push

PRIVATE = "1.3.12.2.1107.5.9.1"
RETIRED = "1.2.840.10008.5.1.4.1.1.5"


def wire_to(port: int, source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 20, source_address=(source, 0))


def is_closed(wire: socket.socket) -> bool:
    """Whether the other side closes, within the time-out of the socket."""
    try:
        while wire.recv(4096):
            pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


def trickle(wire: socket.socket, seconds: float) -> None:
    for _ in range(int(seconds * 10)):
        wire.sendall(b"x")
        time.sleep(0.1)


# --- Before an association --------------------------------------------------------------------


@pytest.mark.parametrize("kind", [1, 4])
def test_a_pdu_that_says_it_is_too_long_is_not_read(port: int, kind: int) -> None:
    with wire_to(port) as wire:
        wire.sendall(struct.pack(">BBL", kind, 0, 1_200_000_000))
        assert is_closed(wire)  # although not one byte of it has come
    assert push(port, Phantom(slices=1).datasets()) == [STORED]


@forgets
def test_so_is_one_within_an_association(incoming: Incoming, port: int) -> None:
    with association(port) as made:
        made.dul.socket.socket.sendall(struct.pack(">BBL", 4, 0, 1_200_000_000))
        made.join(20)
        assert made.is_aborted


@pytest.mark.parametrize("source", ["127.0.0.1", "127.0.0.2"])
def test_200_connections_that_say_nothing_keep_no_sender_out(port: int, source: str) -> None:
    with ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(wire_to(port, source)).sendall(b"\x01\0\0")
        assert push(port, Phantom(slices=1).datasets()) == [STORED]


def test_nor_do_200_whose_title_is_rejected(port: int) -> None:
    sent: list[bytes] = []
    noting = [(events.EVT_DATA_SENT, lambda event: sent.append(event.data))]
    with association(port, calling="STRANGER", evt_handlers=noting) as made:
        assert made.is_rejected
    with ExitStack() as stack:
        for _ in range(200):  # which do not close when they are rejected, as senders do
            wire = stack.enter_context(wire_to(port))
            wire.sendall(sent[0])
        assert wire.recv(1) == b"\x03"
        assert push(port, Phantom(slices=1).datasets()) == [STORED]


@pytest.mark.parametrize("begin", [b"", b"\x01\0\0", b"\x01\0\0\0\0\x40" + b"x" * 9])
def test_a_connection_that_does_not_become_an_association_is_closed(
    begin: bytes, incoming: Incoming, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "WAIT_SECONDS", 0.3)
    with (
        listening(Listener("NESTSEG", "127.0.0.1", 0), incoming) as port,
        wire_to(port) as wire,
    ):
        wire.sendall(begin)
        assert is_closed(wire)


def test_one_that_sends_a_byte_now_and_then_is_closed_too(
    incoming: Incoming, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "WAIT_SECONDS", 0.5)
    with (
        listening(Listener("NESTSEG", "127.0.0.1", 0), incoming) as port,
        wire_to(port) as wire,
    ):
        wire.sendall(b"\x01\0\0\0\x40\0")
        with pytest.raises(ConnectionError):
            trickle(wire, 20)


def test_one_address_cannot_have_all_associations(port: int) -> None:
    with ExitStack() as stack:
        made = [stack.enter_context(association(port)) for _ in range(7)]
        assert [one.is_established for one in made] == [True] * 6 + [False]
        assert made[-1].is_rejected
        other = stack.enter_context(association(port, bind_address=("127.0.0.2", 0)))
        assert other.is_established


# --- Objects of classes that nobody knows -----------------------------------------------------


def with_unknown(series: Sequence[Dataset], sop_class: str) -> list[Dataset]:
    """A series, and in the middle of it an object without pixels of another class."""
    odd = deepcopy(series[0])
    del odd.PixelData
    odd.SOPClassUID, odd.SOPInstanceUID = sop_class, generate_uid()
    odd.SeriesInstanceUID = generate_uid()
    return [*series[:2], odd, *series[2:]]


@pytest.mark.parametrize("sop_class", [PRIVATE, RETIRED, "1.2.3.4"])
def test_an_object_of_an_unknown_class_is_accepted_dropped_and_counted(
    sop_class: str, incoming: Incoming, port: int
) -> None:
    sent = with_unknown(Phantom(slices=5).datasets(), sop_class)
    statuses = push(port, sent, classes=[CT, sop_class])
    assert statuses == [STORED] * 6
    (study,) = incoming.complete(0)
    assert len(list(study.iterdir())) == 5
    name = study.name.rpartition("-")[0]
    assert [incoming.dropped(name), incoming.dropped(name)] == [1, 0]


def test_a_service_that_is_not_storage_is_not_accepted(port: int) -> None:
    commitment, find = "1.2.840.10008.1.20.1", "1.2.840.10008.5.1.4.1.2.2.1"
    with association(port, classes=[CT, commitment, find]) as made:
        accepted = {str(one.abstract_syntax) for one in made.accepted_contexts}
        assert CT in accepted
        assert not accepted & {commitment, find}


# --- Transfers that break off -----------------------------------------------------------------


def abort(made: Any, rest: Dataset) -> None:
    made.abort()


def lose(made: Any, rest: Dataset) -> None:
    """The cable is pulled."""
    made.dul.socket.socket.shutdown(socket.SHUT_RDWR)


def lose_within(made: Any, rest: Dataset) -> None:
    """The same in the middle of an object."""
    wire, send = made.dul.socket.socket, made.dul.socket.send

    def half(content: bytes) -> None:
        send(content[: len(content) // 2])
        wire.shutdown(socket.SHUT_RDWR)

    made.dul.socket.send = half
    made.send_c_store(as_file(rest))


def hang(made: Any, rest: Dataset) -> None:
    """Nothing comes any more, and nobody says why."""
    made.join(20)
    assert made.is_aborted  # by the other side


def break_off(port: int, series: Sequence[Dataset], how: Any) -> None:
    """Send all but the last, and end otherwise than by a release."""
    with association(port) as made:
        for ds in series[:-1]:
            assert made.send_c_store(as_file(ds)).Status == STORED
        how(made, series[-1])


def until_told(incoming: Incoming) -> list[Path]:
    """The studies that are incomplete, once a listener has noticed it."""
    for _ in range(200):
        if found := incoming.incomplete(0):
            return found
        assert incoming.complete(0) == []
        time.sleep(0.1)
    pytest.fail("it never said so")


@forgets
@pytest.mark.parametrize("how", [abort, lose, lose_within])
def test_a_study_that_was_broken_off_is_not_complete_until_it_is_sent_again(
    how: Any, incoming: Incoming, port: int
) -> None:
    series = Phantom(slices=4).datasets()
    break_off(port, series, how)
    (study,) = until_told(incoming)
    assert len(list(study.iterdir())) == 3
    assert incoming.incomplete(0) == []  # it is said once
    push(port, Phantom(name="other", slices=2).datasets())  # of the study, but not what is lacking
    assert incoming.complete(0) == []
    push(port, series)
    (whole,) = incoming.complete(0)
    assert len(list(whole.iterdir())) == 6


@forgets
def test_the_rest_alone_makes_a_study_complete_too(incoming: Incoming, port: int) -> None:
    first, second = Phantom(slices=3).datasets(), Phantom(name="b", slices=4).datasets()
    break_off(port, [*first, *second], abort)
    until_told(incoming)
    push(port, second[-1:])
    (study,) = incoming.complete(0)
    assert len(list(study.iterdir())) == 7


@forgets
def test_a_silent_association_is_ended_and_its_study_is_not_complete(
    incoming: Incoming, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "SECONDS", 0.5)
    with listening(Listener("NESTSEG", "127.0.0.1", 0), incoming) as port:
        break_off(port, Phantom(slices=3).datasets(), hang)
        until_told(incoming)


def test_a_study_waits_for_the_end_of_its_association(incoming: Incoming, port: int) -> None:
    with association(port) as made:
        assert made.send_c_store(as_file(Phantom(slices=1).datasets()[0])).Status == STORED
        assert incoming.complete(0) == incoming.incomplete(0) == []
    assert len(incoming.complete(0)) == 1


@forgets
def test_a_listener_that_starts_again_knows_what_was_broken_off(
    tmp_path: Path, incoming: Incoming
) -> None:
    series = Phantom(slices=3).datasets()
    with listening(Listener("NESTSEG", "127.0.0.1", 0), incoming) as port, ended_late() as stack:
        made = stack.enter_context(association(port))
        made.send_c_store(as_file(series[0]))
        again = Incoming(tmp_path / "spool", quota=10_000_000)  # as after a power cut
        assert again.complete(0) == []
        assert len(again.incomplete(0)) == 1
    with listening(Listener("NESTSEG", "127.0.0.1", 0), again) as port:
        push(port, series)
    assert len(again.complete(0)) == 1


@contextmanager
def ended_late() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack
