"""The cage: what a hostile bundle cannot do in it, and what an honest one can."""

from __future__ import annotations

import ctypes
import gc
import json
import mmap
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from nestseg.bundle import cage, caged, checks, keeper, kernel, locate, trust
from nestseg.bundle.bundle import load_bundle
from nestseg.bundle.channel import Channel, ChannelError
from nestseg.bundle.options import SegmentOptions
from nestseg.cli import bundles
from nestseg_prep.errors import InputError
from nestseg_prep.nifti import read_nifti, write_nifti
from nestseg_prep.volume import Volume
from tests.bundles import hostile
from tests.bundles.hostile import ATTACKS, MAY_FAIL_UNCAGED, Victim, answers, victim
from tests.opened import opened

pytestmark = pytest.mark.skipif(
    bool(kernel.unavailable()), reason=f"no cages here: {kernel.unavailable()}"
)


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A site that trusts nothing yet."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def prey(tmp_path: Path) -> Iterator[Victim]:
    with victim(tmp_path / "victim") as made:
        yield made


@pytest.fixture
def image() -> Volume:
    array = np.random.default_rng(0).normal(500, 100, (24, 24, 24)).astype(np.float32)
    return Volume(array, np.diag([1.0, 1.0, 2.0, 1.0]))


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A bundle of ours that somebody changed."""
    folder = Path(shutil.copytree(locate.find("hippocampus_unetpp"), tmp_path / "foreign"))
    (folder / "configs" / "more.json").write_text("{}")
    return folder


def test_the_collection_is_large_enough() -> None:
    assert len(ATTACKS) >= 70


def test_no_attack_succeeds_in_the_cage(
    prey: Victim, image: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "hidden-token")
    bundle = hostile.bundle(tmp_path / "bundles" / "evil", ATTACKS, prey.where)
    result = load_bundle(bundle, caged=True).predict(image)
    won = answers(result.mask.array, ATTACKS)
    assert [name for name, succeeded in won.items() if succeeded] == []
    assert prey.harm() == []
    assert not (bundle / "configs" / "more.json").exists()


def test_the_same_attacks_succeed_without_a_cage(prey: Victim, tmp_path: Path) -> None:
    """Else the test above would show nothing."""
    bundle = hostile.bundle(tmp_path / "bundles" / "evil", ATTACKS, prey.where)
    words = (
        "import json, sys, numpy as np; from pathlib import Path\n"
        "from nestseg.bundle.bundle import load_bundle; from nestseg_prep.volume import Volume\n"
        "image = Volume(np.ones((24,) * 3), np.eye(4))\n"
        "mask = load_bundle(sys.argv[1], caged=False).predict(image).mask\n"
        "print(json.dumps(mask.array.ravel()[:200].tolist()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", words, bundle],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"TOKEN": "hidden-token"},
    )
    won = answers(np.array(json.loads(done.stdout.splitlines()[-1])), ATTACKS)
    failed = {name for name, succeeded in won.items() if not succeeded}
    assert failed <= MAY_FAIL_UNCAGED
    assert {"files", "tcp", "udp", "socket file", "abstract socket"} <= set(prey.harm())


def test_no_attack_succeeds_under_bundle_check(prey: Victim, tmp_path: Path) -> None:
    bundle = hostile.bundle(tmp_path / "bundles" / "evil", ATTACKS, prey.where)
    assert trust.needs_cage(bundle)
    checks.check(bundle)
    assert prey.harm() == []


def test_a_bundle_gives_the_same_masks_and_maps_in_a_cage(
    foreign: Path, image: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    options = SegmentOptions(save_probabilities=True, save_uncertainty=True, runtime="torch")
    before = set(Path(tempfile.gettempdir()).glob("nestseg-cage-*"))
    inside = load_bundle(foreign, options)
    assert inside.caged
    a = inside.predict(image, options)
    b = opened(foreign, options).predict(image, options)
    assert np.array_equal(a.mask.array, b.mask.array)
    assert np.array_equal(a.mask.affine, image.affine)
    assert a.uncertainty == pytest.approx(b.uncertainty, abs=1e-4)
    assert a.uncertainty_map is not None
    assert b.uncertainty_map is not None
    for (i, p), (j, q) in zip(a.probabilities(), b.probabilities(), strict=True):
        assert i == j
        assert np.allclose(p.array.astype(int), q.array.astype(int), atol=2)
    assert inside.info.labels == {1: "anterior hippocampus", 2: "posterior hippocampus"}
    del a, i, p
    gc.collect()
    assert set(Path(tempfile.gettempdir()).glob("nestseg-cage-*")) <= before


def test_a_bundle_of_ours_is_known_by_its_bytes_and_needs_no_cage(tmp_path: Path) -> None:
    for name in locate.names():
        assert not trust.needs_cage(locate.find(name)), f"run `nestseg bundle render`: {name}"
    copy = Path(shutil.copytree(locate.find("nuclei_unet"), tmp_path / "renamed"))
    assert not trust.needs_cage(copy)
    (copy / "docs" / "notes.md").write_text("for people")
    assert not trust.needs_cage(copy)
    (copy / "docs" / "helper.py").write_text("")
    assert trust.needs_cage(copy)


def test_trust_is_asked_once_for_each_digest(foreign: Path) -> None:
    assert trust.needs_cage(foreign)
    trust.remember(foreign)
    assert not trust.needs_cage(foreign)
    for name in ("docs/README.md", "configs/inference.json"):  # a config could run a document
        before = (foreign / name).read_bytes()
        (foreign / name).write_bytes(before + b" ")
        assert trust.needs_cage(foreign)
        (foreign / name).write_bytes(before)
    assert not trust.needs_cage(foreign)


def test_a_variable_alone_does_not_say_that_this_is_a_cage(
    foreign: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cage.INSIDE, "1")
    assert trust.needs_cage(foreign)


@pytest.mark.parametrize("name", ["models", "configs/more.json"])
def test_a_link_out_of_a_foreign_bundle_is_not_followed(
    foreign: Path, tmp_path: Path, name: str
) -> None:
    path = foreign / name
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=f"foreign: {name} is a link that leads out"):
        bundles.find(str(foreign))


def test_links_are_told_apart_whatever_their_names_hold(tmp_path: Path) -> None:
    for folder, target, name in (("a", "x\ny", "z"), ("b", "x", "y\nz")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a").symlink_to(target)
        (tmp_path / folder / name).touch()
    assert trust.digest(tmp_path / "a") != trust.digest(tmp_path / "b")


def test_a_link_in_a_bundle_counts(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(locate.find("nuclei_unet"), tmp_path / "copy"))
    (copy / "scripts").symlink_to(tmp_path)
    assert trust.needs_cage(copy)


def test_without_landlock_a_foreign_bundle_is_refused(
    foreign: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "unavailable", lambda: "cages need Landlock")
    with pytest.raises(InputError, match=r"cages need Landlock; .*--trust"):
        load_bundle(foreign)


@pytest.fixture
def misbehaving(monkeypatch: pytest.MonkeyPatch) -> Iterator[caged.Caged]:
    """A cage that does what a message says."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setattr(cage, "TEMPORARY_BYTES", 10**6)
    process = caged.Caged("misbehave", kernel.Grants(), longest_s=600)
    yield process
    process.close()


