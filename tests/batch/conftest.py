"""A tiny bundle with hazards, small images, and pools that tests share: a worker takes seconds."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from nestseg.batch.jobs import Job, Limits, Outcome, Settings
from nestseg.batch.local import LocalPool
from nestseg.batch.pool import Pool
from nestseg.bundle import locate, trust
from nestseg.networks import GridUNet
from nestseg_prep.dicom.references import SeriesRef
from nestseg_prep.dicom.scan import scan
from nestseg_prep.nifti import write_nifti
from nestseg_prep.volume import Volume

MakeImage = Callable[..., SeriesRef]
MakePool = Callable[..., LocalPool]


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The hippocampus bundle with a network of two levels, random weights, and hazards."""
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    source = locate.find("hippocampus_unetpp")
    shutil.copytree(source / "configs", folder / "configs")
    path = folder / "configs" / "inference.json"
    config = json.loads(path.read_text())
    config["network_def"] |= {"features": [4, 8]}
    config["roi_size"] = [32, 32, 32]
    config["load"].insert(1, {"_target_": "hazards.Hazard"})
    path.write_text(json.dumps(config))
    arguments = {key: value for key, value in config["network_def"].items() if key != "_target_"}
    torch.manual_seed(0)
    network = GridUNet(**arguments | {"out_channels": 3})
    (folder / "models").mkdir()
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    trust.remember(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parent)
        yield folder


@pytest.fixture
def image(tmp_path: Path) -> MakeImage:
    """Makes a NIfTI file of noise, whose first voxel may ask for a hazard."""

    def make(name: str, hazard: int = 0, size: int = 24) -> SeriesRef:
        array = np.random.default_rng(len(name)).normal(500, 100, (size,) * 3).astype(np.float32)
        array[0, 0, 0] = hazard
        path = tmp_path / "images" / f"{name}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        write_nifti(Volume(array, np.eye(4)), path)
        (ref,) = scan(path).series
        return ref

    return make


@pytest.fixture(scope="session")
def shared_pools(tiny_bundle: Path) -> Iterator[MakePool]:
    """Pools by their arguments, closed at the end of the session."""
    pools: dict[tuple[Limits, int], LocalPool] = {}

    def get(limits: Limits | None = None, workers: int = 1) -> LocalPool:
        key = (limits or Limits(), workers)
        if key not in pools:
            pools[key] = LocalPool(Settings(tiny_bundle), *key)
        return pools[key]

    yield get
    for pool in pools.values():
        pool.close(kill=True)


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., Job]:
    """Makes a job that stages below ``tmp_path``."""

    def make(ref: SeriesRef, *, attempt: int = 1, gentle: bool = False) -> Job:
        name = ref.files[0].name.split(".")[0]
        staging = tmp_path / "staging"
        staging.mkdir(exist_ok=True)
        return Job(name, ref, attempt, staging / f"{name}.{attempt}", gentle)

    return make


def finish(pool: Pool, jobs: list[Job], submitted: int = 0) -> dict[str, Outcome]:
    """Run jobs, and those submitted before, to their end, as many at a time as the pool asks."""
    waiting = list(jobs)
    outcomes: dict[str, Outcome] = {}
    end = time.monotonic() + 600  # a worker starts in seconds, on a busy machine in many
    while len(outcomes) < len(jobs) + submitted:
        assert time.monotonic() < end, f"only {set(outcomes)} finished"
        while waiting and pool.free:
            pool.submit(waiting.pop(0))
        for outcome in pool.wait(1.0):
            assert outcome.name not in outcomes
            outcomes[outcome.name] = outcome
    return outcomes
