"""Configs are built without the data set, as MONAI's tools do; a run says that it is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser, create_workflow

from nestseg.bundle import locate, recipe
from nestseg.bundle.building import root_cause
from nestseg_prep.absent import Absent, deferred
from nestseg_prep.cohort import cases, existing, inputs
from nestseg_prep.errors import InputError
from nestseg_prep.selection import Selection

BUNDLES = recipe.recipes(locate.home())
LAYERS = (("train", ["train"]), ("train", ["train", "evaluate"]), ("infer", ["inference"]))

pytestmark = [
    pytest.mark.filterwarnings("ignore:parsing config_file:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*GradScaler:UserWarning"),
]


def configs(bundle: Path, names: list[str]) -> list[str]:
    return [str(bundle / "configs" / f"{name}.json") for name in names]


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_the_data_sets_of_every_bundle_are_built_without_data(bundle: Path) -> None:
    places = ("train#dataset", "validate#dataset", "dataset")
    built = []
    for _, names in LAYERS:
        parser = ConfigParser()
        parser.read_config(configs(bundle, names))
        parser["dataset_dir"] = "/nowhere"
        built += [parser.get_parsed_content(place) for place in places if place in parser]
    assert len(built) == 5
    for data in built:
        assert len(data) == 1
        with pytest.raises(InputError, match="/nowhere"):
            data[0]


def test_every_id_of_a_bundle_is_built_and_its_training_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bundle = locate.find("hippocampus_unet3d")
    for kind, names in LAYERS:
        workflow: Any = create_workflow(
            config_file=configs(bundle, names),
            meta_file=str(bundle / "configs" / "metadata.json"),
            logging_file=False,
            workflow_type=kind,
            bundle_root=str(bundle),
            dataset_dir=str(tmp_path / "none"),
            output_dir=str(tmp_path / "out"),
            device="$torch.device('cpu')",
        )
        for name in workflow.parser.get():
            if name != "run":
                workflow.parser.get_parsed_content(name)
        assert not workflow.check_properties()
        with pytest.raises(RuntimeError) as raised:
            workflow.run()
        assert isinstance(cause := root_cause(raised.value), InputError)
        assert f"{tmp_path / 'none'}: no " in str(cause)


def test_what_cannot_be_listed_is_deferred_until_it_is_read(tmp_path: Path) -> None:
    for listing, arguments in (
        (cases, (tmp_path, "train")),
        (inputs, (tmp_path / "none", Selection())),
        (existing, ([{"image": str(tmp_path / "gone.nii")}],)),
    ):
        found = deferred(listing, *arguments)
        assert isinstance(found, Absent)
        with pytest.raises(InputError, match=str(tmp_path)):
            list(found)
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.nii").touch()
    (tmp_path / "index.json").write_text(json.dumps({"split": {"train": ["a.nii"]}}))
    assert deferred(cases, tmp_path, "train") == cases(tmp_path, "train")
