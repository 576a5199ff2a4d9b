"""The U-Net grid on an encoder: any topology, the decoder of UNet++ on any backbone."""

# No `from __future__ import annotations`: torch.jit.script reads the annotations of modules.
import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from nestseg.networks.backbones import check_encoder, make_encoder
from nestseg.networks.blocks import Spec, he_init
from nestseg.networks.nodes import GridNetwork, decoder_node
from nestseg.networks.topology import Node, head_columns
from nestseg.networks.weights import load_weights
from nestseg_prep.geometry import Geometry


class BackboneUNet(GridNetwork):
    """U-Net, U-Net^e, UNet+ or UNet++ whose encoder nodes are the feature maps of a backbone.

    Level i lies at the stride of the encoder's map i. A head is a 1-convolution, and linear
    up-sampling by the stride of level 0 (2 on a ResNet, none on a VGG16). There is no
    ``padding="valid"``: a backbone's padding cannot be cropped off. Outputs are those of
    :class:`GridUNet`.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        out_channels: classes (with softmax) or labels (with sigmoid).
        encoder: a name of ``ENCODERS``, ``"timm:NAME"``, or a module that keeps the protocol
            :class:`Encoder`. A pruned network has no more of a named encoder than it needs, and all
            of a module.
        features: channels of the decoder nodes of levels 0, 1, …; their number is the depth, and
            fewer than the encoder allows leave out its last layers.
        topology: see :class:`GridUNet`.
        heads: columns j of the nodes X^{0,j} with a head; default: the topology's own.
        norm: of the decoder, in MONAI's notation.
        act: activation of the decoder, in MONAI's notation.
        width: channels of a named encoder's first map; default: as published.
        weights: file of weights for the encoder, as torchvision or MedicalNet publish them; see
            :func:`load_weights`.

    Raises:
        ValueError: an unknown encoder or topology, a head that is not there, weights that do not
            fit; in ``forward``, a spatial size that does not fit (the message names those that do).
    """

    def __init__(  # noqa: PLR0913  one argument per choice of its two parts
        self,
        spatial_dims: int = 2,
        in_channels: int = 3,
        out_channels: int = 1,
        encoder: str | nn.Module = "resnet34",
        features: Sequence[int] = (32, 64, 128, 256),
        topology: str = "unet",
        heads: Sequence[int] | None = None,
        *,
        norm: Spec = "batch",
        act: Spec = "relu",
        width: int | None = None,
        weights: str | Path | None = None,
    ) -> None:
        depth = len(features)
        columns = head_columns(topology, depth, heads)
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
        backbone: Any = encoder
        if isinstance(encoder, str):
            backbone = make_encoder(
                encoder, spatial_dims, in_channels, depth + 1, width=width, weights=weights
            )
        check_encoder(backbone)
        if len(backbone.channels) <= depth:
            raise ValueError(
                f"features {tuple(features)}: the encoder allows a depth of "
                f"{len(backbone.channels) - 1}"
            )
        if weights is not None and not isinstance(encoder, str):
            load_weights(backbone, weights)
        strides = tuple(backbone.strides)

        def channels(i: int, j: int) -> int:
            return int(features[i] if j else backbone.channels[i])

        def node(place: Node, nodes: list[Node]) -> nn.Module:
            i = place[0]
            step = (strides[i + 1] // strides[i],) * spatial_dims
            made = decoder_node(place, nodes, channels, features[i], style, stride=step)
            he_init(made)
            return made

        def head() -> nn.Module:
            mode = "bilinear" if spatial_dims == 2 else "trilinear"
            conv = Conv[Conv.CONV, spatial_dims](features[0], out_channels, 1)
            he_init(conv)
            layers = [conv]
            if strides[0] > 1:
                layers.append(nn.Upsample(scale_factor=float(strides[0]), mode=mode))
            return nn.Sequential(*layers)

        geometry = Geometry.same(spatial_dims, period=strides[-1])
        super().__init__(config, geometry, columns, node, head, encoder=backbone)
        self.depth = depth

    def encode(self, x: Tensor) -> list[Tensor]:
        """The feature maps of the encoder that the decoder reads."""
        maps: list[Tensor] = self.encoder(x)
        return maps[: self.depth + 1]

    def _config_at(self, level: int) -> dict[str, Any]:
        encoder = copy.deepcopy(self.config["encoder"])  # a module is not shared
        return {"features": self.config["features"][:level], "encoder": encoder}
