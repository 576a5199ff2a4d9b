"""A sender and a listener on this machine."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from nestseg.pacs.incoming import Incoming
from nestseg.pacs.receive import Listener, listening

Sender = Callable[..., list[int]]


def as_file(ds: Dataset) -> Dataset:
    """A data set with what a sender must know of it."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ds.SOPClassUID
    meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta = meta
    ds.ensure_file_meta()
    return ds


CT, MR, ECHO = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.1.1"


@contextmanager
def association(
    port: int,
    *,
    calling: str = "SCANNER",
    called: str = "NESTSEG",
    classes: Sequence[str] = (CT, MR),
    **how: Any,
) -> Iterator[Any]:
    """An association of a real sender."""
    pynetdicom = pytest.importorskip("pynetdicom", reason="needs the extra `pacs`")
    entity = pynetdicom.AE(ae_title=calling)
    for name in classes:
        entity.add_requested_context(name, ExplicitVRLittleEndian)
    entity.add_requested_context(ECHO)
    made = entity.associate("127.0.0.1", port, ae_title=called, **how)
    try:
        yield made
    finally:
        if made.is_established:
            made.release()


def push(port: int, series: Sequence[Dataset], **names: str) -> list[int]:
    """Sends data sets and returns the status of each."""
    with association(port, **names) as made:
        assert made.is_established
        return [made.send_c_store(as_file(ds)).Status for ds in series]


@pytest.fixture
def incoming(tmp_path: Path) -> Incoming:
    return Incoming(tmp_path / "spool", quota=10_000_000)


@pytest.fixture
def port(incoming: Incoming) -> Iterator[int]:
    pytest.importorskip("pynetdicom", reason="needs the extra `pacs`")
    with listening(Listener("NESTSEG", "127.0.0.1", 0, ["SCANNER"]), incoming) as number:
        yield number


@pytest.fixture
def forgotten() -> Iterator[None]:
    """Let go of the sockets that pynetdicom forgets to close where nobody answers."""
    yield
    gc.collect()


def forgets(test: Callable[..., None]) -> Callable[..., None]:
    mark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    return pytest.mark.usefixtures("forgotten")(mark(test))
