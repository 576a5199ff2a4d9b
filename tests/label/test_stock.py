"""MONAI Label's own sample app for bundles runs two of ours as they are."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nestseg.bundle.locate import find
from nestseg.label.start import SHIMS
from nestseg_prep.nifti import read_nifti, write_nifti
from tests.opened import opened

from .serving import Server, free_port, run_server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
BUNDLES = ("hippocampus_unetpp", "hippocampus_unet3d")


@pytest.fixture(scope="module")
def server(hippocampus: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    sample = Path(sys.prefix) / "monailabel" / "sample-apps" / "monaibundle"
    if not sample.is_dir():
        pytest.skip("MONAI Label is not here: `make test-label`")
    folder, port = tmp_path_factory.mktemp("stock"), free_port()
    app, studies = folder / "monaibundle", folder / "studies"
    shutil.copytree(sample, app)
    shutil.copytree(
        hippocampus, studies, ignore=shutil.ignore_patterns("labels", "*.json", ".lock")
    )
    for name in BUNDLES:
        shutil.copytree(find(name), app / "model" / name)
    command = [
        *(sys.executable, "-m", "monailabel.main", "start_server"),
        *("--app", str(app), "--studies", str(studies)),
        *("--host", "127.0.0.1", "--port", str(port), "--conf", "models", ",".join(BUNDLES)),
        *("--conf", "zoo_source", "local", "--conf", "sam2", "false"),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(SHIMS), *sys.path])
        yield from run_server(folder, command, port, app)


@pytest.mark.parametrize("name", BUNDLES)
def test_a_bundle_infers_and_trains(server: Server, name: str) -> None:
    studies = server.folder / "studies"
    images = sorted(studies.glob("*.nii.gz"))
    file, _ = server.client.infer(name, images[0].name.removesuffix(".nii.gz"), {})
    found, expected = read_nifti(Path(file)), opened(find(name)).predict(read_nifti(images[0])).mask
    np.testing.assert_array_equal(found.array, expected.array)
    np.testing.assert_allclose(found.affine, expected.affine, atol=1e-4)

    label = server.folder / "label.nii.gz"
    for image in images[:3]:
        write_nifti(opened(find(name)).predict(read_nifti(image)).mask, label)
        server.client.save_label(image.name.removesuffix(".nii.gz"), str(label), "final", {})
        label.unlink()
    weights = server.work / "model" / name / "models" / "model.pt"
    before = weights.read_bytes()
    server.client.train_start(name, {"max_epochs": 1, "val_split": 0.4, "device": "cpu"})
    task = server.settled()
    assert task["status"] == "DONE", task
    assert weights.read_bytes() != before
    assert server.client.infer(name, images[0].name.removesuffix(".nii.gz"), {})[0]
