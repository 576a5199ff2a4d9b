import numpy as np
import pytest
from pydicom.dataset import Dataset

from nestseg_prep import phantom
from nestseg_prep.dicom.scan import scan
from nestseg_prep.fill import without_fill
from nestseg_prep.phantom import Phantom, every, setting
from nestseg_prep.phantom.changes import padded
from nestseg_prep.reading import read_volume


def read_one(folder):
    (ref,) = scan(folder).series
    return read_volume(ref)


def undeclared(ds):
    padded(ds)
    del ds.PixelPaddingValue


def wrapped(ds: Dataset):
    """The two bytes of -2000 in a tag for unsigned values, as some scanners write it."""
    undeclared(ds)
    ds.add_new("PixelPaddingValue", "US", 65536 - 2000)


@pytest.mark.parametrize("change", [padded, undeclared, wrapped])
def test_a_network_sees_air_where_the_scanner_saw_nothing(change, tmp_path):
    phantom.write(every(change)(Phantom().datasets()), tmp_path)
    volume = read_one(tmp_path)
    known = Phantom().truth.array
    frame = volume.array == -2000
    assert frame.sum() == 12 * (32 * 24 - 28 * 20)
    np.testing.assert_array_equal(volume.array[~frame], known[~frame])
    np.testing.assert_array_equal(volume.image[~frame], known[~frame])
    assert (volume.image[frame] == known[~frame].min()).all()


def test_padding_does_not_bleed_into_interpolated_voxels(tmp_path):
    series = phantom.tilted(15)(every(padded)(Phantom().datasets()))
    phantom.write(series, tmp_path)
    assert read_one(tmp_path).array.min() > -1024


def test_padding_among_the_values_of_the_image_is_left_alone(tmp_path):
    series = every(setting(PixelPaddingValue=1024 + 500))(Phantom().datasets())
    phantom.write(series, tmp_path)
    volume = read_one(tmp_path)
    np.testing.assert_array_equal(volume.image, Phantom().truth.array)


def test_each_plane_has_its_own_range():
    array = np.array([[[-5.0, 0.0, 3.0], [1.0, 2.0, -5.0]]])
    filled = without_fill(array, [(-5.0, -5.0), None, None])
    # Minus five is a value of the last plane, so it is none without image.
    np.testing.assert_array_equal(filled, array)
    filled = without_fill(array, [(-5.0, -5.0), None, (-5.0, -4.0)])
    np.testing.assert_array_equal(filled, [[[0.0, 0.0, 3.0], [1.0, 2.0, 0.0]]])
    assert without_fill(array, ()) is array
