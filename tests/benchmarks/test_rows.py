"""Ways that take turns, what becomes of those that cannot run, and how masks are compared."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.metrics import compute_dice
from torch import from_numpy
from torch.nn.functional import one_hot

from benchmarks.peers import agreement, rows, ways
from benchmarks.peers.measure import UNAVAILABLE, Run
from benchmarks.peers.ways import Way

OURS, FAST = Way("ours", "nestseg", required=True), Way("fast", "nestseg")


def done(seconds: float) -> Run:
    return Run(0, seconds, 2 * seconds, 1_000_000_000)


def test_ways_take_turns_and_a_failed_one_is_not_tried_again() -> None:
    asked: list[str] = []

    def run(way: Way) -> Run:
        asked.append(way.name)
        if way is FAST:
            return Run(UNAVAILABLE, 1, 1, 1, error="no such library")
        return done(12 if way is ways.MONAI else 3)

    monai, ours, fast = rows.interleaved((ways.MONAI, OURS, FAST), 2, run)
    assert asked == [ways.MONAI.name, "ours", "fast", ways.MONAI.name, "ours"]
    assert ours["ratio"][ways.MONAI.name]["wall_s"] == 4
    assert ours["median"] == {"wall_s": 3, "cpu_s": 6, "peak_gb": 1}
    assert (fast["reason"], fast["runs"]) == ("not available: no such library", [])
    assert fast["ratio"][ways.MONAI.name] == {}
    assert monai["kind"] == "peer"


def test_a_crash_is_told_from_what_is_not_there() -> None:
    (row,) = rows.interleaved((OURS,), 1, lambda _: Run(-9, 1, 1, 1, error="Killed"))
    assert row["reason"] == "failed with -9: Killed"


def test_masks_are_held_against_every_peer_and_the_truth() -> None:
    found = rows.interleaved((*ways.PEERS, OURS, FAST), 1, lambda _: done(1))
    truth = np.zeros((6, 6, 6), np.uint8)
    truth[2:4], truth[4:] = 1, 2
    bad = truth.copy()
    bad[2:4] = 2
    masks = {ways.MONAI.name: truth, ways.NNUNET.name: bad, "ours": truth, "fast": bad}
    rows.agree(found, lambda row, _: masks[row["name"]], lambda _: truth)
    _, _, ours, fast = found
    with_monai, with_nnunet = (ours["agreement"][peer.name] for peer in ways.PEERS)
    assert (with_monai["dice"], with_monai["truth"], with_monai["right"]) == (1, 1, True)
    assert with_nnunet["dice"] < 0.995  # but nearer to the truth than that peer is
    assert with_nnunet["right"]
    assert not fast["agreement"][ways.MONAI.name]["right"]
    assert fast["agreement"][ways.NNUNET.name]["right"]


def test_dice_is_monais() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 4, (2, 9, 8, 7)).astype(np.uint8)
    layers = [one_hot(from_numpy(m).long(), 4).permute(3, 0, 1, 2)[None] for m in (first, second)]
    (theirs,) = compute_dice(*layers, include_background=False)
    ours = agreement.dice(first, second)
    assert list(ours) == [1, 2, 3]
    assert list(ours.values()) == pytest.approx(theirs.tolist(), abs=1e-6)


def test_dice_of_maps_without_labels_and_of_other_sizes() -> None:
    empty = np.zeros((3, 3), np.uint8)
    assert agreement.mean_dice(empty, empty) == 1
    assert agreement.mean_dice(empty, empty + 1) == 0
    with pytest.raises(ValueError, match="voxels"):
        agreement.mean_dice(empty, empty[:2])


def test_masks_in_other_storage_orders_are_the_same(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    nib.save(nib.Nifti1Image(array, affine), tmp_path / "ras.nii.gz")
    flipped = np.diag([-1.0, 2.0, 3.0, 1.0])
    flipped[0, 3] = 1
    nib.save(nib.Nifti1Image(array[::-1], flipped), tmp_path / "las.nii.gz")
    (one, place), (other, there) = map(
        agreement.read_upright, (tmp_path / "ras.nii.gz", tmp_path / "las.nii.gz")
    )
    assert np.array_equal(one, other)
    assert agreement.same_grid(place, there)
    assert not agreement.same_grid(place, flipped)


def test_ways_are_chosen_by_words_and_the_peers_stay() -> None:
    names = [way.name for way in ways.chosen("int8, as installed")]
    assert names[:2] == [peer.name for peer in ways.PEERS]
    assert len(names) == 8
    assert all("int8" in name or "as installed" in name for name in names[2:])
    both = [way.name for way in ways.chosen("openvino bf16+own")]
    assert both == [*names[:2], "nestseg openvino bf16, own tiling"]
    assert len({way.slug for way in ways.EVERY}) == len(ways.EVERY)
