"""What a scanner or a clerk wrote about a patient stays in the files."""

from __future__ import annotations

import json

import pytest

from nestseg_prep import phantom
from nestseg_prep.dicom.scan import scan
from nestseg_prep.errors import InputError
from nestseg_prep.phantom import Phantom
from nestseg_prep.prepare import prepare
from nestseg_prep.reading import read_volume

MARKER = "MARKER^PLANTED"


@pytest.fixture
def marked(tmp_path):
    """Series that are accepted, refused, split, cut and broken, all naming their patient."""
    root = tmp_path / MARKER
    plant = phantom.with_marker(MARKER)
    sources = {
        "good": plant(Phantom().datasets()),
        "gap": phantom.without_slice(3)(plant(Phantom(name="gap").datasets())),
        "phases": phantom.phases(2)(plant(Phantom(name="phases").datasets())),
        "cut": plant(Phantom(name="cut").datasets()),
        "headless": plant(Phantom(name="headless").datasets()),
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
