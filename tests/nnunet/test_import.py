"""What an import takes, what it refuses, and what the bundle says of the model."""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import ndimage

from nestseg.bundle import checks, findings
from nestseg.bundle.bundle import load_bundle
from nestseg.bundle.info import read_info
from nestseg.bundle.locate import find
from nestseg.nnunet.importing import ImportOptions, import_model
from nestseg.nnunet.model_folder import read_model
from nestseg_prep.errors import InputError
from nestseg_prep.transforms import LoadVolumed
from nestseg_prep.volume import Volume
from tests.opened import models

from .conftest import Folder

Results = Callable[[], Folder]


def image(shape: tuple[int, ...] = (13, 11, 9), seed: int = 0) -> Volume:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1)
    return Volume((400 * noise).astype(np.int16), np.diag([1.1, 1.0, 1.3, 1.0]))


def test_a_bundle_passes_its_check_and_says_where_it_comes_from(
    results: Results, tmp_path: Path
) -> None:
    folder = results()
    folder.checkpoint["inference_allowed_mirroring_axes"] = None  # in an eighth of the time
    model = folder.write(folds=2)
    import_model(model, tmp_path / "liver")
    found = checks.check(tmp_path / "liver")
    assert not findings.failing(found, strict=False), [one.line for one in found]
    info = read_info(tmp_path / "liver")
    assert info.labels == {1: "liver", 2: "spleen"}
    assert info.selection.modalities == ("CT",)
    said = info.metadata["nnunet"]
    assert (said["trainer"], said["configuration"]) == ("nnUNetTrainer", "3d_fullres")
    assert said["orientation"] == "file"
    assert set(said["checkpoints"]) == {"0", "1"}
    with pytest.raises(InputError, match="is there already"):
        import_model(model, tmp_path / "liver")


def test_a_folder_a_zip_file_and_the_folder_around_it_give_the_same_bundle(
    results: Results, tmp_path: Path
) -> None:
    model = results().write()
    packed = tmp_path / "export.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in model.rglob("*"):
            archive.write(path, path.relative_to(tmp_path))
    made = []
    for number, source in enumerate((model, model.parent, packed)):
        out = tmp_path / f"bundle{number}" / "liver"
        out.parent.mkdir()
        import_model(source, out)
        made.append({p.name: p.read_bytes() for p in out.rglob("*.json")})
    assert made[0] == made[1] == made[2]


def old(folder: Folder) -> None:
    del folder.configuration["architecture"]
    folder.configuration.update(
        UNet_class_name="PlainConvUNet",
        UNet_base_num_features=2,
        unet_max_num_features=3,
        n_conv_per_stage_encoder=[2, 2],
        n_conv_per_stage_decoder=[2],
        pool_op_kernel_sizes=[[1, 1, 1], [2, 2, 2]],
        conv_kernel_sizes=[[3, 3, 3]] * 2,
    )
    folder.dataset["modality"] = folder.dataset.pop("channel_names")


def inheriting(folder: Folder) -> None:
    configurations = folder.plans["configurations"]
    configurations["base"] = configurations["3d_fullres"]
    configurations["3d_fullres"] = {"inherits_from": "base", "batch_size": 9}


@pytest.mark.parametrize("change", [old, inheriting])
def test_plans_that_say_the_same_in_other_words_give_the_same_bundle(
    results: Results, tmp_path: Path, change: Callable[[Folder], None]
) -> None:
    plain, other = results(), results()
    other.path = tmp_path / "other"
    change(other)
    import_model(plain.write(), tmp_path / "a" / "liver")
    import_model(other.write(), tmp_path / "b" / "liver")
    config = Path("configs", "inference.json")
    assert (tmp_path / "a" / "liver" / config).read_text() == (
        tmp_path / "b" / "liver" / config
    ).read_text()


def test_an_ignored_label_and_regions_keep_their_values_and_names(
    results: Results, tmp_path: Path
) -> None:
    folder = results()
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "small": 3, "ignore": 4}
    folder.dataset |= {"labels": labels, "regions_class_order": [3, 1, 2]}
    import_model(folder.write(), tmp_path / "tumour")
    bundle = load_bundle(tmp_path / "tumour")
    assert bundle.info.labels == {
        1: "core without small",
        2: "small",
        3: "whole without core and small",
    }
    assert set(np.unique(bundle.predict(image()).mask.array)) <= {0, 1, 2, 3}
    found = checks.check(tmp_path / "tumour")
    assert not findings.failing(found, strict=False), [one.line for one in found]


