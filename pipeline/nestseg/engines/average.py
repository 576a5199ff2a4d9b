"""A moving average of a network's weights that a resumed training goes on with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ignite.handlers import EMAHandler


class WeightAverage(EMAHandler):
    """ignite's ``EMAHandler`` with a state to save: the average, and where its warm-up stands."""

    def state_dict(self) -> dict[str, Any]:
        """The averaged weights and the state of the warm-up, if there is one."""
        schedule = getattr(self, "momentum_scheduler", None)
        return {
            "average": self.ema_model.state_dict(),
            "warmup": schedule.state_dict() if schedule else {},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state; the handler is attached to its trainer."""
        self.ema_model.load_state_dict(state["average"])
        if state["warmup"]:
            self.momentum_scheduler.load_state_dict(state["warmup"])
