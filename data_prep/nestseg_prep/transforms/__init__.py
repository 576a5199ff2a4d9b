"""Dictionary transforms over the prep stage, for bundles: the only prep modules with MONAI."""

from nestseg_prep.transforms.deform import RandGridDeformd
from nestseg_prep.transforms.instances import Instancesd
from nestseg_prep.transforms.load import LoadVolumed
from nestseg_prep.transforms.pad import MirrorPadd, mirror_pad_tensor
from nestseg_prep.transforms.patches import CropToOutputd, RandBalancedPatchesd
from nestseg_prep.transforms.weight import BorderWeightd

__all__ = [
    "BorderWeightd",
    "CropToOutputd",
    "Instancesd",
    "LoadVolumed",
    "MirrorPadd",
    "RandBalancedPatchesd",
    "RandGridDeformd",
    "mirror_pad_tensor",
]
