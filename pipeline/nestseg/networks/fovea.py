"""Foveation and non-uniform sampling: a window that is seen sharply only at its centre.

Cireşan et al. 2012, section 2. *Foveation* blurs the window with disks, the more the further from
its centre, so that the net cannot rely on details far from the voxel in question. *Non-uniform
sampling* maps voxels one to one at the centre and ever more coarsely towards the rim, like a
fisheye, so that the same net sees a larger field. How much of either is up to the arguments here:
the paper's amounts are not known to us.

Both depend on where the window lies, so no two windows share any work.
"""

# No `from __future__ import annotations`: torch.jit.script reads the annotations of modules.

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Fovea(nn.Module):
    """``(B, C, *field)`` → ``(B, C, *window)``; no parameters.

    Distances are of the square (the cube) around the centre: the largest offset of any axis.

    Args:
        spatial_dims: 2 or 3.
        window: voxels per axis that come out; odd.
        field: voxels per axis that go in, odd; default: the window itself.
        blur: radius of the disk at the rim, in voxels of the window; 0 for no foveation.
        sharp: distance from the centre up to which nothing changes, in half windows.

    Raises:
        ValueError: an even size, a field smaller than the window, or a negative blur.
    """

    grid: Tensor
    disks: Tensor
    shares: Tensor

    def __init__(
        self,
        spatial_dims: int,
        window: int,
        field: int | None = None,
        blur: int = 0,
        sharp: float = 0.5,
    ) -> None:
        super().__init__()
        field = window if field is None else field
        if not (window % 2 and field % 2 and field >= window and blur >= 0 and 0 <= sharp < 1):
            raise ValueError(
                f"a window of {window} voxels and a field of {field} must be odd and the field no "
                f"smaller, the blur {blur} not negative, and the sharp part {sharp} in [0, 1)"
            )
        self.window, self.field, self.blur = window, field, blur
        half = window // 2
        steps = torch.linspace(-1.0, 1.0, window)
        offsets = torch.stack(torch.meshgrid(*[steps] * spatial_dims, indexing="ij"), dim=-1)
        distance = offsets.abs().amax(dim=-1)
        outside = ((distance - sharp) / (1.0 - sharp)).clamp(
            min=0.0
        )  # 0 at the fovea, 1 at the rim

        # A distance of d half windows comes from d + extra · outside²: the rim from the field's.
        extra = field // 2 / half - 1.0
        stretch = 1.0 + extra * outside.square() / distance.clamp(min=1e-6)
        grid = offsets * stretch.unsqueeze(-1) * (half / (field // 2))
        self.register_buffer("grid", grid.flip(-1).unsqueeze(0), persistent=False)

        # One disk per whole radius; a voxel between two radii mixes the two.
        radii = torch.arange(blur + 1.0).reshape(-1, *[1] * spatial_dims)
        taps = torch.arange(-blur, blur + 1.0)
        reach = torch.stack(torch.meshgrid(*[taps] * spatial_dims, indexing="ij")).norm(dim=0)
        disks = (reach <= radii).float()
        disks /= disks.flatten(1).sum(dim=1).reshape(radii.shape)
        self.register_buffer("disks", disks.unsqueeze(1), persistent=False)
        shares = (1.0 - (outside * blur - radii).abs()).clamp(min=0.0)
        self.register_buffer("shares", shares, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The window that the net gets to see of ``x``."""
        if self.field > self.window:
            grid = torch.cat([self.grid.to(x.dtype)] * x.shape[0])
            x = F.grid_sample(x, grid, mode="bilinear", align_corners=True)
        if self.blur > 0:
            single = x.flatten(0, 1).unsqueeze(1)
            padded = F.pad(single, [self.blur] * (2 * self.shares.dim() - 2), mode="replicate")
            disks = self.disks.to(x.dtype)
            blurred = F.conv2d(padded, disks) if x.dim() == 4 else F.conv3d(padded, disks)
            x = (blurred * self.shares.to(x.dtype)).sum(dim=1).reshape(x.shape)
        return x