def test_the_second_stage_of_a_cascade_sees_the_labels_of_the_first(
    results: Results, tmp_path: Path
) -> None:
    folder = results()
    low = json.loads(json.dumps(folder.configuration)) | {"spacing": [2.0, 2.0, 2.0]}
    folder.plans["configurations"] |= {
        "3d_lowres": low,
        "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
    }
    folder.name = "3d_cascade_fullres"
    second = folder.write(channels=3)
    with pytest.raises(InputError, match="second stage of a cascade; put the model of the first"):
        import_model(second, tmp_path / "alone")
    folder.name = "3d_lowres"
    folder.write()
    import_model(second.parent, tmp_path / "cascade")
    (inside,) = models(load_bundle(tmp_path / "cascade"))
    data, seen = inside.preprocessed(image())
    assert seen.shape[0] == 3
    values = torch.unique(data["first_stage"]).tolist()
    assert [bool(seen[1 + k].any()) for k in range(2)] == [k + 1 in values for k in range(2)]
    assert load_bundle(tmp_path / "cascade").predict(image()).mask.shape == (13, 11, 9)


def test_postprocessing_keeps_the_largest_piece_of_the_labels_that_it_names(
    results: Results, tmp_path: Path
) -> None:
    model = results().write()
    (model / "postprocessing.pkl").write_bytes(b"not read")
    with pytest.raises(InputError, match=r"postprocessing.pkl could run code"):
        import_model(model, tmp_path / "one")
    rule = "remove_all_but_largest_component_from_segmentation"
    said = {
        "postprocessing_fns": [rule, rule],
        "postprocessing_kwargs": [{"labels_or_regions": 2}, {"labels_or_regions": [[1], 2]}],
    }
    (model / "postprocessing.json").write_text(json.dumps(said))
    import_model(model, tmp_path / "two")
    bundle = load_bundle(tmp_path / "two")
    found = bundle.predict(image((20, 20, 20))).mask.array
    for labels in ([1, 2], [2]):
        pieces, _ = ndimage.label(np.isin(found, labels), np.ones((3, 3, 3)))
        sizes = np.bincount(pieces.ravel())[1:]
        assert len(set(sizes.tolist())) <= 1  # of equally large ones, nnU-Net keeps all


def test_names_and_codes_of_labels_come_from_a_file(results: Results, tmp_path: Path) -> None:
    codes = {
        "category": ["123037004", "SCT", "Anatomical Structure"],
        "type": ["10200004", "SCT", "Liver"],
    }
    path = tmp_path / "labels.json"
    path.write_text(json.dumps({"1": {"name": "hepar", **codes}, "2": "lien"}))
    import_model(results().write(), tmp_path / "named", ImportOptions(labels=path))
    info = read_info(tmp_path / "named")
    assert info.labels == {1: "hepar", 2: "lien"}
    assert info.segment_codes == {"hepar": codes}
    path.write_text('{"7": "cor"}')
    with pytest.raises(InputError, match="the model has no label 7"):
        import_model(tmp_path / "Dataset001_Made", tmp_path / "wrong", ImportOptions(labels=path))
    assert not (tmp_path / "wrong").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.checkpoint.update(trainer_name="nnUNetTrainerUMambaBot"), "UMambaBot"),
        (lambda f: f.configuration.update(preprocessor_name="Other"), "preprocessor Other"),
        (lambda f: f.plans.update(image_reader_writer="NaturalImage2DIO"), "NaturalImage2DIO"),
        (lambda f: f.plans.update(label_manager="Mine"), "label manager Mine"),
        (lambda f: f.configuration.update(normalization_schemes=["Mine"]), "normalisation Mine"),
        (
            lambda f: f.configuration.update(resampling_fn_data="mine"),
            "resampling by mine with .* is not known",
        ),
        (
            lambda f: f.configuration["architecture"].update(network_class_name="x.Primus"),
            "no network Primus",
        ),
        (
            lambda f: f.configuration["architecture"]["arch_kwargs"].update(nonlin="x.Mish"),
            "a network with x.Mish",
        ),
        (lambda f: f.dataset["labels"].update(spleen=7), "labels 0, 1, 7"),
        (lambda f: f.configuration.pop("patch_size"), r"not as nnU-Net v2 writes it .*patch_size"),
        (lambda f: f.configuration.update(inherits_from="3d_fullres"), "inherits from itself"),
    ],
)
def test_what_is_not_known_is_refused_by_name(
    results: Results, tmp_path: Path, change: Callable[[Folder], Any], message: str
) -> None:
    folder = results()
    change(folder)
    with pytest.raises(InputError, match=message) as error:
        import_model(folder.write(), tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "trainer",
    [
        *("nnUNetTrainer_250epochs_NoMirroring", "nnUNetTrainerDA5", "nnUNetTrainerAdan1en3"),
        *("nnUNetTrainer_DASegOrd0_NoMirroring", "nnUNetTrainer_onlyMirror01_1500ep"),
        *("nnUNetTrainerDiceCELoss_noSmooth", "nnUNetTrainerTopk10LossLS01"),
    ],
)
def test_trainers_that_leave_the_network_alone_are_taken(results: Results, trainer: str) -> None:
    folder = results()
    folder.checkpoint["trainer_name"] = trainer
    assert read_model(folder.write()).checkpoints[0].trainer == trainer


def test_an_unknown_trainer_is_taken_from_a_person_who_knows_it(results: Results) -> None:
    folder = results()
    folder.checkpoint["trainer_name"] = "nnUNetTrainerOfOurs"
    assert read_model(folder.write(), any_trainer=True).checkpoints[0].trainer.endswith("OfOurs")


