"""One case: whole files in the staging folder, or an outcome that says why not."""

from __future__ import annotations

import errno
import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nestseg.batch.case import run_case
from nestseg.batch.failures import judge
from nestseg.batch.jobs import Job, Settings
from nestseg.batch.states import Cause
from nestseg.bundle import trace
from nestseg.bundle.bundle import Bundle
from nestseg.bundle.options import SegmentOptions
from nestseg.networks import GridUNet
from nestseg.outputs.dicom.encoding import Encoding
from nestseg_prep.dicom.references import SeriesRef
from nestseg_prep.dicom.scan import scan
from nestseg_prep.errors import InputError
from nestseg_prep.nifti import read_nifti
from nestseg_prep.phantom import Phantom, write
from nestseg_prep.reading import read_volume
from nestseg_prep.volume import Volume
from tests.opened import changed, opened

MakeJob = Callable[..., Job]
RAISE = 905


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return opened(tiny_bundle)


@pytest.fixture
def settings(tiny_bundle: Path) -> Settings:
    return Settings(tiny_bundle, dicom=Encoding.BINARY)


def test_a_case_stages_whole_files_and_says_what_they_are(
    bundle: Bundle,
    settings: Settings,
    image: Callable[..., SeriesRef],
    job: MakeJob,
) -> None:
    ref = image("head")
    one = job(ref)
    outcome = run_case(one, bundle, settings)
    assert outcome.cause is None
    assert {output.role: output.path for output in outcome.outputs} == {
        "mask": "head_seg.nii.gz",
        "preview": "head_preview.png",
        "snapshot": "head.snapshot",
    }
    assert {path.name for path in one.staging.iterdir()} == {o.path for o in outcome.outputs}
    for output in outcome.outputs:
        content = (one.staging / output.path).read_bytes()
        assert hashlib.sha256(content).hexdigest() == output.sha256
        assert len(content) == output.size
    mask = read_nifti(one.staging / "head_seg.nii.gz")
    np.testing.assert_array_equal(mask.array, bundle.predict(read_nifti(ref.files[0])).mask.array)
    ml = {name: (mask.array == value).sum() / 1000 for value, name in bundle.info.labels.items()}
    assert outcome.facts.volumes_ml == pytest.approx(ml)
    assert set(outcome.facts.seconds) == {"read", "infer", "write"}
    assert outcome.facts.peak_memory_mb > 100


def test_a_dicom_series_gets_its_objects_too(
    bundle: Bundle, settings: Settings, tmp_path: Path, job: MakeJob
) -> None:
    phantom = Phantom(name="crop", modality="MR", plane="axial", columns=24, rows=24, slices=24)
    write(phantom.datasets(), tmp_path / "mr")
    (ref,) = scan(tmp_path / "mr").series
    outcome = run_case(job(ref), bundle, settings)
    assert outcome.reason == ""
    roles = [output.role for output in outcome.outputs]
    assert roles == ["mask", "preview", "snapshot", "seg", "sr"]


def test_what_an_earlier_attempt_left_behind_is_gone(
    bundle: Bundle, settings: Settings, image: Callable[..., SeriesRef], job: MakeJob
) -> None:
    one = job(image("head"))
    one.staging.mkdir()
    (one.staging / "half.nii.gz").write_bytes(b"half")
    assert run_case(one, bundle, settings).cause is None
    assert not (one.staging / "half.nii.gz").exists()


def test_a_worker_of_a_runner_that_lost_its_lease_writes_nothing(
    bundle: Bundle, settings: Settings, image: Callable[..., SeriesRef], job: MakeJob
) -> None:
    one = job(image("head"))
    one.staging.parent.rmdir()
    assert run_case(one, bundle, settings).cause is Cause.STORAGE
    assert not one.staging.parent.exists()


