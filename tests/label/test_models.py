"""Working copies of bundles, their weights and what is said of them."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nestseg.bundle import kernel
from nestseg.bundle.built import BundleConfig
from nestseg.bundle.locate import find
from nestseg.label import caged, figures, training
from nestseg.label.cases import Labelled
from nestseg.label.models import Models, digest
from nestseg.label.traits import traits
from nestseg.label.uncertainty import Uncertainty
from nestseg.label.work import WEIGHTS, Work
from nestseg_prep.errors import InputError
from nestseg_prep.nifti import write_nifti
from nestseg_prep.volume import Volume
from tests.opened import models

NAME = "hippocampus_unetpp"
IMAGE = Volume(
    np.random.default_rng(0).normal(size=(24, 30, 26)).astype(np.float32).cumsum(0), np.eye(4)
)


@pytest.fixture
def work(tmp_path: Path) -> Work:
    made = Work(tmp_path / "work")
    made.make()
    return made


def change(weights: Path, factor: float) -> None:
    """Other weights of the same network, in a file of the same times."""
    times = weights.stat()
    state = torch.load(weights, weights_only=True)
    torch.save({key: value * factor for key, value in state.items()}, weights)
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_the_working_folder_is_its_owners_and_keeps_what_was_learned(work: Work) -> None:
    assert work.root.stat().st_mode & 0o077 == 0
    copy = work.adopt(find(NAME))
    assert digest(copy) == digest(find(NAME))
    (copy / WEIGHTS).write_bytes(b"learned")
    assert work.adopt(find(NAME)) == copy
    assert (copy / WEIGHTS).read_bytes() == b"learned"


def test_a_copy_that_another_bundle_of_this_name_left_runs_in_a_cage(
    work: Work, tmp_path: Path
) -> None:
    evil = Path(shutil.copytree(find(NAME), tmp_path / NAME))
    (evil / "configs" / "inference.json").write_text("{}")
    work.adopt(evil)
    assert work.needs_cage(find(NAME))
    shutil.rmtree(work.bundles / NAME)
    assert not work.needs_cage(find(NAME))
    (work.adopt(find(NAME)) / WEIGHTS).write_bytes(b"learned")
    assert not work.needs_cage(find(NAME))


def test_a_link_of_a_bundle_from_elsewhere_is_not_followed_into_its_copy(
    work: Work, tmp_path: Path
) -> None:
    evil = Path(shutil.copytree(find(NAME), tmp_path / NAME))
    (tmp_path / "secret").write_text("secret")
    (evil / "configs" / "more.json").symlink_to(tmp_path / "secret")
    with pytest.raises(InputError, match=r"more\.json is a link that leads out"):
        work.adopt(evil)
    assert list(work.bundles.iterdir()) == []


@pytest.mark.skipif(bool(kernel.unavailable()), reason="no cages here")
def test_a_bundle_from_elsewhere_is_described_and_asked_in_cages(work: Work) -> None:
    copy = work.adopt(find(NAME))
    (copy / "configs" / "more.json").write_text("{}")
    outside = replace(work, caged=frozenset([NAME]))
    assert caged.traits(copy) == traits(copy)
    here, there = Models(work).get(copy, 1), Models(outside).get(copy, 1)
    assert there.caged
    assert np.array_equal(here.predict(IMAGE).mask.array, there.predict(IMAGE).mask.array)
    found = caged.measure(copy, IMAGE)
    expected = Uncertainty(copy).measure(IMAGE)
    assert found == {name: pytest.approx(value, rel=1e-3) for name, value in expected.items()}


def test_other_weights_of_the_same_time_and_size_are_other_weights(work: Work) -> None:
    copy, models = work.adopt(find(NAME)), Models(work)
    before, level = models.get(copy), models.get(copy, 1)
    assert models.get(copy) is before
    assert models.get(copy, 1) is level
    change(copy / WEIGHTS, 0.5)
    assert models.get(copy).info.weights_sha256 != before.info.weights_sha256
    assert models.get(copy, 1).info.weights_sha256 != level.info.weights_sha256
    (kept,) = work.levels.glob("*/*_L1")
    assert digest(kept) == models.get(copy, 1).info.weights_sha256


def test_a_level_is_the_pruned_network(work: Work) -> None:
    copy = work.adopt(find(NAME))
    assert traits(copy).levels == (1, 2, 3)
    assert traits(find("hippocampus_unet3d")).levels == ()
    network = BundleConfig(copy, "inference.json").build("network_def")
    expected = sum(weight.numel() for weight in network.pruned(1).parameters())
    (model,) = models(Models(work).get(copy, 1))
    assert sum(weight.numel() for weight in model.network.parameters()) == expected


def test_without_weights_the_line_says_what_to_do(work: Work) -> None:
    copy = work.adopt(find(NAME))
    (copy / WEIGHTS).unlink()
    with pytest.raises(InputError, match="train the model first"):
        Models(work).get(copy)


def test_figures_are_shown_for_the_weights_that_were_measured(tmp_path: Path) -> None:
    source = tmp_path / NAME
    shutil.copytree(find(NAME), source, ignore=shutil.ignore_patterns("pruning.*"))
    sha256 = digest(source)
    levels = [
        {
            "level": number,
            "parameters": 10**number,
            "file_bytes": 1,
            "dice": 0.8 + number / 100,
            "dice_by_label": {},
            "surface_dice": None,
            "hd95_mm": None,
            "hd95_undefined": 0,
            "ms": 250.0 * number,
            "mb": None,
        }
        for number in (1, 2, 3)
    ]
    record = {
        "schema": 1,
        "source": {"name": NAME, "version": "0.1.0", "weights_sha256": sha256},
        "weights_sha256": "0",
        "scoring": {
            "datalist_sha256": "0",
            "cases": 1,
            "failed": [],
            "surface_tolerance_mm": 1.0,
            "scored": 1,
        },
        "timing": {"cases": 1, "rounds": 1, "memory": "", "machine": {}},
        "levels": levels,
        "rule": {"tolerance": 0.01, "budget_ms": None, "budget_mb": None},
        "chosen": {"level": 1, "reason": "small"},
        "nestseg": "0",
        "finished": "",
    }
    pruned = tmp_path / "pruned" / "docs"
    pruned.mkdir(parents=True)
    (pruned / "pruning.json").write_text(json.dumps(record))
    found = figures.measured(source, sha256)
    config = BundleConfig(source, "inference.json")
    text = figures.describe(config, 2, found, as_it_came=True)
    assert "Level 2 of 3." in text
    assert text.endswith("Dice 0.820, 0.50 s a case)")
    assert "Dice 0.830" in figures.describe(config, None, found, as_it_came=True)
    assert figures.measured(source, "other weights") == {}
    assert "Dice" not in figures.describe(config, 2, {}, as_it_came=False)


def test_worse_weights_are_not_published_and_better_ones_are(work: Work, tmp_path: Path) -> None:
    copy, models = work.adopt(find(NAME)), Models(work)
    original = (copy / WEIGHTS).read_bytes()
    write_nifti(IMAGE, tmp_path / "image.nii.gz")
    mask = models.get(copy).predict(IMAGE).mask
    array = mask.array.copy()
    array[4:14, 4:14, 4:14] = 1  # so that there is something, whatever the network makes of noise
    write_nifti(Volume(array, mask.affine), tmp_path / "label.nii.gz")
    cases = [Labelled("a", tmp_path / "image.nii.gz", tmp_path / "label.nii.gz")]
    good = training.mean_dice(models.get(copy), cases)

    worse = tmp_path / "trained" / NAME
    shutil.copytree(copy, worse)
    change(worse / WEIGHTS, 0.0)
    result = training.publish_if_not_worse(copy, worse, cases, caged=False)
    assert (result["published"], result["dice_before"]) == (False, round(good, 6))
    assert result["dice"] < good
    assert (copy / WEIGHTS).read_bytes() == original

    shutil.copyfile(worse / WEIGHTS, copy / WEIGHTS)
    bad = (copy / WEIGHTS).read_bytes()
    (worse / WEIGHTS).write_bytes(original)
    assert training.publish_if_not_worse(copy, worse, cases, caged=False)["published"]
    assert (copy / WEIGHTS).read_bytes() == original
    (kept,) = (copy / "models" / "previous").iterdir()
    assert kept.read_bytes() == bad

    training.remember(copy, result)
    training.remember(copy, {"published": True})
    assert [one["published"] for one in training.history(copy)] == [False, True]
