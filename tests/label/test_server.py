"""The real server with our app, on a folder of images, driven by MONAI Label's own client."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch

from nestseg.bundle.built import BundleConfig
from nestseg.bundle.locate import find
from nestseg.pruning.candidates import prunable_network, write_level
from nestseg_prep import phantom
from nestseg_prep.dicom.scan import scan
from nestseg_prep.nifti import read_nifti, write_nifti
from nestseg_prep.phantom import Phantom
from nestseg_prep.reading import read_volume
from nestseg_prep.volume import Volume
from tests.opened import opened

from .serving import BUNDLE, Server, free_port, guarded, label_command, run_server, wait_for

pytestmark = [
    pytest.mark.slow,
    # MONAI Label's client leaves its connections to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
OTHER = "nuclei_unet_ensemble"


@pytest.fixture(scope="module")
def server(hippocampus: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    work = folder / "work"
    command = label_command(f"{BUNDLE},{OTHER}", hippocampus, work, port)
    yield from run_server(folder, command, port, work)


@pytest.fixture(scope="module")
def masks(hippocampus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What `nestseg segment` makes of the images: by the whole network, and by level 1."""
    folder = tmp_path_factory.mktemp("segment")
    bundle = find(BUNDLE)
    write_level(bundle, prunable_network(bundle), 1, folder / "level1")
    for name, which in (("whole", BUNDLE), ("level1", str(folder / "level1"))):
        command = ["segment", str(hippocampus), "-b", which, "-o", str(folder / f"{name}_out")]
        subprocess.run(
            [sys.executable, "-m", "nestseg.cli", *command], check=True, env=guarded(folder)
        )
    return {"whole": folder / "whole_out", "level1": folder / "level1_out"}


def images_of(studies: Path) -> list[str]:
    return sorted(path.name.removesuffix(".nii.gz") for path in studies.glob("*.nii.gz"))


def test_every_bundle_and_level_is_listed_with_its_classes_and_its_size(server: Server) -> None:
    models = server.client.info()["models"]
    levels = {f"{BUNDLE}_L{n}" for n in (1, 2, 3)} | {f"{OTHER}_L{n}" for n in (1, 2, 3, 4)}
    assert set(models) == {BUNDLE, OTHER, *levels}
    for name, model in models.items():
        network = BundleConfig(find(name.rpartition("_L")[0] or name), "inference.json").build(
            "network_def"
        )
        if "_L" in name:
            network = network.pruned(int(name[-1]))
        count = sum(weight.numel() for weight in network.parameters())
        assert f"{count:,} parameters" in model["description"]
    classes = {"anterior hippocampus": 1, "posterior hippocampus": 2}
    assert all(models[name]["labels"] == classes for name in models if name.startswith(BUNDLE))
    assert models[OTHER]["labels"] == {"nucleus": 1}
    assert models[OTHER]["dimension"] == 2
    strategies = server.client.info()["strategies"]
    expected = {"random", "first", f"{BUNDLE}_head_disagreement", f"{BUNDLE}_entropy"}
    assert set(strategies) == expected | {f"{OTHER}_ensemble_disagreement", f"{OTHER}_entropy"}


@pytest.mark.parametrize(("model", "reference"), [(BUNDLE, "whole"), (f"{BUNDLE}_L1", "level1")])
def test_a_mask_is_that_of_nestseg_segment(
    server: Server, hippocampus: Path, masks: dict[str, Path], model: str, reference: str
) -> None:
    name = images_of(hippocampus)[0]
    expected = read_nifti(masks[reference] / f"{name}_seg.nii.gz")
    assert expected.array.any()
    file, said = server.client.infer(model, name, {})
    assert file.endswith(".nii.gz")
    same(read_nifti(Path(file)), expected)
    assert read_nifti(Path(file)).array.dtype == np.uint8
    assert said["label_names"] == {"anterior hippocampus": 1, "posterior hippocampus": 2}