ENDS = {
    "die": "ended with code 3",
    "crash": "killed by SIGSEGV",
    "raise": "RuntimeError",
    "take memory": "out of memory",
    "fill": "filled its temporary folder",
    "hang": "took too long",
}


@pytest.mark.parametrize("deed", ENDS)
def test_whatever_a_caged_process_does_ends_in_one_line(
    misbehaving: caged.Caged, deed: str
) -> None:
    if deed == "hang":
        misbehaving._until = 0.0
    kinds = (caged.BundleProcessError, caged.BundleCodeError, MemoryError)
    with pytest.raises(kinds) as caught:
        misbehaving.ask({"deed": deed})
    line = str(caught.value)
    assert ENDS[deed] in line
    assert line.isprintable()
    assert hostile.PATIENT[:5] not in line
    assert not misbehaving.alive


def test_a_bundle_that_cannot_be_built_is_refused_by_name(foreign: Path) -> None:
    path = foreign / "configs" / "inference.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"device": "$1 / 0"}))
    with pytest.raises(InputError, match=r"foreign: inference\.json: .* ZeroDivisionError"):
        load_bundle(foreign, caged=True)


@pytest.fixture
def loud(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where the temporary folders of cages are made, and a module that they can run."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_garbage_is_printed_as_text_in_lines_that_end(
    loud: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cage.run("loud", ["garbage"], kernel.Grants()) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    assert first == "\ufffd?[2J"
    assert all(line == "x" * 1000 for line in rest[:-1])


def test_nothing_is_left_of_a_cage_that_ends(loud: Path) -> None:
    assert cage.run("loud", ["spread"], kernel.Grants(processes=True)) == 0
    assert list(loud.iterdir()) == []
    assert running("loud spread") == []


def test_nothing_is_left_of_a_cage_whose_parent_is_killed(loud: Path) -> None:
    words = (
        "import subprocess, sys, tempfile; tempfile.tempdir = sys.argv[1]\n"
        "from nestseg.bundle import cage, kernel\n"
        "cage.run('loud', ['stay'], kernel.Grants(processes=True))\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", words, loud], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"ready\n"
    assert len(running("loud stay")) == 3  # the keeper, the process, and what that started
    parent.kill()
    parent.wait()
    parent.stdout.close()
    for _ in range(600):
        if not running("loud stay") and not list(loud.iterdir()):
            break
        time.sleep(0.05)
    assert running("loud stay") == []
    assert list(loud.iterdir()) == []


def running(words: str) -> list[int]:
    """Processes of cages that run something."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or ())
        if line.endswith(words) and str(Path(sys.executable)) in line:
            found.append(process.pid)
    return found


def test_a_folder_is_deleted_whatever_lies_in_it(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    folder = tmp_path / "folder"
    (folder / "closed" / "inner").mkdir(parents=True)
    (folder / "link").symlink_to(outside)
    (folder / "closed" / "inner" / "link").symlink_to(outside)
    for path in (folder / "closed" / "inner", folder / "closed"):
        path.chmod(0)
    keeper.remove(folder)
    assert not folder.exists()
    assert outside.stat().st_mode & 0o777 != 0
    assert (outside / "kept").exists()


def test_a_folder_that_cannot_be_measured_is_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        (tmp_path / str(number)).mkdir()
    assert keeper.bytes_below(tmp_path) < 10**6
    monkeypatch.setattr(keeper, "_MOST_ENTRIES", 2)
    assert keeper.bytes_below(tmp_path) == np.inf
    here = os.open(tmp_path / "0", os.O_PATH)
    for _ in range(20):  # longer than a path can be
        os.mkdir("x" * 250, dir_fd=here)
        inner = os.open("x" * 250, os.O_PATH, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    assert keeper.bytes_below(tmp_path / "0") == np.inf
    keeper.remove(tmp_path / "0")


def test_files_without_a_name_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "_members", lambda _: iter([Path("/proc/self")]))
    before = keeper._hidden_bytes(0, tmp_path, 10**9)
    with (tmp_path / "open").open("wb", buffering=0) as held:
        held.write(bytes(10**6))
        (tmp_path / "open").unlink()
        assert keeper._hidden_bytes(0, tmp_path, 10**9) - before >= 10**6
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    with (tmp_path / "mapped").open("w+b", buffering=0) as held:
        held.write(bytes(10**6))
        place = libc.mmap(None, 1, mmap.PROT_READ, mmap.MAP_SHARED, held.fileno(), 0)
    (tmp_path / "mapped").unlink()
    assert keeper._hidden_bytes(0, tmp_path, 10**9) - before == 10**9
    libc.munmap(ctypes.c_void_p(place), 1)
    assert keeper._hidden_bytes(0, tmp_path, 10**9) == before


def test_only_the_temporary_folder_of_a_cage_is_its_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python takes another one where it finds a disk full."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path.parent))
    rules = dict(kernel._file_rules(kernel.Grants()))
    assert tmp_path in rules
    assert tmp_path.parent not in rules


def test_a_label_that_the_metadata_do_not_name_is_not_believed(
    foreign: Path, image: Volume
) -> None:
    path = foreign / "configs" / "inference.json"
    config = json.loads(path.read_text())
    added = {"_target_": "Lambdad", "keys": "pred", "func": "$lambda mask: mask * 0 + 77"}
    config["postprocessing"]["transforms"].append(added)
    path.write_text(json.dumps(config))
    with pytest.raises(InputError, match="foreign: its mask has the value 77"):
        load_bundle(foreign, caged=True).predict(image)


@pytest.mark.parametrize("findings", ["[[1]]"])
def test_forged_findings_are_one_finding(foreign: Path, findings: str) -> None:
    message = f'{{"findings": {findings}}}'.encode()
    sent = len(message).to_bytes(8, "little") + message
    path = foreign / "configs" / "inference.json"
    forge = f"$(__import__('os').write(int(__import__('sys').argv[2]), {sent!r}), "
    forge += "__import__('os')._exit(0))"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"network": forge}))
    *review, last = checks.check(foreign)
    assert "cannot be checked" in last.problem
    assert any("evaluates" in finding.problem for finding in review)


def test_a_config_that_grows_while_it_is_read_is_read_in_a_cage(
    foreign: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "_LONGEST_S", 3.0)
    (foreign / "configs" / "inference.json").unlink()
    lines = ["a0: &a0 [x]"]
    lines += [f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 9)}]" for n in range(12)]
    (foreign / "configs" / "inference.yaml").write_text("\n".join(lines))
    (found,) = checks.check(foreign)
    assert found.problem == "cannot be checked: the bundle took too long and was ended"


FORGED = {
    "no JSON": b"\5\0\0\0\0\0\0\0hello",
    "a list": b"\2\0\0\0\0\0\0\0[]",
    "far too long": b"\xff\xff\xff\xff\xff\0\0\0",
    "a pickle": b"\4\0\0\0\0\0\0\0\x80\4N.",
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_message_is_not_believed(name: str) -> None:
    ours, theirs = os.pipe()
    back, forth = os.pipe()
    channel = Channel(ours, forth)
    os.write(theirs, FORGED[name])
    with pytest.raises(ChannelError):
        channel.receive()
    for descriptor in (theirs, back):
        os.close(descriptor)
    channel.close()


HEADS = [
    {"type": "object", "shape": [2], "order": "C"},
    {"type": "uint8", "shape": [3], "order": "C"},
    {"type": "float32", "shape": [2], "order": "C"},
    {"type": "uint8", "shape": [-2], "order": "C"},
    {"type": "uint8", "shape": "2"},
    {"type": "uint8", "shape": [1e999]},
    {"type": "uint8", "shape": [True, 2]},
    {"type": "(2,(1,", "shape": [2]},
    {"type": ["uint8"], "shape": [2]},
    {},
]


@pytest.mark.parametrize("head", HEADS)
def test_an_array_of_another_form_is_not_believed(head: dict[str, object]) -> None:
    ours, theirs = os.pipe()
    back, forth = os.pipe()
    channel = Channel(ours, forth)
    content = json.dumps(head).encode()
    os.write(theirs, len(content).to_bytes(8, "little") + content + b"\1\2")
    with pytest.raises(ChannelError):
        channel.receive_array((2,), ("uint8",))
    for descriptor in (theirs, back):
        os.close(descriptor)
    channel.close()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["uint8", "int16", ">i2", "float32", "float64", "longdouble"])
def test_arrays_pass_unchanged(order: str, kind: str) -> None:
    array = np.asarray(np.arange(24).reshape(2, 3, 4), dtype=kind, order=order)
    incoming, outgoing = os.pipe()
    channel = Channel(incoming, outgoing)
    channel.send_array(caged.plain(array))
    found = channel.receive_array()
    assert np.array_equal(found, array)
    channel.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", ATTACKS)
def test_a_run_goes_on_and_nothing_is_harmed(
    prey: Victim, image: Volume, tmp_path: Path, name: str
) -> None:
    bundle = hostile.bundle(tmp_path / "bundles" / "evil", {name: ATTACKS[name]}, prey.where)
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(2):
        write_nifti(Volume(image.array + number, image.affine), folder / f"{number}.nii.gz")
    command = [sys.executable, "-m", "nestseg.cli"]
    out = tmp_path / "out"
    words = [*command, "segment", folder, "--bundle", bundle, "--out", out]
    subprocess.run(words, check=True, capture_output=True)
    for number in range(2):
        mask = read_nifti(out / f"{number}_seg.nii.gz").array
        assert mask.ravel()[0] == 2
    subprocess.run([*command, "bundle", "check", bundle], check=False, capture_output=True)
    assert prey.harm() == []


@pytest.mark.slow
def test_pruning_and_preparing_run_in_cages(
    foreign: Path, data_set: Path, tmp_path: Path, prey: Victim
) -> None:
    canary = tmp_path / "canary"
    for name in ("train", "inference"):
        path = foreign / "configs" / f"{name}.json"
        config = json.loads(path.read_text())
        tried = f"$__import__('os').system('touch {canary} {prey.secret}') and 0"
        for step in config["load"]:
            step["allow_missing_keys"] = tried.replace(" and 0", " == 0")
        path.write_text(json.dumps(config))
    command = [sys.executable, "-m", "nestseg.cli"]
    out = {name: tmp_path / "made" / name for name in ("pruned", "prepared")}
    pruned = [*command, "prune", foreign, "--data", data_set, "--out", out["pruned"]]
    prepared = [*command, "prepare", data_set, "--bundle", foreign, "--out", out["prepared"]]
    for words in (pruned, prepared):
        done = subprocess.run(words, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "runs in a cage" in done.stderr
    assert (out["pruned"] / "docs" / "pruning.json").is_file()
    assert (out["prepared"] / "prepared.json").is_file()
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == ["prepared", "pruned"]
    assert not canary.exists()
    assert prey.harm() == []
