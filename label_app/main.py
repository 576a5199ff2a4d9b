"""The app that MONAI Label starts: ``nestseg label`` writes the command line for it."""

from nestseg.label.app import NestsegApp

__all__ = ["NestsegApp"]