def test_uploads_sessions_and_nrrd_give_the_same_mask(
    server: Server, hippocampus: Path, masks: dict[str, Path], tmp_path: Path
) -> None:
    name = images_of(hippocampus)[1]
    image = tmp_path / "upload.nii.gz"
    image.write_bytes((hippocampus / f"{name}.nii.gz").read_bytes())
    expected = read_nifti(masks["whole"] / f"{name}_seg.nii.gz")

    file, _ = server.client.infer(BUNDLE, "", {}, file=str(image))
    same(read_nifti(Path(file)), expected)

    session = server.client.create_session(str(image))["session_id"]
    file, _ = server.client.infer(BUNDLE, "", {}, session_id=session)
    same(read_nifti(Path(file)), expected)

    file, _ = server.client.infer(BUNDLE, name, {"result_extension": ".nrrd"})
    same(from_itk(Path(file)), expected)
    plain = {"result_extension": ".nrrd", "result_dtype": "uint8", "result_compress": False}
    file, _ = server.client.infer(BUNDLE, name, plain)
    same(from_itk(Path(file)), expected)
    header = Path(file).read_bytes().split(b"\n\n", 1)[0].decode()
    assert "encoding: raw" in header
    assert "type: unsigned char" in header or "type: uint8" in header

    source = sitk.ReadImage(str(image))
    sitk.WriteImage(source, str(tmp_path / "upload.nrrd"))
    file, _ = server.client.infer(BUNDLE, "", {}, file=str(tmp_path / "upload.nrrd"))
    same(from_itk(Path(file)), expected)


def test_head_disagreement_gives_the_image_that_an_independent_computation_ranks_first(
    server: Server, hippocampus: Path
) -> None:
    scores = {name: divergence(hippocampus / f"{name}.nii.gz") for name in images_of(hippocampus)}
    ranked = sorted(scores, key=lambda name: -scores[name])
    strategy = f"{BUNDLE}_head_disagreement"
    status, said = server.post(f"/scoring/{strategy}?run_sync=true")
    assert (status, json.loads(said)) == (200, {"scored": len(scores), "failed": 0})
    given = server.client.next_sample(strategy, {})
    assert given["id"] == ranked[0]
    np.testing.assert_allclose(given["score"], scores[ranked[0]], rtol=1e-4)
    other = type(server.client)(server.url, str(server.folder / "downloads"), "another client")
    assert other.next_sample(strategy, {})["id"] == ranked[1]


class OneHead(torch.nn.Module):
    """One head of a network, with the tiles of the whole."""

    def __init__(self, network: torch.nn.Module, number: int) -> None:
        super().__init__()
        self.network, self.number, self.geometry = network, number, network.geometry

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network.forward_heads(x)[self.number]


def divergence(path: Path) -> float:
    """Mean Jensen-Shannon divergence of the heads' probabilities, each by a pass of its own."""
    bundle = find(BUNDLE)
    config = BundleConfig(bundle, "inference.json")
    network = config.build("network")
    network.load_state_dict(torch.load(bundle / "models" / "model.pt", weights_only=True))
    inferer, image = config.build("inferer"), config.build("preprocessing")({"image": str(path)})
    probabilities = []
    for number in range(len(network.levels)):
        with torch.no_grad():
            logits = inferer(image["image"][None], OneHead(network.eval(), number))
        exponent = np.exp(np.asarray(logits[0], dtype=np.float64))
        probabilities.append(exponent / exponent.sum(axis=0))
    heads = np.stack(probabilities)

    def entropy(p: np.ndarray) -> np.ndarray:
        return -(p * np.log(np.maximum(p, 1e-300))).sum(axis=-4)

    found = entropy(heads.mean(axis=0)) - entropy(heads).mean(axis=0)
    return float(found.mean() / np.log(min(heads.shape[:2])))


