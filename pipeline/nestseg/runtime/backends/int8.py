"""Calibration: a network in eight bits, its ranges those of tiles that it really sees.

NNCF's post-training quantization of OpenVINO's model; it needs the extra ``fast``.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from torch import nn

from nestseg.networks.outputs import AccurateMode
from nestseg.runtime.backends import openvino
from nestseg.runtime.contract import Heads
from nestseg_prep.errors import InputError

_OUTLIERS: Final = 1e-3


def versions() -> dict[str, str]:
    """Of the libraries that calibrate.

    Raises:
        InputError: they are not installed.
    """
    return {"openvino": openvino.version(), "nncf": str(_library().__version__)}


def calibrate(network: nn.Module, tiles: Sequence[npt.NDArray[np.float32]], folder: Path) -> None:
    """Write ``model.xml`` and ``model.bin`` of the network in int8, with all its heads.

    Args:
        network: in eval mode, on the CPU; of one in accurate mode, the network it holds.
        tiles: each ``(1, C, *spatial)``, all of one shape.
        folder: exists.

    Raises:
        InputError: the libraries are not installed, or cannot do it with this network.
    """
    library = _library()
    inner: Any = network.network if isinstance(network, AccurateMode) else network
    heads = Heads(inner, every=hasattr(inner, "forward_heads"))
    library.set_log_level(logging.ERROR)
    try:
        with redirect_stdout(StringIO()):  # bars of its own
            model = library.quantize(
                openvino.converted(heads, tiles[0].shape),
                library.Dataset(list(tiles)),
                subset_size=len(tiles),
                preset=library.QuantizationPreset.MIXED,  # leaky ReLUs are not symmetric
                advanced_parameters=_parameters(library),
            )
        openvino._library().save_model(model, folder / "model.xml", compress_to_fp16=False)
    except Exception as error:  # whatever the libraries raise for a network
        raise InputError(f"cannot be calibrated ({type(error).__name__})") from error


def _parameters(library: Any) -> Any:
    """Ranges that leave out the farthest thousandth of a tile, and no tile; biases as learned.

    NNCF's own ranges are the mean over the tiles of their extremes: tiles of air, of which a CT has
    many, cut off all that is dense, and a few outliers make all steps coarse. Its shift of biases
    makes masks worse.
    """
    from nncf.quantization import range_estimator as ranges  # noqa: PLC0415

    ends = {
        end: ranges.StatisticsCollectorParameters(
            ranges.StatisticsType.QUANTILE,
            ranges.AggregatorType[end.upper()],
            quantile_outlier_prob=_OUTLIERS,
        )
        for end in ("min", "max")
    }
    return library.AdvancedQuantizationParameters(
        activations_range_estimator_params=ranges.RangeEstimatorParameters(**ends),
        disable_bias_correction=True,
    )


def _library() -> Any:
    openvino.silence()  # NNCF would report its use as well
    try:
        import nncf  # noqa: PLC0415
    except ImportError as error:
        raise InputError("nncf is not installed: pip install 'nestseg[fast]'") from error
    return nncf
