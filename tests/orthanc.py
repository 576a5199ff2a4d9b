"""A real PACS for tests: Orthanc with its DICOMweb plug-in, on this machine only."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from nestseg.pacs.addresses import Node, Web

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@dataclass(frozen=True)
class Orthanc:
    node: Node
    web: Web

    @property
    def studies(self) -> list[str]:
        root = self.web.url.removesuffix("/dicom-web")
        with urllib.request.urlopen(f"{root}/studies", timeout=10) as answer:  # noqa: S310
            return list(json.load(answer))


@contextmanager
def run_orthanc(home: Path) -> Iterator[Orthanc]:
    """A server with an empty store, or a skip where Orthanc is not installed."""
    program = shutil.which("Orthanc", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None or not PLUGIN.is_file():
        pytest.skip("no Orthanc here: apt-get install orthanc orthanc-dicomweb")
    home.mkdir()
    dimse, http = free_port(), free_port()
    config = {
        "StorageDirectory": str(home),
        "IndexDirectory": str(home),
        "HttpPort": http,
        "DicomPort": dimse,
        "DicomAet": "ORTHANC",
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAlwaysAllowStore": True,
        "UnknownSopClassAccepted": True,
        "Plugins": [str(PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (home / "orthanc.json").write_text(json.dumps(config))
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, home / "orthanc.json"],
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=os.environ | {"TCP_NODELAY": "1"},
        )
    server = Orthanc(Node("ORTHANC", "127.0.0.1", dimse), Web(f"http://127.0.0.1:{http}/dicom-web"))
    try:
        for _ in range(240):
            try:
                server.studies  # noqa: B018
                break
            except OSError:
                time.sleep(0.25)
        else:
            pytest.fail((home / "log").read_text()[-1000:])
        yield server
    finally:
        process.terminate()
        process.wait(30)
