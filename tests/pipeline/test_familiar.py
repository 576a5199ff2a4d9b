"""Bundles from elsewhere start lean if they need no more of MONAI than ours."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from nestseg.bundle import locate
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
