"""Results as DICOM objects beside the images they were made from: SEG and measurement SR."""
