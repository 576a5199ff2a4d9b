"""FCN of Long et al. 2015: the contract, the counts, the places of the maps, and the stages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nestseg.networks import fcn8s_2015, fcn16s_2015, fcn32s_2015, load_weights
from nestseg.networks.fcn import FCN, BilinearUp

from . import contract
from .contract import Entry

TINY: dict[str, Any] = {"features": (2, 2, 3, 3, 4), "hidden": 5, "dropout": 0.0}


def small(stride: int, in_channels: int = 2, **more: Any) -> Entry:
    config = {"in_channels": in_channels, "out_channels": 3, "stride": stride}
    return Entry(FCN, config | TINY | more, exports=stride == 8)


# The kernels of the interpolation are parameters without a gradient.
LAWS = [
    law for law in contract.LAWS if law is not contract.every_parameter_gets_a_gradient_in_training
]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("entry", [small(8), small(16), small(32)], ids=str)
def test_an_fcn_keeps_the_contract(law: Callable[[Entry], None], entry: Entry) -> None:
    law(entry)


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_every_parameter_but_the_bilinear_kernels_gets_a_gradient(stride: int) -> None:
    network = small(stride).network().train()
    network(torch.randn(2, 2, 40, 33, dtype=torch.float64)).square().sum().backward()
    frozen = {f"{name}.weight" for name, m in network.named_modules() if isinstance(m, BilinearUp)}
    without = {name for name, p in network.named_parameters() if p.grad is None}
    assert without == frozen
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("count", "kernels", "build"),
    [
        # 134M in the paper's table 1 (remembered); the digits are those of the authors' nets.
        (136_152_917, 1_806_336, fcn32s_2015),
        (134_815_994, 458_640, fcn16s_2015),
        (134_489_759, 127_008, fcn8s_2015),
        (134_270_278, 16 * 16 * 4 + 2 * 4 * 4 * 4, lambda: fcn8s_2015(1, 2)),
    ],
)
def test_each_net_has_the_number_of_parameters_of_the_authors_nets(
    count: int, kernels: int, build: Callable[[], nn.Module]
) -> None:
    with torch.device("meta"):
        network = build()
    assert sum(p.numel() for p in network.parameters()) == count
    assert sum(p.numel() for p in network.parameters() if not p.requires_grad) == kernels


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_any_size_goes_in(stride: int) -> None:
    network = small(stride, in_channels=1, features=(1,) * 5, hidden=1).network().float()
    for n in [*range(1, 34), 97]:
        assert network(torch.zeros(1, 1, n, 130 - n)).shape == (1, 3, n, 130 - n)


class Ramp(nn.Module):
    """A score map whose value is the column."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.arange(float(x.shape[3])).expand(1, 1, x.shape[2], -1)


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_the_scores_land_on_the_voxels_that_they_were_computed_from(stride: int) -> None:
    """Voxel i of the scores is the centre of what it sees, 32 i + 12.5; likewise of the pools."""
    network = FCN(1, 1, stride, **TINY).eval()
    column = torch.arange(200.0)
    inner = slice(40, 160)
    network.score = Ramp()
    out = network(torch.zeros(1, 1, 170, 200))
    assert torch.allclose(out[0, 0, 80, inner], (column[inner] - 12.5) / 32, atol=1e-5)
    nn.init.zeros_(network.fc[3].weight)
    network.score = nn.Conv2d(5, 1, 1)
    nn.init.zeros_(network.score.weight)
    nn.init.zeros_(network.score.bias)
    # With padding 100 instead of 1, voxel i of a map of stride s is centred on s (i + 1/2) - 99.5.
    for name, step in (("pool4", 16), ("pool3", 8)):
        if name in network.fuse:
            network.fuse[name].score = Ramp()
            out = network(torch.zeros(1, 1, 170, 200))
            expected = (column + 99 - (step - 1) / 2) / step
            assert torch.allclose(out[0, 0, 80, inner], expected[inner], atol=1e-4)
            network.fuse[name].score = nn.Conv2d(3, 1, 1)
            nn.init.zeros_(network.fuse[name].score.weight)
            nn.init.zeros_(network.fuse[name].score.bias)


@pytest.mark.parametrize("stride", [2, 8, 16, 32])
def test_the_kernels_interpolate_linearly_and_keep_the_classes_apart(stride: int) -> None:
    up = BilinearUp(2, stride)
    ramp = torch.arange(6.0).expand(1, 1, 6, 6)
    out = up(torch.cat([ramp, torch.ones_like(ramp)], dim=1))[0]
    inner = slice(2 * stride, -2 * stride)
    place = (torch.arange(out.shape[-1]) - (2 * stride - 1) / 2) / stride
    assert torch.allclose(out[0, stride * 3, inner], place[inner], atol=1e-5)
    assert torch.allclose(out[1, inner, inner], torch.tensor(1.0))


def test_the_kernels_stay_bilinear_while_the_rest_is_trained() -> None:
    network = FCN(1, 2, **TINY)
    before = {name: p.clone() for name, p in network.named_parameters()}
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, weight_decay=0.1)
    network(torch.randn(2, 1, 20, 20)).square().sum().backward()
    optimizer.step()
    same = {name for name, p in network.named_parameters() if torch.equal(p, before[name])}
    assert same >= {"upscore.weight", "fuse.pool4.up.weight", "fuse.pool3.up.weight"}
    assert not any(name.startswith(("blocks", "fc")) for name in same if "weight" in name)


