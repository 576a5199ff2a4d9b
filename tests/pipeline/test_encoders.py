"""Encoders: torchvision's and MedicalNet's names and shapes, and what a grid takes for one."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nestseg.networks import ENCODERS, BackboneUNet, LinkNet, ResNetEncoder, ResNetUNet
from nestseg.networks.backbones import make_encoder
from nestseg.networks.encoders import MEDICALNETS, RESNETS

BLOCKS = {
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet152": (3, 8, 36, 3),
    "resnet101": (3, 4, 23, 3),
}
PUBLISHED = {"resnet18": 122, "resnet34": 218, "resnet50": 320, "resnet101": 626, "resnet152": 932}
"""Tensors in a torchvision file, the classifier's two among them."""


def torchvision_layout(name: str, width: int = 64) -> dict[str, tuple[int, ...]]:
    """Names and shapes in a torchvision file, from the architecture: He et al. 2016, table 1."""
    bottleneck = name in ("resnet50", "resnet101", "resnet152")
    shapes: dict[str, tuple[int, ...]] = {}

    def norm(key: str, channels: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{key}.{part}"] = (channels,)
        shapes[f"{key}.num_batches_tracked"] = ()

    shapes["conv1.weight"] = (width, 3, 7, 7)
    norm("bn1", width)
    before = width
    for layer, blocks in enumerate(BLOCKS[name], start=1):
        planes = width * 2 ** (layer - 1)
        out = 4 * planes if bottleneck else planes
        for n in range(blocks):
            key = f"layer{layer}.{n}"
            inner = [(planes, before, 1, 1), (planes, planes, 3, 3), (out, planes, 1, 1)]
            if not bottleneck:
                inner = [(planes, before, 3, 3), (planes, planes, 3, 3)]
            for k, shape in enumerate(inner, start=1):
                shapes[f"{key}.conv{k}.weight"] = shape
                norm(f"{key}.bn{k}", shape[0])
            if n == 0 and (layer > 1 or before != out):
                shapes[f"{key}.downsample.0.weight"] = (out, before, 1, 1)
                norm(f"{key}.downsample.1", out)
            before = out
    return shapes | {"fc.weight": (1000, before), "fc.bias": (1000,)}


def imagenet_file(folder: Path, name: str = "resnet18", width: int = 4) -> Path:
    """A file of random weights in torchvision's layout."""
    torch.manual_seed(0)
    layout = torchvision_layout(name, width)
    weights = {
        key: torch.rand(shape) if shape else torch.tensor(7) for key, shape in layout.items()
    }
    torch.save(weights, folder / f"{name}.pth")
    return folder / f"{name}.pth"


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("name", RESNETS)
def test_names_and_shapes_are_those_of_torchvision(name: str) -> None:
    layout = torchvision_layout(name)
    assert len(layout) == PUBLISHED[name]
    with torch.device("meta"):
        state = ResNetEncoder(name).state_dict()
    wanted = {key: shape for key, shape in layout.items() if not key.startswith("fc.")}
    assert {key: tuple(value.shape) for key, value in state.items()} == wanted


@pytest.mark.parametrize(
    ("name", "in_2d", "in_3d"),
    [
        ("resnet18", 11_176_512, 33_160_000),
        ("resnet34", 21_284_672, 63_469_632),
        ("resnet50", 23_508_032, 46_155_072),
        ("resnet101", 42_500_160, 85_201_216),
    ],
)
def test_an_encoder_has_as_many_parameters_as_its_paper(name: str, in_2d: int, in_3d: int) -> None:
    with torch.device("meta"):
        assert parameters(ResNetEncoder(name)) == in_2d
        assert parameters(ResNetEncoder(name, 3, 1)) == in_3d


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("resnet18", 11_689_512),
        ("resnet34", 21_797_672),
        ("resnet50", 25_557_032),
        ("resnet101", 44_549_160),
        ("resnet152", 60_192_808),
    ],
)
def test_with_a_classifier_of_1000_classes_the_count_is_torchvisions(
    name: str, published: int
) -> None:
    with torch.device("meta"):
        encoder = ResNetEncoder(name)
    classifier = encoder.channels[-1] * 1000 + 1000
    assert parameters(encoder) + classifier == published
    if name == "resnet152":
        assert parameters(encoder) == 58_143_808


