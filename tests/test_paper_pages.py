"""The pages that tie papers to code name tests that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs" / "papers").glob("*.md"))
TESTS = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
MODULES = {path.stem for path in (ROOT / "tests").rglob("test_*.py")}


def test_there_is_a_page_for_every_paper_of_the_family() -> None:
    assert len(PAGES) == 11


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    named = set(re.findall(r"`(test_\w+)(?:\.py)?`", page.read_text()))
    assert named
    for name in named:
        assert name in MODULES or f"def {name}(" in TESTS, name
