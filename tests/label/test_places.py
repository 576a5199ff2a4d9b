"""What clients may name."""

from __future__ import annotations

from pathlib import Path

import pytest

from nestseg.label.places import allowed, check_id
from nestseg_prep.errors import InputError


def test_paths_among_the_studies_alone(tmp_path: Path) -> None:
    studies, secret = tmp_path / "studies", tmp_path / "secret"
    for folder in (studies, secret):
        folder.mkdir()
        (folder / "x.nii.gz").touch()
    (studies / "link").symlink_to(secret)
    assert allowed(str(studies / "x.nii.gz"), [studies]) == (studies / "x.nii.gz").resolve()
    for path in (secret / "x.nii.gz", studies / ".." / "secret" / "x.nii.gz", studies / "link"):
        with pytest.raises(InputError, match="outside of the studies"):
            allowed(str(path), [studies])
    with pytest.raises(InputError, match="no such image"):
        allowed(str(studies / "none"), [studies])
    with pytest.raises(InputError) as there:
        allowed(str(secret / "x.nii.gz"), [studies])
    with pytest.raises(InputError) as not_there:
        allowed(str(secret / "none"), [studies])
    assert str(there.value) == str(not_there.value)


@pytest.mark.parametrize("text", ["", "a/b", "../a", "..", ".hidden", "a\\b", "a\0", "a..b"])
def test_ids_that_are_other_paths_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        check_id(text)


@pytest.mark.parametrize("text", ["case_1", "1.2.840.1", "A b(2)", "é"])
def test_ids_that_people_give(text: str) -> None:
    assert check_id(text) == text
