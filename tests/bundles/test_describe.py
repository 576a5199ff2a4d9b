"""``nestseg bundle list`` and ``bundle info``: what is shown of a bundle, and of a hostile one."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from nestseg.bundle import describe, locate, trust
from nestseg.bundle.built import BundleConfig
from nestseg.cli import app
from nestseg.networks.levels import levels
from nestseg_prep.errors import InputError

ESCAPE = "\x1b]0;owned\x07\u202e\r[bold red]x[/]"


def nestseg(*words: object) -> Result:
    return CliRunner().invoke(app, ["bundle", *map(str, words)])


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A copy of a committed bundle without its weights, which nobody trusts."""
    source = locate.find("hippocampus_unetpp")
    ignored = shutil.ignore_patterns("models")
    copied = shutil.copytree(source, tmp_path / "shelf" / "mine", ignore=ignored)
    edit(copied, author="somebody else")
    return copied


def edit(bundle: Path, **changes: Any) -> None:
    path = bundle / "configs" / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_every_bundle_of_nestseg_is_listed_with_labels_licence_and_trust() -> None:
    done = nestseg("list", "--json")
    assert done.exit_code == 0
    found = {one["name"]: one for one in json.loads(done.stdout)}
    assert list(found) == locate.names()
    assert {one["code"] for one in found.values()} == {"nestseg"}
    heart = found["heart_cine"]
    assert heart["labels"] == {"1": "right ventricle", "2": "myocardium", "3": "left ventricle"}
    assert (heart["modality"], heart["dims"]) == ("MR", 2)
    assert (heart["licence"], heart["data_licence"]) == ("Apache-2.0", "CC BY-NC-SA 4.0")
    table = nestseg("list").stdout
    assert all(name in table for name in found)


def test_bundles_of_a_folder_are_listed_too_and_one_that_is_broken_hides_no_other(
    bundle: Path,
) -> None:
    broken = shutil.copytree(bundle, bundle.with_name("broken"))
    (broken / "configs" / "metadata.json").write_text("{")
    done = nestseg("list", bundle.parent, "--json")
    ours, (bad, good) = (found := json.loads(done.stdout))[:-2], found[-2:]
    assert len(ours) == len(locate.names())
    assert "metadata.json cannot be read" in bad["error"]
    assert (good["name"], good["code"]) == ("mine", "caged")
    trust.remember(bundle)
    assert describe.summary(bundle)["code"] == "trusted"


def test_a_folder_without_bundles_is_refused(tmp_path: Path) -> None:
    done = nestseg("list", tmp_path)
    assert done.exit_code == 1
    assert "no bundle in it" in str(done.exception)


def test_info_tells_labels_rules_levels_and_the_digest_of_the_weights() -> None:
    folder = locate.find("hippocampus_unetpp")
    found = json.loads(nestseg("info", folder.name, "--json").stdout)
    weights = (folder / "models" / "model.pt").read_bytes()
    assert found["weights"] == {
        "models/model.pt": {"bytes": len(weights), "sha256": hashlib.sha256(weights).hexdigest()}
    }
    assert found["levels"] == ["L1", "L2", "L3"]
    assert found["selection"]["extent_mm"] == [20, 60]
    assert found["requires"]["nestseg"] == "0.1.0"
    assert found["network"] == "nestseg.networks.GridUNet"
    table = nestseg("info", folder.name).stdout
    assert hashlib.sha256(weights).hexdigest() in table
    assert "extent_mm: 20 to 60" in table


def test_the_levels_that_info_tells_are_those_that_the_networks_have() -> None:
    for name in locate.names():
        folder = locate.find(name)
        network = BundleConfig.inference(folder).build("network_def")
        columns = levels(network)
        expected = [f"L{one}" for one in columns] if len(columns) > 1 else []
        assert describe.describe(folder)["levels"] == expected, name


def test_info_tells_the_figures_of_the_metadata_and_what_to_do_without_weights(
    bundle: Path,
) -> None:
    edit(bundle, eval_metrics={"mean_dice": 0.961})
    done = nestseg("info", bundle)
    assert "mean_dice: 0.961" in done.stdout
    assert "models/model.pt is missing; train the bundle first" in " ".join(done.stdout.split())


def test_a_hostile_bundle_prints_no_control_character(bundle: Path) -> None:
    edit(bundle, task=ESCAPE, name=ESCAPE, description=ESCAPE, eval_metrics={ESCAPE: ESCAPE})
    edit(bundle, required_packages_version={ESCAPE: ESCAPE}, monai_version=ESCAPE)
    (bundle / "LICENSE").write_text(ESCAPE)
    for words in (("list", bundle), ("info", bundle)):
        done = nestseg(*words)
        assert done.exit_code == 0
        assert all(char.isprintable() or char == "\n" for char in done.stdout)
    assert "[bold red]x[/]" in done.stdout


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)
fields = st.sampled_from(
    ["name", "task", "version", "authors", "eval_metrics", "required_packages_version"]
)


@settings(max_examples=25)
@given(changes=st.dictionaries(fields, anything), network=anything, inputs=anything)
def test_whatever_stands_in_a_bundle_it_is_described_as_printable_text_or_refused(
    changes: dict[str, Any], network: Any, inputs: Any
) -> None:
    source = locate.find("hippocampus_unetpp") / "configs"
    with TemporaryDirectory() as scratch:
        configs = Path(scratch, "b", "configs")
        shutil.copytree(source, configs)
        metadata = json.loads((source / "metadata.json").read_text())
        metadata["network_data_format"]["inputs"] = inputs
        edit(configs.parent, **(metadata | changes))
        path = configs / "inference.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"network_def": network}))
        try:
            found = describe.describe(configs.parent)
        except InputError:
            return
    assert all(text.isprintable() for text in texts(found))


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from (*texts(key), *texts(inner))
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)
    else:
        yield str(value)
