"""How other projects name the weights of networks that are in this family too.

A :class:`Layout` translates one name at a time. Which layout a file has is told by a name that only
this layout has, so a file says by itself where it comes from.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

ENCODER: Final = "encoder."
"""What the names of an encoder start with in a network."""

_RSU_HEIGHTS = (7, 6, 5, 4, 4, 4)  # of U²-Net's stages 1 to 6
_GENESIS_LEVELS = {"64": 0, "128": 1, "256": 2, "512": 3}
_VGG_BLOCKS = (0, 5, 10, 17, 24)  # the first layer of each block in VGG16 without batch norm


class Layout(NamedTuple):
    """The names of one source.

    Attributes:
        source: whose they are, for people.
        mark: pattern of a name that only this source has.
        translate: its name → ours, or ``None`` for what our networks have no place for (a
            classifier).
        part: what our names of it start with, if it is a part of our network.
        up_first: whether decoders concatenate the up-sampled map before the laterals; ours do it
            the other way round.
    """

    source: str
    mark: str
    translate: Callable[[str], str | None]
    part: str = ""
    up_first: bool = False


def layout_of(names: Iterable[str]) -> Layout | None:
    """The layout of a file by its names; ``None`` if it is none of these."""
    names = list(names)
    for layout in LAYOUTS:
        if any(re.fullmatch(layout.mark, name) for name in names):
            return layout
    return None


def _by_rules(*rules: tuple[str, str | None]) -> Callable[[str], str | None]:
    """Translate by the first pattern that matches the start of a name; others stay as they are."""

    def translate(name: str) -> str | None:
        for pattern, ours in rules:
            if found := re.match(pattern, name):
                return None if ours is None else found.expand(ours) + name[found.end() :]
        return name

    return translate


def _keras(name: str) -> str:
    """The grids of Zhou et al. 2018, whose levels and columns start at 1."""
    name = name.replace(".kernel", ".weight")
    if found := re.fullmatch(r"(conv|up)(\d)(\d)(?:_(\d))?\.(\w+)", name):
        kind, level, column, k, leaf = found.groups()
        part = "up" if kind == "up" else f"block.{int(k) - 1}.conv"
        return f"nodes.x_{int(level) - 1}_{int(column) - 1}.{part}.{leaf}"
    return re.sub(r"output(?:_(\d))?\.", lambda m: f"heads.x_0_{m[1] or 4}.", name)


def _u2net(name: str) -> str:
    pattern = r"stage(\d)(d?)\.rebnconv(in|\d)(d?)\.(conv|bn)_s1\.(\w+)"
    if found := re.fullmatch(pattern, name):
        stage, decoding, k, up, kind, leaf = found.groups()
        height = _RSU_HEIGHTS[int(stage) - 1]
        if k == "in":
            place = "first"
        elif up:
            place = f"up.{height - 1 - int(k)}"
        else:
            place = "bottom" if int(k) == height else f"down.{int(k) - 1}.1"
        way = f"decoder.de{stage}" if decoding else f"encoder.en{stage}"
        return f"{way}.{place}.{0 if kind == 'conv' else 1}.{leaf}"
    name = re.sub(r"^side(\d)\.", lambda m: f"sides.{'en' if m[1] == '6' else 'de'}{m[1]}.", name)
    return re.sub(r"^outconv\.", "fuse.", name)


def _genesis(name: str) -> str:
    parts = {"conv1": "conv", "bn1": "adn.N", "activation": "adn.A"}
    if found := re.fullmatch(r"(down|up)_tr(\d+)\.ops\.(\d)\.(conv1|bn1|activation)\.(\w+)", name):
        way, width, k, kind, leaf = found.groups()
        level = _GENESIS_LEVELS[width]
        column = 3 - level if way == "up" else 0
        return f"nodes.x_{level}_{column}.block.{k}.{parts[kind]}.{leaf}"
    if found := re.fullmatch(r"up_tr(\d+)\.up_conv\.(\w+)", name):
        level = _GENESIS_LEVELS[found[1]]
        return f"nodes.x_{level}_{3 - level}.up.{found[2]}"
    return re.sub(r"^out_tr\.final_conv\.", "heads.x_0_3.", name)


def _vgg16(name: str) -> str | None:
    """VGG16 without batch norm, as the FCN has it: its two hidden layers are convolutions there."""
    if found := re.fullmatch(r"features\.(\d+)\.(\w+)", name):
        place = int(found[1])
        block = max(k for k, first in enumerate(_VGG_BLOCKS) if first <= place)
        return f"blocks.pool{block + 1}.{place - _VGG_BLOCKS[block]}.{found[2]}"
    found = re.fullmatch(r"classifier\.(0|3)\.(\w+)", name)
    return f"fc.{found[1]}.{found[2]}" if found else None


_IN_A_BLOCK = {"conv1": 0, "norm1": 1, "deconv2": 3, "norm2": 4, "conv3": 6, "norm3": 7}

LAYOUTS: Final = (
    Layout(
        "ResNetUNet of nestseg 0.1",
        r"nodes\.x_0_0\.block\.conv1\.weight",
        _by_rules((r"nodes\.x_\d_0\.block\.", "encoder.")),
    ),
    Layout(
        "UNet++ in Keras",
        r"conv11_1\.kernel",
        _keras,
        up_first=True,
    ),
    Layout(
        "MONAI's BasicUNetPlusPlus",
        r"upcat_0_4\.upsample\.deconv\.weight",
        _by_rules(
            (r"conv_(\d)_0(?:\.convs)?\.conv_(\d)", r"nodes.x_\1_0.block.\2"),
            (r"upcat_(\d)_(\d)\.upsample\.deconv", r"nodes.x_\1_\2.up"),
            (r"upcat_(\d)_(\d)\.convs\.conv_(\d)", r"nodes.x_\1_\2.block.\3"),
            (r"final_conv_0_(\d)", r"heads.x_0_\1"),
        ),
    ),
    Layout("U²-Net", r"stage1\.rebnconvin\.conv_s1\.weight", _u2net),
    Layout(
        "D-LinkNet",
        r"firstconv\.weight",
        _by_rules(
            ("firstconv", "encoder.conv1"),
            ("firstbn", "encoder.bn1"),
            (r"encoder(\d)", r"encoder.layer\1"),
            *((rf"dblock\.dilate{k + 1}", f"centre.steps.{k}.0") for k in range(5)),
            *((rf"decoder(\d)\.{ours}", rf"decoder\1.{k}") for ours, k in _IN_A_BLOCK.items()),
            ("finaldeconv1", "head.0"),
            ("finalconv2", "head.2"),
            ("finalconv3", "head.4"),
        ),
    ),
    Layout("Models Genesis", r"down_tr64\.ops\.0\.conv1\.weight", _genesis, up_first=True),
    Layout(
        "a ResNet",
        r"layer1\.0\.conv1\.weight",
        _by_rules((r"(fc|conv_seg)\.", None)),
        part=ENCODER,
    ),
    Layout(
        "torchvision's DenseNet",
        r"features\.conv0\.weight",
        _by_rules(
            (r"classifier\.", None),
            (r"(.*\.denselayer\d+)\.(norm|conv)\.?(\d)", r"\1.layers.\2\3"),
        ),
        part=ENCODER,
    ),
    Layout(
        "torchvision's VGG16 with batch norm",
        r"features\.1\.running_mean",
        _by_rules((r"classifier\.", None)),
        part=ENCODER,
    ),
    Layout("torchvision's VGG16", r"features\.2\.weight", _vgg16, part="blocks."),
    Layout(
        "MONAI's EfficientNet",
        r"_conv_stem\.weight",
        _by_rules((r"_conv_head|_bn1\.|_fc\.", None)),
        part=ENCODER,
    ),
    Layout(
        "MONAI's MedNeXt",
        r"dec_stages\.0\.0\.conv1\.weight",
        _by_rules((r"up_blocks|dec_stages|out_", None)),
        part=ENCODER,
    ),
)
"""Every layout that is known; the first whose mark is in a file is the file's."""
