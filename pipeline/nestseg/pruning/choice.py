"""Which level of a network to keep: a pure function of a table and a rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from nestseg_prep.errors import InputError, check_number

_ROUNDING = 1e-9  # 0.88 - 0.87 is a little more than 0.01


@dataclass(frozen=True)
class Level:
    """What the network that ends at one head scores on the validation cases, and what it costs.

    Attributes:
        level: column of the head; the largest is the full network.
        parameters: numbers that were learned.
        file_bytes: size of ``models/model.pt``.
        dice: mean over the labels of each case, then over the cases.
        dice_by_label: mean over the cases that hold the label; ``None`` if none does.
        surface_dice: mean as of ``dice``; ``None`` if no case holds a label.
        hd95_mm: the 95th percentile of the distances between the surfaces, mean as of ``dice`` over
            labels with two surfaces; ``None`` if there are none.
        hd95_undefined: labels of cases that have a surface in the mask or in the truth alone.
        ms: median time of a case, from voxels in memory to the mask.
        mb: peak memory above an idle process, in 10⁶ bytes; ``None`` where it cannot be measured.
    """

    level: int
    parameters: int
    file_bytes: int
    dice: float
    dice_by_label: dict[str, float | None]
    surface_dice: float | None
    hd95_mm: float | None
    hd95_undefined: int
    ms: float
    mb: float | None


@dataclass(frozen=True)
class Rule:
    """What the choice must keep to.

    Attributes:
        tolerance: of the Dice against the full network; ``None``: as accurate as the budgets allow.
        budget_ms: time of a case.
        budget_mb: memory.

    Raises:
        InputError: a limit that nothing can keep to, or no limit at all.
    """

    tolerance: float | None = None
    budget_ms: float | None = None
    budget_mb: float | None = None

    def __post_init__(self) -> None:
        given = {name: limit for name, limit in asdict(self).items() if limit is not None}
        if not given:
            raise InputError("nothing to choose by; give a tolerance or a budget")
        for name, limit in given.items():
            check_number(name, limit, 0)

    def affords(self, level: Level) -> bool:
        """Whether a level keeps within the budgets. Memory that is not known keeps within none."""
        in_time = self.budget_ms is None or level.ms <= self.budget_ms
        in_memory = self.budget_mb is None or (level.mb is not None and level.mb <= self.budget_mb)
        return in_time and in_memory

    @property
    def budgets(self) -> str:
        """``"80 ms and 300 MB"``."""
        parts = [(self.budget_ms, "ms"), (self.budget_mb, "MB")]
        return " and ".join(f"{limit:g} {unit}" for limit, unit in parts if limit is not None)


@dataclass(frozen=True)
class Choice:
    """The level that was chosen.

    Attributes:
        level: column of its head.
        reason: one clause.
    """

    level: int
    reason: str


def choose(levels: Sequence[Level], rule: Rule) -> Choice:
    """Choose among the levels of one network.

    With a tolerance: the smallest level within the budgets whose Dice lies at most that far below
    the full network's. With budgets alone: the level within them that has the best Dice, and of
    equal ones the smallest.

    Args:
        levels: at least one, in any order; the deepest is the full network.
        rule: what to keep to.

    Raises:
        InputError: no level keeps to the rule; the message says what would.
    """
    full = max(levels, key=lambda level: level.level)
    affordable = [level for level in levels if rule.affords(level)]
    if not affordable:
        cheapest = min(levels, key=lambda level: level.ms)
        raise InputError(
            f"no level keeps within {rule.budgets}: L{cheapest.level} takes {_cost(cheapest)}; "
            "allow more"
        )
    within = f" within {rule.budgets}" if rule.budgets else ""
    if rule.tolerance is None:
        best = max(affordable, key=lambda level: (level.dice, -level.level))
        return Choice(best.level, f"the most accurate{within}: {_cost(best)}, {_loss(best, full)}")
    allowed = rule.tolerance + _ROUNDING
    kept = [level for level in affordable if full.dice - level.dice <= allowed]
    if not kept:
        best = max(affordable, key=lambda level: level.dice)
        raise InputError(
            f"no level{within} keeps the Dice to {rule.tolerance:g}: L{best.level} has "
            f"{_loss(best, full)}; allow more"
        )
    smallest = min(kept, key=lambda level: level.level)
    return Choice(
        smallest.level,
        f"the smallest{within} that loses at most {rule.tolerance:g} Dice: {_loss(smallest, full)}",
    )


def _cost(level: Level) -> str:
    memory = "memory unknown" if level.mb is None else f"{level.mb:.0f} MB"
    return f"{level.ms:.0f} ms and {memory}"


def _loss(level: Level, full: Level) -> str:
    if level.level == full.level:
        return f"Dice {full.dice:.4f}, the full network"
    return f"Dice {level.dice:.4f} against {full.dice:.4f} of L{full.level}"
