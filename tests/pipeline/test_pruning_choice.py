"""Which level is kept: laws of the choice, and the file that remembers what it was made from."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestseg.bundle.options import SegmentOptions
from nestseg.pruning import chart, record
from nestseg.pruning.choice import Choice, Level, Rule, choose
from nestseg.pruning.level import resolved
from nestseg_prep.errors import InputError


def level(number: int, dice: float, ms: float = 10.0, mb: float | None = 50.0) -> Level:
    return Level(number, 10**number, 40**number, dice, {"organ": dice}, dice, 1.5, 0, ms, mb)


DICE = st.integers(0, 100).map(lambda n: n / 100)  # coarse: ties are common
COST = st.integers(1, 40).map(float)
TOLERANCE = st.integers(0, 40).map(lambda n: n / 100)
MAYBE_COST = st.none() | COST


@st.composite
def tables(draw: st.DrawFn) -> list[Level]:
    numbers = draw(st.lists(st.integers(1, 6), min_size=1, max_size=5, unique=True))
    return [level(n, draw(DICE), draw(COST), draw(MAYBE_COST)) for n in numbers]


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    limits = draw(st.tuples(st.none() | TOLERANCE, MAYBE_COST, MAYBE_COST).filter(any))
    return Rule(*limits)


def outcome(levels: list[Level], rule: Rule) -> Level | None:
    try:
        chosen = choose(levels, rule).level
    except InputError:
        return None
    (found,) = [item for item in levels if item.level == chosen]
    return found


def allowed(levels: list[Level], rule: Rule) -> list[Level]:
    """The rule, said once more and otherwise: in hundredths, which are exact."""
    full = max(levels, key=lambda item: item.level)

    def loses_little(item: Level) -> bool:
        lost = round(100 * full.dice) - round(100 * item.dice)
        return rule.tolerance is None or lost <= round(100 * rule.tolerance)

    return [
        item
        for item in levels
        if loses_little(item)
        and (rule.budget_ms is None or item.ms <= rule.budget_ms)
        and (rule.budget_mb is None or (item.mb is not None and item.mb <= rule.budget_mb))
    ]


@given(levels=tables(), rule=rules())
def test_the_chosen_level_keeps_to_the_rule_and_there_is_one_whenever_one_does(
    levels: list[Level], rule: Rule
) -> None:
    found = outcome(levels, rule)
    if found is None:
        assert not allowed(levels, rule)
    else:
        assert found in allowed(levels, rule)


@given(levels=tables(), rule=rules())
def test_with_a_tolerance_nothing_smaller_would_do_and_without_nothing_is_better(
    levels: list[Level], rule: Rule
) -> None:
    found = outcome(levels, rule)
    for other in allowed(levels, rule) if found else ():
        if rule.tolerance is not None:
            assert found.level <= other.level
        else:
            assert (found.dice, -found.level) >= (other.dice, -other.level)


@given(levels=tables(), tolerances=st.tuples(TOLERANCE, TOLERANCE))
def test_a_larger_tolerance_never_keeps_more(
    levels: list[Level], tolerances: tuple[float, float]
) -> None:
    strict, lax = (outcome(levels, Rule(tolerance)) for tolerance in sorted(tolerances))
    assert strict is not None  # the full network loses nothing against itself
    assert lax is not None
    assert lax.level <= strict.level


@given(levels=tables(), budgets=st.tuples(COST, COST))
def test_a_larger_budget_never_costs_accuracy(
    levels: list[Level], budgets: tuple[float, float]
) -> None:
    tight, wide = (outcome(levels, Rule(budget_ms=budget)) for budget in sorted(budgets))
    if tight is not None:
        assert wide is not None
        assert wide.dice >= tight.dice


@given(levels=tables(), rule=rules(), data=st.data())
def test_the_order_of_the_table_does_not_matter(
    levels: list[Level], rule: Rule, data: st.DataObject
) -> None:
    assert outcome(levels, rule) == outcome(data.draw(st.permutations(levels)), rule)


def test_a_loss_of_exactly_the_tolerance_is_allowed() -> None:
    assert 0.88 - 0.87 > 0.01  # in binary
    assert choose([level(1, 0.87), level(2, 0.88)], Rule(0.01)).level == 1


def test_a_level_that_beats_the_full_network_is_kept() -> None:
    assert choose([level(1, 0.85), level(2, 0.9), level(3, 0.88)], Rule(0.0)).level == 2


def test_of_equal_levels_a_budget_takes_the_smallest() -> None:
    levels = [level(3, 0.9), level(1, 0.8), level(2, 0.9)]
    assert choose(levels, Rule(budget_ms=10)).level == 2


def test_memory_that_was_not_measured_fits_no_budget() -> None:
    with pytest.raises(InputError, match=r"no level keeps within 100 MB: L1 .* memory unknown"):
        choose([level(1, 0.8, mb=None)], Rule(budget_mb=100))


def test_a_budget_too_tight_says_what_the_cheapest_level_takes() -> None:
    with pytest.raises(InputError, match="no level keeps within 5 ms: L1 takes 10 ms and 50 MB"):
        choose([level(1, 0.8), level(2, 0.9, ms=20)], Rule(budget_ms=5))


def test_a_tolerance_out_of_reach_of_the_budget_says_what_there_is() -> None:
    with pytest.raises(InputError, match=r"within 15 ms keeps the Dice to 0\.01: L1 has Dice 0\.8"):
        choose([level(1, 0.8), level(2, 0.9, ms=20)], Rule(0.01, budget_ms=15))


@pytest.mark.parametrize(
    "limits", [{}, {"tolerance": -0.1}, {"budget_ms": float("nan")}, {"budget_mb": float("inf")}]
)
def test_a_rule_without_sense_is_refused(limits: dict[str, float]) -> None:
    with pytest.raises(InputError):
        Rule(**limits)


@pytest.fixture
def made() -> record.Record:
    levels = (level(1, 0.81), level(2, 0.86, ms=20.5), level(3, 0.8649, ms=70.25, mb=120.5))
    rule = Rule(tolerance=0.01)
    return record.Record(
        source=record.Source("organ_unetpp", "0.1.0", "ab" * 32),
        weights_sha256="cd" * 32,
        scoring=record.Scoring("ef" * 32, 5, (record.Failure("c.nii.gz", "is empty"),), 1.0),
        timing=record.Timing(4, 3, "peak", {"processor": "any", "device": "cpu", "threads": 1}),
        levels=levels,
        rule=rule,
        chosen=choose(levels, rule),
        nestseg="0.1.0",
        finished="2026-01-01T00:00:00+00:00",
    )


def write(folder: Path, text: str) -> None:
    (folder / "docs").mkdir(exist_ok=True)
    (folder / record.FILE_NAME).write_text(text)


def test_the_record_reads_back_as_it_was_written(made: record.Record, tmp_path: Path) -> None:
    text = record.to_json(made)
    write(tmp_path, text)
    assert record.read(tmp_path) == made
    content = json.loads(text)
    assert content["schema"] == record.SCHEMA
    assert content["scoring"]["scored"] == 4


def test_the_record_serves_another_choice(made: record.Record, tmp_path: Path) -> None:
    write(tmp_path, record.to_json(made))
    assert made.chosen.level == 2
    assert choose(record.read(tmp_path).levels, Rule(budget_ms=15)).level == 1


def test_auto_is_the_level_that_a_pruning_of_these_weights_chose(
    made: record.Record, tmp_path: Path
) -> None:
    bundle = tmp_path / "organ_unetpp"
    (bundle / "models").mkdir(parents=True)
    (bundle / "models" / "model.pt").write_bytes(b"weights")
    auto = SegmentOptions(tta="mirror", level="auto")
    with pytest.raises(InputError, match=r"`nestseg prune organ_unetpp --data DATA --out DIR`"):
        resolved(bundle, auto)
    write(bundle, record.to_json(made))
    with pytest.raises(InputError, match="other weights"):
        resolved(bundle, auto)
    ours = hashlib.sha256(b"weights").hexdigest()
    full = replace(made, source=replace(made.source, weights_sha256=ours))
    write(bundle, record.to_json(full))
    options, sentence = resolved(bundle, auto)
    assert options == SegmentOptions(tta="mirror", level=2)
    assert sentence == f"organ_unetpp: level auto is L2, {made.chosen.reason}"
    write(bundle, record.to_json(replace(made, weights_sha256=ours)))  # what the pruning made
    assert resolved(bundle, auto) == (SegmentOptions(tta="mirror", level=None), "")
    assert resolved(bundle, SegmentOptions(level=1)) == (SegmentOptions(level=1), "")


def test_a_budget_chooses_among_the_levels_that_were_measured(
    made: record.Record, tmp_path: Path
) -> None:
    bundle, auto = tmp_path / "organ_unetpp", SegmentOptions(level="auto")
    (bundle / "models").mkdir(parents=True)
    (bundle / "models" / "model.pt").write_bytes(b"weights")
    with pytest.raises(InputError, match=r"level auto needs docs/pruning\.json"):
        resolved(bundle, auto, Rule(budget_ms=50))
    ours = hashlib.sha256(b"weights").hexdigest()
    full = replace(made, source=replace(made.source, weights_sha256=ours))
    write(bundle, record.to_json(full))
    for budget, expected in (
        (Rule(budget_ms=15), 1),
        (Rule(budget_ms=50), 2),
        (Rule(budget_ms=1000), 3),
        (Rule(budget_ms=1000, budget_mb=100), 2),
    ):
        options, sentence = resolved(bundle, auto, budget)
        assert options.level == expected
        assert f"L{expected}, the most accurate within {budget.budgets}" in sentence
    with pytest.raises(InputError, match="no level keeps within 5 ms: L1 takes 10 ms"):
        resolved(bundle, auto, Rule(budget_ms=5))
    with pytest.raises(InputError, match="add --level auto"):
        resolved(bundle, SegmentOptions(level=2), Rule(budget_ms=50))
    write(bundle, record.to_json(replace(made, weights_sha256=ours)))  # pruned to level 2
    assert resolved(bundle, auto, Rule(budget_ms=50)) == (SegmentOptions(level=None), "")
    with pytest.raises(InputError, match="no level keeps within 15 ms: L2 takes 20 ms"):
        resolved(bundle, auto, Rule(budget_ms=15))


@pytest.mark.parametrize("text", ["", "{}", '{"schema": 1}', '{"schema": 99}', "[]"])
def test_a_record_that_cannot_be_read_is_one_line(text: str, tmp_path: Path) -> None:
    write(tmp_path, text)
    with pytest.raises(InputError, match=r"pruning\.json"):
        record.read(tmp_path)


def test_a_bundle_without_a_record_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="`nestseg prune` writes it"):
        record.read(tmp_path)


def test_the_chart_marks_one_level_in_each_panel_and_leaves_out_what_is_unknown(
    made: record.Record,
) -> None:
    picture = chart.draw(made)
    unknown = tuple(replace(item, mb=None) for item in made.levels)
    narrow = chart.draw(replace(made, levels=unknown))
    assert narrow.height == picture.height
    assert narrow.width < picture.width
    other = chart.draw(replace(made, chosen=Choice(3, "")))
    assert picture.tobytes() != other.tobytes()
    colours = picture.getcolors(picture.width * picture.height)
    assert {chart.CHOSEN, chart.DOT} <= {colour for _, colour in colours or ()}


def test_the_chart_of_levels_that_are_all_equal_can_be_drawn(made: record.Record) -> None:
    same = tuple(replace(item, dice=0.0) for item in made.levels)
    assert chart.draw(replace(made, levels=same)).width > 0
