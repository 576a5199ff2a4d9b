"""The ways that are compared, as data. One that cannot run here is reported with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Tiling:
    """How our bundle cuts a volume.

    Attributes:
        name: in tables.
        overlap: of tiles, as a fraction.
        more: further arguments of ``OverlapTileInferer``.
    """

    name: str
    overlap: float
    more: Mapping[str, Any] = field(default_factory=dict)


STOCK_OVERLAP = 0.5  # MONAI's tutorials', and nnU-Net's step size of 0.5
EQUAL = Tiling("equal tiles", STOCK_OVERLAP)
QUARTER = Tiling("overlap 0.25", 0.25)  # what our bundles choose
# Below -925 HU there is air with noise, and no organ of the phantom: such tiles need no network.
AIR = {"background_at_most": -1.85}
BODY = Tiling("equal overlap, body only", STOCK_OVERLAP, AIR)
OWN = Tiling("own tiling", 0.25, AIR | {"roi_size_max": (128, 128, 128)})


@dataclass(frozen=True)
class Way:
    """One way from an image to labels.

    Attributes:
        name: in tables.
        program: ``"nestseg"``, ``"monai"`` or ``"nnunet"``.
        tiling: what a peer has of it is the overlap.
        options: of ``nestseg segment``, without the dashes, and of its ``SegmentOptions``.
        required: whether a comparison without it has failed.
    """

    name: str
    program: str
    tiling: Tiling = EQUAL
    options: Mapping[str, str] = field(default_factory=dict)
    required: bool = False

    @property
    def kind(self) -> str:
        """Whose it is."""
        return "ours" if self.program == "nestseg" else "peer"

    @property
    def arguments(self) -> list[str]:
        """The options on a command line."""
        return [word for key, value in self.options.items() for word in (f"--{key}", value)]

    @property
    def slug(self) -> str:
        """Of files."""
        kept = "".join(letter if letter.isalnum() else " " for letter in self.name.lower())
        return "_".join(kept.split())


MONAI = Way("MONAI stock fp32", "monai")
NNUNET = Way("nnU-Net v2 fp32", "nnunet")
PEERS = (MONAI, NNUNET)


def _ours(name: str, **options: str) -> list[Way]:
    """A way with the peers' tiles, with those of them that hold body, and with our own."""
    return [
        Way(f"nestseg {name}, {tiling.name}", "nestseg", tiling, options)
        for tiling in (EQUAL, BODY, OWN)
    ]


OURS = (
    Way("nestseg as installed, equal tiles", "nestseg", EQUAL, required=True),
    Way("nestseg as installed, overlap 0.25", "nestseg", QUARTER, required=True),
    Way("nestseg as installed, own tiling", "nestseg", OWN),
    *_ours("auto", precision="auto"),
    *_ours("torch fp32", precision="fp32", runtime="torch"),
    *_ours("torch bf16", precision="bf16", runtime="torch"),
    *_ours("torch.compile bf16", precision="bf16", runtime="compile"),
    *_ours("onnxruntime fp32", precision="fp32", runtime="onnxruntime"),
    *_ours("openvino fp32", precision="fp32", runtime="openvino"),
    *_ours("openvino bf16", precision="bf16", runtime="openvino"),
    *_ours("openvino int8", precision="int8", runtime="openvino"),
)
EVERY = (*PEERS, *OURS)


def chosen(names: str) -> tuple[Way, ...]:
    """Ways whose names hold one of the given words, separated by commas; all if none is given.

    Words that are joined by ``+`` must all be there: ``bf16+own``. The peers stay: without them
    there is nothing to compare with.
    """
    words = [word.strip().lower() for word in names.split(",") if word.strip()]
    if not words:
        return EVERY

    def wanted(name: str) -> bool:
        return any(all(part in name for part in word.split("+")) for word in words)

    return (*PEERS, *(way for way in OURS if wanted(way.name.lower())))


def whole(some: tuple[Way, ...]) -> tuple[Way, ...]:
    """Those that are run from end to end: not each library that OpenVINO is faster than.

    With ten series of 200 slices each of these would take half an hour, and say no more than their
    forward passes.
    """
    return tuple(way for way in some if way.options.get("runtime", "openvino") == "openvino")
