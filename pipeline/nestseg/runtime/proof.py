"""Whether a fast graph says what the network says: both are asked before it may answer for images.

Libraries have computed rubbish without a word (one that ran matrix products in bfloat16 wrongly on
a kind of processor, say), so nothing is trusted by its name.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from nestseg.runtime.contract import Heads, Run, Task, UnavailableError

LARGEST_ERROR: Final = {"fp32": 1e-3, "bf16": 0.1, "int8": 0.5}
"""Root mean square of the error over that of the logits' spread, by precision.

float32 libraries stay below 1e-5, bfloat16 ones at 0.01 to 0.03. int8 was judged by its masks when
it was calibrated; here it shall only be no rubbish.
"""


def noise(task: Task, seed: int) -> Tensor:
    """A tile that is no patient's: normal, as preprocessed images are."""
    source = torch.Generator().manual_seed(seed)
    return torch.randn(task.shape, generator=source).to(task.device)


def prove(run: Run, task: Task) -> None:
    """Pass if a graph answers two tiles, one after the other, as the plain network does.

    Raises:
        UnavailableError: it does not, or what it said of the first changed with the second.
    """
    tiles = [noise(task, seed) for seed in (0, 1)]
    plain = Heads(task.network, every=task.every_head)
    with torch.no_grad():
        answers = [run(tile) for tile in tiles]
        pairs = [(answer, plain.answers(tile)) for answer, tile in zip(answers, tiles, strict=True)]
    for answer, expected in pairs:
        if [z.shape for z in answer] != [z.shape for z in expected]:
            raise UnavailableError("its logits have another shape than the network's")
        worst = max(error(a, b) for a, b in zip(answer, expected, strict=True))
        if not worst <= LARGEST_ERROR[task.precision]:  # and NaN is no number
            raise UnavailableError(f"its logits are off by {worst:.2g} of their spread")


def error(logits: Tensor, expected: Tensor) -> float:
    """Root mean square of the difference, over that of what is expected around its mean."""
    difference = (logits.double() - expected.double()).square().mean().sqrt()
    spread = expected.double().std(correction=0)
    return float(difference / spread.clamp_min(1e-6 * float(expected.abs().max()) + 1e-12))
