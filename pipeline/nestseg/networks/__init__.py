"""The networks: ``torch.nn`` only, no files and no engines. All return logits; see ``base``."""

from nestseg.networks.base import SegmentationNetwork
from nestseg.networks.fcn import FCN
from nestseg.networks.fovea import Fovea
from nestseg.networks.grid import TOPOLOGIES, GridUNet
from nestseg.networks.papers import (
    ciresan_2012,
    fcn8s_2015,
    fcn16s_2015,
    fcn32s_2015,
    resfcn_2016,
    u2net_2020,
    u2net_lite_2020,
    unet3d_2016,
    unet_2015,
    unetpp_2018,
)
from nestseg.networks.resfcn import ResFCN
from nestseg.networks.u2net import U2Net
from nestseg.networks.window import WindowNet

__all__ = [
    "FCN",
    "TOPOLOGIES",
    "Fovea",
    "GridUNet",
    "ResFCN",
    "SegmentationNetwork",
    "U2Net",
    "WindowNet",
    "ciresan_2012",
    "fcn8s_2015",
    "fcn16s_2015",
    "fcn32s_2015",
    "resfcn_2016",
    "u2net_2020",
    "u2net_lite_2020",
    "unet3d_2016",
    "unet_2015",
    "unetpp_2018",
]
