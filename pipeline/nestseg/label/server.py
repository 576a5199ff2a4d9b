"""MONAI Label's web server with our words for errors, and without visitors from other sites."""

from __future__ import annotations

import os
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse
from monailabel.app import app
from monailabel.endpoints import infer
from monailabel.interfaces.exception import MONAILabelException
from monailabel.interfaces.utils.app import app_instance
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from nestseg.label.start import HOSTS
from nestseg_prep.errors import InputError, describe

__all__ = ["app"]


async def _refused(request: Request, error: Any) -> JSONResponse:
    """One line for a person, in place of "Internal Server Error"."""
    return JSONResponse({"detail": describe(error)}, status_code=400)


async def _failed(request: Request, error: Any) -> JSONResponse:
    return JSONResponse({"detail": str(error.msg)}, status_code=400)


def _dicom_seg(series_dir: str, label: str, label_info: Any, **_: Any) -> str:
    """What `output=dicom_seg` asks for, by our writer in place of dcmqi's program.

    This can go when MONAI Label asks its datastore for it.
    """
    found: str = app_instance().datastore().dicom_seg(series_dir, label, label_info)
    return found


infer.nifti_to_dicom_seg = _dicom_seg
app.add_exception_handler(InputError, _refused)
app.add_exception_handler(MONAILabelException, _failed)
# Pages of other sites that a browser visits read nothing here, and reach nothing by a name that
# leads to loopback. OHIF comes from this server itself.
app.user_middleware[:] = [one for one in app.user_middleware if one.cls is not CORSMiddleware]
app.add_middleware(TrustedHostMiddleware, allowed_hosts=os.environ[HOSTS].split(","))
