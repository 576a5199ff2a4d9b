"""A training that is killed at any moment goes on as if nothing had happened."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from nestseg.bundle import locate

BUNDLE = locate.find("hippocampus_unetpp")
OPTIONS = {
    "batch_size": "1",
    "train_size": "[16, 16, 16]",
    "roi_size": "[32, 48, 32]",
    "network_def#features": "[2, 4]",
    "deep_supervision_weights": "[1.0]",
    "precision": "float32",
    "epochs": "12",
    "val_interval": "1",
}


def start(root: Path, data: Path, *, resume: bool) -> subprocess.Popen[bytes]:
    """Train through MONAI's command line."""
    command = [sys.executable, "-m", "monai.bundle", "run"]
    given = OPTIONS | {
        "config_file": str(BUNDLE / "configs/train.json"),
        "bundle_root": str(root),
        "dataset_dir": str(data),
        "resume": str(resume),
    }
    for name, value in given.items():
        command += [f"--{name}", value]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
    )


def state_of(root: Path) -> Path:
    return root / "runs/training_state.pt"


@pytest.mark.slow
def test_a_training_killed_four_times_ends_with_the_weights_of_an_undisturbed_one(
    data_set: Path, tmp_path: Path
) -> None:
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    assert start(straight, data_set, resume=False).wait() == 0
    chance = random.Random(15)  # noqa: S311  no secret
    kills = 0
    while kills < 4:
        before = state_of(killed).stat().st_mtime_ns if state_of(killed).exists() else 0
        process = start(killed, data_set, resume=bool(before))
        while process.poll() is None:  # until it has learned something new
            if state_of(killed).exists() and state_of(killed).stat().st_mtime_ns != before:
                break
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.4))  # then anywhere in an epoch, a validation or a write
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "the training is too short for this test"
        kills += 1
    epoch = torch.load(state_of(killed), weights_only=True)["epoch"]
    assert epoch < 12
    assert start(killed, data_set, resume=True).wait() == 0
    models = [root / "models/model.pt" for root in (straight, killed)]
    assert models[0].read_bytes() == models[1].read_bytes()
    names = [sorted(path.name for path in root.rglob("*.p*t*")) for root in (straight, killed)]
    assert names[0] == names[1]  # no half-written file stays
