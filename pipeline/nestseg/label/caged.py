"""Bundles from elsewhere in a label server: described, measured and trained in cages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np

from nestseg.bundle import locate
from nestseg.bundle.caged import BundleCodeError, BundleProcessError, Caged, plain
from nestseg.bundle.kernel import Grants
from nestseg.label import training
from nestseg.label.cases import Labelled
from nestseg.label.traits import Traits
from nestseg.label.uncertainty import Measure
from nestseg.label.work import WEIGHTS
from nestseg_prep.errors import InputError
from nestseg_prep.volume import Volume

_LONGEST_S: Final = 900.0  # for anything but a training
_WORKER = "nestseg.label.caged_worker"


def traits(bundle: Path) -> Traits:
    """The traits of a bundle, found in a cage.

    Raises:
        InputError: its configs cannot be used.
    """
    answer = _asked(bundle, {"what": "traits"})
    levels, measures = (_listed(answer.get(name)) for name in ("levels", "measures"))
    return Traits(
        tuple(level for level in range(1, 10) if level in levels),
        tuple(one for one in get_args(Measure) if one in measures),
    )


def measure(bundle: Path, image: Volume) -> dict[Measure, float]:
    """How unsure a bundle is of an image; as ``Uncertainty.measure``, in a cage.

    Raises:
        InputError: its configs or weights cannot be used.
    """
    answer = _asked(bundle, {"what": "measure"}, image)
    found: dict[Measure, float] = {}
    for name in get_args(Measure):
        value = answer.get(name)
        if isinstance(value, float) and np.isfinite(value):
            found[name] = value
    return found


def train(
    bundle: Path,
    learn: Sequence[Labelled],
    validation: Sequence[Labelled],
    options: training.Options,
    folder: Path,
) -> Path:
    """Train a copy of a bundle in a cage; see :func:`nestseg.label.training.train`."""
    folder.mkdir()
    cases = (*learn, *validation)
    grants = Grants(
        read=(locate.home(), bundle, *(path for one in cases for path in (one.image, one.label))),
        write=(folder,),
    )
    message = {
        "what": "train",
        "training": [_case(one) for one in learn],
        "validation": [_case(one) for one in validation],
        "options": options._asdict(),
        "folder": str(folder),
    }
    _asked(bundle, message, grants=grants)
    copy = folder / bundle.name
    weights = copy / WEIGHTS
    if weights.is_symlink() or not weights.is_file():
        raise InputError(f"{bundle.name}: the training gave no weights; label more images")
    return copy


def _listed(answer: Any) -> list[Any]:
    return answer if isinstance(answer, list) else []


def _case(one: Labelled) -> dict[str, Any]:
    return {"id": one.id, "image": str(one.image), "label": str(one.label)}


def _asked(
    bundle: Path,
    message: dict[str, Any],
    image: Volume | None = None,
    grants: Grants | None = None,
) -> dict[str, Any]:
    longest_s = None if grants else _LONGEST_S
    caged = Caged(_WORKER, grants or Grants(read=(locate.home(), bundle)), longest_s=longest_s)
    try:
        caged.send(message | {"bundle": str(bundle)})
        if image is not None:
            caged.send({"affine": image.affine.tolist()})
            caged.send_array(plain(image.image))
        return caged.ask()
    except (BundleProcessError, BundleCodeError) as error:
        raise InputError(f"{bundle.name}: {error}; `nestseg bundle check` says more") from error
    finally:
        caged.close()
