"""Encoders that are not ResNets, and every encoder by name.

VGG16 (Simonyan & Zisserman 2015), DenseNet (Huang et al. 2017), EfficientNet (Tan & Le 2019) and
MedNeXt (Roy et al. 2023), the last three on MONAI's modules; and what timm has, where installed.
"""

# No `from __future__ import annotations`: torch.jit.script reads the annotations of modules.
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from importlib import import_module
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, NamedTuple

from monai.networks.nets import DenseNet, EfficientNetBN, MedNeXt
from torch import Tensor, nn

from nestseg.networks.blocks import he_init
from nestseg.networks.encoders import DEPTH, MEDICALNETS, RESNETS, Encoder, ResNetEncoder
from nestseg.networks.topology import check_choice
from nestseg.networks.weights import load_weights, read_state_dict

LEVELS = DEPTH + 1
TIMM = "timm:"
"""Before the name of a timm model."""

_STRIDES = (2, 4, 8, 16, 32)


class _Row(nn.Module):
    """Layers in a row, ``features`` as torchvision calls them; some of their outputs are maps.

    Args:
        features: the layers.
        ends: places of those whose output is a map.
        channels: of these maps.
        strides: of these maps.
    """

    def __init__(
        self, features: nn.Sequential, ends: list[int], channels: list[int], strides: list[int]
    ) -> None:
        super().__init__()
        self.features = _first(features, ends[-1] + 1)
        self.ends = ends
        self.channels = tuple(channels)
        self.strides = tuple(strides)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps: list[Tensor] = []
        for place, layer in enumerate(self.features):
            x = layer(x)
            if place in self.ends:
                maps.append(x)
        return maps


def _first(layers: nn.Sequential, count: int) -> nn.Sequential:
    """The first layers, by the same names."""
    return nn.Sequential(OrderedDict(islice(layers.named_children(), count)))


class VGGEncoder(_Row):
    """VGG16 with batch norm in 2D; its names are torchvision's ``vgg16_bn``.

    Args:
        in_channels: channels of the image.
        width: channels of the first block; 64 in the paper, and for its weights.
        levels: how many maps are wanted, at strides 1, 2, 4, 8 and 16.
    """

    def __init__(self, in_channels: int = 3, width: int = 64, levels: int = LEVELS) -> None:
        layers: list[nn.Module] = []
        ends, channels, before = [], [], in_channels
        for convs, factor in ((2, 1), (2, 2), (3, 4), (3, 8), (3, 8)):
            for _ in range(convs):
                conv = nn.Conv2d(before, before := factor * width, 3, padding=1)
                layers += [conv, nn.BatchNorm2d(before), nn.ReLU()]
            ends.append(len(layers) - 1)
            channels.append(before)
            layers.append(nn.MaxPool2d(2))
        strides = [1, 2, 4, 8, 16]
        super().__init__(nn.Sequential(*layers), ends[:levels], channels[:levels], strides[:levels])
        he_init(self)


class DenseNetEncoder(_Row):
    """A DenseNet of MONAI without its classifier.

    Args:
        blocks: layers in each of the four dense blocks.
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        width: channels of the stem, twice the growth rate; 64 in the paper.
        levels: how many maps are wanted, at strides 2, 4, 8, 16 and 32.
    """

    def __init__(
        self,
        blocks: tuple[int, ...] = (6, 12, 24, 16),
        spatial_dims: int = 2,
        in_channels: int = 3,
        width: int = 64,
        levels: int = LEVELS,
    ) -> None:
        growth = width // 2
        features = DenseNet(spatial_dims, in_channels, 1, width, growth, blocks).features
        names, channels = list(dict(features.named_children())), [width]
        for count in blocks:
            before = channels[-1] // (2 if len(channels) > 1 else 1)  # a transition halves them
            channels.append(before + count * growth)
        ends = [names.index("relu0"), *(names.index(f"denseblock{k}") for k in (1, 2, 3))]
        ends.append(names.index("norm5"))
        super().__init__(features, ends[:levels], channels[:levels], list(_STRIDES[:levels]))


