"""NIfTI files as volumes."""
import nibabel as nib, numpy as np
from nestseg_prep.volume import Volume
def read_nifti(path):
    im = nib.load(path)
    return Volume(np.asarray(im.dataobj), im.affine)
