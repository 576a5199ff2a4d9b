"""Models of nnU-Net v2: what their bundles name, and the import that makes such bundles."""

from nestseg.nnunet.inferer import Cascade, FirstStaged, Folds, NnUNetInferer
from nestseg.nnunet.resampling import Resampling
from nestseg.nnunet.transforms import KeepLargestComponentsd, NnUNetPreprocessd

__all__ = [
    "Cascade",
    "FirstStaged",
    "Folds",
    "KeepLargestComponentsd",
    "NnUNetInferer",
    "NnUNetPreprocessd",
    "Resampling",
]
