"""From a bundle with several heads to a smaller one: same masks, normal bundle, honest scores."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import verify_net_in_out
from monai.metrics import DiceMetric
from monai.networks.utils import one_hot
from PIL import Image
from torch import Tensor, nn

from nestseg import cli
from nestseg.bundle import locate, recipe
from nestseg.bundle.options import SegmentOptions
from nestseg.networks import GridUNet
from nestseg.pruning import candidates, cost, record, scores, validation
from nestseg.pruning.choice import Rule
from nestseg.pruning.prune import prune
from nestseg_prep.cohort import cases
from nestseg_prep.errors import InputError
from nestseg_prep.nifti import write_nifti
from nestseg_prep.volume import Volume
from tests.opened import changed, models, opened

BUNDLE = "hippocampus_unetpp"
TEST_CASE = "of_the_test_set"


def balls(shape: tuple[int, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """An image with a bright and a dark ball, and their labels 1 and 2."""
    rng = np.random.default_rng(seed)
    grid = np.indices(shape)
    label = np.zeros(shape, np.uint8)
    for value, part in ((1, 0.7), (2, 0.3)):
        centre = np.array([shape[0] / 2, part * shape[1], shape[2] / 2]) + rng.uniform(-1, 1, 3)
        label[((grid - centre[:, None, None, None]) ** 2).sum(0) < (shape[0] / 5) ** 2] = value
    image = np.array([100.0, 200.0, 20.0])[label] + rng.normal(0, 5, shape)
    return image.astype(np.float32), label


def write_case(root: Path, name: str, image: Volume, label: Volume) -> None:
    for folder, volume in (("images", image), ("labels", label)):
        (root / folder).mkdir(parents=True, exist_ok=True)
        write_nifti(volume, root / folder / name)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three validation cases, of which one is bad, and a test case that nobody may open."""
    root = tmp_path_factory.mktemp("data")
    for number, shape in enumerate([(24, 32, 24), (29, 33, 26)]):
        image, label = balls(shape, number)
        affine = np.diag([1.0, 1.0, 1.2, 1.0])
        write_case(root, f"good_{number}.nii.gz", Volume(image, affine), Volume(label, affine))
    image, label = balls((24, 32, 24), 2)
    elsewhere = np.eye(4)
    elsewhere[0, 3] = 5.0
    write_case(root, "bad.nii.gz", Volume(image, np.eye(4)), Volume(label, elsewhere))
    for folder in ("images", "labels"):
        (root / folder / f"{TEST_CASE}.nii.gz").write_bytes(b"no image")
    split = {
        "train": [],
        "val": ["good_0.nii.gz", "bad.nii.gz", "good_1.nii.gz"],
        "test": [f"{TEST_CASE}.nii.gz"],
    }
    (root / "index.json").write_text(json.dumps({"split": split}))
    return root