# --- stages ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("coarse", "fine"), [(32, 16), (16, 8)])
def test_a_finer_net_starts_with_the_predictions_of_the_coarser(coarse: int, fine: int) -> None:
    teacher = small(coarse).network()
    student = FCN(2, 3, fine, **TINY).double().eval()
    student.load_coarser(teacher.state_dict())
    x = torch.randn(1, 2, 150, 150, dtype=torch.float64)
    seen: list[Tensor] = []
    for network in (teacher, student):
        network.upscore.register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    a, b = teacher(x), student(x)
    *_, new = student.fuse.values()
    torch.testing.assert_close(new.up(seen[0]), seen[1])
    # Two interpolations in place of one: close, and nothing moved.
    assert (a - b).abs().mean() < 0.1 * a.std()


def test_the_wrong_weights_for_a_stage_are_refused() -> None:
    nets = {stride: FCN(2, 3, stride, **TINY) for stride in (8, 16, 32)}
    for stride, other in [(8, 32), (8, 8), (16, 8), (32, 32), (32, 16)]:
        with pytest.raises(ValueError, match="twice the stride"):
            nets[stride].load_coarser(nets[other].state_dict())
    with pytest.raises(RuntimeError, match="size mismatch"):
        nets[16].load_coarser(FCN(2, 4, 32, **TINY).state_dict())
    with pytest.raises(ValueError, match="got 4"):
        FCN(stride=4)


# --- VGG16 -------------------------------------------------------------------------------------

PLACES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)  # of the convolutions in torchvision's


@pytest.fixture
def vgg16(tmp_path: Path) -> Path:
    """A VGG16 file in torchvision's layout with the widths of the small nets."""
    torch.manual_seed(0)
    widths = [2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 4, 4, 4]
    weights = {}
    for place, before, after in zip(PLACES, [3, *widths], widths, strict=False):
        weights[f"features.{place}.weight"] = torch.randn(after, before, 3, 3)
        weights[f"features.{place}.bias"] = torch.randn(after)
    for place, before, after in ((0, 4 * 49, 5), (3, 5, 5), (6, 5, 10)):
        weights[f"classifier.{place}.weight"] = torch.randn(after, before)
        weights[f"classifier.{place}.bias"] = torch.randn(after)
    path = tmp_path / "vgg16.pth"
    torch.save(weights, path)
    return path


def test_a_net_takes_the_weights_of_a_vgg16_file(vgg16: Path) -> None:
    """The classifier's hidden units on a 7-voxel map equal fc7 on that map."""
    network = FCN(3, 2, **TINY).eval()
    load_weights(network, vgg16)
    weights = torch.load(vgg16, weights_only=True)
    image = torch.randn(1, 3, 64, 64)
    x = image
    for place in PLACES:
        w, b = weights[f"features.{place}.weight"], weights[f"features.{place}.bias"]
        x = nn.functional.conv2d(x, w, b, padding=1 if place else 100).relu()
        if place in (2, 7, 14, 21, 28):
            x = nn.functional.max_pool2d(x, 2, ceil_mode=True)
    pool5 = image
    for block in network.blocks.values():
        pool5 = block(pool5)
    torch.testing.assert_close(pool5, x)
    patch = x[:, :, :7, :7]
    hidden = patch.flatten(1)
    for place in (0, 3):
        w, b = weights[f"classifier.{place}.weight"], weights[f"classifier.{place}.bias"]
        hidden = nn.functional.linear(hidden, w, b).relu()
    torch.testing.assert_close(network.fc(patch).flatten(1), hidden, rtol=1e-4, atol=1.0)


def test_a_grey_net_answers_a_grey_image_as_the_colour_net_does(vgg16: Path) -> None:
    colour, grey = FCN(3, 2, **TINY).eval(), FCN(1, 2, **TINY).eval()
    for network in (colour, grey):
        load_weights(network, vgg16)
    grey.score.load_state_dict(colour.score.state_dict())
    x = torch.randn(1, 1, 40, 40)
    torch.testing.assert_close(grey(x), colour(x.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-3)


def test_a_net_with_other_hidden_layers_takes_the_convolutions_only(vgg16: Path) -> None:
    network = FCN(3, 2, **(TINY | {"hidden": 6}))
    before = [p.clone() for p in network.fc.parameters()]
    load_weights(network, vgg16)
    first = torch.load(vgg16, weights_only=True)["features.0.weight"]
    assert torch.equal(network.blocks["pool1"][0].weight, first)
    assert all(torch.equal(a, b) for a, b in zip(before, network.fc.parameters(), strict=True))


def test_a_file_that_does_not_fit_is_refused(vgg16: Path) -> None:
    wide = FCN(3, 2, **(TINY | {"features": (2, 2, 3, 4, 4)}))
    with pytest.raises(
        ValueError, match=r"another network: `blocks\.pool4\.0\.weight` has the shape"
    ):
        load_weights(wide, vgg16)
    weights = torch.load(vgg16, weights_only=True)
    del weights["features.28.weight"], weights["features.28.bias"]
    torch.save(weights, vgg16)
    with pytest.raises(ValueError, match=r"`blocks\.pool5\.4\.weight` is missing in the file"):
        load_weights(FCN(3, 2, **TINY), vgg16)
