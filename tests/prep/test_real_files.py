"""Series of real scanners with known truth: read exactly, or refused for the right reason."""

from __future__ import annotations

import json
import tarfile

import nibabel as nib
import numpy as np
import pytest

from nestseg_prep.affine import corner_distance
from nestseg_prep.dicom.findings import Code
from nestseg_prep.dicom.scan import scan
from nestseg_prep.dicom.series import read_stored
from nestseg_prep.nifti import read_nifti
from nestseg_prep.prepare import prepare
from nestseg_prep.reading import read_volume

# Item → accepted volumes, and the codes that refuse its other series.
ITEMS = {
    "dicom/ct_body_j2k_totalseg": (1, set()),
    "dicom/ct_philips_head_study": (
        2,
        {Code.COLOUR, Code.LOCALIZER, Code.NOT_AN_IMAGE_VOLUME},
    ),
    "dicom/ct_slicer_head_93": (1, set()),
    "dicom/mr_hippocrop_1": (1, set()),
    "dicom/mr_hippocrop_2": (1, set()),
    "dicom/mr_siemens_xa30_t1_gz": (1, set()),
    "dicom_quirks/ct_ge_sliceincrement": (0, {Code.MISSING_SLICE}),
    "dicom_quirks/ct_ge_tilt_variable_gap": (1, set()),
    "dicom_quirks/ct_monai_4": (0, {Code.MISSING_SLICE}),
    "dicom_quirks/ct_notavolume": (0, {Code.SAME_POSITION}),
    "dicom_quirks/ct_seg_dcmqi_24x38x3": (
        3,
        {Code.NOT_AN_IMAGE_VOLUME},
    ),  # also its label: an NRRD that does not say so
    "dicom_quirks/ct_seg_dcmqi_liver": (1, {Code.NOT_AN_IMAGE_VOLUME}),
    "dicom_quirks/ct_siemens_gantry_tilt_4": (1, set()),
    "dicom_quirks/ct_torchio_17": (1, set()),
    "dicom_quirks/mr_12bit_high_bits": (0, {Code.MOSAIC}),
    "dicom_quirks/mr_compressed_j2k": (1, set()),
    "dicom_quirks/mr_compressed_jpeg": (1, set()),
    "dicom_quirks/mr_compressed_jpegls": (1, set()),
    "dicom_quirks/mr_compressed_rle": (1, set()),
    "dicom_quirks/mr_ge_3plane_localizer": (3, set()),
    "dicom_quirks/mr_ge_fmri_4d_classic": (0, {Code.MULTI_PHASE}),
    "dicom_quirks/mr_generic_implicit": (1, set()),
    "dicom_quirks/mr_hitachi_multiframe1": (1, set()),
    "dicom_quirks/mr_mixed_orientation": (0, {Code.TOO_FEW_SLICES}),
    "dicom_quirks/mr_nonisotropic_pixels": (1, set()),
    "dicom_quirks/mr_philips_enhanced_anat": (1, set()),
    "dicom_quirks/mr_philips_enhanced_balls": (5, set()),
    "dicom_quirks/mr_siemens_mosaic_ax": (0, {Code.MOSAIC, Code.NIFTI_REFUSED}),
    "dicom_quirks/mr_siemens_mosaic_cor": (0, {Code.MOSAIC}),
    "dicom_quirks/mr_siemens_mosaic_sag": (0, {Code.MOSAIC}),
    "dicom_quirks/mr_siemens_prone_HFP": (1, set()),
    "dicom_quirks/mr_siemens_xa10_enhanced": (4, set()),
    "dicom_quirks/mr_slicecount_2": (0, {Code.TOO_FEW_SLICES}),
    "dicom_quirks/mr_uih_volume_per_file": (0, {Code.MOSAIC}),
    "dicom_quirks/rtstruct_rtutils": (0, {Code.TOO_FEW_SLICES}),
    "dicom_quirks/seg_highdicom": (0, {Code.NOT_AN_IMAGE_VOLUME, Code.TOO_FEW_SLICES}),
    "dicom_quirks/transfer_syntaxes_siemens_mosaic": (0, {Code.MOSAIC}),
}
# Items with conversions by other programs, for every series that we accept.
CONVERTED = (
    "dicom/ct_slicer_head_93",
    "dicom/mr_hippocrop_1",
    "dicom/mr_hippocrop_2",
    "dicom/mr_siemens_xa30_t1_gz",
    "dicom_quirks/ct_seg_dcmqi_24x38x3",
    "dicom_quirks/ct_seg_dcmqi_liver",
    "dicom_quirks/ct_torchio_17",
    "dicom_quirks/mr_compressed_j2k",
    "dicom_quirks/mr_compressed_jpeg",
    "dicom_quirks/mr_compressed_jpegls",
    "dicom_quirks/mr_compressed_rle",
    "dicom_quirks/mr_ge_3plane_localizer",
    "dicom_quirks/mr_generic_implicit",
    "dicom_quirks/mr_hitachi_multiframe1",
    "dicom_quirks/mr_nonisotropic_pixels",
    "dicom_quirks/mr_philips_enhanced_anat",
    "dicom_quirks/mr_philips_enhanced_balls",
    "dicom_quirks/mr_siemens_xa10_enhanced",
)
# The others turn the values of these into Philips' "precise" ones; ours are the probes'.
OTHER_VALUES = ("dicom_quirks/mr_philips_enhanced_anat", "dicom_quirks/mr_philips_enhanced_balls")
# dcm2niix takes the step from the first two slices, whose positions are rounded.
APART_MM = {"dicom/mr_siemens_xa30_t1_gz": 0.02}
AS_DCM2NIIX = ("mr_hippocrop_1", "mr_hippocrop_2", "ct_slicer_head_93")


