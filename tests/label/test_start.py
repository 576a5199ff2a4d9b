"""The command line of the server, and what stands in for libraries."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nestseg.cli import app
from nestseg.label import start
from nestseg_prep.errors import InputError

CHECKOUT = Path(__file__).parents[2]


def options(tmp_path: Path, **changes: object) -> start.Options:
    studies = tmp_path / "studies"
    studies.mkdir(exist_ok=True)
    given = start.Options(
        ["hippocampus_unetpp"], str(studies), tmp_path / "work", "127.0.0.1", 8000
    )
    return given._replace(**changes)  # type: ignore[arg-type]


def test_the_server_listens_on_loopback_and_runs_our_app(tmp_path: Path) -> None:
    given = options(tmp_path)
    command = start.command(given)
    assert command[command.index("--host") + 1] == "127.0.0.1"
    written = Path(command[command.index("--app") + 1]) / "main.py"
    ours = CHECKOUT / "label_app" / "main.py"
    assert ast.unparse(code(written)) == ast.unparse(code(ours))
    assert len(ours.read_text().splitlines()) <= 15
    log = json.loads(Path(command[command.index("--log_config") + 1]).read_text())
    assert log["root"]["level"] == "WARNING"


def code(path: Path) -> ast.Module:
    tree = ast.parse(path.read_text())
    return ast.Module(tree.body[1:], [])


def test_processes_of_the_server_find_the_shims_first_and_no_proxy(tmp_path: Path) -> None:
    found = start.environment(options(tmp_path), {"PYTHONPATH": "/x", "NO_PROXY": "a.example"})
    assert found["PYTHONPATH"].split(os.pathsep) == [str(start.SHIMS), "/x"]
    assert found["NO_PROXY"] == "a.example,127.0.0.1,localhost"
    assert found["MONAI_LABEL_TRACKING_ENABLED"] == "false"
    assert "evil.example" not in found[start.HOSTS]
    public = start.environment(options(tmp_path, host="10.0.0.1"), {})
    assert "10.0.0.1" in public[start.HOSTS].split(",")
    assert start.environment(options(tmp_path, host="0.0.0.0"), {})[start.HOSTS] == "*"  # noqa: S104


def test_the_working_folder_stays_out_of_the_studies(tmp_path: Path) -> None:
    given = options(tmp_path, work=tmp_path / "studies" / "work")
    with pytest.raises(InputError, match="among the studies"):
        start._check_apart(given)
    with pytest.raises(InputError, match="no such folder"):
        start._check_apart(options(tmp_path, studies=str(tmp_path / "none")))


def test_without_monai_label_the_line_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    found = CliRunner().invoke(app, ["label", "-b", "x", "-s", str(tmp_path)])
    assert isinstance(found.exception, InputError)
    assert "make label" in str(found.exception)


def test_the_shims_have_what_is_imported_and_say_when_they_can_go() -> None:
    script = (
        "import torchvision.utils as t, pydicom_seg as p\n"
        "assert t.make_grid and t.save_image\n"
        "try: p.MultiClassReader\n"
        "except AttributeError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": str(start.SHIMS)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "nestseg's own" in done.stdout
    for shim in start.SHIMS.glob("*/__init__.py"):
        assert "can go when" in (ast.get_docstring(ast.parse(shim.read_text())) or "")
