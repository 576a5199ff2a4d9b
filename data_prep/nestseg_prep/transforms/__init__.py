"""Dictionary transforms over the prep stage, for bundles: the only prep modules with MONAI."""

from nestseg_prep.transforms.deform import RandGridDeformd
from nestseg_prep.transforms.instances import Instancesd
from nestseg_prep.transforms.load import LoadVolumed
from nestseg_prep.transforms.pad import MirrorPadd, mirror_pad_tensor
from nestseg_prep.transforms.patches import (
    BalancedPatchesd,
    CropToOutputd,
    GridPatchesd,
    RandBalancedPatchesd,
)
from nestseg_prep.transforms.prepare import prepare_training_set
from nestseg_prep.transforms.synthesis import RandImageFromLabelsd
from nestseg_prep.transforms.training_set import TrainingSet
from nestseg_prep.transforms.weight import BorderWeightd

__all__ = [
    "BalancedPatchesd",
    "BorderWeightd",
    "CropToOutputd",
    "GridPatchesd",
    "Instancesd",
    "LoadVolumed",
    "MirrorPadd",
    "RandBalancedPatchesd",
    "RandGridDeformd",
    "RandImageFromLabelsd",
    "TrainingSet",
    "mirror_pad_tensor",
    "prepare_training_set",
]