@pytest.mark.parametrize("name", RESNETS)
@pytest.mark.parametrize("dims", [2, 3])
def test_features_leave_at_strides_2_to_32(name: str, dims: int) -> None:
    with torch.device("meta"):
        encoder = ResNetEncoder(name, dims)
        features = encoder(torch.empty(1, 3, *(64, 96, 32)[:dims]))
    for k, feature in enumerate(features, start=1):
        size = [n // 2**k for n in (64, 96, 32)[:dims]]
        assert feature.shape == (1, encoder.channels[k - 1], *size)


@pytest.mark.parametrize("name", ["resnet18", "resnet34"])
def test_the_shortcut_carries_gradient(name: str) -> None:
    """MONAI's own resnet18 and resnet34 detach it."""
    torch.manual_seed(0)
    block = ResNetEncoder(name, width=4).layer2[0]
    nn.init.zeros_(block.bn2.weight)  # nothing is left but the shortcut
    x = torch.rand(2, 4, 8, 8, requires_grad=True)
    block(x).square().sum().backward()
    assert isinstance(x.grad, Tensor)
    assert x.grad.abs().sum() > 0


@pytest.mark.parametrize("name", RESNETS)
def test_a_torchvision_file_is_loaded_whole(tmp_path: Path, name: str) -> None:
    path = imagenet_file(tmp_path, name)
    encoder = ResNetEncoder(name, width=4, weights=path)
    state = encoder.state_dict()
    for key, value in torch.load(path, weights_only=True).items():
        assert key.startswith("fc.") or torch.equal(value, state[key])


def test_a_file_from_before_the_step_counters_is_loaded(tmp_path: Path) -> None:
    path = imagenet_file(tmp_path)
    weights = torch.load(path, weights_only=True)
    old = {k: v for k, v in weights.items() if not k.endswith("num_batches_tracked")}
    torch.save(old, path)
    state = ResNetEncoder("resnet18", width=4, weights=path).state_dict()
    assert torch.equal(state["bn1.running_var"], weights["bn1.running_var"])


def test_a_grey_image_is_seen_as_it_was_in_three_channels(tmp_path: Path) -> None:
    path = imagenet_file(tmp_path)
    rgb = ResNetEncoder("resnet18", width=4, weights=path).eval()
    grey = ResNetEncoder("resnet18", in_channels=1, width=4, weights=path).eval()
    x = torch.randn(1, 1, 32, 32)
    torch.testing.assert_close(grey.conv1(x), rgb.conv1(x.expand(1, 3, 32, 32)))


def test_a_volume_of_equal_slices_is_seen_as_its_slice(tmp_path: Path) -> None:
    path = imagenet_file(tmp_path)
    flat = ResNetEncoder("resnet18", 2, 1, width=4, weights=path).eval()
    solid = ResNetEncoder("resnet18", 3, 1, width=4, weights=path).eval()
    x = torch.randn(1, 1, 16, 16)
    out = solid.conv1(x.unsqueeze(-1).expand(1, 1, 16, 16, 32))
    torch.testing.assert_close(out[..., 8], flat.conv1(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("build", [LinkNet, ResNetUNet])
def test_networks_pass_the_file_on_to_their_encoder(tmp_path: Path, build: Any) -> None:
    path = imagenet_file(tmp_path)
    network = build(encoder="resnet18", in_channels=1, width=4, weights=path)
    wanted = torch.load(path, weights_only=True)["layer2.0.downsample.0.weight"]
    (key,) = (k for k in network.state_dict() if k.endswith("layer2.0.downsample.0.weight"))
    assert torch.equal(network.state_dict()[key], wanted)


def test_a_file_that_does_not_fit_is_refused_in_one_line_that_names_it(tmp_path: Path) -> None:
    path = imagenet_file(tmp_path)
    text, plain, missing = (tmp_path / name for name in ("text.pth", "plain.pth", "none.pth"))
    text.write_text("no weights")
    torch.save([1, 2], plain)
    for name, file, complaint in (
        ("resnet34", path, r"another network: `layer1\.2\.conv1\.weight` is missing in the file"),
        (
            "resnet50",
            path,
            r"another network: `layer1\.0\.conv1\.weight` has the shape \[4, 4, 3, 3\]",
        ),
        ("resnet18", text, "cannot be read as weights"),
        ("resnet18", plain, "holds no state dict"),
        ("resnet18", missing, "cannot be read as weights: .*No such file"),
    ):
        with pytest.raises(ValueError, match=complaint) as error:
            ResNetEncoder(name, width=4, weights=file)
        assert str(error.value).startswith(f"{file}: ")
        assert "\n" not in str(error.value)


def test_an_encoder_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match=r"one of resnet18, .*resnet152, got 'vg"):
        ResNetEncoder("vgg16")


# --- the grid on an encoder -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoder", "counts"),
    [
        ("resnet18", (14_234_561, 15_204_001, 15_544_993)),
        ("resnet34", (24_342_721, 25_312_161, 25_653_153)),
        ("resnet50", (30_461_377, 31_946_913, 32_951_457)),
        ("resnet101", (49_453_505, 50_939_041, 51_943_585)),
    ],
)
def test_a_grid_on_an_encoder_with_one_head_has_the_parameters_of_its_table(
    encoder: str, counts: tuple[int, ...]
) -> None:
    with torch.device("meta"):
        for topology, count in zip(("unet", "unet+", "unet++"), counts, strict=True):
            network = ResNetUNet(encoder=encoder, topology=topology, heads=(4,))
            assert parameters(network) == count


def test_pruning_drops_the_deeper_layers_of_the_encoder() -> None:
    with torch.device("meta"):
        network = ResNetUNet(encoder="resnet18", topology="unet++", width=4)
        for level in (1, 2, 3, 4):
            pruned = network.pruned(level)
            layers = {key.split(".")[1] for key in pruned.state_dict() if ".layer" in key}
            assert layers == {f"layer{k}" for k in range(1, level + 1)}
            assert pruned.geometry.period == (2 ** (level + 1),) * 2


def test_a_grid_on_an_encoder_has_no_valid_convolutions() -> None:
    with torch.device("meta"), pytest.raises(TypeError, match="padding"):
        ResNetUNet(padding="valid")  # type: ignore[call-arg]


def test_a_grid_deeper_than_its_encoder_is_refused() -> None:
    with (
        torch.device("meta"),
        pytest.raises(ValueError, match="resnet34: allows a depth of 4, got 5"),
    ):
        ResNetUNet(features=(2, 3, 4, 5, 6))


# --- other encoders ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*MEDICALNETS, "vgg16_bn", "densenet169", "efficientnet_b1"])
def test_maps_have_the_channels_and_strides_that_an_encoder_says(name: str) -> None:
    dims = ENCODERS[name].spatial_dims[-1]
    shape = (64, 96, 32)[:dims]
    with torch.device("meta"):
        for levels in (5, 3):
            encoder = make_encoder(name, dims, 1, levels)
            maps = encoder(torch.empty(1, 1, *shape))
            wanted = [
                (1, channels, *(n // stride for n in shape))
                for channels, stride in zip(encoder.channels, encoder.strides, strict=True)
            ]
            assert [tuple(m.shape) for m in maps] == wanted
            assert len(maps) == levels


def test_the_last_two_layers_of_a_medicalnet_dilate_as_its_authors_have_it() -> None:
    with torch.device("meta"):
        deep, plain = (make_encoder(f"medicalnet{n}", 3, 1, 5) for n in (50, 18))
    for layer, dilation in ((deep.layer3, 2), (deep.layer4, 4)):
        for block in layer:
            assert block.conv2.dilation == block.conv2.padding == (dilation,) * 3
            assert block.conv2.stride == block.conv1.stride == (1, 1, 1)
    assert {conv.dilation for block in plain.layer4 for conv in (block.conv1, block.conv2)} == {
        (4, 4, 4)
    }
    assert deep.strides == (2, 4, 8, 8, 8)
    with pytest.raises(
        ValueError, match=r"medicalnet50: spatial_dims must be one of \(3,\), got 2"
    ):
        make_encoder("medicalnet50", 2, 1, 5)


def test_a_shortcut_of_type_a_pads_with_zeros_and_carries_gradient() -> None:
    block = make_encoder("medicalnet18", 3, 1, 5, width=2).layer2[0]
    x = torch.rand(1, 2, 4, 4, 4, requires_grad=True)
    out = block.downsample(x)
    assert torch.equal(out[:, :2], x[..., ::2, ::2, ::2])
    assert out.shape == (1, 4, 2, 2, 2)
    assert not out[:, 2:].any()
    out.sum().backward()
    assert x.grad is not None
    assert x.grad[..., ::2, ::2, ::2].all()


class TwoMaps(nn.Module):
    """An encoder of somebody's own."""

    def __init__(self, strides: tuple[int, ...] = (4, 8)) -> None:
        super().__init__()
        self.channels, self.strides = (3, 5), strides
        self.first, self.second = nn.Conv2d(1, 3, 4, 4), nn.Conv2d(3, 5, 2, 2)

    def forward(self, x: Tensor) -> list[Tensor]:
        first = self.first(x)
        return [first, self.second(first)]


def test_a_grid_takes_any_module_that_says_its_channels_and_strides() -> None:
    encoder = TwoMaps()
    network = BackboneUNet(2, 1, 2, encoder, (4,), "unet++").eval()
    assert network.geometry.period == (8, 8)
    x = torch.rand(2, 1, 16, 24)
    assert network(x).shape == (2, 2, 16, 24)
    pruned = network.pruned(1)
    assert torch.equal(pruned(x), network(x))
    assert pruned.encoder is not encoder


def test_a_module_that_is_not_an_encoder_is_refused_and_says_why() -> None:
    with pytest.raises(
        ValueError, match="encoder Conv2d: must be a module with `channels` and `str"
    ):
        BackboneUNet(2, 1, 2, nn.Conv2d(1, 2, 3), (4,))
    with pytest.raises(ValueError, match=r"or half as long; got 2 maps at strides \(2, 8\)"):
        BackboneUNet(2, 1, 2, TwoMaps((2, 8)), (4,))
    with pytest.raises(ValueError, match="the encoder allows a depth of 1"):
        BackboneUNet(2, 1, 2, TwoMaps(), (4, 8))


def test_an_encoder_of_a_fixed_width_says_so() -> None:
    with pytest.raises(ValueError, match="efficientnet_b0: its width cannot be chosen, got 8"):
        make_encoder("efficientnet_b0", 2, 3, 5, width=8)


def test_without_timm_its_models_are_refused_with_the_way_to_install_it() -> None:
    if importlib.util.find_spec("timm"):
        pytest.skip("timm is installed")
    with pytest.raises(ValueError, match=r"pip install 'nestseg\[timm\]'"):
        BackboneUNet(encoder="timm:resnet18")


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "swin_tiny_patch4_window7_224"])
def test_a_model_of_timm_is_an_encoder(name: str) -> None:
    pytest.importorskip("timm", exc_type=ImportError)
    network = BackboneUNet(2, 1, 2, f"timm:{name}", (4, 5), "unet++").eval()
    x = torch.rand(1, 1, 224, 224)
    with torch.no_grad():
        shallow = network.forward_heads(x)[1]
        assert shallow.shape == (1, 2, 224, 224)
        assert torch.equal(network.pruned(1)(x), shallow)
