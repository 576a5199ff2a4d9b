"""A small data set and a small input folder for the bundles' workflows."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from nestseg_prep.nifti import write_nifti
from nestseg_prep.volume import Volume


@pytest.fixture
def schemas(shared_data: Path) -> Path:
    """MONAI's metadata schema, for checks without the internet."""
    folder = shared_data.parent / "schemas"
    if not folder.is_dir():
        pytest.skip("MONAI's metadata schema is not here")
    return folder


@pytest.fixture
def data_set(tmp_path: Path) -> Path:
    """Six labelled volumes that a network can learn from: a bright and a dark ball."""
    root = tmp_path / "data"
    split: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for number, name in enumerate(["train"] * 4 + ["val", "test"]):
        rng = np.random.default_rng(number)
        grid = np.indices((32, 48, 32))
        label = np.zeros((32, 48, 32), np.uint8)
        for value, centre in ((1, (16, 30, 16)), (2, (16, 16, 16))):
            offset = np.array(centre) + rng.integers(-3, 4, 3)
            label[((grid - offset[:, None, None, None]) ** 2).sum(0) < 36] = value
        image = ndimage.gaussian_filter(np.array([100, 200, 20])[label].astype(np.float32), 0.7)
        image += rng.normal(0, 5, image.shape).astype(np.float32)
        for folder, array in (("images", image), ("labels", label)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            write_nifti(Volume(array, np.eye(4)), root / folder / f"case_{number}.nii.gz")
        split[name].append(f"case_{number}.nii.gz")
    (root / "index.json").write_text(json.dumps({"split": split}))
    return root


@pytest.fixture
def image_folder(data_set: Path) -> Path:
    """NIfTI images alone."""
    return data_set / "images"
