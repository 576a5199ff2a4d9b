"""The networks: ``torch.nn`` only, no engines. All return logits; see ``base``."""

from functools import partial

from nestseg.networks.backbone_grid import BackboneUNet
from nestseg.networks.backbones import ENCODERS, NamedEncoder
from nestseg.networks.base import NamedNetwork, SegmentationNetwork
from nestseg.networks.encoders import Encoder, ResNetEncoder
from nestseg.networks.fcn import FCN
from nestseg.networks.fovea import Fovea
from nestseg.networks.grid import GridUNet
from nestseg.networks.linknet import DLinkNet, LinkNet
from nestseg.networks.papers.grids import (
    unet3d_2016,
    unet3d_genesis_2019,
    unet_2015,
    unet_deepglobe_2018,
    unet_e_2020,
    unet_keras,
    unet_l,
    unet_plus_2020,
    unetpp_2018,
    unetpp_monai,
    wide_unet_2018,
)
from nestseg.networks.papers.others import (
    ciresan_2012,
    fcn8s_2015,
    fcn16s_2015,
    fcn32s_2015,
    linknet_deepglobe_2018,
    resfcn_2016,
    u2net_2020,
    u2net_lite_2020,
)
from nestseg.networks.resfcn import ResFCN
from nestseg.networks.topology import GRID_NAMES, TOPOLOGIES
from nestseg.networks.u2net import U2Net
from nestseg.networks.weights import load_weights
from nestseg.networks.window import WindowNet

_OF_THEIR_OWN = {
    "ciresan_2012": NamedNetwork("Cireşan et al. 2012", ciresan_2012, (2,)),
    "dlinknet101_2018": NamedNetwork(
        "Zhou, Zhang & Wu 2018", partial(DLinkNet, encoder="resnet101")
    ),
    "dlinknet34_2018": NamedNetwork("Zhou, Zhang & Wu 2018", partial(DLinkNet, encoder="resnet34")),
    "dlinknet50_2018": NamedNetwork("Zhou, Zhang & Wu 2018", partial(DLinkNet, encoder="resnet50")),
    "fcn16s_2015": NamedNetwork("Long et al. 2015", fcn16s_2015, (2,)),
    "fcn32s_2015": NamedNetwork("Long et al. 2015", fcn32s_2015, (2,)),
    "fcn8s_2015": NamedNetwork("Long et al. 2015", fcn8s_2015, (2,)),
    "linknet_2017": NamedNetwork("Chaurasia & Culurciello 2017", LinkNet),
    "linknet_2017_no_bypass": NamedNetwork(
        "Chaurasia & Culurciello 2017", partial(LinkNet, bypass=False)
    ),
    "linknet_deepglobe_2018": NamedNetwork("Zhou, Zhang & Wu 2018", linknet_deepglobe_2018),
    "resfcn_2016": NamedNetwork("Drozdzal et al. 2016", resfcn_2016),
    "u2net_2020": NamedNetwork("Qin et al. 2020", u2net_2020),
    "u2net_lite_2020": NamedNetwork("Qin et al. 2020", u2net_lite_2020),
    "unet3d_2016": NamedNetwork("Çiçek et al. 2016", unet3d_2016, (3,)),
    "unet3d_genesis_2019": NamedNetwork("Zhou et al. 2019", unet3d_genesis_2019, (3,)),
    "unet_2015": NamedNetwork("Ronneberger et al. 2015", unet_2015),
    "unet_2015_half": NamedNetwork("Ronneberger et al. 2015", partial(unet_2015, width=32)),
    "unet_2015_quarter": NamedNetwork("Ronneberger et al. 2015", partial(unet_2015, width=16)),
    "unet_2015_release": NamedNetwork(
        "Ronneberger et al. 2015", partial(unet_2015, variant="release")
    ),
    "unet_deepglobe_2018": NamedNetwork("Zhou, Zhang & Wu 2018", unet_deepglobe_2018, (2,)),
    "unet_e_2020": NamedNetwork("Zhou et al. 2020", unet_e_2020),
    "unet_keras": NamedNetwork("Ronneberger et al. 2015", unet_keras),
    "unet_l1": NamedNetwork("Zhou et al. 2018", partial(unet_l, 1)),
    "unet_l2": NamedNetwork("Zhou et al. 2018", partial(unet_l, 2)),
    "unet_l3": NamedNetwork("Zhou et al. 2018", partial(unet_l, 3)),
    "unet_l4": NamedNetwork("Zhou et al. 2018", partial(unet_l, 4)),
    "unet_plus_2020": NamedNetwork("Zhou et al. 2020", unet_plus_2020),
    "unetpp_2018": NamedNetwork("Zhou et al. 2018", unetpp_2018),
    "unetpp_monai": NamedNetwork("Zhou et al. 2018", unetpp_monai),
    "wide_unet_2018": NamedNetwork("Zhou et al. 2018", wide_unet_2018),
}
ResNetUNet = BackboneUNet
"""The name of :class:`BackboneUNet` in configs of bundles from before 0.2."""

_ON_ENCODERS = {
    f"{name}_{encoder}": NamedNetwork(
        ENCODERS[encoder].paper,
        partial(
            BackboneUNet,
            spatial_dims=ENCODERS[encoder].spatial_dims[0],
            encoder=encoder,
            topology=topology,
        ),
        ENCODERS[encoder].spatial_dims,
    )
    for name, topology in GRID_NAMES.items()
    for encoder in (
        *("resnet18", "resnet34", "resnet50", "resnet101", "medicalnet50"),
        *("vgg16_bn", "densenet121", "efficientnet_b0", "mednext_s"),
    )
}

NETWORKS = dict(sorted((_OF_THEIR_OWN | _ON_ENCODERS).items()))
"""Every network of the family by name, sorted."""

__all__ = [
    "ENCODERS",
    "FCN",
    "NETWORKS",
    "TOPOLOGIES",
    "BackboneUNet",
    "DLinkNet",
    "Encoder",
    "Fovea",
    "GridUNet",
    "LinkNet",
    "NamedEncoder",
    "NamedNetwork",
    "ResFCN",
    "ResNetEncoder",
    "ResNetUNet",
    "SegmentationNetwork",
    "U2Net",
    "WindowNet",
    "ciresan_2012",
    "fcn8s_2015",
    "fcn16s_2015",
    "fcn32s_2015",
    "linknet_deepglobe_2018",
    "load_weights",
    "resfcn_2016",
    "u2net_2020",
    "u2net_lite_2020",
    "unet3d_2016",
    "unet3d_genesis_2019",
    "unet_2015",
    "unet_deepglobe_2018",
    "unet_e_2020",
    "unet_keras",
    "unet_l",
    "unet_plus_2020",
    "unetpp_2018",
    "unetpp_monai",
    "wide_unet_2018",
]
