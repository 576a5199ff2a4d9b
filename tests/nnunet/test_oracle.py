"""The masks are nnU-Net's own, voxel for voxel."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import ConfigWorkflow

from nestseg.bundle import trust
from nestseg.bundle.bundle import Bundle, load_bundle
from nestseg.nnunet.importing import ImportOptions, import_model
from nestseg_prep.affine import axis_codes
from nestseg_prep.dicom.scan import scan
from nestseg_prep.nifti import read_nifti, write_nifti
from nestseg_prep.phantom import Phantom, set_pixels, write
from nestseg_prep.reading import read_volume
from nestseg_prep.volume import Volume
from tests.opened import models

ONE_CHANNEL = ("plain_2d", "plain_3d_two_folds", "resenc_3d")
WAYS = {"mirrored": (None, 0.5), "plain": ((), 0.5), "step08_plain": ((), 0.8)}
"""Folder of masks → axes to mirror along (None: the checkpoint's), and step."""


@pytest.fixture(scope="module")
def imported(oracle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Bundles of all models."""
    folder = tmp_path_factory.mktemp("imported")
    found = {}
    for model in sorted(oracle.glob("*/model")):
        found[model.parent.name] = folder / model.parent.name
        import_model(model, found[model.parent.name])
    return found


@pytest.fixture(scope="module")
def loaded(imported: dict[str, Path]) -> dict[str, Bundle]:
    return {name: load_bundle(imported[name]) for name in ONE_CHANNEL}


def truth(oracle: Path, model: str, way: str, case: str) -> np.ndarray:
    return np.asarray(nib.load(oracle / model / way / f"{case}.nii.gz").dataobj)


# Mirroring takes eight times as long; `step08_plain` is `plain` on the two smaller images.
@pytest.mark.parametrize(
    ("model", "way", "case"),
    [
        ("plain_2d", "mirrored", "test_0"),
        ("plain_2d", "mirrored", "test_1"),
        ("plain_2d", "step08_plain", "test_2"),
        ("plain_3d_two_folds", "mirrored", "test_2"),
        ("plain_3d_two_folds", "plain", "test_0"),
        ("plain_3d_two_folds", "step08_plain", "test_1"),
        ("resenc_3d", "mirrored", "test_2"),
        ("resenc_3d", "plain", "test_0"),
    ],
)
def test_a_bundle_predicts_the_mask_of_nnunet(
    oracle: Path, loaded: dict[str, Bundle], model: str, way: str, case: str
) -> None:
    (inside,) = models(loaded[model])
    axes, step = WAYS[way]
    checkpoints = inside.inferer.mirror_axes
    inside.inferer.mirror_axes = checkpoints if axes is None else axes
    inside.inferer.step = step
    try:
        image = read_nifti(oracle / model / "images" / f"{case}_0000.nii.gz")
        found = loaded[model].predict(image)
    finally:
        inside.inferer.mirror_axes, inside.inferer.step = checkpoints, 0.5
    np.testing.assert_array_equal(found.mask.array, truth(oracle, model, way, case))
    np.testing.assert_array_equal(found.mask.affine, image.affine)


@pytest.mark.parametrize("way", ["mirrored", "step08_plain"])
def test_monais_command_gives_the_masks_of_nnunet_from_two_channels_and_regions(
    oracle: Path, imported: dict[str, Path], tmp_path: Path, way: str
) -> None:
    model = "regions_two_channels_anisotropic"
    axes, step = WAYS[way]
    mirrored = {} if axes is None else {"mirror_axes": list(axes)}
    workflow = ConfigWorkflow(
        config_file=str(imported[model] / "configs" / "inference.json"),
        logging_file=False,
        workflow_type="infer",
        bundle_root=str(imported[model]),
        dataset_dir=str(oracle / model / "images"),
        output_dir=str(tmp_path),
        step=step,
        **mirrored,
    )
    workflow.initialize()
    workflow.run()
    for case in ("test_0", "test_1", "test_2"):
        (path,) = tmp_path.rglob(f"{case}_*.nii.gz")
        image, first = nib.load(path), nib.load(oracle / model / "images" / f"{case}_0000.nii.gz")
        np.testing.assert_array_equal(image.dataobj, truth(oracle, model, way, case))
        np.testing.assert_allclose(image.affine, first.affine)


def test_an_imported_bundle_is_trusted_here(imported: dict[str, Path]) -> None:
    assert not any(map(trust.needs_cage, imported.values()))
    changed = imported["plain_2d"] / "configs" / "inference.json"
    text = changed.read_text()
    changed.write_text(text.replace('"step": 0.5', '"step": 1.0'))
    assert trust.needs_cage(imported["plain_2d"])
    changed.write_text(text)


@pytest.mark.parametrize("plane", ["axial", "sagittal", "oblique"])
def test_dicom_gives_the_mask_that_its_conversion_gives(
    oracle: Path, loaded: dict[str, Bundle], tmp_path: Path, plane: str
) -> None:
    values = np.asarray(
        nib.load(oracle / "plain_2d" / "images" / "test_0_0000.nii.gz").dataobj
    ).astype(np.int32)
    i, j, k = values.shape
    phantom = Phantom(
        plane=plane, modality="MR", columns=i, rows=j, slices=k,
        between_columns=0.8, between_rows=0.9, between_slices=1.3,
    )  # fmt: skip
    series = phantom.datasets()
    for number, ds in enumerate(series):
        set_pixels(ds, values[:, ::-1, number].T)
    write(series, tmp_path / "series")
    (ref,) = scan(tmp_path / "series").accepted
    volume = read_volume(ref)
    np.testing.assert_array_equal(volume.array, values)  # dcm2niix's order
    write_nifti(Volume(volume.array, volume.affine), tmp_path / "converted.nii.gz")
    converted = loaded["plain_2d"].predict(read_nifti(tmp_path / "converted.nii.gz"))
    np.testing.assert_array_equal(
        loaded["plain_2d"].predict(volume).mask.array, converted.mask.array
    )


@pytest.mark.parametrize("codes", ["LAS", "SPR", "IAL"])
def test_a_turned_image_gives_the_turned_mask_where_the_training_files_were_ras(
    oracle: Path, tmp_path: Path, codes: str
) -> None:
    import_model(
        oracle / "plain_2d" / "model",
        tmp_path / "ras",
        ImportOptions(orientation="RAS"),
    )
    bundle = load_bundle(tmp_path / "ras")
    image = read_nifti(oracle / "plain_2d" / "images" / "test_2_0000.nii.gz")
    turned, back = turn(image, codes), axis_codes(image.affine)
    assert axis_codes(turned.affine) == codes
    found = Volume(bundle.predict(turned).mask.array, turned.affine)
    np.testing.assert_array_equal(turn(found, back).array, bundle.predict(image).mask.array)


def turn(volume: Volume, codes: str) -> Volume:
    axes = nib.orientations
    there = axes.ornt_transform(axes.io_orientation(volume.affine), axes.axcodes2ornt(tuple(codes)))
    array = axes.apply_orientation(volume.array, there)
    return Volume(array, volume.affine @ axes.inv_ornt_aff(there, volume.shape))
