"""The networks: ``torch.nn`` only, no files and no engines. All return logits; see ``base``."""

from nestseg.networks.base import SegmentationNetwork
from nestseg.networks.grid import TOPOLOGIES, GridUNet
from nestseg.networks.papers import unet3d_2016, unet_2015, unetpp_2018

__all__ = [
    "TOPOLOGIES",
    "GridUNet",
    "SegmentationNetwork",
    "unet3d_2016",
    "unet_2015",
    "unetpp_2018",
]
