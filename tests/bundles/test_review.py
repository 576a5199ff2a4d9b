"""The review of a bundle: what it shows to people, and that it runs nothing."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nestseg.bundle import locate
from nestseg.bundle.findings import failing
from nestseg.bundle.review import review


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """The configs of a committed bundle, to be changed."""
    source = locate.find("hippocampus_unetpp")
    shutil.copytree(source / "configs", tmp_path / "copy" / "configs")
    return tmp_path / "copy"


def edit(bundle: Path, more: dict[str, Any], name: str = "inference.json") -> None:
    path = bundle / "configs" / name
    path.write_text(json.dumps(json.loads(path.read_text()) | more))


def lines(bundle: Path) -> list[str]:
    return [finding.line for finding in review(bundle)]


def test_it_names_what_is_imported_called_evaluated_and_written(bundle: Path) -> None:
    more = {
        "imports": ["$import glob", "$from scripts.net import Net"],
        "made": {"_target_": "scripts.net.Net"},
        "log": {"_target_": "monai.handlers.MLFlowHandler"},
        "sum": "$__import__('os').system('true')",
    }
    edit(bundle, more)
    imports, calls, evaluates, writes = lines(bundle)
    assert imports == "inference.json: imports: glob, os, scripts.net"
    assert calls.endswith("besides MONAI, PyTorch and nestseg: scripts.net.Net")
    assert "__import__('os').system('true')" in evaluates
    assert writes == "inference.json: writes by: SaveImaged, monai.handlers.MLFlowHandler"


def test_it_names_code_pickles_and_links(bundle: Path) -> None:
    (bundle / "scripts").mkdir()
    (bundle / "scripts" / "net.py").touch()
    (bundle / "cache.pkl").write_bytes(pickle.dumps(1))
    (bundle / "more").symlink_to("/etc")
    assert [line for line in lines(bundle) if line.startswith(".")] == [
        ".: holds code: scripts/net.py",
        ".: holds pickles, which nestseg does not read: cache.pkl",
        ".: holds links: more",
    ]


def test_only_what_inference_reads_is_looked_at(bundle: Path) -> None:
    before = lines(bundle)
    edit(bundle, {"more": "$__import__('subprocess')"}, "train.json")
    (bundle / "docs").mkdir()
    (bundle / "docs" / "tutorial.ipynb").write_text("{}")
    (bundle / "configs" / "inference_trt.json").write_text('{"a": "$open(1)"}')
    assert lines(bundle) == before


def test_notes_fail_no_check_and_nothing_is_executed(bundle: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    edit(bundle, {"device": f"$__import__('pathlib').Path({str(canary)!r}).touch()"})
    assert failing(review(bundle), strict=True) == []
    assert not canary.exists()


@given(st.text(alphabet="@#:$%_ab1 .()[]'+\\n\x1b", max_size=40))
@settings(max_examples=40, deadline=None)
def test_any_text_is_shown_as_one_printable_line(text: str) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "configs", "inference.json")
        path.parent.mkdir()
        path.write_text(json.dumps({"a": f"${text}", "_target_": text}))
        for line in lines(Path(folder)):
            assert line.isprintable()


def test_an_expression_too_deep_to_parse_is_shown_all_the_same(bundle: Path) -> None:
    edit(bundle, {"deep": "$" + "(" * 1500 + ")" * 1500})
    assert any("((((" in line for line in lines(bundle))
