"""The live page: on this machine alone, reading only, and nothing but the report."""

import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from nestseg.batch.states import State
from nestseg.report.live import serving
from nestseg_prep.errors import InputError

from .runs import enter, facts, finish, recording


def get(
    address: str, path: str = "", host: str | None = None, method: str = "GET"
) -> tuple[int, bytes, http.client.HTTPMessage]:
    """Ask for exactly this path: nothing is tidied up on the way."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    try:
        connection.putrequest(method, parts.path + path, skip_host=True)
        connection.putheader("Host", host or parts.netloc)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers
    finally:
        connection.close()


@pytest.fixture
def served(run: Path) -> Iterator[tuple[str, Path]]:
    (run.parent / "secret.txt").write_text("not yours")
    with serving(run) as address:
        yield address, run


def test_the_report_is_served(served: tuple[str, Path]) -> None:
    address, _ = served
    status, body, headers = get(address)
    assert status == 200
    assert b"organs_unetpp" in body
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Frame-Options"] == "DENY"
    assert "Python" not in headers["Server"]
    status, body, _ = get(address, "report.json")
    assert len(json.loads(body)["rows"]) == 17
    assert get(address, "report.csv")[1].startswith(b"case,state")
    status, body, headers = get(address, "cases/case00/planes.webp")
    assert (status, body[:4], headers["Content-Type"]) == (200, b"RIFF", "image/webp")
    for part in ("image", "mask"):
        assert get(address, f"cases/case00/{part}.nii.gz")[1].startswith(b"\x1f\x8b")
    status, body, headers = get(address, method="HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) > 1000


@pytest.mark.parametrize(
    "path",
    [
        "../secret.txt",
        "cases/../../secret.txt",
        "cases/case00/../../../secret.txt",
        "cases/case00/..%2f..%2fsecret.txt",
        "cases/..%2f/secret.txt",
        "cases/case00/secret.txt",
        "cases/case00/",
        "cases/nobody/planes.webp",
        "cases/case11/planes.webp",  # done, without a snapshot
        "journal.sqlite",
        "report.html",
        "case00.snapshot",
        "//etc/passwd",
        quote("\0"),
    ],
)
def test_nothing_else_is_served(served: tuple[str, Path], path: str) -> None:
    assert get(served[0], path)[0] == 404


def test_other_names_and_other_secrets_are_refused(served: tuple[str, Path]) -> None:
    address, _ = served
    parts = urlsplit(address)
    for host in ("evil.example", f"evil.example:{parts.port}", "127.0.0.1", "[::1]:80"):
        assert get(address, host=host)[0] == 403
    assert get(address, host=f"localhost:{parts.port}")[0] == 200
    root = f"http://{parts.netloc}"
    for path in ("/", "", "/report.json", "/wrong/", "/wrong/report.json", "/ä/".encode().hex()):
        assert get(root, path or "/")[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_it_only_reads(served: tuple[str, Path], method: str) -> None:
    address, out = served
    before = {path: path.read_bytes() for path in out.iterdir()}
    assert get(address, method=method)[0] == 501
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_it_shows_a_run_as_it_goes_on(tmp_path: Path) -> None:
    with recording(tmp_path) as journal:
        enter(journal, "first")
        with serving(tmp_path) as address:
            states = []
            for _ in range(100):
                rows = json.loads(get(address, "report.json")[1])["rows"]
                states.append(rows[0]["state"])
                if states[-1] == State.DONE:
                    break
                if len(states) == 1:
                    finish(journal, "first", facts(1, 2))
                time.sleep(0.05)
    assert states[0] == State.FOUND
    assert states[-1] == State.DONE


def test_a_port_that_is_taken_and_a_folder_without_a_run_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no journal"), serving(tmp_path):
        pass
    with recording(tmp_path) as journal:
        enter(journal, "one")
    with serving(tmp_path) as address:
        port = urlsplit(address).port
        assert port
        with pytest.raises(InputError, match=f"port {port}"), serving(tmp_path, port):
            pass
