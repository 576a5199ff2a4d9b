"""Bundles as MONAI's Model Zoo writes them run unedited, and give the masks of MONAI's own run."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import highdicom
import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from monai.bundle import ConfigWorkflow
from monai.networks.nets import UNet
from monai.transforms import Activationsd, AsDiscreted, Compose, Lambdad
from safetensors.torch import save_file

from nestseg.batch.case import run_case
from nestseg.batch.jobs import Job, Settings
from nestseg.bundle import (
    built,
    info,
    kernel,
    label_trial,
    locate,
    packages,
    trust,
)
from nestseg.bundle.bundle import load_bundle
from nestseg.bundle.manifest import digest
from nestseg.cli import choice
from nestseg.outputs.dicom.encoding import Encoding
from nestseg.outputs.dicom.read import read_seg
from nestseg.outputs.dicom.source import read_source
from nestseg_prep import phantom
from nestseg_prep.dicom.scan import scan
from nestseg_prep.errors import InputError
from nestseg_prep.nifti import read_nifti, write_nifti
from nestseg_prep.reading import read_volume
from nestseg_prep.volume import Volume
from tests.opened import models, opened

# The Zoo's configs use MONAI's old defaults, and MONAI says so.
pytestmark = pytest.mark.filterwarnings("ignore")

SCRIPT = """
import torch
from monai.transforms import MapTransform


class Darker(torch.nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, image):
        return self.network(image * 0.5)


class Halved(MapTransform):
    def __call__(self, data):
        return {**data, **{key: data[key] / 2 for key in self.key_iterator(data)}}
