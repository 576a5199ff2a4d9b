"""``python -m benchmarks.peers.train > weights.log``: the committed weights, from seeded phantoms.

The phantom is what is learnt, so that masks have clear borders and two ways to compute them can be
held against each other. The figures of such a network say nothing about patients.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import numpy as np
import torch
from monai.transforms import (
    ClassesToIndicesd,
    Compose,
    Orientationd,
    RandCropByLabelClassesd,
    Spacingd,
)
from monai.utils import set_determinism
from torch import Tensor, nn

from benchmarks.peers import network
from benchmarks.peers.phantom import make
from nestseg.networks import GridUNet
from nestseg_prep.transforms import LoadVolumed

SEED = 0
# Organs are fractions of a phantom, so their true sizes differ; the last two are those of `full`
# and `short` in `sizes.py`, on fewer voxels.
CASES = (
    ((120, 120, 80), (3.0, 3.0, 3.6)),
    ((160, 128, 100), (1.9, 2.4, 2.4)),
    ((256, 256, 150), (1.6, 1.6, 2.0)),
    ((256, 256, 80), (1.0, 1.0, 2.0)),
)
PATCH = (32, 32, 32)
BATCH = 2
STEPS = 2500
SETTLING = 24
RATE = 1e-3


def patches(steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of patches, the classes in equal parts at the centres."""
    keys = ["image", "label"]
    prepare = Compose(
        [
            LoadVolumed(keys),
            Orientationd(keys, axcodes="RAS", labels=(("L", "R"), ("P", "A"), ("I", "S"))),
            Spacingd(keys, pixdim=(network.SPACING_MM,) * 3, mode=("bilinear", "nearest")),
            ClassesToIndicesd("label", num_classes=network.CLASSES),
        ]
    )
    cases = []
    for number, (shape, spacing) in enumerate(CASES):
        made = make(shape, spacing, seed=1000 + number)
        cases.append(prepare({"image": made.series.truth, "label": made.labels}))
    crop = RandCropByLabelClassesd(
        keys,
        "label",
        PATCH,
        num_classes=network.CLASSES,
        num_samples=1,
        indices_key="label_cls_indices",
        warn=False,
    )
    crop.set_random_state(SEED)
    for step in range(steps):
        found = [crop(cases[(step + k) % len(cases)])[0] for k in range(BATCH)]
        image = torch.stack([one["image"].as_tensor() for one in found])
        label = torch.stack([one["label"].as_tensor() for one in found])
        yield image.clamp(-network.CLIP_HU, network.CLIP_HU) / network.PER_UNIT_HU, label


def settle(net: nn.Module) -> None:
    """Give batch norms the means of some batches, and hold them there.

    Norms that take the means of each batch forget how dense a crop is, and organs of the phantom
    differ by nothing else.
    """
    norms = [part for part in net.modules() if isinstance(part, nn.BatchNorm3d)]
    for norm in norms:
        norm.momentum = None  # the plain mean over all batches
    with torch.no_grad():
        for image, _ in patches(SETTLING):
            net(image)
    for norm in norms:
        norm.eval()


def main() -> None:
    """Train and write the weights in half precision."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS)
    given = parser.parse_args()
    set_determinism(SEED)
    net = GridUNet(**network.ARGUMENTS).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE)
    plan = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, RATE, total_steps=given.steps, pct_start=0.1
    )
    settle(net)
    start, seen = time.perf_counter(), []
    for step, (image, label) in enumerate(patches(given.steps), start=1):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = net(image.to(memory_format=torch.channels_last_3d))
        error = nn.functional.cross_entropy(logits.float(), label[:, 0].long())
        error.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        plan.step()
        seen.append(error.item())
        if step % 20 == 0 or step == given.steps:
            minutes = (time.perf_counter() - start) / 60
            print(f"step {step}: loss {np.mean(seen[-20:]):.3f}, {minutes:.1f} min", flush=True)
    weights = {
        key: value.half() if value.is_floating_point() else value
        for key, value in net.state_dict().items()
    }
    partial = network.WEIGHTS.with_suffix(".partial")
    torch.save(weights, partial)
    partial.replace(network.WEIGHTS)


if __name__ == "__main__":
    main()
