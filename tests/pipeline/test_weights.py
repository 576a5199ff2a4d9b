"""Weights in half precision; and weights of other projects, by the names that they have there.

Names and layouts are written out here from the authors' public code. That whole files of that code
give its outputs was measured against it: docs/backbones.md.
"""

from pathlib import Path

import pytest
import torch
from ignite.engine import Engine
from monai.networks.nets import BasicUNetPlusPlus
from safetensors.torch import save_file
from torch import Tensor, nn

from nestseg.engines import StartWeights
from nestseg.networks import (
    BackboneUNet,
    DLinkNet,
    GridUNet,
    U2Net,
    load_weights,
    unet3d_genesis_2019,
    unetpp_monai,
)
from nestseg.networks.backbones import make_encoder
from nestseg.networks.u2net import FULL
from nestseg.networks.weights import read_state_dict, store_half, translate
from nestseg_prep.errors import InputError


def test_halved_weights_take_half_the_room_and_load_strictly(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = GridUNet(2, 1, 2, (8, 16, 32), norm="batch").eval()
    path = tmp_path / "model.pt"
    torch.save(network.state_dict(), path)
    before = path.stat().st_size
    image = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        logits = network(image)
        store_half(path)
        network.load_state_dict(read_state_dict(path), strict=True)
        assert path.stat().st_size < 0.6 * before
        assert next(network.parameters()).dtype == torch.float32
        torch.testing.assert_close(network(image), logits, atol=0.02, rtol=0.02)
    assert [p.name for p in tmp_path.iterdir()] == ["model.pt"]


def test_what_half_precision_cannot_hold_stays(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    large, count = torch.tensor([1e6]), torch.tensor(3)
    torch.save({"var": large, "count": count}, path)
    store_half(path)
    found = read_state_dict(path)
    assert torch.equal(found["var"], large)
    assert torch.equal(found["count"], count)
    assert found["count"].dtype == torch.int64


def test_a_file_that_holds_no_weights_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(b"no weights")
    with pytest.raises(ValueError, match=r"model\.pt"):
        store_half(path)
    assert path.read_bytes() == b"no weights"


# --- weights of other projects ----------------------------------------------------------------

NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def random_like(network: nn.Module) -> dict[str, Tensor]:
    """Weights that all differ, for a network: a tensor in a wrong place cannot hide."""
    torch.manual_seed(0)
    return {
        name: torch.rand_like(value) if value.is_floating_point() else torch.tensor(7)
        for name, value in network.state_dict().items()
    }


def renamed(network: nn.Module, names: dict[str, str]) -> dict[str, str]:
    """Theirs → ours for every tensor, from pairs of modules; ``names`` is theirs → ours."""
    ours = network.state_dict()
    pairs = {
        f"{their}.{leaf}": f"{our}.{leaf}"
        for their, our in names.items()
        for leaf in NORM
        if f"{our}.{leaf}" in ours
    }
    assert sorted(pairs.values()) == sorted(ours)
    return pairs


def check_names(network: nn.Module, names: dict[str, str], tmp_path: Path) -> None:
    """A file by their names, as DataParallel and a training script write it, is loaded whole."""
    pairs = renamed(network, names)
    weights = random_like(network)
    file = {f"module.{theirs}": weights[ours] for theirs, ours in pairs.items()}
    path = tmp_path / "theirs.pth"
    torch.save({"epoch": 3, "state_dict": file}, path)
    assert load_weights(network, path) == []
    state = network.state_dict()
    assert all(torch.equal(state[name], value) for name, value in weights.items())


def u2net_names() -> dict[str, str]:
    """xuebinqin/U-2-Net, model/u2net.py."""
    names = {"outconv": "fuse", "side6": "sides.en6"}
    for k in range(1, 6):
        names[f"side{k}"] = f"sides.de{k}"
    rsus = {f"stage{k}": f"encoder.en{k}" for k in range(1, 7)}
    rsus |= {f"stage{k}d": f"decoder.de{k}" for k in range(1, 6)}
    for their, ours in rsus.items():
        height = (7, 6, 5, 4, 4, 4)[int(their[5]) - 1]
        places = {"rebnconvin": "first", f"rebnconv{height}": "bottom"}
        for k in range(1, height):
            places[f"rebnconv{k}"] = f"down.{k - 1}.1"
            places[f"rebnconv{k}d"] = f"up.{height - 1 - k}"
        for unit, place in places.items():
            names[f"{their}.{unit}.conv_s1"] = f"{ours}.{place}.0"
            names[f"{their}.{unit}.bn_s1"] = f"{ours}.{place}.1"
    return names


def test_a_file_of_u2net_is_loaded_by_its_authors_names(tmp_path: Path) -> None:
    stages = {name: stage._replace(mid=2, out=3) for name, stage in FULL.items()}
    check_names(U2Net(2, 3, 1, stages), u2net_names(), tmp_path)


def test_a_file_of_d_linknet_is_loaded_by_its_authors_names(tmp_path: Path) -> None:
    """zlckanata/DeepGlobe-Road-Extraction-Challenge, networks/dinknet.py: DinkNet34."""
    network = DLinkNet(2, 3, 1, "resnet34", width=4)
    names = {"firstconv": "encoder.conv1", "firstbn": "encoder.bn1"}
    for layer, blocks in enumerate((3, 4, 6, 3), start=1):
        for block in range(blocks):
            for unit in ("conv1", "bn1", "conv2", "bn2"):
                names[f"encoder{layer}.{block}.{unit}"] = f"encoder.layer{layer}.{block}.{unit}"
        if layer > 1:
            for k in (0, 1):
                tail = f"{layer}.0.downsample.{k}"
                names[f"encoder{tail}"] = f"encoder.layer{tail}"
    for k in range(4):
        names[f"dblock.dilate{k + 1}"] = f"centre.steps.{k}.0"
    units = {"conv1": 0, "norm1": 1, "deconv2": 3, "norm2": 4, "conv3": 6, "norm3": 7}
    for k in range(1, 5):
        names |= {f"decoder{k}.{unit}": f"decoder{k}.{place}" for unit, place in units.items()}
    names |= {"finaldeconv1": "head.0", "finalconv2": "head.2", "finalconv3": "head.4"}
    check_names(network, names, tmp_path)


def up_first(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same decoders where the up-sampled map comes before the laterals."""
    turned = dict(weights)
    for name in weights:
        if name.endswith(".up.weight"):
            first = name.replace("up.weight", "block.0.conv.weight")
            laterals = weights[first].shape[1] - weights[name].shape[1]
            turned[first] = weights[first].roll(-laterals, dims=1)
    return turned


def test_a_file_of_models_genesis_is_loaded_by_its_authors_names(tmp_path: Path) -> None:
    """MrGiovanni/ModelsGenesis, pytorch/unet3d.py."""
    network = unet3d_genesis_2019(width=4)
    weights = random_like(network)
    theirs = {}
    turned = up_first(weights)
    for level, tr in enumerate((64, 128, 256, 512)):
        column = 3 - level
        for k in (0, 1):
            blocks = [(f"down_tr{tr}", f"x_{level}_0")]
            if column:
                blocks.append((f"up_tr{tr}", f"x_{level}_{column}"))
            for their, our in blocks:
                for unit, part in (("conv1", "conv"), ("bn1", "adn.N")):
                    for leaf in ("weight", "bias"):
                        value = turned[f"nodes.{our}.block.{k}.{part}.{leaf}"]
                        theirs[f"module.{their}.ops.{k}.{unit}.{leaf}"] = value
                theirs[f"module.{their}.ops.{k}.bn1.running_mean"] = torch.zeros(1)
        if column:
            for leaf in ("weight", "bias"):
                ours = turned[f"nodes.x_{level}_{column}.up.{leaf}"]
                theirs[f"module.up_tr{tr}.up_conv.{leaf}"] = ours
    for leaf in ("weight", "bias"):
        theirs[f"module.out_tr.final_conv.{leaf}"] = weights[f"heads.x_0_3.{leaf}"]
    path = tmp_path / "Genesis_Chest_CT.pt"
    torch.save({"epoch": 1, "state_dict": theirs, "optimizer_state_dict": {"state": {}}}, path)
    (note,) = load_weights(network, path)
    assert note.startswith(
        "left out 14 tensors of Models Genesis: down_tr64.ops.0.bn1.running_mean"
    )
    assert all(torch.equal(network.state_dict()[name], value) for name, value in weights.items())


def test_a_unetpp_of_keras_is_loaded_by_its_authors_names() -> None:
    """MrGiovanni/UNetPlusPlus, keras/helper_functions.py; kernels have their channels last."""
    network = GridUNet(2, 3, 2, (2, 3, 4, 5, 6), "unet++")
    weights = random_like(network)
    theirs = {}
    for name, value in up_first(weights).items():
        kind, node, *_, leaf = name.split(".")
        level, column = (int(k) + 1 for k in node.split("_")[1:])
        layer = f"output_{column - 1}" if kind == "heads" else f"up{level}{column}"
        if ".block." in name:
            layer = f"conv{level}{column}_{int(name.split('.')[3]) + 1}"
        if leaf == "weight":
            theirs[f"{layer}.kernel"] = value.permute(2, 3, 1, 0)
        else:
            theirs[f"{layer}.bias"] = value
    assert theirs["conv11_1.kernel"].shape == (3, 3, 3, 2)
    state, notes = translate(network, theirs)
    assert notes == []
    assert all(torch.equal(state[name], value) for name, value in weights.items())
    assert state.keys() == weights.keys()


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("deep_supervision", [True, False])
@torch.no_grad()
def test_monais_unetpp_and_ours_give_the_same(
    dims: int, deep_supervision: bool, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    widths = (4, 4, 6, 8, 10)
    theirs = BasicUNetPlusPlus(dims, 2, 3, (*widths, 4), deep_supervision=deep_supervision).eval()
    torch.save(theirs.state_dict(), tmp_path / "model.pt")
    ours = unetpp_monai(dims, 2, 3, widths)
    load_weights(ours, tmp_path / "model.pt")
    x = torch.randn(1, 2, *(32, 48, 32)[:dims])
    heads = ours.eval().forward_heads(x)
    for z, w in zip(theirs(x)[::-1], heads, strict=deep_supervision):
        torch.testing.assert_close(w, z, rtol=0, atol=1e-6)


def test_heads_that_a_network_was_built_without_are_left_out(tmp_path: Path) -> None:
    theirs = BasicUNetPlusPlus(2, 1, 2, (4, 4, 6, 8, 10, 4))
    torch.save(theirs.state_dict(), tmp_path / "model.pt")
    ours = unetpp_monai(2, 1, 2, (4, 4, 6, 8, 10)).pruned(4)
    (note,) = load_weights(ours, tmp_path / "model.pt")
    assert note.startswith("left out 6 tensors of MONAI's BasicUNetPlusPlus: final_conv_0_1.weight")


def test_the_weights_of_a_medicalnet_want_its_dilation(tmp_path: Path) -> None:
    """Tencent/MedicalNet publishes ``state_dict`` with ``module.`` names and no classifier."""
    weights = random_like(make_encoder("medicalnet50", 3, 1, 5, width=2))
    path = tmp_path / "resnet_50_23dataset.pth"
    torch.save({"state_dict": {f"module.{name}": value for name, value in weights.items()}}, path)
    network = BackboneUNet(3, 1, 2, "medicalnet50", (2, 3), width=2, weights=path)
    assert torch.equal(network.encoder.conv1.weight, weights["conv1.weight"])
    assert "encoder.layer3.0.conv1.weight" not in network.state_dict()
    with pytest.raises(
        ValueError, match="taken for a MedicalNet, whose last two layers dilate"
    ) as e:
        BackboneUNet(3, 1, 2, "resnet50", (2, 3), width=2, weights=path)
    assert str(e.value).startswith(f"{path}: ")
    with pytest.raises(ValueError, match=r"`layer1\.0\.conv1\.weight` has the shape"):
        make_encoder("medicalnet18", 3, 1, 5, width=2, weights=path)


def test_an_encoder_within_a_network_takes_a_classifier_and_nothing_else_changes(
    tmp_path: Path,
) -> None:
    weights = random_like(make_encoder("vgg16_bn", 2, 3, 5, width=2))
    path = tmp_path / "vgg16_bn.safetensors"
    save_file({**weights, "classifier.0.weight": torch.ones(2, 2)}, path)
    network = BackboneUNet(2, 3, 1, "vgg16_bn", (2, 3, 4, 5), "unet++", width=2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    (note,) = load_weights(network, path)
    assert note.endswith("VGG16 with batch norm: classifier.0.weight")
    for name, value in network.state_dict().items():
        inside = name.startswith("encoder.")
        assert torch.equal(value, weights[name[8:]] if inside else before[name])


def test_torchvisions_dense_layers_are_found_in_both_spellings() -> None:
    encoder = make_encoder("densenet121", 2, 3, 5, width=4)
    weights = random_like(encoder)
    for dot in ("", "."):
        theirs = {
            name.replace(".layers.norm", f".norm{dot}").replace(
                ".layers.conv", f".conv{dot}"
            ): value
            for name, value in weights.items()
        }
        state, notes = translate(encoder, theirs | {"classifier.bias": torch.ones(2)})
        assert state.keys() == weights.keys()
        assert notes == ["left out 1 tensors of torchvision's DenseNet: classifier.bias"]


def test_a_grid_on_a_resnet_of_nestseg_0_1_is_still_read() -> None:
    """Then the encoder's layers were nodes of the grid."""
    network = BackboneUNet(2, 1, 1, "resnet18", (2, 3), width=2)
    weights = random_like(network)
    level = {"conv1": 0, "bn1": 0, "layer1": 1, "layer2": 2}
    old = {}
    for name, value in weights.items():
        part, _, rest = name.partition(".")
        i = level.get(rest.split(".")[0], 0)
        old[f"nodes.x_{i}_0.block.{rest}" if part == "encoder" else name] = value
    state, notes = translate(network, old)
    assert notes == []
    assert {name: value.tolist() for name, value in state.items()} == {
        name: value.tolist() for name, value in weights.items()
    }


@pytest.mark.parametrize(("had", "has"), [(3, 1), (1, 3), (3, 4), (4, 2)])
@torch.no_grad()
def test_a_first_kernel_for_other_channels_answers_equal_channels_as_before(
    had: int, has: int, tmp_path: Path
) -> None:
    before, after = (GridUNet(2, n, 2, (3, 4)).eval() for n in (had, has))
    torch.save(before.state_dict(), tmp_path / "model.pt")
    assert load_weights(after, tmp_path / "model.pt") == [
        f"`nodes.x_0_0.block.0.conv.weight` was adapted from {had} channels to {has}"
    ]
    x = torch.randn(1, 1, 8, 8)
    torch.testing.assert_close(after(x.expand(1, has, 8, 8)), before(x.expand(1, had, 8, 8)))


def test_a_file_of_another_network_is_refused_with_the_first_tensor_that_differs(
    tmp_path: Path,
) -> None:
    path = tmp_path / "model.pt"
    torch.save(BasicUNetPlusPlus(2, 1, 2, (4, 4, 6, 8, 10, 4)).state_dict(), path)
    network = GridUNet(2, 1, 2, (4, 4, 6))
    kept = {name: value.clone() for name, value in network.state_dict().items()}
    for other, reason in (
        (network, r"`nodes\.x_1_1\.up\.weight` has the shape"),
        (
            unetpp_monai(2, 1, 3, (4, 4, 6, 8, 10)),
            r"`heads\.x_0_4\.weight` has the shape \[2, 4, 1, 1",
        ),
        (U2Net(2, 1, 1, {k: s._replace(mid=1, out=1) for k, s in FULL.items()}), "is missing in"),
    ):
        with pytest.raises(ValueError, match=f"another network: .*{reason}") as error:
            load_weights(other, path)
        assert str(error.value).startswith(f"{path}: ")
    assert all(torch.equal(network.state_dict()[name], value) for name, value in kept.items())


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"weight": torch.zeros(1000)}, path)
    content = bytearray(path.read_bytes())
    content[1500] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.pt: cannot be read as weights"):
        read_state_dict(path)


def start(path: Path, network: nn.Module) -> None:
    trainer = Engine(lambda *_: None)
    StartWeights(path, [network]).attach(trainer)
    trainer.run([0])


def test_a_training_starts_from_a_file_of_another_project(tmp_path: Path) -> None:
    theirs = BasicUNetPlusPlus(2, 3, 2, (4, 4, 6, 8, 10, 4))
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "theirs.pt")
    ours = unetpp_monai(2, 1, 5, (4, 4, 6, 8, 10))  # other channels, other classes
    start(tmp_path / "theirs.pt", ours)
    state = ours.state_dict()
    first = theirs.state_dict()["conv_0_0.conv_0.conv.weight"]
    torch.testing.assert_close(state["nodes.x_0_0.block.0.conv.weight"], first.sum(1, keepdim=True))
    deep = theirs.state_dict()["upcat_0_4.convs.conv_1.conv.weight"]
    assert torch.equal(state["nodes.x_0_4.block.1.conv.weight"], deep)


def test_a_training_does_not_start_from_a_medicalnet_that_does_not_dilate(tmp_path: Path) -> None:
    path = tmp_path / "theirs.pt"
    torch.save(random_like(make_encoder("medicalnet10", 3, 1, 5, width=2)), path)
    with pytest.raises(InputError, match=r"theirs\.pt: a 3D ResNet without a classifier is taken"):
        start(path, BackboneUNet(3, 1, 2, "resnet18", (2,), width=2))