"""

UNET = {
    "_target_": "UNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 3,
    "channels": [4, 8],
    "strides": [2],
}

CONFIG: dict[str, Any] = {
    "imports": ["$import os"],
    "bundle_root": ".",
    "ckpt_dir": "$@bundle_root + '/models'",
    "image_key": "ct",
    "dataset_dir": "/nowhere",
    "output_dir": "$@bundle_root + '/eval'",
    "device": "$torch.device('cpu')",
    "network_def": {"_target_": "scripts.parts.Darker", "network": UNET},
    "network": "$@network_def.to(@device)",
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": ["@image_key", "label"], "reader": "ITKReader"},
            {"_target_": "EnsureChannelFirstd", "keys": ["@image_key", "label"]},
            {"_target_": "Orientationd", "keys": "@image_key", "axcodes": "RAS"},
            {"_target_": "Spacingd", "keys": "@image_key", "pixdim": [1.5, 1.5, 2.0]},
            {"_target_": "NormalizeIntensityd", "keys": "@image_key"},
            {"_target_": "scripts.parts.Halved", "keys": "@image_key"},
            {"_target_": "CopyItemsd", "keys": "@image_key", "names": "image"},
        ],
    },
    "dataset": {"_target_": "Dataset", "data": [], "transform": "@preprocessing"},
    "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1},
    "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16], "overlap": 0.25},
    "postprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "Activationsd", "keys": "pred", "softmax": True},
            {
                "_target_": "Invertd",
                "keys": "pred",
                "transform": "@preprocessing",
                "orig_keys": "@image_key",
                "nearest_interp": False,
            },
            {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
            {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir"},
        ],
    },
    "handlers": [
        {"_target_": "StatsHandler", "iteration_log": False},
        {
            "_target_": "CheckpointLoader",
            "load_path": "$@ckpt_dir + '/best.pt'",
            "load_dict": {"net": "@network"},
        },
    ],
    "evaluator": {
        "_target_": "SupervisedEvaluator",
        "device": "@device",
        "val_data_loader": "@dataloader",
        "network": "@network",
        "inferer": "@inferer",
        "postprocessing": "@postprocessing",
        "val_handlers": "@handlers",
        "amp": True,
    },
    "run": ["$@evaluator.run()"],
}

BRATS = [
    {"_target_": "Activationsd", "keys": "pred", "sigmoid": True},
    {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5},
    {
        "_target_": "Lambdad",
        "keys": "pred",
        "func": "$lambda x: torch.where(x[[2]] > 0, 4, torch.where(x[[0]] > 0, 1, "
        "torch.where(x[[1]] > 0, 2, 0)))",
    },
]

METADATA: dict[str, Any] = {
    "version": "0.1.0",
    "network_data_format": {
        "inputs": {"ct": {"modality": "CT", "num_channels": 1, "spatial_shape": [16, 16, 16]}},
        "outputs": {
            "pred": {
                "num_channels": 3,
                "channel_def": {"0": "background", "1": "liver", "2": "spleen"},
            }
        },
    },
}


def network(shift: float = 0.0) -> dict[str, torch.Tensor]:
    """Random weights by which every class occurs."""
    torch.manual_seed(5)
    made = UNet(3, 1, 3, (4, 8), (2,))
    with torch.no_grad():
        out = made(torch.randn(1, 1, 16, 16, 16) / 4).transpose(0, 1).flatten(1)
        bias = [value for name, value in made.named_parameters() if name.endswith("bias")][-1]
        bias -= out.mean(dim=1) + torch.tensor([shift, 0, 0])
    return {f"network.{name}": value for name, value in made.state_dict().items()}


@pytest.fixture(autouse=True)
def importing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A site that trusts nothing, and imports that are as before once the test is over."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", sys.dont_write_bytecode)
    monkeypatch.setattr(built, "_roots", [])
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "scripts"]:
        del sys.modules[name]


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    """Makes the bundle, with ids of its config and metadata changed."""

    def bundle(config: Any = (), metadata: Any = (), kind: str = "yaml") -> Path:
        folder = tmp_path / "organs"
        shutil.rmtree(folder, ignore_errors=True)
        for name in ("configs", "models", "scripts", "docs"):
            (folder / name).mkdir(parents=True)
        (folder / "scripts" / "parts.py").write_text(SCRIPT)
        (folder / "scripts" / "__init__.py").touch()
        (folder / "docs" / "notebook.ipynb").write_text("not even JSON")
        (folder / "configs" / "inference_trt.json").write_text("{")
        content = json.loads(json.dumps(CONFIG | dict(config)))
        text = yaml.safe_dump(content) if kind != "json" else json.dumps(content)
        (folder / "configs" / f"inference.{kind}").write_text(text)
        (folder / "configs" / "metadata.json").write_text(json.dumps(METADATA | dict(metadata)))
        torch.save({"net": network(), "optimizer": {}}, folder / "models" / "best.pt")
        torch.save(network(9), folder / "models" / "model.pt")  # of an older training
        return folder

    return bundle


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    random = np.random.default_rng(2)
    affine = np.array(
        [
            [-1.2 * 0.96, 1.3 * 0.28, 0, 9],
            [1.2 * 0.28, 1.3 * 0.96, 0, 5],
            [0, 0, 2.1, -4],
            [0, 0, 0, 1],
        ]
    )
    array = random.normal(0, 100, (26, 22, 14)).astype(np.float32)
    write_nifti(Volume(array, affine), tmp_path / "case.nii.gz")
    return read_nifti(tmp_path / "case.nii.gz")  # its affine is rounded, as MONAI will see it


def by_monai(bundle: Path, folder: Path) -> np.ndarray[Any, Any]:
    """The mask that MONAI's own workflow writes, labels that overlap along the last axis."""
    path = folder / "case.nii.gz"
    sys.path.insert(0, str(bundle))
    config = yaml.safe_load(next((bundle / "configs").glob("inference.[yj]*")).read_text())
    steps = config["preprocessing"]["transforms"]  # nibabel reads here, and there is no label
    steps[0] = {"_target_": "LoadImaged", "keys": "@image_key"}
    steps[1]["keys"] = "@image_key"
    (folder / "config.json").write_text(json.dumps(config))
    workflow = ConfigWorkflow(
        str(folder / "config.json"),
        str(bundle / "configs" / "metadata.json"),
        logging_file=False,
        workflow_type="inference",
        bundle_root=str(bundle),
        output_dir=str(folder / "monai"),
        dataset={
            "_target_": "Dataset",
            "data": [{"ct": str(path)}],
            "transform": "@preprocessing",
        },
    )
    workflow.initialize()
    workflow.run()
    sys.path.remove(str(bundle))
    for name in [name for name in sys.modules if name.partition(".")[0] == "scripts"]:
        del sys.modules[name]
    (mask,) = (folder / "monai").rglob("*.nii.gz")
    return np.asarray(nib.load(mask).dataobj)  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["yaml", "json", "yml"])
