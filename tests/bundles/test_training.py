"""Training through a bundle's config: repeatable, resumable, and no loss of better weights."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigParser, ConfigWorkflow

from nestseg.bundle import locate, recipe
from nestseg_prep.errors import InputError

BUNDLES = recipe.recipes(locate.home())
CONFIGS = locate.find("hippocampus_unetpp") / "configs"
TINY: dict[str, Any] = {
    "batch_size": 2,
    "train_size": [16, 16, 16],
    "roi_size": [32, 48, 32],
    "network_def#features": [2, 4],
    "deep_supervision_weights": [1.0],
    "precision": "float32",
    "epochs": 3,
    "val_interval": 1,
}


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    """The order of sums depends on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def train(root: Path, data: Path, stop: int | None = None, **options: Any) -> ConfigWorkflow:
    """Train the tiny network, perhaps cut short behind the epoch ``stop``."""
    workflow = ConfigWorkflow(
        config_file=str(CONFIGS / "train.json"),
        meta_file=str(CONFIGS / "metadata.json"),
        logging_file=False,
        workflow_type="train",
        bundle_root=str(root),
        dataset_dir=str(data),
        **(TINY | options),
    )
    workflow.initialize()
    trainer = workflow.trainer  # built first in every run: who is built first draws first
    if stop:
        trainer.add_event_handler(Events.EPOCH_COMPLETED(once=stop), cut)
    workflow.run()
    workflow.finalize()
    return workflow


def cut(engine: Any) -> None:
    engine.terminate()


def weights(path: Path) -> dict[str, torch.Tensor]:
    return dict(torch.load(path, weights_only=True))


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def root_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def test_a_resumed_training_ends_as_an_uninterrupted_one_byte_for_byte(
    data_set: Path, tmp_path: Path
) -> None:
    train(tmp_path / "straight", data_set)
    train(tmp_path / "cut", data_set, stop=1)
    state = torch.load(tmp_path / "cut/runs/training_state.pt", weights_only=True)
    assert state["epoch"] == 1
    resumed = train(tmp_path / "cut", data_set, resume=True)
    assert resumed.trainer.state.epoch == 3
    models = [tmp_path / run / "models/model.pt" for run in ("straight", "cut")]
    assert models[0].read_bytes() == models[1].read_bytes()
    states = [
        torch.load(tmp_path / run / "runs/training_state.pt", weights_only=True)
        for run in ("straight", "cut")
    ]
    assert_same(*states)


def assert_same(one: Any, two: Any) -> None:
    """Equal tensors, numbers and texts in equal containers."""
    assert type(one) is type(two)
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, two)
    elif isinstance(one, dict):
        assert list(one) == list(two)
        for key in one:
            assert_same(one[key], two[key])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(two)
        for first, second in zip(one, two, strict=True):
            assert_same(first, second)
    else:
        assert one == two


def test_a_resumed_training_keeps_better_weights_that_are_there(
    data_set: Path, tmp_path: Path
) -> None:
    train(tmp_path, data_set, stop=1, epochs=2)
    path, best = tmp_path / "runs/training_state.pt", tmp_path / "models/model.pt"
    state = torch.load(path, weights_only=True)
    state["best"] = [0.999, 1]
    torch.save(state, path)
    before = weights(best)
    train(tmp_path, data_set, resume=True, epochs=2)
    assert same(weights(best), before)


def test_samples_drawn_by_other_processes_are_the_same_in_every_training(
    data_set: Path, tmp_path: Path
) -> None:
    for run in ("first", "second"):
        train(tmp_path / run, data_set, epochs=1, num_workers=2)
    models = [tmp_path / run / "models/model.pt" for run in ("first", "second")]
    assert models[0].read_bytes() == models[1].read_bytes()


def test_resuming_what_cannot_be_resumed_is_refused(data_set: Path, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError) as missing:
        train(tmp_path, data_set, resume=True)
    assert isinstance(root_cause(missing.value), InputError)
    assert "no training to resume" in str(root_cause(missing.value))
    train(tmp_path, data_set, epochs=1)
    with pytest.raises(RuntimeError) as finished:
        train(tmp_path, data_set, resume=True, epochs=1)
    assert "1 of 1 epochs are done" in str(root_cause(finished.value))
    assert (tmp_path / "models/model.pt").is_file()


def test_validation_happens_even_if_its_interval_is_longer_than_the_training(
    data_set: Path, tmp_path: Path
) -> None:
    train(tmp_path, data_set, epochs=1, val_interval=5)
    assert (tmp_path / "models/model.pt").is_file()


def test_training_ends_early_when_the_score_no_longer_grows(data_set: Path, tmp_path: Path) -> None:
    workflow = train(tmp_path, data_set, learning_rate=0.0, early_stop=2, epochs=9)
    state = workflow.evaluator.state
    assert workflow.trainer.state.epoch == state.best_metric_epoch + 2 < 9


def test_fine_tuning_takes_the_weights_that_fit_and_writes_beside_them(
    data_set: Path, tmp_path: Path
) -> None:
    train(tmp_path, data_set, epochs=1)
    before = weights(tmp_path / "models/model.pt")
    options = {"finetune": True, "epochs": 1, "learning_rate": 0.0}
    train(tmp_path, data_set, **options)
    after = weights(tmp_path / "models/model_finetune.pt")
    assert same(weights(tmp_path / "models/model.pt"), before)
    assert same(after, before)  # nothing was learned, so they are the weights it started from
    foreign = tmp_path / "foreign.pt"
    torch.save({"nothing": torch.zeros(1)}, foreign)
    with pytest.raises(RuntimeError) as error:
        train(tmp_path, data_set, finetune_path=str(foreign), **options)
    assert "no weight fits this network" in str(root_cause(error.value))


@pytest.mark.parametrize("heads", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_every_head_has_its_loss_and_its_dice(data_set: Path, tmp_path: Path, heads: int) -> None:
    options = {
        "network_def#features": [2, 4, 4][: heads + 1],
        "deep_supervision_weights": [1.0] * heads,
    }
    workflow = train(tmp_path, data_set, epochs=1, **options)
    losses = workflow.trainer.state.metrics
    dice = workflow.evaluator.state.metrics
    assert set(losses) == {"train_loss"} | names("train_loss", heads)
    assert set(dice) == {"val_mean_dice"} | names("val_mean_dice", heads)
    if heads > 1:
        parts = [losses[name] for name in sorted(names("train_loss", heads))]
        assert losses["train_loss"] == pytest.approx(sum(parts), rel=1e-5)
        assert dice["val_mean_dice_head_1"] == pytest.approx(dice["val_mean_dice"], abs=1e-6)
    assert list((tmp_path / "runs").glob("events.out.tfevents*"))


def names(stem: str, heads: int) -> set[str]:
    return {f"{stem}_head_{k + 1}" for k in range(heads)} if heads > 1 else set()


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
@pytest.mark.parametrize("overlay", ["multi_gpu_train", "multi_gpu_evaluate"])
def test_the_configs_for_several_processes_reach_into_what_they_are_laid_over(
    bundle: Path, overlay: str
) -> None:
    configs = bundle / "configs"
    below = ["train.json"] + ["evaluate.json"] * (overlay == "multi_gpu_evaluate")
    parser = ConfigParser()
    parser.read_config([str(configs / name) for name in below])
    for key in json.loads((configs / f"{overlay}.json").read_text()):
        inside = key.lstrip("+").split("#")
        assert "#".join(inside[:-1]) in parser if len(inside) > 1 else key
        if len(inside) == 1 and key != "finalize":
            assert inside[0] in parser, key