@pytest.fixture
def unpacked(shared_data, tmp_path):
    def folder(item):
        files = shared_data / item / "dicom"
        if files.is_dir():
            return files
        with tarfile.open(files.with_suffix(".tar.xz")) as archive:
            archive.extractall(tmp_path, filter="data")
        return tmp_path / "dicom"

    return folder


def agreeing_probes(ref, volume, probes):
    """How many known points of a series have the known value.

    Where the volume was interpolated, the values are those of the stored pixels behind it.
    """
    points = np.array([probe["ras_mm"] for probe in probes])
    inverse = np.linalg.inv(volume.affine)
    indices = points @ inverse[:3, :3].T + inverse[:3, 3]
    array = volume.array
    if ref.resampled:
        array = read_stored(ref)
        firsts = volume.source.first_pixels
        slices = np.abs(firsts[:, 2] - indices[:, 2:]).argmin(axis=1)
        assert (np.abs(indices - firsts[slices])[:, 2] * volume.spacing[2]).max() < 1e-3
        bottom = firsts[slices] - [0, volume.source.rows - 1, 0]
        indices = np.column_stack([(indices - bottom)[:, :2], slices])
    nearest = np.round(indices).astype(int)
    away = np.abs(indices - nearest) * volume.spacing
    assert away.max() < 1e-3
    assert (nearest >= 0).all()
    assert (nearest < array.shape).all()
    known = np.array([probe["value"] for probe in probes])
    return int(np.isclose(array[tuple(nearest.T)], known, rtol=1e-6).sum())


def test_the_list_covers_every_item(shared_data):
    folders = [
        folder for part in ("dicom", "dicom_quirks") for folder in (shared_data / part).iterdir()
    ]
    assert {f"{folder.parent.name}/{folder.name}" for folder in folders} == set(ITEMS)


@pytest.mark.parametrize("item", ITEMS)
def test_each_series_is_read_exactly_or_refused_with_its_reason(item, unpacked, shared_data):
    count, codes = ITEMS[item]
    result = scan(unpacked(item))
    assert len(result.accepted) == count
    assert {ref.refusal.code for ref in result.series if ref.refusal} == codes
    truth = json.loads((shared_data / item / "truth.json").read_text())
    known = {series["SeriesInstanceUID"]: series for series in truth["series"] or ()}
    probed = {}
    for ref in result.accepted:
        volume = read_volume(ref)
        assert volume.shape == ref.shape
        if probes := known.get(ref.series_uid, {}).get("probes"):
            # Of several phases at one place, truth knows the values of the first.
            found = agreeing_probes(ref, volume, probes) / len(probes)
            probed[ref.series_uid] = max(found, probed.get(ref.series_uid, 0))
    assert all(share == 1 for share in probed.values())


def references_of(folder):
    """Affine and voxels of each reference volume of an item, in RAS order."""
    for kind in ("reference_repo_identical", "reference_dcm2niix", "reference_repo"):
        for path in sorted((folder / kind).rglob("*.nii.gz")):
            image = nib.as_closest_canonical(nib.load(path))
            voxels = np.asanyarray(image.dataobj)
            voxels = voxels if voxels.ndim == 4 else voxels[..., None]
            for number in range(voxels.shape[3]):
                yield image.affine, voxels[..., number]


@pytest.mark.parametrize("item", CONVERTED)
def test_each_volume_equals_a_conversion_by_others(item, unpacked, shared_data):
    """Their axes may run the other way; places and values must be the same."""
    references = list(references_of(shared_data / item))
    for ref in scan(unpacked(item)).accepted:
        volume = read_volume(ref)
        ours = nib.as_closest_canonical(nib.Nifti1Image(volume.array, volume.affine))
        array = np.asanyarray(ours.dataobj)
        same = [
            np.allclose(theirs, array, rtol=1e-5, atol=1e-3)
            for affine, theirs in references
            if theirs.shape == array.shape
            and corner_distance(affine, ours.affine, array.shape) < APART_MM.get(item, 1e-3)
        ]
        assert same, f"no reference lies where {ref.key} does"
        assert any(same) or item in OTHER_VALUES


@pytest.mark.parametrize("item", AS_DCM2NIIX)
def test_what_we_write_equals_what_dcm2niix_writes(item, shared_data, tmp_path):
    report = prepare(shared_data / "dicom" / item / "dicom", tmp_path / "out")
    (outcome,) = report.outcomes
    ours = read_nifti(outcome.output)
    (reference,) = (shared_data / "dicom" / item / "reference_dcm2niix").glob("*.nii.gz")
    theirs = nib.load(reference)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-3)
    np.testing.assert_array_equal(ours.array, np.asanyarray(theirs.dataobj))


def test_one_image_in_four_compressions_gives_the_same_voxels(unpacked):
    volumes = []
    for compression in ("j2k", "jpeg", "jpegls", "rle"):
        (ref,) = scan(unpacked(f"dicom_quirks/mr_compressed_{compression}")).accepted
        volumes.append(read_volume(ref))
    for other in volumes[1:]:
        np.testing.assert_array_equal(other.array, volumes[0].array)
        np.testing.assert_array_equal(other.affine, volumes[0].affine)


def test_real_nifti_files_are_read_as_nibabel_reads_them(shared_data):
    files = sorted((shared_data / "volumes").rglob("*.nii.gz"))
    small = [path for path in files if path.stat().st_size < 2**19][::20]
    assert small
    for path in small:
        theirs = nib.load(path)
        ours = read_nifti(path)
        np.testing.assert_array_equal(ours.array, np.asanyarray(theirs.dataobj))
        np.testing.assert_array_equal(ours.affine, theirs.affine)
