"""Every committed bundle keeps what MONAI and its users expect of a bundle."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow, verify_metadata, verify_net_in_out

from nestseg.bundle import locate, recipe
from nestseg.bundle.built import BundleConfig
from nestseg.bundle.info import read_info
from nestseg.bundle.manifest import digest
from nestseg.inferers import Answers
from nestseg.outputs.plausibility import uncertainty_limit
from nestseg.pruning import record
from nestseg_prep.dicom.references import SeriesRef
from nestseg_prep.selection import Selection

BUNDLES = recipe.recipes(locate.home())
PRUNED = Path("one_that_was_pruned")
SIXTEEN_MB = 16 * 2**20

each_bundle = pytest.mark.parametrize(
    "bundle", [*BUNDLES, PRUNED], ids=lambda path: path.name, indirect=True
)


@pytest.fixture
def bundle(request: pytest.FixtureRequest, pruned_bundle: Path) -> Path:
    """A committed bundle, or one that `nestseg prune` would write."""
    path: Path = request.param
    return pruned_bundle if path == PRUNED else path


def config(bundle: Path, name: str) -> Path:
    return bundle / "configs" / name


def test_there_are_bundles() -> None:
    assert [bundle.name for bundle in BUNDLES] == locate.names()
    assert len(BUNDLES) == 19


@each_bundle
def test_it_has_the_files_of_the_specification(bundle: Path) -> None:
    for name in (
        "LICENSE",
        "configs/metadata.json",
        "configs/inference.json",
        "configs/train.json",
        "configs/evaluate.json",
        "configs/logging.conf",
        "docs/README.md",
        "docs/data_license.txt",
        "docs/train.log",
        "models/model.pt",
    ):
        assert (bundle / name).is_file(), name
    assert not re.search(r"_v\d", bundle.name)  # the Model Zoo reads a version there
    assert (bundle / "models" / "model.pt").stat().st_size <= SIXTEEN_MB


HEAD = ("HEAD", "Brain", "SKULL", "HEADNECK", "HIPPOCAMPUS")
TRUNK = ("CHEST", "Abdomen", "ABDOMENPELVIS", "CHESTABDPELVIS", "THORAX", "WHOLEBODY", "LIVER")
OTHER = ("KNEE", "FEMORALHEAD", "CSPINE", "LSPINE", "HAND", "PROSTATE", "BREAST")
ABDOMEN = ("Abdomen", "ABDOMENPELVIS", "CHESTABDPELVIS", "LIVER")
HEART = ("HEART", "CARDIAC")
TAKES = {
    "hippocampus": HEAD,
    "ct": TRUNK,
    "abdomen": ABDOMEN,
    "heart": HEART,
    "nuclei": (),
    "em": (),
}


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_it_takes_only_the_body_parts_that_it_was_trained_on(bundle: Path) -> None:
    selection = read_info(bundle).selection
    named = Selection(body_parts=selection.body_parts)
    ref = SeriesRef(
        *("dicom", "key", "", "", "", (selection.modalities or ("",))[0], ""),
        *("axial", (40, 40, 40), (1.0, 1.0, 1.0), None, ()),
    )
    taken = {
        part
        for part in ("", *HEAD, *TRUNK, *HEART, *OTHER)
        if not named.why_not(replace(ref, body_part=part))
    }
    assert taken == {"", *TAKES[bundle.name.split("_")[0]]}


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_it_has_a_limit_of_uncertainty_where_its_network_has_several_heads(bundle: Path) -> None:
    network = BundleConfig(bundle, "inference.json").build("network_def").eval()
    answers = Answers(network)
    size = network.geometry.input_size((32,) * len(network.geometry.axes))
    with torch.no_grad():
        answers(torch.zeros(1, 1, *size))
    limit = uncertainty_limit(json.loads(config(bundle, "metadata.json").read_text()))
    assert (limit is not None) == answers.disagrees


@each_bundle
def test_its_metadata_keep_monais_schema(bundle: Path, schemas: Path, tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_bytes((schemas / "meta_schema_20240725.json").read_bytes())
    verify_metadata(
        meta_file=str(config(bundle, "metadata.json")),
        filepath=str(schema),
        hash_val="cd64aa8a5904426f6fc6855dabe46af8c742d5bad644b4e9cfb78ebad09ad678",
        hash_type="sha256",
    )


@each_bundle
def test_its_version_is_in_its_changelog(bundle: Path) -> None:
    metadata = json.loads(config(bundle, "metadata.json").read_text())
    assert metadata["version"] in metadata["changelog"]


@each_bundle
@pytest.mark.parametrize("n", [1, 2])
def test_its_network_takes_and_gives_what_its_metadata_say(bundle: Path, n: int) -> None:
    verify_net_in_out(
        "network_def",
        meta_file=str(config(bundle, "metadata.json")),
        config_file=str(config(bundle, "inference.json")),
        n=n,
        device="cpu",
    )


@each_bundle
def test_it_exposes_every_property_that_monai_label_and_the_zoo_ask_for(
    bundle: Path, tmp_path: Path, fitting_data: Callable[[Path], tuple[Path, Path]]
) -> None:
    data_set, image_folder = fitting_data(bundle)
    train = config(bundle, "train.json")
    workflows = {
        "train": ("train", str(train), data_set),
        "evaluate": ("train", [str(train), str(config(bundle, "evaluate.json"))], data_set),
        "inference": ("infer", str(config(bundle, "inference.json")), image_folder),
    }
    for name, (kind, files, data) in workflows.items():
        workflow = ConfigWorkflow(
            config_file=files,
            meta_file=str(config(bundle, "metadata.json")),
            logging_file=False,
            workflow_type=kind,
            bundle_root=str(bundle),
            dataset_dir=str(data),
            output_dir=str(tmp_path / name),
        )
        workflow.initialize()
        assert workflow.check_properties() == [], name


@each_bundle
def test_its_weights_fit_its_network_strictly(bundle: Path) -> None:
    parser = ConfigParser()
    parser.read_config(str(config(bundle, "inference.json")))
    network = parser.get_parsed_content("network_def")
    weights = torch.load(bundle / "models" / "model.pt", map_location="cpu", weights_only=True)
    assert network.load_state_dict(weights, strict=True)


@each_bundle
def test_validation_and_inference_preprocess_alike(bundle: Path) -> None:
    steps = []
    for name in ("train.json", "inference.json"):
        parser = ConfigParser()
        parser.read_config(str(config(bundle, name)))
        parser["keys"] = ["image"]
        steps.append([parser["load"], parser["intensity"], parser["roi_size"], parser["overlap"]])
    assert steps[0] == steps[1]


@each_bundle
def test_every_label_of_the_mask_has_a_name(bundle: Path) -> None:
    metadata = json.loads(config(bundle, "metadata.json").read_text())
    pred = metadata["network_data_format"]["outputs"]["pred"]
    assert [int(value) for value in pred["channel_def"]] == list(range(pred["num_channels"]))
    assert pred["channel_def"]["0"] == "background"


@pytest.mark.parametrize("name", ["hippocampus_unetpp", "nuclei_unetpp"])
def test_its_levels_were_measured_with_its_weights(name: str) -> None:
    folder = locate.find(name)
    assert record.read(folder).source.weights_sha256 == digest(folder / "models" / "model.pt")
