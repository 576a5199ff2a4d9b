"""The U-Net grid on a ResNet encoder: any topology, the decoder of UNet++ on other backbones."""

# No `from __future__ import annotations`: torch.jit.script reads the annotations of modules.
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai.networks.layers.factories import Conv
from torch import nn

from nestseg.networks.blocks import Spec, he_init
from nestseg.networks.encoders import DEPTH, ResNetEncoder
from nestseg.networks.nodes import EncoderNode, GridNetwork, decoder_node
from nestseg.networks.topology import Node, head_columns
from nestseg_prep.geometry import Geometry


class ResNetUNet(GridNetwork):
    """U-Net, U-Net^e, UNet+ or UNet++ whose encoder nodes are the stages of a ResNet.

    Level i lies at stride 2^(i+1), as the stem halves first; a head is a 1-convolution and twofold
    linear up-sampling. There is no ``padding="valid"``: a ResNet's padding cannot be cropped off.
    Outputs are those of :class:`GridUNet`.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        out_channels: classes (with softmax) or labels (with sigmoid).
        encoder: ``"resnet18"``, ``"resnet34"``, ``"resnet50"`` or ``"resnet101"``.
        features: channels of the decoder nodes of levels 0, 1, …; their number is the depth, and
            fewer than four leave out the encoder's last layers.
        topology: as of :class:`GridUNet`.
        heads: columns j of the nodes X^{0,j} with a head; default: the topology's own.
        norm: of the decoder, in MONAI's notation.
        act: likewise.
        width: channels of the encoder's stem.
        weights: file of ImageNet weights for the encoder, as torchvision publishes them.

    Raises:
        ValueError: an unknown encoder or topology, a head that is not there, weights that do not
            fit; in ``forward``, a spatial size that does not fit (the message names those that do).
    """

    def __init__(  # noqa: PLR0913  one argument per choice of its two parts
        self,
        spatial_dims: int = 2,
        in_channels: int = 3,
        out_channels: int = 1,
        encoder: str = "resnet34",
        features: Sequence[int] = (32, 64, 128, 256),
        topology: str = "unet",
        heads: Sequence[int] | None = None,
        *,
        norm: Spec = "batch",
        act: Spec = "relu",
        width: int = 64,
        weights: str | Path | None = None,
    ) -> None:
        depth = len(features)
        columns = head_columns(topology, depth, heads)
        if depth > DEPTH:
            raise ValueError(f"features {tuple(features)}: a ResNet allows a depth of {DEPTH}")
        config: dict[str, Any] = {
            "spatial_dims": spatial_dims,
            "in_channels": in_channels,
            "out_channels": out_channels,
            "encoder": encoder,
            "features": tuple(features),
            "topology": topology,
            "norm": norm,
            "act": act,
            "width": width,
        }
        style = config | {"padding": "same", "bias": False, "dropout": 0.0}
        style |= {"up_bias": True, "up_act": None, "up_kernel_size": 2}
        backbone = ResNetEncoder(encoder, spatial_dims, in_channels, width, weights)
        stages = backbone.stages()

        def channels(i: int, j: int) -> int:
            return int(features[i] if j else backbone.channels[i])

        def node(place: Node, nodes: list[Node]) -> nn.Module:
            i, j = place
            if j == 0:
                above = nodes.index((i - 1, 0)) if i else -1
                return EncoderNode(above, nn.Identity(), stages[i])  # a stage halves by itself
            made = decoder_node(place, nodes, channels, features[i], style)
            he_init(made)
            return made

        def head() -> nn.Module:
            mode = "bilinear" if spatial_dims == 2 else "trilinear"
            conv = Conv[Conv.CONV, spatial_dims](features[0], out_channels, 1)
            he_init(conv)
            return nn.Sequential(conv, nn.Upsample(scale_factor=2.0, mode=mode))

        geometry = Geometry.same(spatial_dims, period=2 ** (depth + 1))
        super().__init__(config, geometry, columns, node, head)

    def _config_at(self, level: int) -> dict[str, Any]:
        return {"features": self.config["features"][:level]}