def test_what_is_wrong_is_said_in_one_line_and_the_server_goes_on(
    server: Server, hippocampus: Path, tmp_path: Path
) -> None:
    name = images_of(hippocampus)[0]
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes((hippocampus / f"{name}.nii.gz").read_bytes()[:2000])
    for model, image, file, words in (
        ("unknown", name, None, f"no such model; there are {BUNDLE}"),
        (BUNDLE, "unknown", None, "no such image"),
        (BUNDLE, "", str(broken), "The NIfTI file is damaged"),
        (BUNDLE, "/etc/passwd", None, "outside of the studies"),
        (BUNDLE, str(hippocampus / ".." / ".." / "secret"), None, "outside of the studies"),
    ):
        with pytest.raises(Exception, match="Status: 400") as error:
            server.client.infer(model, image, {}, file=file)
        assert words in error.value.msg, error.value.msg
        assert "Traceback" not in error.value.msg
    assert server.client.infer(BUNDLE, name, {})[0]


def test_foreign_weights_are_refused_and_the_right_ones_work_again(
    server: Server, hippocampus: Path
) -> None:
    name = images_of(hippocampus)[0]
    weights = server.work / "bundles" / BUNDLE / "models" / "model.pt"
    kept = weights.read_bytes()
    times = weights.stat().st_mtime_ns
    foreign = find(OTHER) / "models" / "model.pt"
    try:
        weights.write_bytes(foreign.read_bytes())
        for model in (BUNDLE, f"{BUNDLE}_L1"):
            with pytest.raises(Exception, match="Status: 400") as error:
                server.client.infer(model, name, {})
            assert "belongs to another network" in error.value.msg
    finally:
        weights.write_bytes(kept)
    assert weights.stat().st_mtime_ns != times
    assert server.client.infer(BUNDLE, name, {})[0]


def test_a_label_is_kept_on_the_voxels_of_its_image_with_the_classes_own_numbers(
    server: Server, hippocampus: Path, tmp_path: Path
) -> None:
    name = images_of(hippocampus)[4]
    image = read_nifti(hippocampus / f"{name}.nii.gz")
    label = np.zeros(image.shape, np.uint8)
    label[5:12, 6:20, 7:15] = 1
    # Cropped, flipped along the first axis, and numbered by a client that knows one segment.
    corner = np.eye(4)
    corner[:3, 3] = [14, 4, 3]
    corner[0, 0] = -1
    cropped = Volume(label[14:3:-1, 4:22, 3:20], image.affine @ corner)
    write_nifti(cropped, tmp_path / "drawn.nii.gz")
    info = {"label_info": [{"name": "Posterior hippocampus", "idx": 1}]}
    server.client.save_label(name, str(tmp_path / "drawn.nii.gz"), "final", info)
    kept = read_nifti(Path(server.client.download_label(name, "final")))
    np.testing.assert_array_equal(kept.array, label * 2)
    np.testing.assert_allclose(kept.affine, image.affine, atol=1e-4)
    with pytest.raises(Exception, match="no such tag"):
        server.client.save_label(name, str(tmp_path / "drawn.nii.gz"), "../../out", {})
    with pytest.raises(Exception, match="Status: 400"):
        server.client.save_label("../x", str(tmp_path / "drawn.nii.gz"), "final", {})


def test_batch_infer_labels_the_studies(server: Server, hippocampus: Path) -> None:
    (hippocampus / "broken.nii.gz").write_bytes(b"no image")
    try:
        wait_for(lambda: "broken" in server.client.datastore()["objects"])
        status, said = server.post(f"/batch/infer/{BUNDLE}_L1?images=all&run_sync=true")
        assert status == 200, said
        result = json.loads(said)
        assert "error" in result.pop("broken")
        assert sorted(result) == [name for name in images_of(hippocampus) if name != "broken"]
        for name in result:
            mask = read_nifti(hippocampus / "labels" / "original" / f"{name}.nii.gz")
            assert mask.shape == read_nifti(hippocampus / f"{name}.nii.gz").shape
    finally:
        (hippocampus / "broken.nii.gz").unlink()


