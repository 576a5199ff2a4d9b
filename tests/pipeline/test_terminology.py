"""Labels and their codes."""

import pytest
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from nestseg.outputs.dicom import terminology
from nestseg.outputs.dicom.terminology import concept_of
from nestseg_prep.errors import InputError


@pytest.mark.parametrize("name", sorted(terminology._KNOWN))
def test_every_code_of_the_table_is_one_that_dicom_lists(name):
    kind = terminology._KNOWN[name][1]
    listed = {code.value for code in (getattr(codes.SCT, word) for word in codes.SCT.dir())}
    assert kind.value in listed


@pytest.mark.parametrize(
    ("label", "value", "modifier"),
    [
        ("liver", "10200004", None),
        ("Lungs", "39607008", None),
        ("kidney_left", "64033007", "Left"),
        ("right kidney", "64033007", "Right"),
        ("anterior hippocampus", "5366008", "Anterior"),
        ("Posterior Hippocampus", "5366008", "Posterior"),
        ("vertebrae", "51282000", None),
        ("bone", "272673000", None),
    ],
)
def test_labels_are_known_however_they_are_written(label, value, modifier):
    concept = concept_of(label)
    assert concept.type.value == value
    assert (concept.modifier and concept.modifier.meaning) == modifier


def test_an_unknown_label_gets_a_private_code_with_its_text():
    concept = concept_of("mystery organ")
    assert concept.type == Code("MYSTERY_ORGAN", "99NESTSEG", "mystery organ")
    long = concept_of("a structure whose name is far longer than sixteen characters")
    assert len(long.type.value) == 16
    assert concept_of("肝臓").type.value != concept_of("腎臓").type.value
    assert concept_of("left and right of anything").type.scheme_designator == "99NESTSEG"


def test_a_bundle_may_say_itself_what_its_labels_are():
    given = {
        "lesion x": {
            "category": ["49755003", "SCT", "Morphologically Abnormal Structure"],
            "type": ["108369006", "SCT", "Neoplasm"],
            "colour": [1, 2, 3],
        }
    }
    concept = concept_of("lesion x", given)
    assert concept.type.meaning == "Neoplasm"
    assert concept.colour == (1, 2, 3)
    assert concept_of("liver", given).type.meaning == "Liver"


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"category": "SCT", "type": "SCT"},
        {"category": ["1", "SCT", ""], "type": ["1", "SCT", "x"]},
        {"category": ["1", "SCT", "x"], "type": ["1", "SCT", "x"], "colour": [0, 0, 300]},
        ["1", "SCT", "x"],
    ],
)
def test_codes_of_another_form_are_refused_in_one_line(entry):
    with pytest.raises(InputError, match="segment_codes of 'a'"):
        concept_of("a", {"a": entry})