def test_a_damaged_a_changed_and_a_vanished_file_are_told_apart(
    bundle: Bundle,
    settings: Settings,
    image: Callable[..., SeriesRef],
    job: MakeJob,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cut = image("cut")
    path = cut.files[0]
    path.write_bytes(path.read_bytes()[:2000])
    outcome = run_case(job(cut), bundle, settings)
    assert outcome.cause is Cause.INPUT
    assert "cut" in outcome.reason

    gone = image("gone")
    gone.files[0].unlink()
    assert run_case(job(gone), bundle, settings).cause is Cause.CHANGED

    growing = image("growing")
    from nestseg.batch import case  # noqa: PLC0415

    def read_while_it_grows(ref: SeriesRef) -> object:
        with ref.files[0].open("ab") as file:
            file.write(b"more")
        return read(ref)

    read = case.read_volume
    monkeypatch.setattr(case, "read_volume", read_while_it_grows)
    assert run_case(job(growing), bundle, settings).cause is Cause.CHANGED


def test_texts_of_foreign_exceptions_stay_inside(
    bundle: Bundle, settings: Settings, image: Callable[..., SeriesRef], job: MakeJob
) -> None:
    outcome = run_case(job(image("head", RAISE)), bundle, settings)
    assert outcome.cause is Cause.CODE
    said = r"KeyError in stage infer in the bundle's code, called at monai/transforms/\w+\.py:\d+"
    assert re.fullmatch(said, outcome.reason)


def test_a_traceback_is_printed_only_where_somebody_asks_for_it(
    bundle: Bundle,
    settings: Settings,
    image: Callable[..., SeriesRef],
    job: MakeJob,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ref = image("head", RAISE)
    run_case(job(ref), bundle, settings)
    assert capsys.readouterr().err == ""
    monkeypatch.setenv(trace.DEBUG, "1")
    run_case(job(ref), bundle, settings)
    assert "KeyError: 'Doe^Jane'" in capsys.readouterr().err


def raised(by: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011  whichever
        by()
    wrapped = RuntimeError("applying transform to Doe^Jane")
    wrapped.__cause__ = caught.value
    return wrapped


def test_a_network_that_does_not_fit_the_image_says_where_and_why() -> None:
    error = raised(lambda: GridUNet(3, 4, 2, (4, 8))(torch.zeros(1, 1, 8, 8, 8)))
    cause, reason = judge(error, "infer")
    assert cause is Cause.CODE
    place, _, words = reason.removeprefix("RuntimeError in stage infer at ").partition(": ")
    assert re.fullmatch(r"torch/nn/modules/conv\.py:\d+", place)
    assert words.startswith("Given groups=1, weight of size [4, 4, 3, 3, 3]")


def test_where_headers_are_at_hand_only_the_place_in_the_code_is_told(tmp_path: Path) -> None:
    errors = {
        "nestseg_prep/volume.py": lambda: Volume("Doe^Jane", np.eye(4)),  # type: ignore[arg-type]
        r"numpy/lib/\w+.py": lambda: np.loadtxt(["Doe^Jane"]),
    }
    for file, by in errors.items():
        for stage in ("read", "write"):
            cause, reason = judge(raised(by), stage)
            assert cause is Cause.CODE
            assert re.fullmatch(rf"\w+Error in stage {stage} at {file}:\d+", reason)
    _, reason = judge(raised(errors["nestseg_prep/volume.py"]), "infer")
    assert "Doe" not in reason


def test_gentle_means_smaller_tiles_and_says_so(
    bundle: Bundle, settings: Settings, image: Callable[..., SeriesRef], job: MakeJob
) -> None:
    outcome = run_case(job(image("large", size=48), gentle=True), bundle, settings)
    assert outcome.cause is None
    assert len(outcome.facts.notes) == 1
    assert "tiles" in outcome.facts.notes[0]


@pytest.mark.parametrize(
    ("error", "stage", "cause"),
    [
        (OSError(errno.ENOSPC, "No space left"), "write", Cause.STORAGE),
        (OSError(errno.EROFS, "Read-only"), "write", Cause.STORAGE),
        (OSError("reads back differently"), "write", Cause.STORAGE),
        (OSError(errno.EIO, "I/O"), "read", Cause.ERROR),
        (OSError(errno.EACCES, "denied", "/data/Doe^Jane"), "read", Cause.INPUT),
        (OSError(errno.ENOENT, "gone", "/data/Doe^Jane"), "read", Cause.CHANGED),
        (InputError("a line"), "infer", Cause.INPUT),
        (MemoryError(), "infer", Cause.MEMORY),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "infer", Cause.MEMORY),
        (RuntimeError("CUDA out of memory. Tried to allocate"), "infer", Cause.MEMORY),
        (RuntimeError("Doe^Jane"), "infer", Cause.CODE),
        (RuntimeError("CUDA error: device-side assert triggered"), "infer", Cause.ERROR),
        (RuntimeError("DataLoader worker (pid 1) is killed"), "infer", Cause.ERROR),
        (RuntimeError("sitk::ERROR: cannot write Doe^Jane"), "write", Cause.ERROR),
        (TypeError("Doe^Jane"), "read", Cause.CODE),
        (EOFError("Doe^Jane"), "read", Cause.ERROR),
    ],
)
def test_causes(error: Exception, stage: str, cause: Cause) -> None:
    wrapped = RuntimeError("applying transform to Doe^Jane")
    wrapped.__cause__ = error
    for one in (error, wrapped):
        found, reason = judge(one, stage)
        assert found is cause
        assert "Doe" not in reason


def test_a_case_above_the_uncertainty_of_the_validation_is_flagged(
    bundle: Bundle, tiny_bundle: Path, image: Callable[..., SeriesRef], job: MakeJob
) -> None:
    torch.manual_seed(0)
    network = GridUNet(3, 1, 3, (3, 4, 5), "unet++", norm="instance").eval()
    info = replace(bundle.info, uncertainty_at_most=0.0)
    strict = changed(bundle, info=info, network=network, mirrored=(0,), _parts={})
    lax = changed(strict, info=replace(info, uncertainty_at_most=1.0))
    ref = image("head")

    def codes(one: Bundle, gentle: bool = False, **options: object) -> set[str]:
        settings = Settings(tiny_bundle, options=SegmentOptions(**options))
        outcome = run_case(replace(job(ref), gentle=gentle), one, settings)
        assert outcome.reason == ""
        assert outcome.facts.uncertainty > 0
        return {flag.code for flag in outcome.facts.flags}

    assert "unlike-training" in codes(strict)
    assert "unlike-training" not in codes(lax)
    for other in ({"tta": "mirror"}, {"level": 2}, {"gentle": True}):  # of another size
        assert "unlike-training" not in codes(strict, **other)


def test_a_picture_has_pixels_and_no_millilitres(
    bundle: Bundle, tiny_bundle: Path, tmp_path: Path, job: MakeJob
) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (30, 40), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "plain.png")
    Image.fromarray(pixels).save(tmp_path / "sized.png", dpi=(25_400, 25_400))  # 1 µm
    for ref in scan(tmp_path, pictures=True).series:
        one = job(ref)
        facts = run_case(one, bundle, Settings(tiny_bundle)).facts
        mask = bundle.predict(read_volume(ref)).mask.array
        assert facts.volumes_ml == {}
        assert facts.pixels == {
            name: (mask == value).sum() for value, name in bundle.info.labels.items()
        }
        areas = {name: count * 1e-6 for name, count in facts.pixels.items()}
        sized = ref.files[0].name == "sized.png"
        assert facts.areas_mm2 == (pytest.approx(areas, rel=1e-3) if sized else {})


def test_maps_that_were_asked_for_lie_beside_the_mask(
    bundle: Bundle, tiny_bundle: Path, image: Callable[..., SeriesRef], job: MakeJob
) -> None:
    ref = image("head")
    options = SegmentOptions(save_probabilities=True, save_uncertainty=True)
    one = job(ref)
    outcome = run_case(one, bundle, Settings(tiny_bundle, options=options))
    assert outcome.reason == ""
    files = {output.role: one.staging / output.path for output in outcome.outputs}
    volumes = [read_nifti(files[f"probability-{value}"]).array for value in range(3)]
    probabilities = np.stack(volumes)
    np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-4)
    mask = read_nifti(files["mask"]).array
    top = np.take_along_axis(probabilities, mask[None].astype(int), 0)[0]
    assert (top >= probabilities.max(0) - 1e-4).all()  # the mask is the argmax
    assert ("uncertainty" in files) == (outcome.facts.uncertainty is not None)