def test_a_folder_of_dicom_files_is_an_image(server: Server, hippocampus: Path) -> None:
    folder = hippocampus / "dicom_case"
    crop = Phantom(name="crop", modality="MR", rows=36, slices=28, between_slices=1.3)
    phantom.write(crop.datasets(), folder)
    try:
        (ref,) = scan(folder).series
        expected = opened(find(BUNDLE)).predict(read_volume(ref)).mask
        server.client.info()  # lists the studies again
        for image in ("dicom_case", str(folder)):
            file, _ = server.client.infer(BUNDLE, image, {})
            same(read_nifti(Path(file)), expected)
    finally:
        shutil.rmtree(folder)


def test_other_sites_and_other_names_are_kept_out(server: Server) -> None:
    evil = urllib.request.Request(f"{server.url}/info/", headers={"Host": "evil.example"})  # noqa: S310
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(evil, timeout=60)  # noqa: S310
    page = urllib.request.Request(f"{server.url}/info/", headers={"Origin": "http://evil.example"})  # noqa: S310
    with urllib.request.urlopen(page, timeout=60) as answer:  # noqa: S310
        assert "access-control-allow-origin" not in answer.headers


def test_a_training_is_published_only_if_it_is_not_worse(
    server: Server, hippocampus: Path, masks: dict[str, Path]
) -> None:
    weights = server.work / "bundles" / BUNDLE / "models" / "model.pt"
    before = weights.read_bytes()
    names = images_of(hippocampus)
    # Labels that the model made itself: nothing can be better than its present weights.
    for name in names:
        server.client.save_label(name, str(masks["whole"] / f"{name}_seg.nii.gz"), "final", {})
    server.client.train_start(BUNDLE, {"max_epochs": 1})
    task = server.settled()
    assert task["status"] == "DONE", task
    assert weights.read_bytes() == before
    last = server.client.info()["train_stats"][BUNDLE][BUNDLE]
    assert (last["published"], last["dice_before"]) == (False, 1.0)
    assert last["dice"] < 1

    # Labels with the classes changed: nothing can be worse.
    for name in names:
        mask = read_nifti(masks["whole"] / f"{name}_seg.nii.gz")
        changed = Volume(np.array([0, 2, 1], np.uint8)[mask.array], mask.affine)
        path = server.folder / "changed.nii.gz"
        write_nifti(changed, path)
        server.client.save_label(name, str(path), "final", {})
        path.unlink()
    old, _ = server.client.infer(BUNDLE, names[0], {})
    server.client.train_start(BUNDLE, {"max_epochs": 1})
    task = server.settled()
    assert task["status"] == "DONE", task
    assert server.client.info()["train_stats"][BUNDLE][BUNDLE]["published"] is True
    assert weights.read_bytes() != before
    (kept,) = (weights.parent / "previous").iterdir()
    assert kept.read_bytes() == before
    assert (find(BUNDLE) / "models" / "model.pt").read_bytes() == before
    new, said = server.client.infer(BUNDLE, names[0], {})
    history = json.loads((weights.parent / "label_training.json").read_text())
    assert said["weights_sha256"] == history[-1]["weights"] != history[-1]["weights_before"]
    assert not np.array_equal(read_nifti(Path(new)).array, read_nifti(Path(old)).array)
    assert "fine-tuned here" in server.client.info()["models"][BUNDLE]["description"]


def test_the_log_holds_no_name_of_an_image(server: Server, hippocampus: Path) -> None:
    assert not any(name in server.log for name in images_of(hippocampus))


def same(found: Volume, expected: Volume) -> None:
    np.testing.assert_array_equal(found.array, expected.array)
    np.testing.assert_allclose(found.affine, expected.affine, atol=1e-4)


def from_itk(path: Path) -> Volume:
    image = sitk.ReadImage(str(path))
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    matrix[:3, 3] = image.GetOrigin()
    array = sitk.GetArrayFromImage(image).transpose(2, 1, 0)
    return Volume(array, np.diag([-1.0, -1.0, 1.0, 1.0]) @ matrix)
