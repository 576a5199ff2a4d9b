"""Volumes of segments → a measurement report (TID 1500) on their segmentation object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from highdicom.sr import (
    AlgorithmIdentification,
    Comprehensive3DSR,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    Measurement,
    MeasurementReport,
    ObservationContext,
    ObserverContext,
    ReferencedSegment,
    SourceSeriesForSegmentation,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from nestseg.outputs.dicom.algorithm import MANUFACTURER, Algorithm, uid_from
from nestseg.outputs.dicom.identity import identity, make_repeatable
from nestseg.outputs.dicom.seg import (
    UNICODE,
    add_patient_and_study,
    leave_patient_empty,
    tracking_uid,
)
from nestseg.outputs.dicom.source import SourceSlices
from nestseg.outputs.dicom.terminology import concept_of

SERIES_NUMBER: Final = 9102
VOLUMES: Final = "volumes"

_MILLILITRE: Final = Code("mL", "UCUM", "milliliter")
_PROCEDURES: Final = {
    "CT": codes.cid100.CTUnspecifiedBodyRegion,
    "MR": codes.cid100.MRIUnspecifiedBodyRegion,
    "PT": codes.cid100.PETUnspecifiedBodyRegion,
}


def volume_report(
    volumes_ml: Mapping[str, float],
    seg: Dataset,
    source: SourceSlices,
    names: Mapping[int, str],
    algorithm: Algorithm,
) -> Comprehensive3DSR:
    """One measurement group for each segment, also for those that were not found (0 ml).

    Args:
        volumes_ml: label name → millilitres.
        seg: the segmentation object that was measured.
        source: the slices it lies on.
        names: label → name: which segment is which.
        algorithm: what made it.
    """
    report = MeasurementReport(
        observation_context=ObservationContext(
            observer_device_context=ObserverContext(
                observer_type=codes.DCM.Device,
                observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
                    uid=uid_from("device", algorithm.name, algorithm.weights_sha256),
                    name=algorithm.name,
                    manufacturer_name=MANUFACTURER,
                    model_name=f"{algorithm.name} {algorithm.bundle_version}",
                    serial_number=algorithm.weights_sha256,
                ),
            )
        ),
        procedure_reported=_PROCEDURES.get(source.modality, codes.cid100.ImagingProcedure),
        imaging_measurements=[
            _group(number, name, volumes_ml[name], seg, source, algorithm)
            for number, name in sorted(names.items())
        ],
    )
    uids = identity("volumes", f"{seg.SOPInstanceUID} {dict(volumes_ml)}", source, algorithm)
    sr = Comprehensive3DSR(
        evidence=_evidence(seg, source),
        content=report,
        series_instance_uid=uids.series,
        series_number=SERIES_NUMBER,
        sop_instance_uid=uids.sop,
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=algorithm.model_name,
        software_versions=algorithm.software_versions,
        device_serial_number=algorithm.weights_sha256,
        series_description=algorithm.described(source.part, VOLUMES),
        # Complete as far as a program can; nobody has verified it.
        is_complete=True,
        is_final=False,
        is_verified=False,
        contributing_equipment=[algorithm.equipment],
        specific_character_set=UNICODE,
    )
    make_repeatable(sr)
    add_patient_and_study(sr, source)
    return sr


def volumes_of(sr: Dataset) -> dict[int, float]:
    """Reads the volumes of a report back: segment number → millilitres."""
    report: Any = Comprehensive3DSR.from_dataset(sr).content
    volumes = {}
    for group in report.get_volumetric_roi_measurement_groups():
        (number,) = group.referenced_segment.referenced_segment_numbers
        (volume,) = group.get_measurements(name=codes.SCT.Volume)
        volumes[int(number)] = float(volume.value)
    return volumes


def _group(
    number: int,
    name: str,
    volume_ml: float,
    seg: Dataset,
    source: SourceSlices,
    algorithm: Algorithm,
) -> VolumetricROIMeasurementsAndQualitativeEvaluations:
    concept = concept_of(name, algorithm.codes)
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=tracking_uid(name, source, algorithm), identifier=name
        ),
        referenced_segment=ReferencedSegment(
            sop_class_uid=seg.SOPClassUID,
            sop_instance_uid=seg.SOPInstanceUID,
            segment_number=number,
            source_series=SourceSeriesForSegmentation(source.series_uid),
        ),
        finding_category=concept.category,
        finding_type=concept.type,
        finding_sites=(
            [FindingSite(concept.type, topographical_modifier=concept.modifier)]
            if concept.modifier is not None
            else None
        ),
        algorithm_id=AlgorithmIdentification(
            name=algorithm.name,
            version=algorithm.bundle_version,
            parameters=[f"weights_sha256={algorithm.weights_sha256}"],
        ),
        measurements=[
            Measurement(
                name=codes.SCT.Volume,
                value=volume_ml,
                unit=_MILLILITRE,
                method=codes.DCM.SumOfSegmentedVoxelMethodForVolume,
            )
        ],
    )


def _evidence(seg: Dataset, source: SourceSlices) -> list[Dataset]:
    """The objects that the report rests on. The patient is copied later, as in ``seg``."""
    objects = [(seg.SOPClassUID, seg.SOPInstanceUID, seg.SeriesInstanceUID)]
    objects += [(one.sop_class, one.sop_uid, source.series_uid) for one in source.references]
    evidence = []
    for sop_class, sop_uid, series_uid in dict.fromkeys(objects):
        item = Dataset()
        item.SOPClassUID, item.SOPInstanceUID = sop_class, sop_uid
        item.StudyInstanceUID, item.SeriesInstanceUID = source.study_uid, series_uid
        evidence.append(item)
    leave_patient_empty(evidence[0])
    return evidence
