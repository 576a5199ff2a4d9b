"""How the tests of the pipeline run."""

from __future__ import annotations

import torch

torch.set_num_threads(1)  # the networks are tiny: threads would only wait for each other
