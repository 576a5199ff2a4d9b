"""What the layer diagnostics record and draw."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.engines import SupervisedTrainer
from PIL import Image
from torch import nn

from nestseg.engines import LayerDiagnostics
from nestseg.engines.picture import CELL, LARGEST, NOTHING, SMALLEST, colours, draw_layers


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.ConvTranspose2d(3, 2, 2, stride=2)
    )


def watched_by_hand(net: nn.Module, folder: Path, gradients: list[float], step: float) -> Any:
    """Two epochs of as many iterations as gradients: each sets its gradient and moves weights."""
    values = iter(gradients * 2)

    def iterate(engine: Engine, batch: Any) -> None:
        value = next(values)
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.grad = torch.full_like(parameter, -value)
                parameter.add_(step)

    engine = Engine(iterate)
    diagnostics = LayerDiagnostics(net, folder)
    diagnostics.attach(engine)
    engine.run([0] * len(gradients), max_epochs=2)
    return diagnostics


def test_updates_are_per_epoch_and_gradients_the_mean_of_its_iterations(tmp_path: Path) -> None:
    diagnostics = watched_by_hand(network(), tmp_path / "new", [1.0, 3.0, 8.0], step=0.5)
    assert [(r.epoch, r.layer) for r in diagnostics.records] == [
        (1, "0"),
        (1, "2"),
        (2, "0"),
        (2, "2"),
    ]
    for record in diagnostics.records:
        assert record.update == pytest.approx(1.5, rel=1e-5)
        assert record.gradient == pytest.approx(4.0, rel=1e-5)


def test_the_table_holds_the_records_and_the_picture_layers_by_epochs(tmp_path: Path) -> None:
    diagnostics = watched_by_hand(network(), tmp_path, [1.0], step=0.25)
    with (tmp_path / "layers.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [
        (int(r["epoch"]), r["layer"], float(r["update"]), float(r["gradient"])) for r in rows
    ] == [(r.epoch, r.layer, r.update, r.gradient) for r in diagnostics.records]
    with Image.open(tmp_path / "layers.png") as picture:
        assert picture.format == "PNG"
        assert picture.height == CELL[1] * (2 + 2)


def test_rmsprop_hides_a_vanishing_gradient_from_the_updates_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(*(nn.Conv2d(1, 1, 1, bias=False) for _ in range(4)))
    with torch.no_grad():
        for conv, weight in zip(net, (0.5, 1e-3, 1e-3, 1e-3), strict=True):
            conv.weight.fill_(weight)  # the first layer's gradient is the product of the others
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=[{"image": torch.ones(1, 1, 4, 4), "label": torch.ones(1, 1, 4, 4)}],
        network=net,
        optimizer=torch.optim.RMSprop(net.parameters(), lr=1e-6, eps=1e-12),
        loss_function=nn.MSELoss(),
        train_handlers=[diagnostics := LayerDiagnostics(net, tmp_path)],
    )
    trainer.run()
    first, last = diagnostics.records[0], diagnostics.records[-1]
    assert last.gradient > 100 * first.gradient > 0
    assert last.update == pytest.approx(first.update, rel=0.1)


def test_frozen_layers_and_layers_without_gradient(tmp_path: Path) -> None:
    net = network()
    net[0].weight.requires_grad_(False)
    engine = Engine(lambda engine, batch: None)
    diagnostics = LayerDiagnostics(net, tmp_path)
    diagnostics.attach(engine)
    engine.run([0])
    (record,) = diagnostics.records
    assert (record.layer, record.update, record.gradient) == ("2", 0.0, 0.0)
    net[2].weight.requires_grad_(False)
    with pytest.raises(ValueError, match="no convolution"):
        LayerDiagnostics(net, tmp_path)


def test_the_smallest_value_is_blue_the_largest_red_and_the_rest_logarithmic() -> None:
    found = colours(np.array([[1e-5, 1e-3, 1e-1], [0, np.inf, np.nan]]))
    assert found[0].tolist() == [list(SMALLEST), [255, 255, 255], list(LARGEST)]
    assert {tuple(colour) for colour in found[1].tolist()} == {NOTHING}


def test_every_value_has_its_cell_in_the_picture() -> None:
    values = np.logspace(-3, 0, 120).reshape(2, 60)
    picture = np.asarray(draw_layers(["a", "b"], {"x": values.tolist()}))
    for colour in (SMALLEST, LARGEST):
        rows, columns = np.nonzero((picture == colour).all(axis=-1))
        assert len(rows) == CELL[0] * CELL[1]
        assert rows.min() == (2 if colour == SMALLEST else 3) * CELL[1]
        assert columns.max() - columns.min() + 1 == CELL[0]


@pytest.mark.parametrize("value", [0.0, 1.0, float("nan")])
def test_a_picture_of_equal_values_can_be_drawn(value: float) -> None:
    picture = draw_layers(["layer"], {"x": [[value] * 3], "y": [[1.0, 2.0, 3.0]]})
    assert picture.height == 3 * CELL[1]
