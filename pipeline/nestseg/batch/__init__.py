"""Folders in, masks out: one case after the other, and no bad case stops the rest."""
