"""SEG objects of other writers → masks on the slices of the image."""

from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from highdicom.content import AlgorithmIdentificationSequence
from highdicom.seg import Segmentation, SegmentDescription
from pydicom.sr.codedict import codes

from nestseg.outputs.dicom.read import read_seg
from nestseg.outputs.dicom.source import read_source, source_of
from nestseg_prep import phantom
from nestseg_prep.dicom.references import SliceRef
from nestseg_prep.dicom.scan import scan
from nestseg_prep.errors import InputError
from nestseg_prep.phantom import Phantom

from .dicom_help import phantom_source, random_labels

QUIRKS = "dicom_quirks"


def slices_of(paths):
    """The slices of classic files, ascending."""
    found = [pydicom.dcmread(path, stop_before_pixels=True) for path in paths]
    order = np.argsort([float(ds.ImagePositionPatient[2]) for ds in found])
    return source_of("test", [SliceRef(paths[n], 0, found[n].SOPInstanceUID, 1, 0) for n in order])


def written_by_others(folder: Path, change, *, kind="BINARY", plane="oblique"):
    """A label map that highdicom writes from a volume whose grid was changed, and its source."""
    source = phantom_source(folder / "in", plane=plane)
    labels = random_labels(source.shape)
    labels[-1] = labels[:, :4] = labels[:, -5:] = labels[:, :, :6] = labels[:, :, -3:] = 0
    files = [pydicom.dcmread(path) for path in sorted((folder / "in").iterdir())]
    row, column, normal = source.axes
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack(
        [normal * 2.5, column * source.spacing[0], row * source.spacing[1]]
    )
    affine[:3, 3] = source.positions[0]
    volume = highdicom.Volume(
        labels,
        affine,
        coordinate_system="PATIENT",
        frame_of_reference_uid=source.frame_of_reference,
    )
    made_by = AlgorithmIdentificationSequence("other", codes.DCM.ArtificialIntelligence, "1")
    seg = Segmentation(
        source_images=files,
        pixel_array=change(volume),
        segmentation_type=kind,
        segment_descriptions=[
            SegmentDescription(
                *(number, f"class {number}", codes.SCT.Tissue, codes.SCT.Tissue, "AUTOMATIC"),
                made_by,
            )
            for number in (1, 2, 3)
        ],
        series_instance_uid="2.25.1",
        series_number=2,
        sop_instance_uid="2.25.2",
        instance_number=1,
        manufacturer="other",
        manufacturer_model_name="other",
        software_versions="1",
        device_serial_number="1",
    )
    path = folder / "other.dcm"
    seg.save_as(path)
    return path, source, labels


CHANGES = {
    "as it is": lambda volume: volume,
    "cropped": lambda volume: volume[1:11, 3:20, 5:30],
    "reversed": lambda volume: volume.flip_spatial(0),
    "flipped": lambda volume: volume.flip_spatial([1, 2]),
    "cropped, flipped and reversed": lambda volume: volume[1:11, 3:20, 5:30].flip_spatial(
        [0, 1, 2]
    ),
    "rows and columns exchanged": lambda volume: volume.permute_spatial_axes([0, 2, 1]),
    "cut along rows": lambda volume: volume.permute_spatial_axes([1, 0, 2]),
    "cut along columns": lambda volume: volume.permute_spatial_axes([2, 1, 0]).flip_spatial(1),
}


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
@pytest.mark.parametrize("change", CHANGES)
def test_voxels_are_found_by_their_place_whatever_the_grid(change, kind, tmp_path):
    path, source, labels = written_by_others(tmp_path, CHANGES[change], kind=kind)
    found = read_seg(path)
    np.testing.assert_array_equal(found.labels_on(source), labels)
    masks = found.masks_on(source)
    np.testing.assert_array_equal(masks, [labels == number for number in (1, 2, 3)])