class EfficientNetEncoder(EfficientNetBN):
    """An EfficientNet of MONAI without its classifier, in 2D.

    Args:
        name: ``"efficientnet-b0"``, … ``"efficientnet-b7"``.
        in_channels: channels of the image.
        levels: how many maps are wanted, at strides 2, 4, 8, 16 and 32.
    """

    def __init__(
        self, name: str = "efficientnet-b0", in_channels: int = 3, levels: int = LEVELS
    ) -> None:
        super().__init__(name, pretrained=False, in_channels=in_channels)
        self.set_swish(memory_efficient=False)  # the other one cannot be exported
        for part in ("_conv_head", "_conv_head_padding", "_bn1", "_avg_pooling", "_dropout", "_fc"):
            delattr(self, part)
        ends = self.extract_stacks[:levels]  # stacks of blocks before each halving
        self._blocks = _first(self._blocks, ends[-1])
        self.ends = [end - 1 for end in ends]
        self.channels = tuple(self._blocks_args[end].output_filters for end in self.ends)
        self.strides = _STRIDES[:levels]

    def forward(self, inputs: Tensor) -> list[Tensor]:
        x = self._swish(self._bn0(self._conv_stem(self._conv_stem_padding(inputs))))
        maps: list[Tensor] = []
        for place, stack in enumerate(self._blocks):
            x = stack(x)
            if place in self.ends:
                maps.append(x)
        return maps


class MedNeXtEncoder(MedNeXt):
    """The encoder of MedNeXt-S with kernels of 3, from MONAI.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        width: channels of the stem; 32 in the paper.
        levels: how many maps are wanted, at strides 1, 2, 4, 8 and 16.
    """

    def __init__(
        self, spatial_dims: int = 3, in_channels: int = 1, width: int = 32, levels: int = LEVELS
    ) -> None:
        super().__init__(
            spatial_dims, width, in_channels, 1, kernel_size=3, use_residual_connection=True
        )
        del self.up_blocks, self.dec_stages, self.out_0
        if levels < LEVELS:
            self.bottleneck = nn.Sequential()
        self.enc_stages = self.enc_stages[:levels]
        self.down_blocks = self.down_blocks[: levels - 1]
        self.channels = tuple(width * 2**level for level in range(levels))
        self.strides = (1, 2, 4, 8, 16)[:levels]

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = [self.enc_stages[0](self.stem(x))]
        stages = [*self.enc_stages[1:], self.bottleneck]
        for down, stage in zip(self.down_blocks, stages, strict=False):
            maps.append(stage(down(maps[-1])))
        return maps


