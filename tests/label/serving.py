"""A real MONAI Label server with our app, and its real client."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
BUNDLE = "hippocampus_unetpp"
START_SECONDS = 900


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def guarded(folder: Path, **more: str) -> dict[str, str]:
    """An environment in which nothing leaves the machine."""
    path = os.pathsep.join([str(HERE / "guard"), *filter(None, sys.path)])
    quiet = {"PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}
    guard = {"PYTHONPATH": path, "NESTSEG_GUARD": str(folder / "guard.log")}
    return os.environ | quiet | guard | {"NO_PROXY": "127.0.0.1,localhost"} | more


@dataclass
class Server:
    """A server that runs.

    Attributes:
        url: of it.
        client: MONAI Label's own.
        folder: of its log, and of the guard's.
        work: its working folder.
    """

    url: str
    client: Any
    folder: Path
    work: Path

    @property
    def log(self) -> str:
        return (self.folder / "server.log").read_text()

    def settled(self, seconds: float = 600) -> dict[str, Any]:
        """The training that was started, when it has ended."""
        deadline = time.monotonic() + seconds
        while (task := dict(self.client.train_status()))["status"] in ("SUBMITTED", "RUNNING"):
            assert time.monotonic() < deadline, self.log
            time.sleep(1)
        return task

    def post(self, path: str, body: bytes = b"{}") -> tuple[int, str]:
        request = urllib.request.Request(  # noqa: S310
            self.url + path, body, {"content-type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=600) as answer:  # noqa: S310
                return int(answer.status), answer.read().decode(errors="replace")
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(errors="replace")


def run_server(folder: Path, command: list[str], port: int, work: Path) -> Iterator[Server]:
    with warnings.catch_warnings():  # the client uses `cgi`, which Python 3.13 no longer has
        warnings.simplefilter("ignore", DeprecationWarning)
        client_module = pytest.importorskip(
            "monailabel.client", reason="MONAI Label is not here: `make test-label`"
        )
    folder.mkdir(parents=True, exist_ok=True)
    url = f"http://127.0.0.1:{port}"
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=guarded(folder), cwd=folder, start_new_session=True
        )
    downloads = folder / "downloads"
    downloads.mkdir(exist_ok=True)
    server = Server(url, client_module.MONAILabelClient(url, str(downloads)), folder, work)
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            assert process.poll() is None, server.log[-3000:]
            assert time.monotonic() < deadline, server.log[-3000:]
            try:
                with urllib.request.urlopen(f"{url}/info/", timeout=60):  # noqa: S310
                    break
            except OSError:
                time.sleep(0.5)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
    guard = folder / "guard.log"
    assert not guard.exists(), guard.read_text()


def label_command(bundles: str, studies: object, work: Path, port: int) -> list[str]:
    start = [sys.executable, "-m", "nestseg.cli", "label"]
    return [*start, "-b", bundles, "-s", str(studies), "-w", str(work), "--port", str(port)]


def wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.25)
