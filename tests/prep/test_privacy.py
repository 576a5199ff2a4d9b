"""What a scanner or a clerk wrote about a patient stays in the files."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from nestseg_prep import phantom
from nestseg_prep.dicom.scan import scan
from nestseg_prep.errors import InputError, describe
from nestseg_prep.phantom import Phantom
from nestseg_prep.prepare import prepare
from nestseg_prep.reading import read_volume
from nestseg_prep.selection import Selection

MARKER = "MARKER^PLANTED"


@pytest.fixture
def marked(made, tmp_path):
    """A copy, for tests that damage it further."""
    return shutil.copytree(made, tmp_path / MARKER)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Series that are accepted, refused, split, cut and broken, all naming their patient."""
    root = tmp_path_factory.mktemp("made") / MARKER
    plant = phantom.with_marker(MARKER)
    small = Phantom(name="everywhere", slices=3, columns=16, rows=16)
    sources = {
        "good": plant(Phantom().datasets()),
        "gap": phantom.without_slice(3)(plant(Phantom(name="gap").datasets())),
        "phases": phantom.phases(2)(plant(Phantom(name="phases").datasets())),
        "cut": plant(Phantom(name="cut").datasets()),
        "headless": plant(Phantom(name="headless").datasets()),
        "everywhere": phantom.marked_everywhere(MARKER)(small.datasets()),
    }
    for name, series in sources.items():
        paths = phantom.write(series, root / name, name=(MARKER + "{}").format)
        if name in {"cut", "headless"}:
            phantom.cut_file(paths[0], 0.9 if name == "cut" else 0.2)
    (root / f"{MARKER}.nii.gz").write_bytes(b"broken")
    return root


def test_no_report_names_the_patient(marked):
    result = scan(marked)
    texts = [
        json.dumps(result.to_json()),
        repr(result),
        *(str(finding) for ref in result.series for finding in ref.findings),
        *(str(other.finding) for other in result.others),
        *(ref.key + ref.study_key for ref in result.series),
    ]
    assert len(result.accepted) >= 1
    assert not any("MARKER" in text or "PLANTED" in text for text in texts)


def test_what_pydicom_says_of_a_value_reaches_no_log_and_no_terminal(marked):
    program = (
        "import logging, pathlib, sys; logging.basicConfig(level=0)\n"
        "from nestseg_prep.dicom.scan import scan\n"
        "from nestseg_prep.dicom.series import read_stored\n"
        "for ref in scan(pathlib.Path(sys.argv[1])).accepted: read_stored(ref)\n"
    )
    command = [sys.executable, "-W", "always", "-c", program, str(marked / "everywhere")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "MARKER" not in ran.stdout + ran.stderr


def test_paths_uids_and_descriptions_are_shown_on_request(marked):
    text = json.dumps(scan(marked).to_json(show_phi=True))
    assert MARKER in text


def test_no_error_names_the_patient(marked):
    for ref in scan(marked).series:
        if ref.kind == "nifti":
            continue  # its name is the user's own, and the only way to say which file it is
        for path in ref.files:
            phantom.cut_file(path, 0.95)
        with pytest.raises(InputError) as caught:
            read_volume(ref)
        assert "MARKER" not in str(caught.value)
        assert "\n" not in str(caught.value)


def test_no_output_and_no_record_names_the_patient(marked, tmp_path):
    out = tmp_path / "out"
    prepare(marked, out)
    written = list(out.iterdir())
    assert len(written) >= 2
    for path in written:
        assert "MARKER" not in path.name
        assert b"MARKER" not in path.read_bytes()


def test_modality_and_body_part_are_told_in_defined_terms_alone(marked):
    ref = next(ref for ref in scan(marked).series if ref.modality == "OTHER")
    assert ref.accepted
    assert ref.body_part == "OTHER"
    rules = Selection(modalities=["MR"], body_parts=["*PLANTED*"])
    assert [check.passed for check in rules.checks(ref)] == [False, True]
    assert rules.why_not(ref) == "modality OTHER; the bundle takes MR"
    assert not any("MARKER" in check.shown(show_phi=False) for check in rules.checks(ref))
    assert Selection(body_parts=[""]).why_not(ref) == "body part OTHER; the bundle takes none"


def test_messages_of_other_libraries_are_not_repeated():
    with pytest.raises(ValueError, match="MARKER") as caught:
        int(MARKER)
    assert describe(caught.value) == "ValueError"
