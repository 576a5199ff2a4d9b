"""NRRD, MetaImage and MGH files, written by the libraries of these formats."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

from nestseg_prep import affine as affines
from nestseg_prep.dicom.findings import Code
from nestseg_prep.dicom.scan import scan
from nestseg_prep.errors import InputError
from nestseg_prep.nifti import write_nifti
from nestseg_prep.reading import read_file, read_volume
from nestseg_prep.transforms import LoadVolumed
from nestseg_prep.volume import Volume

Affine = NDArray[np.float64]
ITK = ("x.nrrd", "x.nhdr", "x.mha", "x.mhd")
FREESURFER = ("x.mgz", "x.mgh")
VALUES = np.arange(5 * 6 * 7, dtype=np.int16).reshape(5, 6, 7) - 50


def turned(*degrees: float) -> NDArray[np.float64]:
    matrix = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        turn = np.eye(3)
        i, j = (k for k in range(3) if k != axis)
        turn[[i, i, j, j], [i, j, i, j]] = (
            np.cos(angle),
            -np.sin(angle),
            np.sin(angle),
            np.cos(angle),
        )
        matrix = turn @ matrix
    return matrix


def placed(directions: NDArray[np.float64], spacing: tuple[float, float, float]) -> Affine:
    affine = np.eye(4)
    affine[:3, :3] = directions * spacing
    affine[:3, 3] = 18.5, -20.25, 7.125
    return affine


PLACES = {
    "axial": placed(np.diag([-1.0, -1.0, 1.0]), (1, 1, 1)),
    "oblique": placed(turned(20, -35, 10), (1, 1, 1)),
    "flipped": placed(np.diag([1.0, -1.0, -1.0])[:, [1, 2, 0]], (1, 1, 1)),
    "anisotropic": placed(turned(0, 12, 0), (0.5, 0.75, 6)),
    "left-handed": placed(np.diag([1.0, 1.0, -1.0]), (1.5, 1, 2)),
}


def write(path: Path, array: NDArray[np.generic], affine: Affine, **options: bool) -> None:
    """By SimpleITK or nibabel."""
    if path.suffix in (".mgz", ".mgh"):
        nib.save(nib.MGHImage(array.astype(np.float32), affine.astype(np.float32)), path)
        return
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    lps = affines.swap_lps_ras(affine)
    image.SetSpacing(affines.spacing(lps))
    image.SetDirection(affines.directions(lps).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    sitk.WriteImage(image, str(path), **{"useCompression": True, **options})


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", [*ITK, *FREESURFER])
def test_every_voxel_is_read_back_at_its_place(name: str, place: str, tmp_path: Path) -> None:
    write(tmp_path / name, VALUES, PLACES[place])
    (ref,) = scan(tmp_path).series
    assert ref.accepted, ref.reason
    assert ref.shape == VALUES.shape
    volume = read_volume(ref)
    assert np.array_equal(volume.array, VALUES)
    np.testing.assert_allclose(volume.affine, PLACES[place], atol=1e-5)


@pytest.mark.parametrize("name", ITK)
def test_itk_and_we_put_a_voxel_at_the_same_place(name: str, tmp_path: Path) -> None:
    write(tmp_path / name, VALUES, PLACES["anisotropic"], useCompression=False)
    image = sitk.ReadImage(str(tmp_path / name))
    volume = read_file(tmp_path / name)
    for index in ((0, 0, 0), (4, 0, 0), (1, 5, 6)):
        point = np.array(image.TransformIndexToPhysicalPoint(index)) * (-1, -1, 1)
        np.testing.assert_allclose((volume.affine @ [*index, 1])[:3], point, atol=1e-5)
        assert volume.array[index] == image[index]


@pytest.mark.parametrize(
    "dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"], ids=str
)
@pytest.mark.parametrize("name", ["x.nrrd", "x.mha"])
def test_every_type_of_number_keeps_its_values(name: str, dtype: str, tmp_path: Path) -> None:
    write(tmp_path / name, (VALUES % 100).astype(dtype), PLACES["axial"])
    volume = read_file(tmp_path / name)
    assert volume.array.dtype == np.dtype(dtype)
    assert np.array_equal(volume.array, VALUES % 100)


def test_big_endian_voxels_are_read_as_numbers_of_this_machine(tmp_path: Path) -> None:
    head = (
        "NRRD0004\ntype: short\ndimension: 3\nspace: RAS\nsizes: 5 6 7\nendian: big\n"
        "space directions: (1,0,0) (0,1,0) (0,0,1)\nencoding: raw\nspace origin: (0,0,0)\n\n"
    )
    path = tmp_path / "x.nrrd"
    path.write_bytes(head.encode() + VALUES.astype(">i2").tobytes(order="F"))
    volume = read_file(path)
    assert np.array_equal(volume.array, VALUES)
    assert volume.array.dtype.isnative
    assert np.array_equal(volume.affine, np.eye(4))


@pytest.mark.parametrize("name", [*ITK, *FREESURFER])
@pytest.mark.parametrize("compressed", [True, False])
def test_a_file_that_was_cut_anywhere_is_never_read(
    name: str, compressed: bool, tmp_path: Path
) -> None:
    write(tmp_path / name, VALUES, PLACES["axial"], useCompression=compressed)
    data = max(tmp_path.iterdir(), key=lambda p: (p.stat().st_size, p.name != name))
    content = data.read_bytes()
    least = len(content) - 4 * VALUES.size if name == "x.mgh" else 0
    for share in (0.02, 0.3, 0.7, 0.95):
        end = least + int(share * (len(content) - least))
        data.write_bytes(content[: min(end, len(content) - 1)])
        if name == "x.mgh" and end > 284 + 4 * VALUES.size:
            continue  # the scanner's notes that follow the voxels
        with pytest.raises(InputError):
            read_file(tmp_path / name)


@pytest.mark.parametrize("name", ["x.nrrd", "x.mha", "x.mgz"])
def test_a_flipped_bit_in_packed_voxels_is_met(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 30000, (5, 6, 7)).astype(np.int16)
    write(tmp_path / name, noise, PLACES["axial"])
    content = bytearray((tmp_path / name).read_bytes())
    content[-60] ^= 4
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}: .*(damaged|not a whole)"):
        read_file(tmp_path / name)


def changed(old: str, new: str) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        assert old.encode() in content
        return content.replace(old.encode(), new.encode())

    return change


NRRD_REASONS = [
    (changed("space: left-posterior-superior\n", ""), "no patient coordinates"),
    (changed("left-posterior-superior", "scanner-xyz"), "its space is scanner-xyz"),
    (changed("sizes: 5 6 7", "sizes: 5 6 8"), "cut: 420 bytes cannot hold the 480 declared"),
    (changed("sizes: 5 6 7", "sizes: 5 6 6"), "more than the 360 bytes declared"),
    (changed("sizes: 5 6 7", "sizes: 5 6"), r"2 axes \(5, 6\), not one volume"),
    (changed("sizes: 5 6 7", "sizes: 5 -6 7"), "impossible shape"),
    (changed("type: short", "type: block"), "voxels of type block"),
    (changed("endian: little", "ending: little"), "order bytes are stored"),
    (changed("encoding: raw", "encoding: ascii"), "its voxels are stored as ascii"),
    (changed("space origin", "spaced origin"), "no whole geometry"),
    (changed("domain domain domain", "RGB-color domain domain"), r"voxels in colour \(RGB\)"),
]


@pytest.mark.parametrize(("change", "reason"), NRRD_REASONS)
def test_an_nrrd_that_cannot_be_trusted_is_refused_with_its_reason(
    change: Callable[[bytes], bytes], reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.nrrd"
    write(path, VALUES, PLACES["axial"], useCompression=False)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(InputError, match=reason):
        read_file(path)


META_REASONS = [
    (changed("TransformMatrix", "Matrix"), r"no whole geometry \(transformmatrix\)"),
    (changed("ElementSpacing", "Spacing"), r"no whole geometry \(elementspacing\)"),
    (changed("TransformMatrix = 1 0 0", "TransformMatrix = 1 1 0"), "not stand at right angles"),
    (changed("TransformMatrix = 1 0 0", "TransformMatrix = 0 0 0"), "not an invertible"),
    (changed("Offset = ", "ElementToIntensityFunctionSlope = 2\nOffset = "), "to be scaled"),
    (changed("MET_SHORT", "MET_SHORT_ARRAY"), "voxels of type MET_SHORT_ARRAY"),
    (changed("Offset = ", "ElementNumberOfChannels = 3\nOffset = "), "3 values a voxel"),
    (changed("ElementDataFile = LOCAL", "ElementDataFile = ../x.raw"), "lies in another folder"),
    (changed("ElementDataFile = LOCAL", "ElementDataFile = LIST"), "lie in several files"),
    (changed("ElementDataFile = LOCAL", "ElementDataFile = y.raw"), "y.raw is not beside it"),
]


@pytest.mark.parametrize(("change", "reason"), META_REASONS)
def test_a_metaimage_that_cannot_be_trusted_is_refused_with_its_reason(
    change: Callable[[bytes], bytes], reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.mha"
    write(path, VALUES, PLACES["axial"], useCompression=False)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(InputError, match=reason) as error:
        read_file(path)
    assert str(error.value).startswith("x.mha: ")


def test_an_mgh_without_its_orientation_or_of_several_volumes_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "x.mgh", VALUES, PLACES["axial"])
    content = bytearray((tmp_path / "x.mgh").read_bytes())
    content[28:30] = bytes(2)  # goodRASFlag
    (tmp_path / "x.mgz").write_bytes(gzip.compress(bytes(content)))
    with pytest.raises(InputError, match=r"x\.mgz: no patient coordinates \(goodRASFlag is 0\)"):
        read_file(tmp_path / "x.mgz")
    nib.save(nib.MGHImage(np.zeros((4, 4, 4, 2), np.float32), np.eye(4)), tmp_path / "two.mgz")
    with pytest.raises(InputError, match=r"4 axes \(4, 4, 4, 2\), not one volume"):
        read_file(tmp_path / "two.mgz")


def test_a_refused_file_is_a_series_with_the_reason_and_without_its_name(tmp_path: Path) -> None:
    write(tmp_path / "DOE_JANE.mha", VALUES, PLACES["axial"], useCompression=False)
    content = (tmp_path / "DOE_JANE.mha").read_bytes()
    (tmp_path / "DOE_JANE.mha").write_bytes(content.replace(b"TransformMatrix", b"Matrix"))
    (ref,) = scan(tmp_path).series
    assert ref.refusal is not None
    assert ref.refusal.code is Code.NIFTI_REFUSED
    assert ref.refusal.detail.startswith("no whole geometry")
    assert "JANE" not in ref.reason


def test_a_series_of_two_files_names_both(tmp_path: Path) -> None:
    """A run notices that the voxels changed, not only the header."""
    write(tmp_path / "x.mhd", VALUES, PLACES["axial"], useCompression=False)
    (ref,) = scan(tmp_path).series
    assert [path.name for path in ref.files] == ["x.mhd", "x.raw"]


def test_a_segmentation_of_3d_slicer_is_no_image(tmp_path: Path) -> None:
    path = tmp_path / "x.seg.nrrd"
    write(path, VALUES.clip(0, 2).astype(np.uint8), PLACES["axial"])
    head, voxels = path.read_bytes().split(b"\n\n", 1)
    path.write_bytes(head + b"\nSegment0_ID:=liver\n\n" + voxels)
    found = scan(tmp_path)
    assert not found.series
    assert [other.finding.code for other in found.others] == [Code.RESULT]


def test_a_training_reads_an_image_and_its_label_map_of_two_formats(tmp_path: Path) -> None:
    write(tmp_path / "image.mha", VALUES, PLACES["oblique"])
    write(tmp_path / "label.nrrd", (VALUES > 0).astype(np.uint8), PLACES["oblique"])
    write_nifti(Volume(VALUES, PLACES["oblique"]), tmp_path / "image.nii.gz")
    load = LoadVolumed(["image", "label"])
    paths = {"image": tmp_path / "image.mha", "label": tmp_path / "label.nrrd"}
    case, as_nifti = load(paths), load(paths | {"image": tmp_path / "image.nii.gz"})
    assert np.array_equal(case["image"].numpy(), as_nifti["image"].numpy())
    assert np.array_equal(case["label"].numpy()[0], VALUES > 0)
    np.testing.assert_allclose(case["image"].affine, as_nifti["image"].affine, atol=1e-5)
