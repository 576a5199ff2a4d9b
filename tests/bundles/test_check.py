"""``nestseg bundle check``: committed bundles pass; a mistake is one line with its place."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nestseg.bundle import checks, locate, trust
from nestseg.bundle.checks import (
    label,
    language,
    layout,
    metadata,
    network,
    preprocessing,
    running,
    workflow,
)
from nestseg.bundle.export import export
from nestseg.bundle.findings import Finding, failing
from nestseg.bundle.info import read_info
from nestseg.cli.segment import run as segment
from nestseg_prep.dicom.scan import scan
from nestseg_prep.errors import InputError
from nestseg_prep.nifti import write_nifti

BUNDLE = "hippocampus_unetpp"
Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A copy of a committed bundle, to be spoilt."""
    return Path(shutil.copytree(locate.find(BUNDLE), tmp_path / BUNDLE))


def nestseg(*arguments: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-W", "ignore", "-m", "nestseg.cli", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


TRAINED = [n for n in locate.names() if (locate.find(n) / "models" / "model.pt").is_file()]
FAST = ("hippocampus_unet3d", "em_unet")
"""Volumes and sections; the others take minutes together, and `make bundles` checks all."""


@pytest.mark.parametrize(
    "name",
    [pytest.param(one, marks=() if one in FAST else pytest.mark.slow) for one in TRAINED],
)
def test_a_committed_bundle_passes_and_stays_as_it_is(name: str) -> None:
    folder = locate.find(name)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    found = checks.check(folder)
    assert [finding.line for finding in failing(found, strict=False)] == []
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_the_metadata_keep_monais_schema(schemas: Path) -> None:
    described = metadata.read(locate.find(BUNDLE))
    assert described is not None
    schema = schemas / "meta_schema_20240725.json"
    assert metadata.check_schema(described, schema) == []
    del described["task"]
    (finding,) = metadata.check_schema(described, schema)
    assert "'task' is a required property" in finding.line


def _of(module: str, bundle: Path) -> list[Finding]:
    described = metadata.read(bundle) or {}
    return {
        "language": lambda: language.check(bundle),
        "label": lambda: label.check(bundle, described),
        "layout": lambda: layout.check(bundle),
        "metadata": lambda: metadata.check(described),
        "network": lambda: network.check(bundle, described),
        "preprocessing": lambda: preprocessing.check(bundle),
        "workflow": lambda: workflow.check(bundle, bundle.parent),
    }[module]()


def tensor(side: str, name: str, **changes: Any) -> Change:
    return lambda c: c["network_data_format"][side][name].update(changes)


MISTAKES: dict[str, tuple[str, str, Change, str]] = {
    "a component misspelt": (
        "language",
        "train",
        lambda c: c["load"][1].update(_target_="Orientatoind"),
        "train.json: load#1#_target_: Orientatoind is not a component of MONAI; did you mean "
        "Orientationd?",
    ),
    "a class misspelt": (
        "language",
        "train",
        lambda c: c["optimizer"].update(_target_="torch.optim.AdamWW"),
        "train.json: optimizer#_target_: torch.optim.AdamWW does not exist; did you mean AdamW?",
    ),
    "a parenthesis left open": (
        "language",
        "inference",
        lambda c: c.update(run=["$@evaluator.run("]),
        "inference.json: run#0: is not a Python expression ('(' was never closed)",
    ),
    "a module that nothing imports": (
        "language",
        "inference",
        lambda c: c["dataset"].update(data="$glob.glob(@dataset_dir)"),
        "inference.json: dataset#data: glob is not defined: nothing imports it",
    ),
    "two modules in one import": (
        "language",
        "train",
        lambda c: c["imports"].insert(0, "$import math, json"),
        "train.json: imports#0: imports several names: MONAI takes the first of a line",
    ),
    "a reference misspelt": (
        "workflow",
        "train",
        lambda c: c["train"]["dataloader"].update(batch_size="@batch_szie"),
        "train.json: train#dataloader: @batch_szie is not defined; did you mean @batch_size?",
    ),
    "a circle of references": (
        "workflow",
        "train",
        lambda c: c.update(epochs="@val_interval", val_interval="@epochs"),
        "train.json: epochs: refers to itself",
    ),
    "a macro to nothing": (
        "workflow",
        "train",
        lambda c: c["validate"].update(preprocessing="%train#nothing"),
        "train.json: validate#preprocessing: %train#nothing is not defined",
    ),
    "an argument misspelt": (
        "workflow",
        "train",
        lambda c: c["optimizer"].update(weight_deacy=0.1),
        "train.json: optimizer: TypeError: AdamW.__init__() got an unexpected keyword argument "
        "'weight_deacy'",
    ),
    "an argument of the wrong kind": (
        "workflow",
        "inference",
        lambda c: c["network_def"].update(features="16, 32"),
        "inference.json: network_def: ",
    ),
    "an id that hosts read renamed": (
        "workflow",
        "train",
        lambda c: c["train"].update(engine=c["train"].pop("trainer")),
        "train.json: train#trainer: is missing",
    ),
    "an optional id that is not referred to": (
        "workflow",
        "train",
        lambda c: c["train"]["trainer"].update(train_handlers="@validate#handlers"),
        "train.json: train#trainer#train_handlers: does not refer to `train#handlers`",
    ),
    "a metric that is not computed": (
        "workflow",
        "evaluate",
        lambda c: c["validate#handlers"][2].update(metrics=["val_acc"]),
        "evaluate.json: validate#handlers#2#metrics: val_acc is no metric; there is: val_mean_dice",
    ),
    "a handler that is a reference": (
        "workflow",
        "train",
        lambda c: (
            c.update(s=c["validate"]["handlers"][1]),
            c["validate"]["handlers"].append("@s"),
        ),
        "train.json: validate#handlers#4: is no mapping",
    ),
    "labels that are interpolated on their way back": (
        "workflow",
        "inference",
        lambda c: c["postprocessing"]["transforms"][1].update(nearest_interp=False),
        "inference.json: postprocessing#transforms: its Invertd interpolates between label numbers",
    ),
    "labels that are interpolated on their way to the validation": (
        "workflow",
        "evaluate",
        lambda c: c["validate#postprocessing#transforms"][1].update(nearest_interp="$1 > 2"),
        "evaluate.json: validate#postprocessing#transforms: its Invertd interpolates",
    ),
    "an uncertainty beyond the scale": (
        "metadata",
        "metadata",
        lambda c: c.update(uncertainty_at_most=2.4),
        "metadata.json: uncertainty_at_most: cannot be read",
    ),
    "a version without a word in the changelog": (
        "metadata",
        "metadata",
        lambda c: c.update(version="0.9.0"),
        "metadata.json: changelog: does not mention 0.9.0",
    ),
    "a class without a name": (
        "metadata",
        "metadata",
        lambda c: c["network_data_format"]["outputs"]["pred"]["channel_def"].pop("2"),
        "metadata.json: network_data_format#outputs#pred#channel_def: names the classes 0, 1; ",
    ),
    "an input of another name": (
        "metadata",
        "metadata",
        lambda c: c["network_data_format"].update(
            inputs={"img": c["network_data_format"]["inputs"]["image"]}
        ),
        "metadata.json: network_data_format#inputs: begins with `img`; hosts look for `image`",
    ),
    "a size that the network refuses": (
        "network",
        "metadata",
        tensor("inputs", "image", spatial_shape=["8*n+1"] * 3),
        "metadata.json: network_data_format#inputs#image#spatial_shape: the network refuses",
    ),
    "another number of channels": (
        "network",
        "metadata",
        tensor("outputs", "pred", num_channels=2),
        "metadata.json: network_data_format#outputs#pred#num_channels: is 2; the network gives 3",
    ),
    "another size of the output": (
        "network",
        "metadata",
        tensor("outputs", "pred", spatial_shape=["8*n"] * 3),
        "metadata.json: network_data_format#outputs#pred#spatial_shape: is 8×8×8",
    ),
    "weights of another network": (
        "network",
        "inference",
        lambda c: c["network_def"].update(features=[8, 16, 32, 64]),
        "models/model.pt: does not fit `network_def` of inference.json",
    ),
    "a loss with too few weights": (
        "network",
        "train",
        lambda c: (
            c["loss"].update(_target_="nestseg.losses.HeadsLoss"),
            c.update(deep_supervision_weights=[1.0]),
        ),
        "train.json: loss: does not take what the network gives in training: ValueError: 3 heads, "
        "but 1 weights",
    ),
    "a network that predicts a list": (
        "network",
        "inference",
        lambda c: c.update(
            inferer={"_target_": "SimpleInferer"},
            network_def={
                "_target_": "torch.nn.MaxPool3d",
                "kernel_size": 1,
                "return_indices": True,
            },
        ),
        "inference.json: network_def: gives a tuple when it predicts",
    ),
    "another preparation of the image": (
        "preprocessing",
        "inference",
        lambda c: c["load"][2].update(pixdim=[1.0, 1.0, 2.0]),
        "inference.json: preprocessing: step 2 differs from validate#preprocessing",
    ),
    "a mask on another grid": (
        "label",
        "inference",
        lambda c: c["postprocessing"]["transforms"].pop(1),
        "inference.json: postprocessing: does not undo the preprocessing",
    ),
    "a mask of real numbers": (
        "label",
        "inference",
        lambda c: c["postprocessing"]["transforms"][-1].pop("output_dtype"),
        "inference.json: postprocessing: saves label maps as float32",
    ),
    "image_path in Spacingd's way": (
        "label",
        "inference",
        lambda c: c["preprocessing"].update(transforms="$@load + @intensity"),
        "inference.json: preprocessing: breaks in MONAI Label",
    ),
    "a path of one machine": (
        "layout",
        "train",
        lambda c: c.update(dataset_dir="/home/somebody/data"),
        "train.json: dataset_dir: a path of one machine (/home/somebody/data)",
    ),
}


def edit(bundle: Path, name: str, change: Change) -> None:
    path = bundle / "configs" / f"{name}.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def appended(place: str) -> Change:
    """A step behind a postprocessing that fails when it is run, and not when it is built."""
    step = {"_target_": "Lambdad", "keys": "pred", "func": "$lambda mask: 1 / (mask.numel() * 0)"}
    return lambda c: c[place]["transforms"].append(step)


def test_what_breaks_when_segment_runs_is_found(bundle: Path) -> None:
    edit(bundle, "inference", appended("postprocessing"))
    trust.remember(bundle)
    (found,) = running.segments(bundle)
    assert found.line.startswith("inference.json: cannot segment an image of 54 × 49 × 43 voxels")
    assert "ZeroDivisionError at monai/" in found.line
    assert found.line.endswith("division by zero")
    (bundle / "models" / "model.pt").unlink()
    trust.remember(bundle)
    (found,) = running.segments(bundle)
    assert found.line == (
        "inference.json: cannot be loaded: models/model.pt is missing; train the bundle first"
    )


def test_what_breaks_when_the_training_validates_is_found(bundle: Path, tmp_path: Path) -> None:
    assert running.validates(bundle, tmp_path) == []
    edit(bundle, "train", lambda c: appended("postprocessing")(c["validate"]))
    (found,) = running.validates(bundle, tmp_path)
    assert found.line.startswith("train.json: validate#evaluator: fails on a phantom: ")
    assert "ZeroDivisionError" in found.line


def test_a_bundle_from_elsewhere_passes_if_it_runs_whatever_its_style(bundle: Path) -> None:
    for name in ("bundle.yaml", "LICENSE", "docs/README.md", "configs/train.json"):
        (bundle / name).unlink()
    edit(bundle, "metadata", lambda c: (c.pop("changelog"), c.pop("required_packages_version")))
    edit(bundle, "inference", lambda c: (c.pop("selection"), c["dataset"].pop("data")))
    trust.remember(bundle)  # a cage takes longer, and finds no more
    found = checks.check(bundle)
    assert failing(found, strict=True) == []
    lines = [finding.line for finding in found]
    assert any(line.startswith("LICENSE: is missing") for line in lines)
    assert any(line.startswith("metadata.json: changelog: does not mention") for line in lines)


@pytest.mark.parametrize("name", locate.names())
def test_the_phantom_fits_the_rules_of_the_bundle(name: str, tmp_path: Path) -> None:
    info = read_info(locate.find(name))
    image, label = running.phantom(info)
    assert set(np.unique(label.array)) == {0, *info.labels}
    assert label.shape == image.shape
    write_nifti(image, tmp_path / "image.nii.gz")
    (series,) = scan(tmp_path).series
    (decision,) = info.selection.decide([series])
    assert decision.reason == ""


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_that_names_file_and_id(bundle: Path, mistake: str) -> None:
    module, name, change, expected = MISTAKES[mistake]
    edit(bundle, name, change)
    found = [finding.line for finding in _of(module, bundle)]
    assert [line for line in found if line.startswith(expected)], found
    assert all("\n" not in line for line in found)
    if module in ("language", "label", "layout", "preprocessing"):
        assert len(found) == 1, found


def test_a_comma_too_many_and_a_key_twice_are_one_line_each(bundle: Path) -> None:
    (bundle / "configs" / "evaluate.json").write_text('{"a": 1,\n "b": 2,\n}')
    path = bundle / "configs" / "train.json"
    path.write_text(path.read_text().replace("{", '{"run": [],', 1))
    first, second = sorted(finding.line for finding in language.check(bundle))
    assert first.startswith("evaluate.json: line 3: is no JSON")
    assert second.startswith("train.json: Duplicate key: `run`")


def test_missing_files_and_a_bad_name_are_found(bundle: Path) -> None:
    spoilt = bundle.rename(bundle.parent / "hippocampus_v2")
    for name in ("LICENSE", "configs/evaluate.json", "models/model.pt", "docs/data_license.txt"):
        (spoilt / name).unlink()
    (spoilt / "docs" / "README.md").write_text("# Nothing\n")
    found = [finding.line.split(";")[0] for finding in layout.check(spoilt)]
    assert {
        "LICENSE: is missing",
        "evaluate.json: is missing",
        "models/model.pt: is missing",
        "docs/data_license.txt: is missing",
        "hippocampus_v2: a name in which the Model Zoo reads a version",
        "docs/README.md: has no section `Limitations`",
        "docs/README.md: does not say that this is no medical device",
    } <= set(found)


def test_the_command_checks_an_exported_zip_file_and_refuses_a_changed_folder(
    tmp_path: Path,
) -> None:
    folder = export(locate.find(BUNDLE), tmp_path)
    packed = export(locate.find(BUNDLE), tmp_path / "handed_on.zip")
    path = folder / "configs" / "inference.json"
    path.write_text(path.read_text().replace("GridUNet", "GridUNet2"))
    done = nestseg("bundle", "check", packed, folder)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert f"{BUNDLE}: passed" in lines
    assert lines[-1] == f"{BUNDLE}: failed"
    assert any("is not the file that MANIFEST.sha256 lists" in line for line in lines)
    assert "not run" in done.stderr


def test_the_code_of_a_bundle_from_elsewhere_is_caged_until_it_is_trusted(
    bundle: Path, tmp_path: Path, image_folder: Path
) -> None:
    canary = tmp_path / "canary"
    path = bundle / "configs" / "inference.json"
    config = json.loads(path.read_text())
    config["device"] = f"$(open({str(canary)!r}, 'w').close(), torch.device('cpu'))[1]"
    path.write_text(json.dumps(config))
    images = [image_folder / "case_0.nii.gz"]
    with pytest.raises(InputError, match="PermissionError"):
        segment(images, str(bundle), tmp_path / "out")
    assert not canary.exists()
    assert segment(images, str(bundle), tmp_path / "out", trust=True) == 0
    assert canary.exists()
    canary.unlink()
    images = [image_folder / "case_1.nii.gz"]
    assert segment(images, str(bundle), tmp_path / "out") == 0  # it is still trusted
    assert canary.exists()


def test_segment_refuses_whole_weights_with_another_digest_before_any_case(
    tmp_path: Path, image_folder: Path
) -> None:
    folder = export(locate.find(BUNDLE), tmp_path / "shelf")
    path = folder / "models" / "model.pt"
    weights = torch.load(path, weights_only=True)
    torch.save({name: value * 2 for name, value in weights.items()}, path)
    with pytest.raises(InputError, match=r"model\.pt: is not the file that MANIFEST\.sha256 lists"):
        segment([image_folder], str(folder), tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*_seg.*"))


def test_a_bundle_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    done = nestseg("bundle", "check", tmp_path / "gone")
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "gone" in done.stderr
