"""The prep stage: DICOM and NIfTI in, arrays with trustworthy geometry out."""
