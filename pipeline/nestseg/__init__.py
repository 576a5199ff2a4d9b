"""U-Net-family segmentation for hospitals, on MONAI."""

__version__ = "0.1.0"
