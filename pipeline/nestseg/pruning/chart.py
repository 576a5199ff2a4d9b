"""A picture of a pruning: Dice against time, memory and size, one point per level."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from nestseg.pruning.record import Record

INK, GRID, DOT, CHOSEN = (40, 40, 40), (225, 225, 225), (120, 144, 170), (210, 70, 30)

_FINE = 2  # drawn that much larger, for smooth lines
_SCALE = 2 * _FINE  # pixels per unit below
_PANEL = (300, 230)  # width and height of the axes
_LEFT, _TOP, _GAP, _BOTTOM = 62, 44, 34, 50
_RADIUS = 5
_FONT = 12


def draw(record: Record) -> Image.Image:
    """Three panels with one vertical axis; the chosen level is filled in orange.

    A dashed line shows how low the Dice may lie, where the rule is a tolerance. Memory that was
    not measured leaves its panel out.
    """
    levels = record.levels
    columns: list[tuple[str, list[float]]] = [("ms a case", [level.ms for level in levels])]
    memory = [level.mb for level in levels if level.mb is not None]
    if len(memory) == len(levels):
        columns.append(("memory MB", memory))
    columns.append(("weights MB", [level.file_bytes / 1e6 for level in levels]))

    dice = [level.dice for level in levels]
    tolerance = record.rule.tolerance
    floor = None if tolerance is None else dice[-1] - tolerance
    low, high = _span([*dice] if floor is None else [*dice, floor])
    size = (_LEFT + len(columns) * (_PANEL[0] + _GAP), _TOP + _PANEL[1] + _BOTTOM)
    sheet = Image.new("RGB", (size[0] * _SCALE, size[1] * _SCALE), "white")
    pen = _Pen(ImageDraw.Draw(sheet))
    title = f"{record.source.name} {record.source.version}: mean Dice of {record.scoring.scored}"
    legend = "orange: chosen" + ("" if floor is None else "; dashed: lowest that was allowed")
    pen.text((_LEFT, 8), f"{title} validation cases by level ({legend})", "la")
    for number, (unit, values) in enumerate(columns):
        axes = _Axes(_LEFT + number * (_PANEL[0] + _GAP), (0.0, 1.12 * max(values)), (low, high))
        pen.axes(axes, unit, numbered=number == 0)
        if floor is not None:
            pen.dashes(axes, floor)
        places = [axes.place(x, y) for x, y in zip(values, dice, strict=True)]
        pen.path(places)
        for level, place in zip(levels, places, strict=True):
            pen.dot(place, f"L{level.level}", chosen=level.level == record.chosen.level)
    return sheet.reduce(_FINE)


class _Axes:
    """Where values lie on one panel."""

    def __init__(self, left: int, x: tuple[float, float], y: tuple[float, float]) -> None:
        self.left, self.x, self.y = left, x, y

    def place(self, x: float, y: float) -> tuple[float, float]:
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return self.left + across * _PANEL[0], _TOP + (1 - up) * _PANEL[1]


class _Pen:
    """Draws in units, not pixels."""

    def __init__(self, draw: ImageDraw.ImageDraw) -> None:
        self._draw = draw
        self._font = ImageFont.load_default(size=_FONT * _SCALE)

    def text(self, at: tuple[float, float], text: str, anchor: str) -> None:
        self._draw.text(
            _pixels(at),
            text,
            fill=INK,
            font=self._font,
            anchor=anchor,
            stroke_width=2 * _SCALE,
            stroke_fill="white",
        )

    def path(
        self, places: Sequence[tuple[float, float]], colour: tuple[int, int, int] = DOT
    ) -> None:
        self._draw.line([_pixels(place) for place in places], fill=colour, width=_SCALE)

    def axes(self, axes: _Axes, unit: str, *, numbered: bool) -> None:
        ticks = _ticks(*axes.y)
        digits = max(len(f"{value:g}".partition(".")[2]) for value in ticks)
        for value in ticks:
            start, end = axes.place(axes.x[0], value), axes.place(axes.x[1], value)
            self.path([start, end], GRID)
            if numbered:
                self.text((start[0] - 6, start[1]), f"{value:.{digits}f}", "rm")
        for value in _ticks(*axes.x):
            foot = axes.place(value, axes.y[0])
            self.path([foot, (foot[0], foot[1] + 4)], INK)
            self.text((foot[0], foot[1] + 6), f"{value:g}", "ma")
        corner = axes.place(axes.x[0], axes.y[0])
        self.path([axes.place(axes.x[0], axes.y[1]), corner], INK)
        self.path([corner, axes.place(axes.x[1], axes.y[0])], INK)
        self.text((axes.left + _PANEL[0] / 2, _TOP + _PANEL[1] + 26), unit, "ma")

    def dashes(self, axes: _Axes, value: float) -> None:
        left, y = axes.place(axes.x[0], value)
        for x in range(0, _PANEL[0], 10):
            self.path([(left + x, y), (left + x + 5, y)], CHOSEN)

    def dot(self, at: tuple[float, float], name: str, *, chosen: bool) -> None:
        corners = [(at[0] - _RADIUS, at[1] - _RADIUS), (at[0] + _RADIUS, at[1] + _RADIUS)]
        self._draw.ellipse([_pixels(c) for c in corners], fill=CHOSEN if chosen else DOT)
        self.text((at[0], at[1] - _RADIUS - 3), name, "mb")


def _pixels(at: tuple[float, float]) -> tuple[float, float]:
    return at[0] * _SCALE, at[1] * _SCALE


def _span(values: Sequence[float]) -> tuple[float, float]:
    """A range around values, with room for their names."""
    low, high = min(values), max(values)
    room = max(high - low, 0.01) * 0.15
    return low - room, high + room


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers between two, about four."""
    rough = (high - low) / 4
    power = 10.0 ** len(str(int(rough))) if rough >= 1 else 1.0
    while power > rough:
        power /= 10
    step = max(factor * power for factor in (1, 2, 5) if factor * power <= rough)
    first = -int(-low // step) if low > 0 else 0
    return [round(k * step, 10) for k in range(first, int(high / step) + 1) if k * step >= low]
