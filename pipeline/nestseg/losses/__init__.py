"""Losses over logits, named as ``_target_`` by the bundles; each one is a paper's formula.

Where MONAI's loss equals the formula, the name here is a builder that returns MONAI's.
"""

from nestseg.losses.cross_entropy import (
    BorderWeightedCELoss,
    ClassWeightedCELoss,
    linknet_class_weights,
)
from nestseg.losses.dice import dlinknet_loss, keras_dice_loss
from nestseg.losses.heads import HeadsLoss, u2net_loss, unetpp_loss

__all__ = [
    "BorderWeightedCELoss",
    "ClassWeightedCELoss",
    "HeadsLoss",
    "dlinknet_loss",
    "keras_dice_loss",
    "linknet_class_weights",
    "u2net_loss",
    "unetpp_loss",
]