class Malicious:
    def __reduce__(self) -> Any:
        return print, ("code ran",)


def test_a_checkpoint_that_holds_code_is_refused_and_its_code_does_not_run(
    results: Results, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = results().write()
    path = model / "fold_0" / "checkpoint_final.pth"
    torch.save({"network_weights": {}, "x": Malicious()}, path)
    with pytest.raises(InputError, match="without running code"):
        import_model(model, tmp_path / "out")
    path.write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(InputError, match="without running code"):
        import_model(model, tmp_path / "out")
    assert "code ran" not in capsys.readouterr().out


def test_a_zip_file_that_leads_out_or_holds_too_much_is_refused(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = results().write()
    path = tmp_path / "model.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(model / "plans.json", "model/plans.json")
        archive.writestr("model/../../outside", "x")
    with pytest.raises(InputError, match="leads out of"):
        import_model(path, tmp_path / "out")
    assert not (tmp_path.parent / "outside").exists()
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(model / "plans.json", "model/plans.json")
    monkeypatch.setattr("nestseg.bundle.archive.LARGEST", 100)
    with pytest.raises(InputError, match="do not open it"):
        import_model(path, tmp_path / "out")


def test_folds_and_checkpoints_are_chosen_and_what_is_missing_is_named(
    results: Results, tmp_path: Path
) -> None:
    model = results().write(folds=3)
    assert [one.fold for one in read_model(model).checkpoints] == ["0", "1", "2"]
    assert [one.fold for one in read_model(model, ["2"]).checkpoints] == ["2"]
    with pytest.raises(
        InputError, match=r"no checkpoint_final.pth of fold 7 \(there is: 0, 1, 2\)"
    ):
        read_model(model, ["7"])
    with pytest.raises(InputError, match=r"no checkpoint_best.pth of fold any"):
        read_model(model, checkpoint="best")
    (model / "fold_0").rename(model / "fold_all")
    assert [one.fold for one in read_model(model).checkpoints] == ["1", "2"]
    assert [one.fold for one in read_model(model, ["all"]).checkpoints] == ["all"]
    with pytest.raises(InputError, match="no model of nnU-Net v2"):
        import_model(tmp_path / "Dataset001_Made" / model.name / "fold_all", tmp_path / "out")


def test_a_tensor_that_stands_twice_must_be_the_same(results: Results) -> None:
    model = results().write()
    path = model / "fold_0" / "checkpoint_final.pth"
    with torch.serialization.safe_globals([]):
        content = torch.load(path, weights_only=False)
    content["network_weights"]["decoder.encoder.stages.0.0.convs.0.conv.bias"] = torch.ones(2)
    torch.save(content, path)
    with pytest.raises(InputError, match="not the tensor that it repeats"):
        read_model(model)


def test_segment_says_how_to_import_a_model(results: Results) -> None:
    model = results().write()
    with pytest.raises(InputError, match=f"nestseg bundle import {re.escape(str(model))} --out"):
        find(str(model))


def test_two_models_in_one_folder_are_listed(results: Results, tmp_path: Path) -> None:
    folder = results()
    folder.write()
    folder.plans["configurations"]["3d_other"] = {"inherits_from": "3d_fullres"}
    folder.name = "3d_other"
    folder.write()
    with pytest.raises(InputError, match=r"several models \(.*3d_fullres, .*3d_other\)"):
        import_model(tmp_path / "Dataset001_Made", tmp_path / "out")


def test_a_channel_too_few_is_named(results: Results, tmp_path: Path) -> None:
    folder = results()
    folder.dataset["channel_names"] = {"0": "T1", "1": "T2"}
    folder.configuration["normalization_schemes"] *= 2
    folder.configuration["use_mask_for_norm"] *= 2
    import_model(folder.write(channels=2), tmp_path / "two")
    with pytest.raises(InputError, match="the network takes 2 channels, the image has 1"):
        load_bundle(tmp_path / "two").predict(image())


def test_an_image_without_any_voxel_above_zero_gets_a_mask(
    results: Results, tmp_path: Path
) -> None:
    import_model(results().write(), tmp_path / "liver")
    empty = Volume(np.zeros((9, 10, 11), np.int16), np.eye(4))
    assert load_bundle(tmp_path / "liver").predict(empty).mask.shape == (9, 10, 11)


def test_channels_on_different_grids_are_refused(tmp_path: Path) -> None:
    for name, spacing in (("a", 1.0), ("b", 1.1)):
        affine = np.diag([spacing, 1, 1, 1])
        nib.save(nib.Nifti1Image(np.ones((4, 5, 6), np.int16), affine), tmp_path / f"{name}.nii")
    paths = [str(tmp_path / "a.nii"), str(tmp_path / "b.nii")]
    with pytest.raises(InputError, match=r"b\.nii: lies on another grid"):
        LoadVolumed("image")({"image": paths})
    assert LoadVolumed("image")({"image": paths[:1] * 3})["image"].shape == (3, 4, 5, 6)
