"""Bundles from elsewhere: audited in another process, and started lean if they need no more."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nestseg.bundle import locate
from nestseg.bundle.auditing import refusals
from nestseg.bundle.familiar import is_familiar


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A bundle of ours that lies elsewhere."""
    folder = tmp_path / "copy"
    shutil.copytree(locate.find("hippocampus_unetpp"), folder)
    return folder


def changed(bundle: Path, change) -> Path:
    path = bundle / "configs" / "inference.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))
    return bundle


def test_a_bundle_that_names_what_ours_name_is_familiar(copy: Path) -> None:
    assert is_familiar(locate.find("nuclei_unet"))
    assert is_familiar(copy)
    assert is_familiar(changed(copy, lambda config: config.update(overlap=0.125)))


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["postprocessing"]["transforms"].append(
            {"_target_": "KeepLargestConnectedComponentd", "keys": "pred"}
        ),
        lambda c: c.update(more="$__import__('pandas')"),
    ],
)
def test_a_bundle_that_names_more_is_not(copy: Path, change) -> None:
    assert not is_familiar(changed(copy, change))


def test_a_bundle_that_cannot_be_read_is_not(copy: Path) -> None:
    (copy / "configs" / "inference.json").write_text("{")
    assert not is_familiar(copy)
    (copy / "configs" / "inference.json").unlink()
    assert not is_familiar(copy)


def test_the_audit_says_what_it_refuses_and_the_runner_holds_no_torch(copy: Path) -> None:
    assert refusals(copy) == []
    changed(copy, lambda config: config.update(more="$__import__('os').system('true')"))
    (line, *_) = refusals(copy)
    assert line.startswith("inference.json: more")
    words = (
        "import sys; from pathlib import Path; from nestseg.cli import checks\n"
        "try: checks.refuse_unlisted(Path(sys.argv[1]))\n"
        "except Exception as error: print(error)\n"
        "assert not {'torch', 'monai'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", words, copy], check=True, capture_output=True, text=True
    )
    assert done.stdout.startswith("copy: inference.json: more")
    assert "--trust" in done.stdout
