import numpy as np
import pytest

from nestseg_prep.errors import InputError
from nestseg_prep.volume import Volume


def test_a_volume_knows_its_shape_and_spacing():
    volume = Volume(np.zeros((4, 5, 6)), np.diag([-0.7, 0.8, 2.5, 1.0]))
    assert volume.shape == (4, 5, 6)
    assert volume.spacing == pytest.approx((0.7, 0.8, 2.5))


@pytest.mark.parametrize(
    ("array", "affine", "word"),
    [
        (np.zeros((4, 5)), np.eye(4), "three axes"),
        (np.zeros((4, 5, 0)), np.eye(4), "three axes"),
        (np.zeros((4, 5, 6)), np.eye(3), "4x4"),
        (np.zeros((4, 5, 6)), np.full((4, 4), np.nan), "finite"),
        (np.zeros((4, 5, 6)), np.diag([1.0, 0.0, 1.0, 1.0]), "singular"),
        (np.zeros((4, 5, 6)), 2 * np.eye(4), "last row"),
    ],
)
def test_a_volume_is_never_half_built(array, affine, word):
    with pytest.raises(InputError, match=word):
        Volume(array, affine)


def test_each_slice_has_its_uid_or_none_has():
    with pytest.raises(InputError, match="SOPInstanceUIDs"):
        Volume(np.zeros((2, 2, 3)), np.eye(4), "1.2", ("1.2.3",))
