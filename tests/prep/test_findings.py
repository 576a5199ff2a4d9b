import re
from pathlib import Path

import pytest

from nestseg_prep.dicom.findings import TABLE, Code, Finding, Severity, page


def test_every_code_is_in_the_table_once():
    assert set(TABLE) == set(Code)


@pytest.mark.parametrize("code", Code)
def test_each_finding_has_a_sentence_and_a_remedy_on_one_line(code):
    finding = Finding(code)
    for text in (finding.sentence, finding.remedy):
        assert re.fullmatch(r"[A-Z].+\.", text), text
    assert "\n" not in str(finding)
    assert set(finding.to_json()) == {"code", "severity", "sentence", "detail", "remedy"}


def test_only_refusals_refuse():
    assert {code for code in Code if Finding(code).refuses} == {
        code for code in Code if TABLE[code].severity is Severity.REFUSE
    }


def test_the_page_is_what_the_table_says():
    kept = Path(__file__).parents[2] / "docs" / "findings.md"
    assert kept.read_text(encoding="utf-8") == page(), "run `make docs/findings.md`"
