"""U-Net-family segmentation for hospitals, on MONAI.

The names below are the interface for Python code (docs/python.md), with what bundles' configs name:
``nestseg.networks``, ``nestseg.inferers``, ``nestseg.losses``, ``nestseg.engines`` and
``nestseg_prep.transforms``. Everything else is internal and may change without notice.

Example:
    >>> import nestseg
    >>> prediction = nestseg.segment("crop.nii.gz", "hippocampus_unetpp")  # doctest: +SKIP
    >>> prediction.volumes  # doctest: +SKIP
    {'anterior hippocampus': 1.87, 'posterior hippocampus': 1.52}
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from nestseg.api import segment as segment
    from nestseg.api import segment_folder as segment_folder
    from nestseg.api import write_dicom_seg as write_dicom_seg
    from nestseg.bundle.bundle import Bundle as Bundle
    from nestseg.bundle.bundle import load_bundle as load_bundle
    from nestseg.bundle.options import SegmentOptions as Options
    from nestseg.outputs.segmentation import Prediction as Prediction
    from nestseg_prep.dicom.scan import scan as scan
    from nestseg_prep.errors import InputError as InputError
    from nestseg_prep.errors import NestsegError as NestsegError
    from nestseg_prep.volume import Volume as Volume

__version__ = "0.1.0"

__all__ = [
    "Bundle",
    "InputError",
    "NestsegError",
    "Options",
    "Prediction",
    "Volume",
    "__version__",
    "load_bundle",
    "scan",
    "segment",
    "segment_folder",
    "write_dicom_seg",
]

_PLACES: Final = {
    "Bundle": "nestseg.bundle.bundle:Bundle",
    "InputError": "nestseg_prep.errors:InputError",
    "NestsegError": "nestseg_prep.errors:NestsegError",
    "Options": "nestseg.bundle.options:SegmentOptions",
    "Prediction": "nestseg.outputs.segmentation:Prediction",
    "Volume": "nestseg_prep.volume:Volume",
    "load_bundle": "nestseg.bundle.bundle:load_bundle",
    "scan": "nestseg_prep.dicom.scan:scan",
    "segment": "nestseg.api:segment",
    "segment_folder": "nestseg.api:segment_folder",
    "write_dicom_seg": "nestseg.api:write_dicom_seg",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for."""
    if name not in _PLACES:
        raise AttributeError(f"module 'nestseg' has no attribute {name!r}")
    module, _, attribute = _PLACES[name].partition(":")
    found: object = getattr(import_module(module), attribute)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
