"""DICOM in: which series a folder holds, what is wrong with each, and its voxels.

``files`` → ``headers`` → ``grouping`` → ``stack`` → ``scan`` on the way in; ``pixels`` → ``series``
once a series was accepted.
"""

import logging
import warnings

# pydicom quotes values, a patient's among them, when it warns. Said once for the whole process:
# `warnings.catch_warnings` is not safe among threads, and headers are read while cases are.
warnings.filterwarnings("ignore", module="pydicom")
logging.getLogger("pydicom").propagate = False
