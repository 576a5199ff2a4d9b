"""Training: what stands around MONAI's ignite engines."""

from nestseg.engines.average import WeightAverage
from nestseg.engines.diagnostics import LayerDiagnostics
from nestseg.engines.extras import installed
from nestseg.engines.heads import HeadDice, HeadLosses
from nestseg.engines.processes import join_processes
from nestseg.engines.schedule import EarlyStop, LastValidation
from nestseg.engines.start import StartWeights
from nestseg.engines.state import TrainingState
from nestseg_prep.process_memory import keep_freed as keep_freed_memory

__all__ = [
    "EarlyStop",
    "HeadDice",
    "HeadLosses",
    "LastValidation",
    "LayerDiagnostics",
    "StartWeights",
    "TrainingState",
    "WeightAverage",
    "installed",
    "join_processes",
    "keep_freed_memory",
]