@pytest.fixture(scope="module")
def levels(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The committed bundle, pruned to each of its levels."""
    source = locate.find(BUNDLE)
    network = candidates.prunable_network(source)
    root = tmp_path_factory.mktemp("bundles")
    shutil.copytree(source.parent / recipe.PARTS, root / recipe.PARTS)
    folders = {level: root / f"level_{level}" for level in network.levels}
    for level, folder in folders.items():
        candidates.write_level(source, network, level, folder)
    return folders


# --- one level as a bundle ---------------------------------------------------------------------


class Head(nn.Module):
    """A network that answers with one of its heads."""

    def __init__(self, network: GridUNet, level: int) -> None:
        super().__init__()
        self.network, self.level, self.geometry = network, level, network.geometry

    def forward(self, x: Tensor) -> Tensor:
        heads = dict(zip(self.network.heads, self.network.forward_heads(x), strict=True))
        return heads[f"x_0_{self.level}"]


@pytest.mark.parametrize("shape", [(24, 40, 32), (56, 32, 24)])
def test_a_pruned_bundle_gives_the_masks_of_its_head(
    levels: dict[int, Path], shape: tuple[int, int, int]
) -> None:
    full = opened(locate.find(BUNDLE))
    image = Volume(balls(shape, 0)[0], np.eye(4))  # a size that needs no padding at any level
    masks = []
    for level, folder in levels.items():
        head: Any = Head(models(full)[0].network, level).eval()
        masks.append(opened(folder).predict(image).mask.array)
        whole = changed(full, network=head).predict(image)
        np.testing.assert_array_equal(masks[-1], whole.mask.array)
    np.testing.assert_array_equal(masks[-1], full.predict(image).mask.array)
    assert not np.array_equal(masks[0], masks[-1])  # the levels do differ


def test_a_pruned_bundle_gives_the_masks_of_the_option_in_larger_windows(tmp_path: Path) -> None:
    source = locate.find("nuclei_unetpp")
    network = candidates.prunable_network(source)
    shutil.copytree(source.parent / recipe.PARTS, tmp_path / recipe.PARTS)
    candidates.write_level(source, network, 2, tmp_path / "level_2")
    image = Volume(balls((500, 330, 1), 0)[0], np.eye(4))
    full, pruned = opened(source), opened(tmp_path / "level_2")
    mask = pruned.predict(image).mask.array
    assert mask.any()
    np.testing.assert_array_equal(
        mask, full.predict(image, SegmentOptions(level=2, runtime="torch")).mask.array
    )
    asked, (small,) = models(full)[0].inferer_at(2), models(pruned)
    assert small.inferer.roi_size_max == asked.roi_size_max > asked.roi_size
    for name, text in recipe.render(tmp_path / "level_2").items():
        assert text == (tmp_path / "level_2" / "configs" / name).read_text()


def test_a_pruned_bundle_holds_a_part_of_the_weights_unchanged(levels: dict[int, Path]) -> None:
    def weights(folder: Path) -> dict[str, Tensor]:
        return torch.load(folder / "models" / "model.pt", weights_only=True)

    full = weights(locate.find(BUNDLE))
    sizes = []
    for level, folder in levels.items():
        kept = weights(folder)
        assert all(torch.equal(kept[key], full[key]) for key in kept)
        assert {key.split(".")[1] for key in kept if key.startswith("heads")} == {f"x_0_{level}"}
        numbers = sum(tensor.numel() for tensor in kept.values())
        size = (folder / "models" / "model.pt").stat().st_size
        network = models(opened(folder))[0].network
        assert numbers == sum(weight.numel() for weight in network.parameters())
        stored = sum(tensor.nbytes for tensor in kept.values())
        assert stored < size < stored + 20_000
        sizes.append(size)
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize("n", [1, 2])
def test_the_network_of_a_pruned_bundle_takes_and_gives_what_its_metadata_say(
    levels: dict[int, Path], n: int
) -> None:
    for folder in levels.values():
        verify_net_in_out(
            "network_def",
            meta_file=str(folder / "configs" / "metadata.json"),
            config_file=str(folder / "configs" / "inference.json"),
            n=n,
            device="cpu",
        )


def test_the_configs_of_a_pruned_bundle_are_what_its_recipe_renders(
    levels: dict[int, Path],
) -> None:
    for folder in levels.values():
        for name, text in recipe.render(folder).items():
            assert (folder / "configs" / name).read_text() == text


def test_every_config_of_a_pruned_bundle_has_the_smaller_network(levels: dict[int, Path]) -> None:
    for level, folder in levels.items():
        for name in ("train.json", "inference.json"):
            config = json.loads((folder / "configs" / name).read_text())
            assert len(config["network_def"]["features"]) == level + 1
            assert config["network_def"]["heads"] == [level]
        assert json.loads((folder / "configs" / "train.json").read_text())[
            "deep_supervision_weights"
        ] == [1.0]


def test_licences_and_the_rest_come_along(levels: dict[int, Path]) -> None:
    source = locate.find(BUNDLE)
    for name in ("LICENSE", "docs/data_license.txt", "docs/train.log", "configs/logging.conf"):
        assert (levels[1] / name).read_bytes() == (source / name).read_bytes()


# --- what cannot be pruned ---------------------------------------------------------------------


@pytest.fixture
def copy(tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    """A copy of the committed bundle with another network."""

    def make(network_def: dict[str, Any]) -> Path:
        folder = tmp_path / "other"
        shutil.copytree(locate.find(BUNDLE), folder)
        candidates.change_configs(folder, {"inference": {"network_def": network_def}})
        return folder

    return make


def test_a_network_with_one_head_cannot_be_pruned(levels: dict[int, Path]) -> None:
    with pytest.raises(InputError, match="level_1: cannot be pruned: its network has one head"):
        candidates.prunable_network(levels[1])


def test_a_network_without_levels_cannot_be_pruned(
    copy: Callable[[dict[str, Any]], Path],
) -> None:
    bundle = copy({"_target_": "nestseg.networks.LinkNet", "spatial_dims": 3})
    with pytest.raises(InputError, match="cannot be pruned: LinkNet has no levels"):
        candidates.prunable_network(bundle)


def test_a_network_by_a_builder_must_be_written_out(
    copy: Callable[[dict[str, Any]], Path],
) -> None:
    bundle = copy({"_target_": "nestseg.networks.unetpp_2018", "width": 4})
    with pytest.raises(
        InputError, match=r"calls nestseg\.networks\.unetpp_2018; write it as GridUNet"
    ):
        candidates.prunable_network(bundle)


def test_on_the_command_line_that_is_one_line_and_exit_code_2(
    levels: dict[int, Path],
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["prune", str(levels[2]), "--data", str(data), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["nestseg", *words])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 2
    trust, problem = capsys.readouterr().err.strip().splitlines()
    assert "cage" in trust  # a bundle that did not come with nestseg
    assert "cannot be pruned" in problem
    assert not list(tmp_path.iterdir())


def test_an_output_that_is_there_stays_as_it_is(data: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="out: is there already"):
        prune(locate.find(BUNDLE), data, tmp_path / "out", Rule(0.01))
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "notes.txt"]


def test_without_a_case_that_can_be_scored_nothing_is_left_behind(
    data: Path, tmp_path: Path
) -> None:
    only_bad = tmp_path / "data"
    shutil.copytree(data, only_bad)
    (only_bad / "index.json").write_text(json.dumps({"split": {"val": ["bad.nii.gz"]}}))
    with pytest.raises(InputError, match=r"no validation case can be scored \(bad.nii.gz: the lab"):
        prune(locate.find(BUNDLE), only_bad, tmp_path / "out", Rule(0.01))
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


# --- scores ------------------------------------------------------------------------------------


def cube(first: int, shape: tuple[int, int, int] = (20, 12, 12), value: int = 1) -> np.ndarray:
    label = np.zeros(shape, np.uint8)
    label[first : first + 6, 3:9, 3:9] = value
    return label


def test_surfaces_are_compared_in_millimetres() -> None:
    affine = np.diag([2.0, 1.0, 1.0, 1.0])
    mask, truth = Volume(cube(6), affine), Volume(cube(5), affine)
    near = scores.score(mask, truth, 1, 1.0)
    assert near.dice.item() == pytest.approx(5 / 6)
    assert near.hd95_mm.item() == pytest.approx(2.0)  # one voxel
    # Of 6×6×6 voxels 152 lie on the surface: two ends of 36 and four rims of 20. Rims coincide; of
    # the end inside the other cube 20 lie on its rim, 12 one mm and 4 two mm off; the end outside
    # lies two mm off.
    assert near.surface_dice.item() == pytest.approx((4 * 20 + 20 + 12) / 152)
    assert scores.score(mask, truth, 1, 2.0).surface_dice.item() == 1.0


def test_a_plane_has_an_outline_not_a_surface() -> None:
    mask, truth = (Volume(cube(first)[:, :, 5:6], np.eye(4)) for first in (6, 5))
    found = scores.score(mask, truth, 1, 0.5)
    # Outlines of 20 pixels each, of which 10 above and below and none at the ends coincide.
    assert found.surface_dice.item() == pytest.approx(0.5)
    assert found.hd95_mm.item() == pytest.approx(1.0)
    turned, straight = (Volume(v.array.transpose(2, 1, 0), np.eye(4)) for v in (mask, truth))
    assert scores.score(turned, straight, 1, 0.5).surface_dice == found.surface_dice


def test_a_missing_surface_counts_as_wrong_but_has_no_distance() -> None:
    truth, nothing = Volume(cube(5), np.eye(4)), Volume(cube(5, value=0), np.eye(4))
    missed = scores.score(nothing, truth, 2, 1.0)  # of label 2 there is nothing on either side
    assert missed.dice.tolist() == pytest.approx([0.0, np.nan], nan_ok=True)
    assert missed.surface_dice.tolist() == pytest.approx([0.0, np.nan], nan_ok=True)
    assert missed.hd95_mm.isnan().all()
    assert missed.one_sided.tolist() == [True, False]
    assert scores.mean([missed.hd95_mm]) is None
    assert scores.mean_by_label([missed.dice]) == [0.0, None]


def test_the_mean_is_that_of_monai() -> None:
    rng = np.random.default_rng(0)
    metric = DiceMetric(include_background=False, reduction="mean")
    found = []
    for labels in (4, 3, 4):  # label 3 is not in every case
        mask, truth = (rng.integers(0, n, (8, 9, 7)).astype(np.uint8) for n in (4, labels))
        found.append(scores.score(Volume(mask, np.eye(4)), Volume(truth, np.eye(4)), 3, 1.0).dice)
        metric(
            *(
                one_hot(torch.from_numpy(array.astype(np.int64))[None, None], 4)
                for array in (mask, truth)
            )
        )
    assert scores.mean(found) == pytest.approx(metric.aggregate().item(), abs=1e-6)


def test_a_truth_with_other_labels_is_refused() -> None:
    with pytest.raises(InputError, match="the label map holds 7; the bundle knows 0 to 2"):
        scores.score(Volume(cube(5), np.eye(4)), Volume(cube(5, value=7), np.eye(4)), 2, 1.0)


def test_one_bad_case_is_named_and_counts_at_no_level(data: Path, levels: dict[int, Path]) -> None:
    bundles = {level: opened(levels[level]) for level in (1, 2)}
    names = ("good_0.nii.gz", "bad.nii.gz", "gone.nii.gz")
    listed = [{key: str(data / f"{key}s" / name) for key in ("image", "label")} for name in names]
    truth = validation.truth_reader(locate.find(BUNDLE))
    scored = validation.score_levels(bundles, listed, truth, 1.0)
    assert [len(found) for found in scored.levels.values()] == [1, 1]
    assert scored.voxels == {listed[0]["image"]: 24 * 32 * 24}
    bad, gone = scored.failed
    assert bad == record.Failure(
        "bad.nii.gz", "the label map does not lie on the voxels of its image"
    )
    assert str(data) not in gone.error


# --- images in 2D ------------------------------------------------------------------------------


@pytest.fixture
def flat_bundle(tmp_path: Path) -> Path:
    """The 2D UNet++ for nuclei, narrower and untrained."""
    bundle = tmp_path / "cells"
    shutil.copytree(locate.home() / "nuclei_unetpp", bundle, ignore=lambda *_: ["models"])
    narrow = {"network_def#features": [2, 3, 4, 5, 6]}
    candidates.change_configs(bundle, {"train": narrow, "inference": narrow})
    torch.manual_seed(0)
    (bundle / "models").mkdir()
    torch.save(candidates.prunable_network(bundle).state_dict(), bundle / "models" / "model.pt")
    return bundle


@pytest.mark.filterwarnings("ignore:inverse has been called:UserWarning")
def test_planes_with_a_label_a_cell_are_scored_at_four_levels(
    flat_bundle: Path, tmp_path: Path
) -> None:
    network = candidates.prunable_network(flat_bundle)
    assert network.levels == [1, 2, 3, 4]
    folders = {level: tmp_path / f"level_{level}" for level in network.levels}
    for level, folder in folders.items():
        candidates.write_level(flat_bundle, network, level, folder)
    bundles = {level: opened(folder) for level, folder in folders.items()}
    picture, cells = (array[..., 5] for array in balls((48, 64, 12), 0))
    case = {}
    for key, pixels in (("image", picture.clip(0, 255)), ("label", cells * 100)):  # cells 100, 200
        case[key] = str(tmp_path / f"{key}.png")
        Image.fromarray(pixels.astype(np.uint8)).save(case[key])
    scored = validation.score_levels(bundles, [case], validation.truth_reader(flat_bundle), 1.0)
    assert not scored.failed
    image, label = (validation.read_image(case[key]) for key in ("image", "label"))
    assert set(np.unique(label.array)) == {0, 100, 200}
    for level, bundle in bundles.items():
        mask = bundle.predict(image).mask.array
        both = 2 * np.sum((mask > 0) & (label.array > 0))
        (found,) = scored.levels[level]
        assert found.dice.tolist() == [
            pytest.approx(both / (np.sum(mask > 0) + np.sum(label.array > 0)))
        ]
    np.testing.assert_array_equal(mask, opened(flat_bundle).predict(image).mask.array)


# --- the whole way -----------------------------------------------------------------------------


def test_timed_cases_spread_over_the_sizes() -> None:
    voxels = {f"case_{size}": size for size in (5, 3, 9, 1, 7, 2, 8, 4, 6)}
    assert cost.pick(voxels, 3) == ["case_1", "case_5", "case_9"]
    assert cost.pick(voxels, 1) == ["case_9"]
    assert cost.pick({"b": 1, "a": 1}, 8) == ["a", "b"]


@pytest.fixture(scope="module")
def pruned(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The committed bundle pruned by budget, by processes that die when they open a test case."""
    root = tmp_path_factory.mktemp("pruned")
    guard = root / "guard"
    guard.mkdir()
    (guard / "sitecustomize.py").write_text(
        "import os, sys\n"
        "def watch(event, args):\n"
        f"    if event == 'open' and {TEST_CASE!r} in str(args[0]):\n"
        "        os._exit(99)\n"
        "sys.addaudithook(watch)\n"
    )
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(guard), *filter(None, sys.path)])
    }

    def python(code: str, *words: object) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-c", code, *map(str, words)]
        return subprocess.run(line, env=environment, capture_output=True, text=True, check=False)

    poison = data / "images" / f"{TEST_CASE}.nii.gz"
    assert python("import sys; open(sys.argv[1], 'rb')", poison).returncode == 99
    done = python(
        "import sys; from pathlib import Path\n"
        "from nestseg.bundle import locate; from nestseg.pruning.choice import Rule\n"
        "from nestseg.pruning.prune import prune\n"
        "name, data, out = sys.argv[1:]\n"
        "prune(locate.find(name), Path(data), Path(out), Rule(budget_ms=1e6), rounds=1)",
        BUNDLE,
        data,
        root / "made" / "small",
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Warning" not in done.stderr
    return root / "made" / "small"


def test_the_record_says_what_was_measured_and_what_was_not(pruned: Path, data: Path) -> None:
    made = record.read(pruned)
    source = opened(locate.find(BUNDLE))
    assert made.source.weights_sha256 == source.info.weights_sha256
    assert [failure.case for failure in made.scoring.failed] == ["bad.nii.gz"]
    assert (made.scoring.cases, made.scoring.scored, made.timing.cases) == (3, 2, 2)
    assert [level.level for level in made.levels] == [1, 2, 3]
    parameters = sum(weight.numel() for weight in models(source)[0].network.parameters())
    assert [level.parameters for level in made.levels][-1] < parameters  # two heads fewer
    for level in made.levels:
        assert set(level.dice_by_label) == set(source.info.labels.values())
        assert level.ms > 0
        assert level.mb is not None  # on Linux
        assert 4 * level.parameters / 1e6 < level.mb < 2000
    best = max(level.dice for level in made.levels)
    assert {level.level: level.dice for level in made.levels}[made.chosen.level] == best
    assert str(data) not in (pruned / record.FILE_NAME).read_text()


def test_the_pruned_bundle_is_a_bundle_that_says_what_it_is(pruned: Path) -> None:
    made = record.read(pruned)
    bundle = opened(pruned).info
    assert bundle.weights_sha256 == made.weights_sha256
    assert bundle.version == f"{made.source.version}+l{made.chosen.level}"
    assert opened(locate.find(BUNDLE)).info.uncertainty_at_most == 0.0239
    assert bundle.uncertainty_at_most is None  # that of the whole network says nothing of a part
    metadata = json.loads((pruned / "configs" / "metadata.json").read_text())
    assert metadata["version"] in metadata["changelog"]
    (kept,) = [level for level in made.levels if level.level == made.chosen.level]
    assert metadata["eval_metrics"]["val_mean_dice"] == kept.dice
    card = (pruned / "docs" / "README.md").read_text()
    assert card.startswith("# small\n")
    assert f"| **L{kept.level}** | **{kept.parameters:,}** |" in card
    assert (locate.find(BUNDLE) / "docs" / "README.md").read_text() in card
    with Image.open(pruned / "docs" / "pruning.png") as picture:
        assert picture.format == "PNG"


def test_nothing_but_the_bundle_was_written(pruned: Path) -> None:
    assert [path.name for path in pruned.parent.iterdir()] == ["small"]
    source = {path.relative_to(locate.find(BUNDLE)) for path in locate.find(BUNDLE).rglob("*")}
    made = {path.relative_to(pruned) for path in pruned.rglob("*")}
    written = {Path(record.FILE_NAME), Path("docs/pruning.png")}
    assert made >= written
    assert made - source <= written


@pytest.mark.slow
def test_heads_with_the_padding_of_the_full_network_score_as_the_page_says(
    shared_data: Path,
) -> None:
    full = opened(locate.find(BUNDLE))
    network: Any = models(full)[0].network
    levels = network.levels
    bundles = {k: changed(full, network=Head(network, k).eval()) for k in levels}
    listed = cases(shared_data / "volumes" / "hippocampus_msd04", "val")
    truth = validation.truth_reader(locate.find(BUNDLE))
    found = validation.score_levels(bundles, listed, truth, 1.0).levels
    dice = [scores.mean([case.dice for case in found[level]]) for level in levels]
    page = (Path(__file__).parents[2] / "docs" / "pruning.md").read_text()
    assert f"head 1 of the full network has a mean Dice of {dice[0]:.4f}" in page
    assert f"for level 2 these are {dice[1]:.4f}" in page


@pytest.mark.slow
def test_the_figures_of_the_page_are_those_of_the_command(
    shared_data: Path, tmp_path: Path
) -> None:
    hippocampus = shared_data / "volumes" / "hippocampus_msd04"
    words = ["prune", BUNDLE, "--data", hippocampus, "--out", tmp_path / "small"]
    done = subprocess.run(
        [sys.executable, "-m", "nestseg.cli", *map(str, words)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "20 of 20 validation cases scored" in done.stdout
    made = record.read(tmp_path / "small")
    assert f"{made.levels[-1].dice:.3f}" == "0.881"  # as in the bundle's own README
    page = (Path(__file__).parents[2] / "docs" / "pruning.md").read_text().replace("*", "")
    for level in made.levels:
        row = f"| L{level.level} | {level.parameters:,} | {level.file_bytes / 1e6:.2f} "
        assert f"{row}| {level.dice:.4f} | {level.surface_dice:.4f} | {level.hd95_mm:.2f} |" in page
