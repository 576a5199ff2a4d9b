"""Names of cases: whatever files are called, outputs get names that no program misreads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestseg.batch.cases import Names
from nestseg_prep.dicom.references import SeriesRef
from nestseg_prep.dicom.scan import scan
from nestseg_prep.nifti import write_nifti
from nestseg_prep.phantom import Phantom

CHARACTERS = st.characters(exclude_characters="/\0", exclude_categories=("Cs",))


@pytest.fixture(scope="module")
def nifti_series(tmp_path_factory: pytest.TempPathFactory) -> SeriesRef:
    path = tmp_path_factory.mktemp("names") / "image.nii.gz"
    write_nifti(Phantom().truth, path)
    return scan(path).series[0]


@given(stem=st.text(CHARACTERS, min_size=1, max_size=100) | st.from_regex(r"[-.]+\w*"))
def test_no_name_begins_as_an_option_or_a_hidden_file_does(
    stem: str, nifti_series: SeriesRef
) -> None:
    ref = replace(nifti_series, files=(Path(f"{stem}.nii.gz"),))
    name = Names({}).name(ref)
    assert name[0] not in "-."
    assert "/" not in name


@pytest.mark.parametrize(
    ("file", "name"), [("-rf.nii.gz", "rf"), ("--out.nii", "out"), ("...-x.nii.gz", "x")]
)
def test_a_leading_dash_is_dropped(file: str, name: str, tmp_path: Path) -> None:
    write_nifti(Phantom().truth, tmp_path / file)
    (ref,) = scan(tmp_path).series
    assert Names({}).name(ref) == name
