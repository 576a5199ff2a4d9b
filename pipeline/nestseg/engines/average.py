"""A moving average of a network's weights that a resumed training goes on with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ignite.handlers import EMAHandler


class WeightAverage(EMAHandler):
    """ignite's ``EMAHandler`` with a state to save: the average, and where its warm-up stands."""

    def state_dict(self) -> dict[str, Any]:
        """The averaged weights and the steps of the warm-up, tensors and numbers alone.

        ignite's state of its schedule holds the schedule's function, which ``torch.load`` refuses.
        """
        schedule = getattr(self, "momentum_scheduler", None)
        return {
            "average": self.ema_model.state_dict(),
            "step": schedule.event_index if schedule else 0,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state; the handler is attached to its trainer."""
        self.ema_model.load_state_dict(state["average"])
        schedule = getattr(self, "momentum_scheduler", None)
        if schedule:
            schedule.event_index = state["step"]
