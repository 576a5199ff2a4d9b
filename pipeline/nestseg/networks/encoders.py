"""ResNet encoders (He et al. 2016) whose weights are torchvision's, name for name.

MONAI's ``ResNetEncoder`` and ``FlexibleUNet`` are not used: for ResNet-18 and -34 they take
shortcut type A, which cuts the gradient of the shortcut and knows no torchvision weights.
"""

# No `from __future__ import annotations`: torch.jit.script reads the annotations of modules.
from collections import OrderedDict
from pathlib import Path

from monai.networks.nets import ResNet
from torch import Tensor, nn

from nestseg.networks.topology import check_choice
from nestseg.networks.weights import read_state_dict

RESNETS: dict[str, tuple[str, list[int]]] = {
    "resnet18": ("basic", [2, 2, 2, 2]),
    "resnet34": ("basic", [3, 4, 6, 3]),
    "resnet50": ("bottleneck", [3, 4, 6, 3]),
    "resnet101": ("bottleneck", [3, 4, 23, 3]),
    "resnet152": ("bottleneck", [3, 8, 36, 3]),
}
"""Kind of block and blocks per layer (He et al. 2016, table 1)."""

DEPTH = 4
"""Halvings behind the stem's own: features lie at strides 2, 4, 8, 16 and 32."""


class ResNetEncoder(ResNet):
    """A ResNet without its classifier; the stride of a bottleneck sits on its 3-convolution.

    Args:
        name: ``"resnet18"``, ``"resnet34"``, ``"resnet50"``, ``"resnet101"`` or
            ``"resnet152"``.
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        width: channels of the stem; 64 in the paper, and for its weights.
        weights: file of ImageNet weights as torchvision publishes them; default: random weights.

    Attributes:
        channels: of the features at strides 2, 4, 8, 16 and 32.

    Raises:
        ValueError: an unknown name, or a file whose weights do not fit (the message names it).
    """

    def __init__(
        self,
        name: str,
        spatial_dims: int = 2,
        in_channels: int = 3,
        width: int = 64,
        weights: str | Path | None = None,
    ) -> None:
        check_choice("encoder", name, RESNETS)
        block, layers = RESNETS[name]
        planes = [width * 2**k for k in range(DEPTH)]
        super().__init__(
            block,
            layers,
            planes,
            spatial_dims=spatial_dims,
            n_input_channels=in_channels,
            conv1_t_size=7,
            conv1_t_stride=2,
            shortcut_type="B",
            bias_downsample=False,
            feed_forward=False,
        )
        expansion = 4 if block == "bottleneck" else 1
        self.channels = (width, *(expansion * p for p in planes))
        if weights is not None:
            load_torchvision(self, Path(weights))

    def forward(self, x: Tensor) -> list[Tensor]:  # type: ignore[override]
        """Features of ``x`` ``(B, in_channels, *spatial)`` at strides 2, 4, 8, 16 and 32."""
        stem = self.stem(x)
        first = self.layer1(self.maxpool(stem))
        second = self.layer2(first)
        third = self.layer3(second)
        return [stem, first, second, third, self.layer4(third)]

    def stem(self, x: Tensor) -> Tensor:
        """The 7-convolution of stride 2 with its norm and activation."""
        out: Tensor = self.act(self.bn1(self.conv1(x)))
        return out

    def stages(self) -> list[nn.Sequential]:
        """The same modules, cut where a feature leaves: each maps one feature to the next."""
        cuts = [("conv1", "bn1", "act"), ("maxpool", "layer1"), ("layer2",), ("layer3",)]
        return [
            nn.Sequential(OrderedDict((name, getattr(self, name)) for name in names))
            for names in [*cuts, ("layer4",)]
        ]


def load_torchvision(encoder: ResNetEncoder, path: Path) -> None:
    """Load ImageNet weights in torchvision's layout from a file; the classifier ``fc`` is dropped.

    For one channel, the first convolution is summed over RGB: it answers to a grey image as it did
    to that image as R = G = B. For 3D, each kernel is repeated along the last spatial axis and
    divided by its length: it answers to a volume that is constant along that axis as it did to a
    slice.

    Raises:
        ValueError: the file is missing, unreadable, or of another network; one line that names it.
    """
    wanted = encoder.state_dict()
    found = {
        key: value for key, value in read_state_dict(path).items() if not key.startswith("fc.")
    }
    fitted = {
        key: _fit(value, wanted[key]) if key in wanted else value for key, value in found.items()
    }
    # Files older than the batch norms' step counters lack them; loading makes up for that itself.
    missing = [k for k in wanted if k not in fitted and not k.endswith("num_batches_tracked")]
    odd = [k for k in fitted if k not in wanted or fitted[k].shape != wanted[k].shape]
    if missing or odd:
        raise ValueError(
            f"{path}: these weights do not fit the encoder: {len(missing)} tensors are missing and "
            f"{len(odd)} are unknown or of another shape, the first {(odd or missing)[0]}"
        )
    encoder.load_state_dict(fitted, strict=True)


def _fit(weight: Tensor, wanted: Tensor) -> Tensor:
    """Bring a 2D RGB kernel ``(out, in, k, k)`` to the channels and dimensions of ``wanted``."""
    if weight.dim() == 4 and wanted.dim() == 5:
        k = wanted.shape[-1]
        weight = weight.unsqueeze(-1).expand(*weight.shape, k) / k
    if weight.dim() > 1 and weight.shape[1] == 3 and wanted.shape[1] == 1:
        weight = weight.sum(dim=1, keepdim=True)
    return weight
