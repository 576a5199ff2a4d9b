"""The networks of the papers by name: the body of each builder is its paper's table."""

from nestseg.networks.papers.grids import (
    unet3d_2016,
    unet_2015,
    unet_deepglobe_2018,
    unet_e_2020,
    unet_keras,
    unet_l,
    unet_plus_2020,
    unetpp_2018,
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

__all__ = [
    "ciresan_2012",
    "fcn8s_2015",
    "fcn16s_2015",
    "fcn32s_2015",
    "linknet_deepglobe_2018",
    "resfcn_2016",
    "u2net_2020",
    "u2net_lite_2020",
    "unet3d_2016",
    "unet_2015",
    "unet_deepglobe_2018",
    "unet_e_2020",
    "unet_keras",
    "unet_l",
    "unet_plus_2020",
    "unetpp_2018",
    "wide_unet_2018",
]
