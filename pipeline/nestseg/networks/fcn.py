"""FCN-32s, FCN-16s, FCN-8s: VGG16 made fully convolutional, with score maps fused across levels.

Long, Shelhamer, Darrell 2015, "Fully Convolutional Networks for Semantic Segmentation". The finer
nets are trained in stages, each from the weights of the coarser one (:meth:`FCN.load_coarser`); the
coarsest takes those of VGG16 (:func:`nestseg.networks.load_weights`), whose inputs are normalised.

Why any size goes in: the first convolution pads by 100 instead of 1, so that even one voxel leaves
something for the 7-convolution fc6, pools round up, and maps are cropped to what they join. The
crop offsets are those at which the centres of the voxels coincide: voxel i of the scores lies at
32 i + 12.5 of the image, along every path.
"""

# No `from __future__ import annotations`: torch.jit.script reads the annotations of modules.
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from nestseg.networks.blocks import he_init
from nestseg.networks.sized import SizedNetwork
from nestseg_prep.geometry import Geometry

CONVS = (2, 2, 3, 3, 3)  # of the five blocks of VGG16
FUSED = {32: {}, 16: {"pool4": 5}, 8: {"pool4": 5, "pool3": 9}}  # and where the map is cropped
OUTPUT_CROP = {32: 19, 16: 27, 8: 31}


class BilinearUp(nn.ConvTranspose2d):
    """Linear interpolation by ``stride`` as a transposed convolution, per class (section 3.3).

    Frozen, as in the authors' nets; ``requires_grad_()`` makes it learnable.
    """

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__(channels, channels, 2 * stride, stride, bias=False)
        self.requires_grad_(False)

    def reset_parameters(self) -> None:
        size, stride = self.kernel_size[0], self.stride[0]
        line = 1 - (torch.arange(size) - (size - 1) / 2).abs() / stride
        with torch.no_grad():
            kernels = torch.eye(self.in_channels)[:, :, None, None] * torch.outer(line, line)
            self.weight.copy_(kernels)


def crop(x: Tensor, offset: int, like: Tensor) -> Tensor:
    """The part of ``x`` ``(B, C, H, W)`` from ``offset`` on that has the size of ``like``."""
    return x.narrow(2, offset, like.size(2)).narrow(3, offset, like.size(3))


class Fuse(nn.Module):
    """Double the scores and add those that a 1-convolution reads from a finer map (figure 3)."""

    def __init__(self, before: int, out_channels: int, offset: int) -> None:
        super().__init__()
        self.offset = offset
        self.up = BilinearUp(out_channels, 2)
        self.score = nn.Conv2d(before, out_channels, 1)
        nn.init.zeros_(self.score.weight)  # the net starts with the coarser one's predictions
        nn.init.zeros_(self.score.bias)  # type: ignore[arg-type]

    def forward(self, scores: Tensor, finer: Tensor) -> Tensor:
        up: Tensor = self.up(scores)
        return up + crop(self.score(finer), self.offset, up)


class FCN(SizedNetwork):
    """The networks of Long et al. 2015, section 4; returns logits. 2D; any size goes in.

    ``(B, in_channels, H, W)`` → ``(B, out_channels, H, W)``.

    Args:
        in_channels: channels of the image.
        out_channels: classes.
        stride: of the finest scores: 32, 16 or 8.
        features: channels of the five blocks.
        hidden: channels of fc6 and fc7; most of the weights are theirs.
        dropout: probability behind fc6 and fc7.

    Raises:
        ValueError: a stride that is none of the three.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 21,
        stride: int = 8,
        features: Sequence[int] = (64, 128, 256, 512, 512),
        hidden: int = 4096,
        *,
        dropout: float = 0.5,
    ) -> None:
        if stride not in FUSED:
            raise ValueError(f"stride must be one of {tuple(FUSED)}, got {stride}")
        super().__init__(Geometry.same(2, period=1))
        self.output_crop = OUTPUT_CROP[stride]
        self.blocks = nn.ModuleDict()
        before, padding = in_channels, 100
        for k, (n, width) in enumerate(zip(CONVS, features, strict=True), start=1):
            layers: list[nn.Module] = []
            for _ in range(n):
                layers += [nn.Conv2d(before, width, 3, padding=padding), nn.ReLU()]
                before, padding = width, 1
            self.blocks[f"pool{k}"] = nn.Sequential(*layers, nn.MaxPool2d(2, ceil_mode=True))
        fc6 = [nn.Conv2d(before, hidden, 7), nn.ReLU(), nn.Dropout(dropout)]
        fc7 = [nn.Conv2d(hidden, hidden, 1), nn.ReLU(), nn.Dropout(dropout)]
        self.fc = nn.Sequential(*fc6, *fc7)
        self.score = nn.Conv2d(hidden, out_channels, 1)
        for module in (self.blocks, self.fc, self.score):
            he_init(module)
        levels = list(self.blocks)
        self.fused_levels = [levels.index(name) for name in FUSED[stride]]
        self.fuse = nn.ModuleDict(
            {
                name: Fuse(features[levels.index(name)], out_channels, offset)
                for name, offset in FUSED[stride].items()
            }
        )
        self.upscore = BilinearUp(out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Logits for the image ``x``; see the class."""
        if not torch.jit.is_scripting():
            self.check_size(x)
        image = x
        maps: list[Tensor] = []
        for block in self.blocks.values():
            x = block(x)
            maps.append(x)
        scores: Tensor = self.score(self.fc(x))
        for k, fuse in enumerate(self.fuse.values()):
            scores = fuse(scores, maps[self.fused_levels[k]])
        return crop(self.upscore(scores), self.output_crop, image)

    def load_coarser(self, weights: Mapping[str, Tensor]) -> None:
        """Start from the trained net of twice the stride (section 4.2: 32s → 16s → 8s).

        What is new, one score layer, stays 0: the first predictions are those of the coarser net.

        Args:
            weights: state dict of an ``FCN`` of the same widths and classes.

        Raises:
            ValueError: it is not the net of twice the stride.
        """
        new = f"fuse.{list(self.fuse)[-1]}." if self.fuse else "-"
        kept = {key: value for key, value in weights.items() if not key.startswith("upscore.")}
        expected = [k for k in self.state_dict() if not k.startswith(("upscore.", new))]
        if not self.fuse or sorted(kept) != sorted(expected):
            raise ValueError("these are not the weights of the FCN of twice the stride")
        self.load_state_dict(kept, strict=False)