def test_an_unedited_bundle_gives_the_mask_of_monais_own_run(
    make: Callable[..., Path], volume: Volume, tmp_path: Path, kind: str
) -> None:
    bundle = make(kind=kind)
    before = trust.digest(bundle)
    made = opened(locate.find(str(bundle)))
    mask = made.predict(volume).mask
    assert trust.digest(bundle) == before
    assert set(np.unique(mask.array)) == {0, 1, 2}
    np.testing.assert_array_equal(mask.array, by_monai(bundle, tmp_path))
    assert made.info.weights_sha256 == digest(bundle / "models" / "best.pt")
    assert made.info.labels == {1: "liver", 2: "spleen"}


@pytest.mark.skipif(bool(kernel.unavailable()), reason="no cages here")
def test_a_cage_tells_the_weights_and_the_values_that_the_postprocessing_sets(
    make: Callable[..., Path], volume: Volume, tmp_path: Path
) -> None:
    names = {"0": "tumor core", "1": "whole tumor", "2": "enhancing tumor"}
    output = {"pred": {"num_channels": 3, "channel_def": names}}
    formats = METADATA["network_data_format"] | {"outputs": output}
    invert = CONFIG["postprocessing"]["transforms"][1]
    save = CONFIG["postprocessing"]["transforms"][-1]
    steps = [BRATS[0], invert, *BRATS[1:], save]
    bundle = make(
        {"postprocessing": {"_target_": "Compose", "transforms": steps}},
        {"network_data_format": formats},
    )
    made = load_bundle(bundle)
    assert made.caged
    assert made.info.labels == {  # what value 2 stands for is edema, whatever its channel is called
        1: "tumor core without enhancing tumor",
        2: "whole tumor without tumor core and enhancing tumor",
        4: "enhancing tumor",
    }
    assert made.info.weights_sha256 == digest(bundle / "models" / "best.pt")
    mask = made.predict(volume).mask.array
    assert set(np.unique(mask)) == {0, 1, 2, 4}
    np.testing.assert_array_equal(mask, by_monai(bundle, tmp_path))


@pytest.mark.parametrize(
    ("names", "background"),
    [
        ({"0": "liver", "1": "spleen", "2": "tumor"}, False),
        ({"0": "background", "1": "spleen", "2": "tumor"}, True),
        ({}, False),
    ],
)
def test_labels_that_may_overlap_have_a_mask_each_as_monai_has_a_channel_for_each(
    make: Callable[..., Path],
    volume: Volume,
    tmp_path: Path,
    names: dict[str, str],
    background: bool,
) -> None:
    bundle = make(*overlapping(names))
    made = opened(bundle)
    numbered = [names.get(str(k), f"label {k + 1}") for k in range(background, 3)]
    assert made.info.overlap
    assert made.info.labels == dict(enumerate(numbered, start=1))
    found = made.predict(volume)
    theirs = np.moveaxis(by_monai(bundle, tmp_path), -1, 0)[int(background) :]
    assert (theirs.sum(axis=0) > 1).any()
    for (mask, labels), expected in zip(found.by_mask(), theirs, strict=True):
        (value,) = labels
        np.testing.assert_array_equal(mask.array, expected * value)
    with pytest.raises(InputError, match="there is a mask for each"):
        _ = found.mask


