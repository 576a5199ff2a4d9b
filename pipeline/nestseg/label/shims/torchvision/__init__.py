"""Stands in for torchvision, of which MONAI Label imports two names and its server calls none.

PyPI's torchvision cannot be imported beside a torch built for CPUs (`operator torchvision::nms does
not exist`). This can go when a MONAI Label newer than 0.8.5 imports no torchvision in
``monailabel.transform.post``, or when PyPI serves CPU builds of both.
"""
