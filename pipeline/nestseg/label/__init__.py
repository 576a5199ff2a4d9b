"""Every bundle in MONAI Label: interactive in 3D Slicer and OHIF, with active learning."""