OTHER_GRIDS = {
    "half a voxel aside": lambda volume: moved(volume, [0, 0.4, 0.35]),
    "between the slices": lambda volume: moved(volume, volume.spacing_vectors()[0] / 2),
    "coarser pixels": lambda volume: volume[:, ::2, ::2],
    "every other slice": lambda volume: volume[::2],
}


def moved(volume, shift):
    affine = volume.affine.copy()
    affine[:3, 3] += shift
    return highdicom.Volume(
        volume.array,
        affine,
        coordinate_system="PATIENT",
        frame_of_reference_uid=volume.frame_of_reference_uid,
    )


@pytest.mark.parametrize("change", OTHER_GRIDS)
def test_another_grid_is_refused_never_guessed(change, tmp_path):
    path, source, labels = written_by_others(tmp_path / "same", lambda v: v, plane="axial")
    np.testing.assert_array_equal(read_seg(path).labels_on(source), labels)
    path, source, _ = written_by_others(tmp_path / "other", OTHER_GRIDS[change], plane="axial")
    with pytest.raises(InputError, match="another grid"):
        read_seg(path).labels_on(source)


@pytest.mark.parametrize(
    ("item", "images", "seg", "label"),
    [
        ("ct_seg_dcmqi_liver", "dicom/ct-3slice", "dicom/liver.dcm", "liver_seg.nrrd"),
        ("ct_seg_dcmqi_24x38x3", "dicom/image", "dicom/seg/label.seg", "label.nrrd"),
        ("ct_seg_dcmqi_24x38x3", "dicom/multiframe", "dicom/seg/label.seg", "label.nrrd"),
    ],
)
def test_objects_of_dcmqi_equal_the_labels_they_were_made_of(
    item, images, seg, label, shared_data, tmp_path
):
    folder = shared_data / QUIRKS / item
    (ref,) = scan(folder / images).accepted
    source = read_source(ref)
    found = read_seg(folder / seg).labels_on(source)
    # ITK's order is (k, j, i) too, and the label lies on the same slices.
    image = sitk.ReadImage(str(folder / "labels" / label))
    truth = sitk.GetArrayFromImage(image)
    np.testing.assert_allclose(image.GetOrigin(), source.positions[0], atol=1e-3)
    np.testing.assert_array_equal(found, truth)
    assert read_seg(folder / seg).names == {1: "Liver"}


@pytest.mark.parametrize(
    ("name", "images"),
    [
        ("seg_image_ct_binary_single_frame.dcm", "seg_highdicom/dicom/ct_image.dcm"),
        ("seg_image_ct_binary.dcm", "ct_monai_4/dicom/*"),
        ("seg_image_ct_binary_overlap.dcm", "ct_monai_4/dicom/*"),
        ("seg_image_ct_binary_fractional.dcm", "ct_monai_4/dicom/*"),
        ("seg_image_ct_true_fractional.dcm", "ct_monai_4/dicom/*"),
    ],
)
def test_objects_of_highdicom_equal_what_it_reads_itself(name, images, shared_data):
    quirks = shared_data / QUIRKS
    source = slices_of(sorted(quirks.glob(images)))
    path = quirks / "seg_highdicom" / "dicom" / name
    masks = read_seg(path).masks_on(source)
    theirs = highdicom.seg.segread(path).get_pixels_by_source_instance(
        [reference.sop_uid for reference in source.references],
        assert_missing_frames_are_empty=True,
    )
    assert masks.any()
    np.testing.assert_allclose(masks, np.moveaxis(theirs, -1, 0), atol=1e-6)


def test_what_is_no_segmentation_is_refused_in_one_line(tmp_path):
    (image, *_) = phantom.write(Phantom().datasets(), tmp_path / "in")
    with pytest.raises(InputError, match="no DICOM SEG"):
        read_seg(image)


def test_a_cut_file_is_refused_in_one_line(tmp_path):
    path, source, _ = written_by_others(tmp_path, CHANGES["as it is"])
    phantom.cut_file(path, 0.3)
    with pytest.raises(InputError) as caught:
        read_seg(path).labels_on(source)
    assert "\n" not in str(caught.value)
