"""One loss over the outputs of a network with several heads, and the papers that use it."""

from __future__ import annotations

from collections.abc import Sequence

from monai.losses import DeepSupervisionLoss, DiceCELoss
from torch import Tensor, nn
from torch.nn.modules.loss import _Loss


class HeadsLoss(DeepSupervisionLoss):
    """Weighted sum of one loss over the heads, the main (deepest) head first.

    MONAI's ``DeepSupervisionLoss`` with its silent choices turned into errors. It falls back to
    1, 1/2, 1/4, … where the list of weights is too short, and it rescales the target where a head
    has another size: for a valid network that would lay the whole image over its middle. Here every
    head weighs 1 unless the weights say otherwise, no head may weigh more than one that stands
    before it, and a head must have the target's size.

    Outside of training a network returns its main head alone; that tensor's loss is not weighted.

    Args:
        loss: of logits ``(B, C, *spatial)`` and a target ``(B, 1 or more, *spatial)``.
        weights: per head, main head first, each no larger than the one before it.

    Raises:
        ValueError: weights that grow, are negative or all zero (a network's heads come main first,
            so growing weights are meant for a list in the other order); in ``forward``, another
            number of heads than of weights, or a head of another size than the target.
    """

    def __init__(self, loss: _Loss, weights: Sequence[float] | None = None) -> None:
        super().__init__(
            loss, weight_mode="same", weights=None if weights is None else list(weights)
        )
        if weights is not None:
            falling = sorted(weights, reverse=True)
            if list(weights) != falling or not falling or falling[0] <= 0 or falling[-1] < 0:
                raise ValueError(
                    f"weights {list(weights)} must fall from the first (main) head to the last, "
                    "start above 0 and not end below it"
                )

    def get_weights(self, levels: int = 1) -> list[float]:
        """The weight of each of ``levels`` heads."""
        if self.weights is not None and len(self.weights) != levels:
            raise ValueError(f"{levels} heads, but {len(self.weights)} weights")
        weights: list[float] = super().get_weights(levels)
        return weights

    def get_loss(self, input: Tensor, target: Tensor) -> Tensor:  # noqa: A002  MONAI's name
        """The loss of one head."""
        if input.shape[2:] != target.shape[2:]:
            raise ValueError(
                f"a head of spatial shape {tuple(input.shape[2:])} and a target of "
                f"{tuple(target.shape[2:])}: crop the target to the network's output"
            )
        loss: Tensor = self.loss(input, target)
        return loss


class _MaskBCE(nn.BCEWithLogitsLoss):
    """Binary cross-entropy that takes masks of any dtype."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:  # noqa: A002  torch's name
        return super().forward(input, target.to(input.dtype))


def unetpp_loss() -> HeadsLoss:
    """The hybrid loss of UNet++ at every head with weight 1 (Zhou et al. 2018, section 3.2).

    Per head ``½·BCE + 1 - mean over images of 2 Σyp / (Σy + Σp)``, for one sigmoid channel. The
    paper's formula has no 1, which moves no gradient, and no smoothing; MONAI's 1e-5 keeps an empty
    mask finite and is not felt elsewhere.

    Returns:
        A loss of logits ``(B, 1, *spatial)`` or a list of them, and a mask, 0 or 1, any dtype.
    """
    return HeadsLoss(DiceCELoss(sigmoid=True, lambda_ce=0.5))


def u2net_loss() -> HeadsLoss:
    """The sum of the binary cross-entropies of all seven outputs of U²-Net, each of weight 1.

    Qin et al. 2020, section 3.3: the fused output first, then the six side outputs.

    Returns:
        A loss of logits ``(B, 1, *spatial)`` or a list of them, and a mask, 0 or 1, any dtype.
    """
    return HeadsLoss(_MaskBCE())