class TimmEncoder(nn.Module):
    """Any model of timm that has ``features_only``, in 2D.

    Args:
        name: as timm has it, e.g. ``"convnext_tiny"``.
        in_channels: channels of the image.
        levels: how many of its maps are wanted.
        weights: a file of weights for the whole model, which timm itself fits to it.

    Raises:
        ValueError: timm is not installed, has no such model, or the model has fewer maps.
    """

    def __init__(
        self,
        name: str,
        in_channels: int = 3,
        levels: int = LEVELS,
        weights: str | Path | None = None,
    ) -> None:
        super().__init__()
        try:
            timm: Any = import_module("timm")
        except ImportError as error:
            raise ValueError(
                f"encoder {TIMM}{name}: timm cannot be imported ({error}); "
                "pip install 'nestseg[timm]'"
            ) from error
        pretrained = {} if weights is None else {"pretrained_cfg_overlay": {"file": str(weights)}}
        try:
            self.model = timm.create_model(
                name,
                pretrained=weights is not None,
                features_only=True,
                in_chans=in_channels,
                out_indices=tuple(range(levels)),
                **pretrained,
            )
        except IndexError as error:
            raise ValueError(
                f"encoder {TIMM}{name}: has fewer than {levels} feature maps; "
                f"give fewer than {levels - 1} decoder features"
            ) from error
        except (RuntimeError, AttributeError, OSError) as error:
            reason = " ".join((str(error) or type(error).__name__).split())[:200]
            raise ValueError(f"encoder {TIMM}{name}: timm cannot build it: {reason}") from error
        if weights is not None and not type(self.model).__module__.endswith("._features"):
            self._check_file(Path(weights))  # of such a model timm takes any file, without a word
        self.channels = tuple(self.model.feature_info.channels())
        self.strides = tuple(self.model.feature_info.reduction())
        form = getattr(self.model, "output_fmt", None)
        self.channels_last = form is not None and form.value == "NHWC"

    def forward(self, x: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.model(x)
        return [m.movedim(-1, 1) for m in maps] if self.channels_last else maps

    def _check_file(self, path: Path) -> None:
        wanted, found = self.model.state_dict(), read_state_dict(path)
        missing = next((name for name in wanted if name not in found), None)
        if missing is not None:
            raise ValueError(
                f"{path}: weights of another network: `{missing}` is missing in the file; name "
                "another file or another network"
            )


class NamedEncoder(NamedTuple):
    """An encoder that a network can name.

    Attributes:
        paper: who proposed it.
        builder: takes ``in_channels`` and ``levels``; ``spatial_dims`` if there is a choice; and
            ``width``, the channels of the first map, if these can be chosen.
        spatial_dims: the dimensions in which it is declared and tested.
    """

    paper: str
    builder: Callable[..., nn.Module]
    spatial_dims: tuple[int, ...] = (2, 3)


ENCODERS = {
    **{name: NamedEncoder("He et al. 2016", partial(ResNetEncoder, name)) for name in RESNETS},
    **{
        name: NamedEncoder("Chen et al. 2019", partial(ResNetEncoder, name, 3), (3,))
        for name in MEDICALNETS
    },
    "vgg16_bn": NamedEncoder("Simonyan & Zisserman 2015", VGGEncoder, (2,)),
    **{
        f"densenet{layers}": NamedEncoder("Huang et al. 2017", partial(DenseNetEncoder, blocks))
        for layers, blocks in ((121, (6, 12, 24, 16)), (169, (6, 12, 32, 32)))
    },
    **{
        f"efficientnet_b{k}": NamedEncoder(
            "Tan & Le 2019", partial(EfficientNetEncoder, f"efficientnet-b{k}"), (2,)
        )
        for k in range(8)
    },
    "mednext_s": NamedEncoder("Roy et al. 2023", MedNeXtEncoder),
}
"""Every encoder by name, timm's aside, which are ``"timm:NAME"``."""


def make_encoder(
    name: str,
    spatial_dims: int,
    in_channels: int,
    levels: int,
    *,
    width: int | None = None,
    weights: str | Path | None = None,
) -> Any:
    """Build an encoder by its name, an :class:`Encoder`.

    Args:
        name: one of ``ENCODERS``, or ``"timm:NAME"``.
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        levels: how many maps are wanted.
        width: channels of the first map, the others in proportion; default: as published.
        weights: a file of weights for it.

    Raises:
        ValueError: an unknown name, a choice that the encoder does not have, or weights that do not
            fit; the message names them.
    """
    fixed = name.startswith((TIMM, "efficientnet"))
    if fixed and width is not None:
        raise ValueError(f"encoder {name}: its width cannot be chosen, got {width}")
    if name.startswith(TIMM):
        if spatial_dims != 2:
            raise ValueError(
                f"encoder {name}: timm's models are 2D, got spatial_dims={spatial_dims}"
            )
        return TimmEncoder(name.removeprefix(TIMM), in_channels, levels, weights)
    check_choice("encoder", name, ENCODERS)
    dims = ENCODERS[name].spatial_dims
    if spatial_dims not in dims:
        raise ValueError(f"encoder {name}: spatial_dims must be one of {dims}, got {spatial_dims}")
    if levels > LEVELS:
        raise ValueError(f"encoder {name}: allows a depth of {DEPTH}, got {levels - 1}")
    arguments = {"spatial_dims": spatial_dims} if len(dims) > 1 else {}
    arguments |= {} if width is None else {"width": width}
    build = partial(ENCODERS[name].builder, in_channels=in_channels, **arguments)
    encoder = build(levels=levels)
    if weights is not None:  # a file holds all levels
        whole = encoder if levels == LEVELS else build(levels=LEVELS)
        load_weights(whole, weights)
        loaded = whole.state_dict()
        encoder.load_state_dict({key: loaded[key] for key in encoder.state_dict()})
    return encoder


def check_encoder(encoder: Any) -> None:
    """Pass if a module says what :class:`Encoder` says.

    Raises:
        ValueError: it does not; the message names what is wrong.
    """
    name = type(encoder).__name__
    if not isinstance(encoder, nn.Module) or not isinstance(encoder, Encoder):
        raise ValueError(f"encoder {name}: must be a module with `channels` and `strides`")
    channels, strides = encoder.channels, encoder.strides
    steps = [b / a for a, b in pairwise(strides)]
    if len(channels) != len(strides) or set(steps) - {1, 2}:
        raise ValueError(
            f"encoder {name}: each map must be as long as the one before it, or half as long; got "
            f"{len(channels)} maps at strides {tuple(strides)}"
        )
