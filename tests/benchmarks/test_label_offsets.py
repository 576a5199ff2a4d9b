"""The offset of a label from its image is found."""

import numpy as np
import pytest

from benchmarks.label_offsets import best_offset


@pytest.mark.parametrize("offset", [(0, 0, 0), (1, -1, 0), (0, 1, 1)])
def test_whole_voxels(offset: tuple[int, ...]) -> None:
    mask = np.zeros((20, 24, 18), bool)
    mask[6:12, 5:16, 6:11] = True
    mask[6:9, 5:9, 6:13] = True
    label = np.roll(mask, [-step for step in offset], (0, 1, 2))

    dice, found = best_offset(mask, label)

    assert (dice, found) == (1.0, offset)


def test_a_label_that_fits_as_it_is_stays() -> None:
    mask = np.zeros((16, 16, 16), bool)
    mask[4:10, 4:10, 4:10] = True
    label = mask.copy()
    label[4, 4, 4] = False

    assert best_offset(mask, label)[1] == (0.0, 0.0, 0.0)
