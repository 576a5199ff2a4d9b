"""Peak memory of training against the formula that `nestseg bundle new` plans by.

Three steps each in a process of its own, on the CPU, with bfloat16 autocast and AdamW, as the
bundles train. Prints a Markdown table.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys

import torch
from monai.losses import DeepSupervisionLoss, DiceCELoss

from nestseg.bundle.memory import Network, training_bytes
from nestseg.inferers import AutocastInferer
from nestseg.networks import GridUNet

WIDE, THIN = (32, 64, 128, 256), (16, 32, 64, 128)
CASES = (
    ("unet++", THIN, 3, (2, 2, 2), (32, 32, 32), 2),
    ("unet++", THIN, 3, (2, 2, 2), (64, 64, 64), 2),
    ("unet++", THIN, 3, (2, 2, 1), (96, 96, 24), 2),
    ("unet++", THIN, 20, (2, 2, 2), (64, 64, 64), 1),
    ("unet", THIN, 3, (2, 2, 2), (64, 64, 64), 2),
    ("unet++", WIDE, 2, (2, 2), (256, 256), 4),
)
STEPS = 3


def peak_bytes(network: Network, patch: tuple[int, ...], batch: int) -> int:
    """Train in this process and say what it took."""
    dims = len(patch)
    net = GridUNet(
        dims,
        1,
        network.classes,
        network.features,
        network.topology,
        pools=network.pools,
        norm="instance",
        act="leakyrelu",
        bias=False,
    )
    dice = DiceCELoss(softmax=True, to_onehot_y=True, include_background=False, batch=True)
    loss = DeepSupervisionLoss(dice, weights=[1.0] * len(network.heads))
    optimizer, infer = torch.optim.AdamW(net.parameters()), AutocastInferer()
    image = torch.randn(batch, 1, *patch)
    label = torch.randint(0, network.classes, (batch, 1, *patch)).float()
    for _ in range(STEPS):
        loss(infer(image, net), label).backward()
        optimizer.step()
        optimizer.zero_grad()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Measure and print; with an argument, one case in this process."""
    if len(sys.argv) > 1:
        topology, features, classes, factors, patch, batch = json.loads(sys.argv[1])
        pools = (tuple(factors), *((2,) * len(patch),) * (len(features) - 2))
        network = Network(topology, pools, tuple(features), classes)
        print(peak_bytes(network, tuple(patch), batch), training_bytes(network, patch, batch))
        return
    print("| network | classes | patch | batch | measured MB | formula MB | ratio |")
    print("|---|---|---|---|---|---|---|")
    for case in CASES:
        command = [sys.executable, __file__, json.dumps(case)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        measured, planned = map(int, done.stdout.split())
        topology, features, classes, _, patch, batch = case
        size = "×".join(map(str, patch))
        print(
            f"| {topology} from {features[0]} | {classes} | {size} | {batch} "
            f"| {measured / 1e6:.0f} | {planned / 1e6:.0f} | {planned / measured:.2f} |"
        )


if __name__ == "__main__":
    main()
