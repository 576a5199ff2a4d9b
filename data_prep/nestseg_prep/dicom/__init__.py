"""DICOM in: which series a folder holds, what is wrong with each, and its voxels.

``files`` → ``headers`` → ``grouping`` → ``stack`` → ``scan`` on the way in; ``pixels`` → ``series``
once a series was accepted.
"""
