import numpy as np
import torch
from skimage import measure

from nestseg_prep.transforms import Instancesd


def test_the_parts_of_a_mask_are_those_of_scikit_image() -> None:
    rng = np.random.default_rng(0)
    mask = (rng.random((1, 40, 50)) > 0.6).astype(np.float32)
    numbered = Instancesd("label")({"label": torch.from_numpy(mask)})["label"]
    assert numbered.dtype == torch.float32
    theirs = measure.label(mask[0], connectivity=1)
    np.testing.assert_array_equal(numbered[0].numpy(), theirs)
