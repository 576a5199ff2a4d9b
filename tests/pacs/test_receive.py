"""The listener against real senders, honest and hostile ones."""

from __future__ import annotations

import errno
import os
import socket
import stat
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import RLELossless

from nestseg.pacs import receive
from nestseg.pacs.addresses import Node, Web, parse
from nestseg.pacs.incoming import (
    CANNOT_UNDERSTAND,
    DOES_NOT_MATCH,
    OUT_OF_RESOURCES,
    STORED,
    Incoming,
)
from nestseg.pacs.receive import Listener, listening
from nestseg.pacs.send import dicom_files, send
from nestseg_prep import phantom
from nestseg_prep.dicom.scan import scan
from nestseg_prep.errors import InputError
from nestseg_prep.phantom import Phantom
from nestseg_prep.reading import read_volume

from .conftest import as_file, association, push


def files_of(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_study_arrives_voxel_for_voxel_and_is_complete_when_it_is_quiet(
    incoming: Incoming, port: int, tmp_path: Path
) -> None:
    sent = Phantom(plane="oblique")
    assert set(push(port, sent.datasets())) == {STORED}
    assert incoming.complete(quiet_seconds=30) == []
    time.sleep(0.3)
    (study,) = incoming.complete(quiet_seconds=0.2)
    (ref,) = scan(study).series
    assert (read_volume(ref).array == sent.truth.array).all()
    incoming.done(study)
    assert incoming.used == 0
    assert files_of(tmp_path / "spool") == []


def test_studies_are_complete_each_for_itself(incoming: Incoming, port: int) -> None:
    push(port, Phantom(name="a", study="early", slices=3).datasets())
    time.sleep(0.4)
    push(port, Phantom(name="b", study="late", slices=4).datasets())
    (early,) = incoming.complete(quiet_seconds=0.3)
    assert len(files_of(early)) == 3


def test_late_objects_of_a_study_make_a_folder_of_their_own(incoming: Incoming, port: int) -> None:
    push(port, Phantom(name="a", slices=3).datasets())
    first = incoming.complete(quiet_seconds=0)
    push(port, Phantom(name="b", slices=4).datasets())
    both = incoming.complete(quiet_seconds=0)
    assert set(first) < set(both)
    assert [len(files_of(folder)) for folder in both] == [3, 4]
    assert len({folder.name.rpartition("-")[0] for folder in both}) == 1


def test_an_object_sent_twice_is_kept_once(incoming: Incoming, port: int) -> None:
    series = Phantom(slices=3).datasets()
    push(port, series)
    used = incoming.used
    assert push(port, series) == [STORED] * 3
    assert incoming.used == used
    assert len(files_of(incoming.complete(0)[0])) == 3


@pytest.mark.parametrize("names", [{"calling": "STRANGER"}, {"called": "OTHER"}])
def test_unknown_titles_are_rejected(incoming: Incoming, port: int, names: dict[str, str]) -> None:
    with association(port, **names) as made:
        assert made.is_rejected
    assert incoming.used == 0


def test_an_echo_is_answered(port: int) -> None:
    with association(port) as made:
        assert made.send_c_echo().Status == STORED


def test_beyond_the_quota_senders_are_told_to_come_later(tmp_path: Path) -> None:
    pytest.importorskip("pynetdicom")
    small = Incoming(tmp_path / "spool", quota=6000)
    with listening(Listener("NESTSEG", "127.0.0.1", 0), small) as port:
        statuses = push(port, Phantom(slices=4).datasets())
        assert statuses == [STORED, STORED, OUT_OF_RESOURCES, OUT_OF_RESOURCES]
        assert sum(path.stat().st_size for path in files_of(tmp_path)) == small.used <= 6000
        small.done(small.complete(0)[0])
        assert push(port, Phantom(slices=1).datasets()) == [STORED]


def test_a_full_disk_is_said_to_the_sender_and_leaves_nothing(
    incoming: Incoming, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert push(port, Phantom(slices=1).datasets()) == [OUT_OF_RESOURCES]
    assert files_of(tmp_path) == []
    assert incoming.used == 0
    monkeypatch.undo()
    assert push(port, Phantom(slices=1).datasets()) == [STORED]


@pytest.mark.filterwarnings("ignore::UserWarning")  # of pydicom, which sends it all the same
def test_what_tags_say_never_becomes_a_path(incoming: Incoming, port: int, tmp_path: Path) -> None:
    series = Phantom(slices=3).datasets()
    for number, ds in enumerate(series):
        ds.StudyInstanceUID = ("../../../escape", "/tmp/escape", "..\\escape:x")[number]  # noqa: S108
        ds.SeriesInstanceUID = "../../escape"
        ds.PatientID = "../" * 20 + "escape"
        ds.SOPInstanceUID = f"../../../../escape.{number}"
    push(port, series)
    found = files_of(tmp_path)
    allowed = set("0123456789abcdef")
    assert all(path.suffix == ".dcm" and set(path.stem) <= allowed for path in found)
    assert all(set(path.parent.name) <= allowed for path in found)
    assert not list(tmp_path.parent.glob("escape*"))
    assert len(found) == 3


def test_damaged_objects_are_refused_and_the_next_is_taken(
    incoming: Incoming, tmp_path: Path
) -> None:
    (path,) = phantom.write(Phantom(slices=1).datasets(), tmp_path / "source")
    content = path.read_bytes()
    uid = str(Phantom(slices=1).datasets()[0].SOPInstanceUID)
    garbage = bytes(range(256)) * 40
    assert incoming.store(content[:-200], uid) == CANNOT_UNDERSTAND
    assert incoming.store(content[:300], uid) == CANNOT_UNDERSTAND
    assert incoming.store(garbage, uid) == CANNOT_UNDERSTAND
    assert incoming.store(content[:132] + garbage, uid) == CANNOT_UNDERSTAND
    assert incoming.store(b"", uid) == CANNOT_UNDERSTAND
    assert incoming.store(content, "1.2.3") == DOES_NOT_MATCH
    assert incoming.used == 0
    assert files_of(tmp_path / "spool") == []
    assert incoming.store(content, uid) == STORED


def test_garbage_on_the_wire_does_not_stop_the_listener(incoming: Incoming, port: int) -> None:
    for content in (b"GET / HTTP/1.1\r\n\r\n", os.urandom(500), b"\x01\x00\xff\xff\xff\xff" + b"x"):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as wire:
            wire.sendall(content)
    with association(port) as made:  # gone in the middle of a data set
        ds = as_file(Phantom(slices=1).datasets()[0])
        made.send_c_store(ds)
        made.abort()
    assert push(port, Phantom(name="b", slices=1).datasets()) == [STORED]


def test_an_object_beyond_all_measure_ends_its_association(
    incoming: Incoming, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receive, "OBJECT_BYTES_LIMIT", 100_000)
    large = Phantom(slices=1, rows=400, columns=400).datasets()
    with association(port) as made:
        assert "Status" not in made.send_c_store(as_file(large[0]))
    assert incoming.used == 0
    assert push(port, Phantom(slices=3).datasets()) == [STORED] * 3


def test_senders_at_the_same_time_lose_nothing(incoming: Incoming, port: int) -> None:
    names = ("a", "b", "c")
    threads = [
        threading.Thread(
            target=push, args=(port, Phantom(name=name, study=name, slices=5).datasets())
        )
        for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    studies = incoming.complete(0)
    assert [len(files_of(study)) for study in studies] == [5, 5, 5]
    assert sum(path.stat().st_size for s in studies for path in files_of(s)) == incoming.used


def test_a_listener_that_was_killed_goes_on_where_it_was(
    incoming: Incoming, port: int, tmp_path: Path
) -> None:
    push(port, Phantom(slices=3).datasets())
    (ready,) = incoming.complete(0)
    push(port, Phantom(name="b", study="b", slices=2).datasets())
    (tmp_path / "spool" / "incoming" / "x.partial").write_bytes(b"half")
    again = Incoming(tmp_path / "spool", quota=10_000_000)
    assert again.used == incoming.used
    assert again.complete(quiet_seconds=60) == [ready]
    assert len(again.complete(quiet_seconds=0)) == 2
    assert not list(tmp_path.rglob("*.partial"))


def test_what_is_received_is_for_this_user_alone(
    incoming: Incoming, port: int, tmp_path: Path
) -> None:
    before = os.umask(0o022)
    try:
        push(port, Phantom(slices=1).datasets())
    finally:
        os.umask(before)
    (path,) = files_of(tmp_path / "spool")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "spool").stat().st_mode) == 0o700


def test_a_listener_for_anybody_on_a_network_is_refused() -> None:
    with pytest.raises(InputError, match="--allow"):
        Listener("NESTSEG", "0.0.0.0", 11112)  # noqa: S104
    with pytest.raises(InputError, match="no AE title"):
        Listener("LONGER THAN SIXTEEN", "127.0.0.1", 11112)


@pytest.mark.filterwarnings("ignore:.*socket:ResourceWarning")  # pynetdicom, where nobody answers
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_files_are_sent_as_they_are_and_each_has_its_outcome(
    incoming: Incoming, port: int, tmp_path: Path
) -> None:
    clean = Phantom(slices=3)
    folder = tmp_path / "results"
    phantom.write(clean.datasets(), folder)
    phantom.write(Phantom(name="b", slices=3).datasets(), folder / "b", syntax=RLELossless)
    (folder / "run.json").write_text("{}")
    (folder / ".hidden").mkdir()
    phantom.write(Phantom(name="c", slices=1).datasets(), folder / ".hidden")
    files = dicom_files([folder])
    assert len(files) == 6
    node = Node("NESTSEG", "127.0.0.1", port)
    assert [one.error for one in send(files, node, calling="SCANNER")] == [""] * 6
    received = scan(incoming.complete(0)[0]).series
    assert len(received) == 2
    for ref in received:
        np.testing.assert_array_equal(read_volume(ref).array, clean.truth.array)
    with pytest.raises(InputError, match="refuses us"):
        send(files, Node("NESTSEG", "127.0.0.1", port), calling="STRANGER")
    with pytest.raises(InputError, match="does not answer"):
        send(files, Node("NESTSEG", "127.0.0.1", 1))


def test_a_file_that_the_other_side_refuses_does_not_stop_the_rest(
    tmp_path: Path,
) -> None:
    pytest.importorskip("pynetdicom")
    phantom.write(Phantom(slices=3).datasets(), tmp_path / "results")
    small = Incoming(tmp_path / "spool", quota=4000)
    with listening(Listener("NESTSEG", "127.0.0.1", 0), small) as port:
        files = dicom_files([tmp_path / "results"])
        errors = [one.error for one in send(files, Node("NESTSEG", "127.0.0.1", port))]
    assert errors.count("") == 1
    assert errors.count("refused with status A700") == 2


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("dicom://PACS@10.0.0.7:104", Node("PACS", "10.0.0.7", 104)),
        ("dicomweb://localhost:8042/dicom-web/", Web("http://localhost:8042/dicom-web")),
        ("https://pacs.example/dicom-web", Web("https://pacs.example/dicom-web")),
    ],
)
def test_addresses_are_read(text: str, address: Node | Web) -> None:
    assert parse(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "pacs",
        "dicom://10.0.0.7:104",
        "dicom://PACS@10.0.0.7",
        "dicom://A@b:x",
        "ftp://a/b",
        "https://me:secret@pacs.example/",
        "dicom://LONGERTHANSIXTEENS@a:104",
    ],
)
def test_wrong_addresses_are_refused_without_their_passwords(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(text)
    assert "secret" not in str(caught.value)
