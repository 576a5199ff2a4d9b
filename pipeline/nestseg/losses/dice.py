"""The Dice losses of the binary networks: MONAI's, with each paper's smoothing."""

from __future__ import annotations

from monai.losses import DiceCELoss, DiceLoss


def keras_dice_loss() -> DiceLoss:
    """Dice over the flattened batch with smoothing 1, for one sigmoid channel.

    ``1 - (2 Σyp + 1) / (Σy + Σp + 1)``, sums over all voxels of the batch. The Keras U-Net for
    ultrasound nerves and the ResFCN of Drozdzal et al. 2016 minimise the same without the leading
    1, which moves no gradient.

    Returns:
        A loss of logits ``(B, 1, *spatial)`` and a mask of the same shape, 0 or 1, any dtype.
    """
    return DiceLoss(sigmoid=True, batch=True, smooth_nr=1.0, smooth_dr=1.0)


def dlinknet_loss() -> DiceCELoss:
    """Binary cross-entropy plus Dice over the flattened batch: D-LinkNet (Zhou et al. 2018).

    ``BCE + 1 - 2 Σyp / (Σy + Σp)``. The paper's code does not smooth; MONAI's 1e-5 here keeps a
    batch without any road finite and is not felt elsewhere.

    Returns:
        A loss of logits ``(B, 1, *spatial)`` and a mask of the same shape, 0 or 1, any dtype.
    """
    return DiceCELoss(sigmoid=True, batch=True)
