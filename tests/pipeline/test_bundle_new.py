"""A data set goes in, a bundle that trains comes out, and it says why it is as it is."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from monai.bundle import ConfigParser, ConfigWorkflow, verify_metadata, verify_net_in_out

from nestseg.bundle import recipe
from nestseg.bundle.info import read_info
from nestseg.bundle.new import new
from nestseg.networks import BackboneUNet
from nestseg_prep import cohort
from nestseg_prep.errors import InputError
from tests.opened import opened

from .. import data_sets  # noqa: TID252  tests are no package

GB = 10**9
CUBES = [(20, 24, 20)] * 6


def override(bundle: Path, name: str = "train") -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((bundle / "bundle.yaml").read_text())
    return dict(loaded[name]["override"])


def in_folder(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_every_line_of_an_override_has_its_reason(tmp_path: Path) -> None:
    out = tmp_path / "balls"
    new(data_sets.decathlon(tmp_path / "data", CUBES), out, GB)
    lines = (out / "bundle.yaml").read_text().splitlines()
    keys = [k for k, line in enumerate(lines) if re.match(r'    ["+\w]', line)]
    assert len(keys) > 30
    for k in keys:
        assert lines[k - 1].lstrip().startswith("# ") or "  # " in lines[k], lines[k]
    assert max(len(line) for line in lines if line.lstrip().startswith("#")) <= 100


def test_the_data_set_is_left_as_it_was_and_the_bundle_is_what_its_recipe_renders(
    tmp_path: Path,
) -> None:
    data, out = data_sets.decathlon(tmp_path / "data", CUBES), tmp_path / "balls"
    before = in_folder(data)
    new(data, out, GB)
    assert in_folder(data) == before
    for name, text in recipe.render(out).items():
        assert (out / "configs" / name).read_text() == text
    assert sorted(p.name for p in tmp_path.iterdir()) == ["balls", "data"]


def test_the_same_data_set_gives_the_same_bundle(tmp_path: Path) -> None:
    data = data_sets.decathlon(tmp_path / "data", CUBES)
    for name in ("a", "b"):
        new(data, tmp_path / name / "balls", GB)
    assert in_folder(tmp_path / "a") == in_folder(tmp_path / "b")


def test_ct_is_clipped_and_standardised_by_the_foreground_of_all(tmp_path: Path) -> None:
    out = tmp_path / "balls"
    made = new(data_sets.nnunet(tmp_path / "data", CUBES), out, GB)
    inside = made.facts.foreground
    assert inside is not None
    train = override(out)
    assert train["clip_hu"] == [inside.low, inside.high]
    assert made.facts.overall.low < -650  # air, which is background
    assert -500 < inside.low < inside.mean < inside.high < 150
    parser = ConfigParser()
    parser.read_config(str(out / "configs" / "inference.json"))
    (scale,) = parser.get_parsed_content("intensity")
    low, mean, high = scale({"image": np.array([[-1000.0, inside.mean, 3000.0]])})["image"][0]
    assert mean == pytest.approx(0, abs=1e-4)
    assert low == pytest.approx((inside.low - inside.mean) / inside.sd, rel=1e-4)
    assert high == pytest.approx((inside.high - inside.mean) / inside.sd, rel=1e-4)
    metadata = json.loads((out / "configs" / "metadata.json").read_text())
    assert metadata["network_data_format"]["inputs"]["image"]["format"] == "hounsfield"
    assert read_info(out).selection.modalities == ("CT",)


def test_mr_is_standardised_volume_by_volume(tmp_path: Path) -> None:
    out = tmp_path / "balls"
    new(data_sets.decathlon(tmp_path / "data", CUBES), out, GB)
    steps = json.loads((out / "configs" / "train.json").read_text())["intensity"]
    assert [step["_target_"] for step in steps] == [
        "ScaleIntensityRangePercentilesd",
        "NormalizeIntensityd",
    ]
    assert read_info(out).selection.modalities == ("MR",)


def test_a_stripped_background_does_not_count(tmp_path: Path) -> None:
    data, out = data_sets.decathlon(tmp_path / "data", CUBES), tmp_path / "balls"
    for path in (data / "imagesTr").iterdir():
        image = nib.load(path)
        array = image.get_fdata(dtype=np.float32)
        array[:, :12] = 0
        nib.save(nib.Nifti1Image(array, image.affine, image.header), path)
    new(data, out, GB)
    assert override(out)["intensity#1#nonzero"] is True


def test_a_damaged_case_is_left_out_and_the_others_make_the_bundle(tmp_path: Path) -> None:
    data, out = data_sets.decathlon(tmp_path / "data", CUBES), tmp_path / "balls"
    broken = data / "imagesTr" / "ball_2.nii.gz"
    broken.write_bytes(broken.read_bytes()[:500])
    (data / "labelsTr" / "ball_4.nii.gz").unlink()
    made = new(data, out, GB)
    assert [case.name for case in made.facts.left_out] == ["ball_2", "ball_4"]
    lists = json.loads((out / "datalist.json").read_text())
    names = [Path(case["image"]).name for part in lists.values() for case in part]
    assert sorted(names) == [f"ball_{k}.nii.gz" for k in (0, 1, 3, 5)]
    assert cohort.cases(out / "datalist.json", "train") == lists["train"]


def test_text_from_the_data_set_is_never_code(tmp_path: Path) -> None:
    data, out = data_sets.decathlon(tmp_path / "data", CUBES), tmp_path / "balls"
    index = json.loads((data / "dataset.json").read_text())
    index["name"] = "$__import__('os').getcwd()"
    index["labels"] = {"0": "background", "1": "12", "2": "@network % of"}
    index["description"] = "two\nlines: # and '\"quotes\"'"
    (data / "dataset.json").write_text(json.dumps(index))
    new(data, out, GB)
    metadata = json.loads((out / "configs" / "metadata.json").read_text())
    assert metadata["data_source"] == "__import__('os').getcwd()"
    names = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
    assert names == {"0": "background", "1": "label 1", "2": "network of"}
    assert not re.search(r'"[$@%]', (out / "configs" / "metadata.json").read_text())


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda index: index.pop("training"), "not a Decathlon index"),
        (lambda index: index.update(modality={"0": "T1", "1": "T2"}), "2 input channels"),
        (lambda index: index.update(labels={"0": "background", "2": "ball"}), "without a gap"),
        (lambda index: index.update(training=index["training"][:2]), "at least three"),
        (lambda index: index.update(labels={"0": "background", "1": "b"}), "is not declared"),
    ],
)
def test_a_data_set_that_cannot_be_used_leaves_nothing_behind(
    tmp_path: Path, damage: Any, complaint: str
) -> None:
    data = data_sets.decathlon(tmp_path / "data", CUBES[:4])
    index = json.loads((data / "dataset.json").read_text())
    damage(index)
    (data / "dataset.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=complaint):
        new(data, tmp_path / "balls", GB)
    assert [p.name for p in tmp_path.iterdir()] == ["data"]


def test_a_folder_that_cannot_become_a_bundle_is_refused(tmp_path: Path) -> None:
    data = data_sets.decathlon(tmp_path / "data", CUBES[:3])
    for out, complaint in (
        (data, "is there already"),
        (data / "bundle", "inside the data set"),
        (tmp_path / "balls_v2", "another name"),
    ):
        with pytest.raises(InputError, match=complaint):
            new(data, out, GB)
    with pytest.raises(InputError, match="give more --memory"):
        new(data, tmp_path / "balls", GB // 10)
    assert [p.name for p in tmp_path.iterdir()] == ["data"]


def test_our_own_layout_keeps_its_split(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "balls"
    data_sets.write_cases(
        data, "images/c{}.nii.gz", "labels/c{}.nii.gz", CUBES[:4], (1.0, 1.0, 1.0)
    )
    split = {"train": ["c3.nii.gz", "c1.nii.gz"], "val": ["c0.nii.gz"], "test": ["c2.nii.gz"]}
    (data / "index.json").write_text(json.dumps({"split": split}))
    made = new(data, out, GB)
    assert made.split == {"train": ("c3", "c1"), "val": ("c0",), "test": ("c2",)}
    assert made.labels == {0: "background", 1: "label 1", 2: "label 2"}
    assert made.data.modality is None


def run(out: Path, *names: str, **options: int) -> None:
    workflow = ConfigWorkflow(
        config_file=[str(out / "configs" / f"{name}.json") for name in names],
        meta_file=str(out / "configs" / "metadata.json"),
        logging_file=False,
        workflow_type="train",
        bundle_root=str(out),
        **options,
    )
    workflow.initialize()
    assert workflow.check_properties() == []
    workflow.run()
    workflow.finalize()


@pytest.mark.parametrize(
    ("shape", "spacing", "dims", "axcodes"),
    [
        ((20, 24, 20), (1.0, 1.0, 1.0), 3, "RAS"),
        ((5, 24, 20), (6.0, 1.0, 1.0), 2, "ASR"),  # sagittal slices
    ],
)
def test_the_bundle_trains_and_segments(
    tmp_path: Path,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    dims: int,
    axcodes: str,
) -> None:
    data, out = tmp_path / "data", tmp_path / "balls"
    made = new(data_sets.decathlon(data, [shape] * 4, spacing), out, GB)
    assert (made.plan.dims, made.plan.axcodes) == (dims, axcodes)
    run(out, "train", epochs=2, val_interval=1, batch_size=2)
    run(out, "train", "evaluate")
    scores = (out / "eval" / "val_mean_dice_summary.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in scores] == ["class", "class0", "class1", "mean"]
    verify_net_in_out(
        "network_def",
        meta_file=str(out / "configs" / "metadata.json"),
        config_file=str(out / "configs" / "inference.json"),
        device="cpu",
    )
    bundle = opened(out)
    image = data_sets.labelled(shape, spacing, seed=9)[0]
    mask = bundle.predict(image).mask
    assert mask.shape == shape
    np.testing.assert_allclose(mask.affine, image.affine)
    assert bundle.info.labels == {1: "dim ball", 2: "bright ball"}


def test_the_command_makes_a_bundle_or_says_why_not(tmp_path: Path) -> None:
    data, out = data_sets.decathlon(tmp_path / "data", CUBES[:3]), tmp_path / "balls"
    words = [sys.executable, "-m", "nestseg.cli", "bundle", "new", str(data), "--out", str(out)]
    done = subprocess.run([*words, "--memory", "800MB"], capture_output=True, text=True, check=True)
    assert "monai.bundle run" in done.stdout
    shutil.rmtree(out)
    for arguments, complaint in (
        (["--memory", "lots"], "nestseg: --memory lots: no size"),
        (["--memory", "0.5GB"], "are too little"),
    ):
        done = subprocess.run([*words, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert complaint in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert not out.exists()


def test_hippocampus_gets_the_plan_that_was_made_by_hand(shared_data: Path, tmp_path: Path) -> None:
    made = new(shared_data / "volumes" / "hippocampus_msd04", tmp_path / "hippo", 4 * GB)
    assert made.plan.patch == (40, 56, 40)
    assert made.plan.network.features == (16, 32, 64, 128)
    assert made.plan.spacing == (1.0, 1.0, 1.0)
    assert made.plan.batch == 4
    assert {part: len(names) for part, names in made.split.items()} == {
        "train": 120,
        "val": 20,
        "test": 20,
    }


@pytest.mark.parametrize("write", [data_sets.decathlon, data_sets.nnunet])
def test_the_metadata_keep_monais_schema(
    shared_data: Path, tmp_path: Path, write: Callable[..., Path]
) -> None:
    schema = tmp_path / "schema.json"
    source = shared_data.parent / "schemas" / "meta_schema_20240725.json"
    if not source.is_file():
        pytest.skip("MONAI's metadata schema is not here")
    schema.write_bytes(source.read_bytes())
    out = tmp_path / "balls"
    new(write(tmp_path / "data", CUBES[:3]), out, GB)
    verify_metadata(
        meta_file=str(out / "configs" / "metadata.json"),
        filepath=str(schema),
        hash_val="cd64aa8a5904426f6fc6855dabe46af8c742d5bad644b4e9cfb78ebad09ad678",
        hash_type="sha256",
    )


def test_a_network_on_an_encoder_may_be_named(tmp_path: Path) -> None:
    out = tmp_path / "balls"
    made = new(
        data_sets.decathlon(tmp_path / "data", CUBES), out, 4 * GB, network="unetpp_resnet18"
    )
    assert made.plan.patch == (32, 32, 32)
    for name in ("train", "inference"):
        parser = ConfigParser()
        parser.read_config(str(out / "configs" / f"{name}.json"))
        with torch.device("meta"):
            network = parser.get_parsed_content("network_def")
        assert isinstance(network, BackboneUNet)
        assert network.geometry == made.plan.geometry
        assert network.levels == [1, 2, 3, 4]
    assert override(out)["deep_supervision_weights"] == [1.0] * 4


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("unetpp_vgg16_bn", r"spatial_dims must be one of \(2,\), got 3; choose another"),
        ("unet_2015", "not a grid on an encoder; write one of unet, unet_e, unet_plus, unetpp, an"),
        ("resnet18", "not a grid on an encoder"),
    ],
)
def test_a_network_that_cannot_be_planned_is_refused(
    name: str, reason: str, tmp_path: Path
) -> None:
    data = data_sets.decathlon(tmp_path / "data", CUBES)
    with pytest.raises(InputError, match=f"--network {name}: .*{reason}"):
        new(data, tmp_path / "balls", GB, network=name)
    assert not (tmp_path / "balls").exists()