def overlapping(names: dict[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Ids of a config, and of metadata, of a bundle whose three channels are thresholded."""
    _, invert, _, save = CONFIG["postprocessing"]["transforms"]
    steps = [BRATS[0], invert, BRATS[1], save]
    output = {"pred": {"num_channels": 3, "channel_def": names}}
    formats = METADATA["network_data_format"] | {"outputs": output}
    return {"postprocessing": {"_target_": "Compose", "transforms": steps}}, {
        "network_data_format": formats
    }


@pytest.mark.parametrize("encoding", [Encoding.BINARY, Encoding.LABELMAP])
@pytest.mark.skipif(bool(kernel.unavailable()), reason="no cages here")
def test_labels_that_overlap_are_written_as_a_file_each_and_as_segments_that_overlap(
    make: Callable[..., Path], tmp_path: Path, encoding: Encoding
) -> None:
    names = ["liver", "spleen", "tumor"]
    bundle = make(*overlapping({str(k): name for k, name in enumerate(names)}))
    made = phantom.Phantom(columns=26, rows=22, slices=14)
    phantom.write(made.datasets(), tmp_path / "in")
    (ref,) = scan(tmp_path / "in").series
    case_of = load_bundle(bundle)
    assert case_of.info.overlap
    job = Job("head", ref, 1, tmp_path / "staging")
    outcome = run_case(job, case_of, Settings(bundle, encoding, rtstruct=True))
    assert outcome.cause is None, outcome.reason
    notes = [note for note in outcome.facts.notes if "BINARY" in note]
    assert len(notes) == (encoding is Encoding.LABELMAP)
    files = {one.role: tmp_path / "staging" / one.path for one in outcome.outputs}
    results = {"seg", "sr", "rtstruct"}
    assert set(files) == {"mask-1", "mask-2", "mask-3", "preview", "snapshot", *results}
    image = read_volume(ref)
    masks = [found.array for found in opened(bundle).predict(image).masks]
    volumes = outcome.facts.volumes_ml
    assert [flag.label for flag in outcome.facts.flags if flag.code == "empty"] == []
    for value, (name, mask) in enumerate(zip(names, masks, strict=True), start=1):
        stored = read_nifti(files[f"mask-{value}"])
        assert files[f"mask-{value}"].name == f"head_seg_{value}.nii.gz"
        np.testing.assert_array_equal(stored.array, mask != 0)
        voxel_ml = abs(np.linalg.det(image.affine[:3, :3])) / 1000
        assert volumes[name] == pytest.approx(np.count_nonzero(mask) * voxel_ml, abs=1e-3)
    seg = highdicom.seg.segread(files["seg"])
    assert seg.SegmentsOverlap == "YES"
    source = read_source(ref)
    expected = np.stack([ref.source.take(mask) != 0 for mask in masks])  # type: ignore[union-attr]
    np.testing.assert_array_equal(read_seg(files["seg"]).masks_on(source), expected)
    assert {one["dice"] for one in outcome.facts.contours.values()} == {1.0}
    assert list(outcome.facts.contours) == names
    drawn = opened(bundle).predict(image).to_draw().array
    smallest = min(range(3), key=lambda k: np.count_nonzero(masks[k]))
    np.testing.assert_array_equal(drawn == smallest + 1, masks[smallest] != 0)


def test_channels_become_a_map_by_what_channel_0_stands_for() -> None:
    a, b = torch.tensor([1.0, 0, 0]), torch.tensor([0, 1.0, 0])
    for first, both in ((0, [0, 1, 0]), (1, [1, 2, 0])):
        found = label_trial.merged(torch.stack([a, b])[..., None, None], first, "")
        assert found.flatten().tolist() == both
    with pytest.raises(InputError, match="its labels overlap"):
        label_trial.merged(torch.stack([a, a])[..., None, None], 1, "")


def test_what_a_channel_stands_for_is_found_out_by_trial() -> None:
    one_hot = Compose([AsDiscreted("pred", argmax=True, to_onehot=3)])
    cut = Compose([one_hot, Lambdad("pred", lambda x: x[1:])])
    argmax = Compose([Activationsd("pred", softmax=True), AsDiscreted("pred", argmax=True)])
    thresholds = Compose([Activationsd("pred", sigmoid=True), AsDiscreted("pred", threshold=0.5)])
    by_rank = Compose([thresholds, Lambdad("pred", lambda x: torch.where(x[[1]] > 0, 7, x[[0]]))])
    strange = Compose([Lambdad("pred", lambda x: x.meta["nothing"])])
    for steps, channels, background, expected in (
        (one_hot, 3, False, (0, {1: 1, 2: 2}, {}, False)),
        (cut, 3, True, (1, {1: 1, 2: 2}, {}, False)),
        (argmax, 40, True, (1, {k: k for k in range(1, 40)}, {}, False)),
        (thresholds, 3, False, (1, {1: 0, 2: 1, 3: 2}, {}, True)),
        (thresholds, 3, True, (0, {1: 1, 2: 2}, {}, True)),
        (thresholds, 1, False, (1, {1: 0}, {}, False)),
        (by_rank, 2, False, (1, {1: 0, 7: 1}, {1: (1,), 7: ()}, False)),
        (strange, 2, False, (1, {}, {}, False)),
    ):
        found = label_trial.try_channels(steps, channels, background=background)
        assert found == info.ChannelMeaning(*expected)


def test_a_mask_that_its_saver_would_resample_is_resampled(
    make: Callable[..., Path], volume: Volume, tmp_path: Path
) -> None:
    softmax, _, argmax, save = CONFIG["postprocessing"]["transforms"]
    steps = [softmax, argmax, save | {"resample": True}]
    bundle = make({"postprocessing": {"_target_": "Compose", "transforms": steps}})
    mask = opened(bundle).predict(volume).mask
    np.testing.assert_array_equal(mask.array, by_monai(bundle, tmp_path))
    steps = [softmax, argmax, save]
    bundle = make({"postprocessing": {"_target_": "Compose", "transforms": steps}})
    with pytest.raises(InputError, match=r"leaves the mask on a grid of \d+ × \d+ × \d+"):
        opened(bundle).predict(volume)


def test_a_mask_with_values_that_nobody_named_is_refused(
    make: Callable[..., Path], volume: Volume
) -> None:
    names = {"0": "background", "1": "liver"}
    output = {"pred": {"num_channels": 2, "channel_def": names}}
    formats = METADATA["network_data_format"] | {"outputs": output}
    bundle = make({}, {"network_data_format": formats})
    with pytest.raises(InputError, match=r"has the value 2, and its metadata.json names 1;"):
        opened(bundle).predict(volume)


def test_weights_come_in_every_form_that_monai_writes(
    make: Callable[..., Path], volume: Volume
) -> None:
    bundle = make()
    mask = opened(bundle).predict(volume).mask.array
    wrapped = {f"module.{name}": value for name, value in network().items()}
    for content in (network(), {"net": wrapped}):
        torch.save(content, bundle / "models" / "best.pt")
        np.testing.assert_array_equal(opened(bundle).predict(volume).mask.array, mask)
    handler = CONFIG["handlers"][1] | {"load_path": "models/best.safetensors"}
    bundle = make({"handlers": [handler]})
    save_file(network(), bundle / "models" / "best.safetensors")
    np.testing.assert_array_equal(opened(bundle).predict(volume).mask.array, mask)
    bundle = make({"handlers": []})
    torch.save({"model": network()}, bundle / "models" / "model.pt")
    np.testing.assert_array_equal(opened(bundle).predict(volume).mask.array, mask)


def test_weights_that_do_not_fit_are_refused_by_the_first_difference(
    make: Callable[..., Path],
) -> None:
    bundle = make()
    first, *others = network().items()
    cases: list[tuple[dict[str, Any], str]] = [
        (dict(others), f"`{first[0]}` is missing in the file"),
        (dict([(first[0], first[1][:1]), *others]), f"`{first[0]}` has the shape"),
        (dict([first, *others, ("extra", first[1])]), "the network has no `extra`"),
    ]
    for state, message in cases:
        torch.save({"net": state}, bundle / "models" / "best.pt")
        with pytest.raises(InputError, match=message):
            opened(bundle)
    torch.save({"ema": network(), "optimizer": {}}, bundle / "models" / "best.pt")
    with pytest.raises(InputError, match="no entry `net`, which the config names, but ema"):
        opened(bundle)
    (bundle / "models" / "best.pt").unlink()
    (bundle / "large_files.yml").touch()
    with pytest.raises(InputError, match=r"best.pt is missing; fetch it: .*download_large_files"):
        opened(bundle)


def test_weights_outside_of_the_bundle_are_not_read(make: Callable[..., Path]) -> None:
    handler = CONFIG["handlers"][1] | {"load_path": "$@bundle_root + '/../secret.pt'"}
    with pytest.raises(InputError, match="its weights lie outside of it"):
        opened(make({"handlers": [handler]}))
    for path in (Path("/etc/passwd"), Path("models/../../secret.pt")):
        with pytest.raises(InputError, match="lie outside of it"):
            info.weights_digest(make(), path)


@pytest.mark.parametrize(
    ("image", "more", "modalities"),
    [
        ({"modality": "CT"}, {"task": "prostate MRI"}, ("CT",)),
        ({"modality": "MRI", "format": "hounsfield"}, {}, ("MR",)),
        ({"modality": "none"}, {"modality": "MR"}, ("MR",)),
        ({"format": "hounsfield"}, {}, ("CT",)),
        ({}, {"task": "Segments the ventricles in short axis MR images"}, ("MR",)),
        ({}, {"task": "organs in CT and MRI"}, ("CT", "MR")),
        ({}, {"task": "direct contact"}, ("CT", "MR")),
    ],
)
def test_without_a_selection_the_metadata_say_the_modality(
    make: Callable[..., Path],
    image: dict[str, Any],
    more: dict[str, Any],
    modalities: tuple[str, ...],
) -> None:
    formats = METADATA["network_data_format"] | {"inputs": {"image": image}}
    bundle = make({}, {"network_data_format": formats, **more})
    selection = choice.selection(str(bundle))
    assert selection.modalities == modalities
    assert " and ".join(modalities) in selection.origin


def test_labels_are_found_where_bundles_keep_them() -> None:
    def names(output: dict[str, Any], **config: Any) -> dict[int, str]:
        metadata = {"version": "1", "network_data_format": {"outputs": {"pred": output}}}
        return info.described("any", metadata, config).labels

    assert names({"channel_def": {"1": "liver", "0": "Background"}}) == {1: "liver"}
    assert names({"label_def": {"0": "background", "3": "liver"}}) == {3: "liver"}
    assert names({}, labels={"background": 0, "spleen": 1}) == {1: "spleen"}
    assert names({"channel_def": {"0": "Nuclei"}}) == {1: "Nuclei"}
    assert names({"num_channels": 3, "channel_def": "none"}) == {1: "label 1", 2: "label 2"}


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    make: Callable[..., Path],
) -> None:
    listed = {"required_packages_version": {"no-such-package": "1.2.3", "torch": "1.0"}}
    device = "$skimage_that_is_not_here.device()"
    bundle = make({"imports": ["$import skimage_that_is_not_here"], "device": device}, listed)
    command = r"pip install skimage_that_is_not_here 'no-such-package>=1.2.3'"
    with pytest.raises(InputError, match=command):
        opened(bundle)
    asked = {"required_packages_version": {"torch": "99.0", "numpy": "1.0"}}
    (sentence,) = packages.outdated(asked)
    assert sentence.startswith("asks for torch 99.0; ")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_bundle_that_names_a_gpu_by_force_runs_on_the_cpu_and_says_so(
    make: Callable[..., Path], volume: Volume
) -> None:
    usual = "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')"
    plain = opened(make({"device": usual}))
    assert not any("CPU" in note for note in models(plain)[0].notes)
    handler = CONFIG["handlers"][1] | {"map_location": "cuda"}
    forced = {"device": "$torch.device('cuda:0')", "handlers": [handler]}
    made = opened(make(forced))
    assert made.device == "cpu"
    assert (
        "computed on the CPU: the config names a CUDA device, and there is none"
        in models(made)[0].notes
    )
    np.testing.assert_array_equal(made.predict(volume).mask.array, plain.predict(volume).mask.array)


def test_arrays_of_numbers_in_a_checkpoint_are_read_and_code_is_not(
    make: Callable[..., Path],
) -> None:
    mode = "$'gaussian' if torch.load(@ckpt_dir + '/arch.pt')['node'].sum() > 2 else 'constant'"
    inferer = CONFIG["inferer"] | {"mode": mode}
    bundle = make({"inferer": inferer})
    torch.save({"node": np.ones((2, 3)), "depth": np.float64(2)}, bundle / "models" / "arch.pt")
    assert models(opened(bundle))[0].inferer.mode == "gaussian"
    torch.save({"node": Path("models")}, bundle / "models" / "arch.pt")
    with pytest.raises(InputError, match="`inferer`: UnpicklingError"):
        opened(bundle)


def test_a_bundle_that_takes_several_images_is_refused(make: Callable[..., Path]) -> None:
    transforms = [{"_target_": "LoadImaged", "keys": ["artery", "vein"]}]
    formats = METADATA["network_data_format"] | {"inputs": {"image": {"num_channels": 2}}}
    bundle = make(
        {"preprocessing": {"_target_": "Compose", "transforms": transforms}},
        {"network_data_format": formats},
    )
    with pytest.raises(InputError, match=r"takes several images of a patient at once \(artery"):
        opened(bundle)
