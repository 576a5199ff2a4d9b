"""What a de-identified object keeps: attributes of CT, MR, PT, SEG, RTSTRUCT and measurement SR.

PS3.15 E.1.1 note 5 recommends a list of what is kept over one of what is removed: nobody can list
every place in which a scanner or a clerk writes a name. What is not named here goes: all free text,
dates, times, private tags, and tags that a later edition of the standard adds. What is named is
kept only with a value that cannot hold a name: a number, a defined term, a code of the standard.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final

from nestseg_prep.dicom.terms import BODY_PARTS, MODALITIES, words

# Rows and columns, places, rescaling, and how the image was acquired and reconstructed.
NUMBERS: Final = words("""
    Rows Columns NumberOfFrames SamplesPerPixel PlanarConfiguration BitsAllocated BitsStored HighBit
    PixelRepresentation PixelAspectRatio PixelSpacing ImagePositionPatient ImageOrientationPatient
    SliceThickness SpacingBetweenSlices SliceLocation RescaleSlope RescaleIntercept WindowCenter
    WindowWidth PixelPaddingValue PixelPaddingRangeLimit SmallestImagePixelValue
    LargestImagePixelValue LossyImageCompressionRatio
    SeriesNumber InstanceNumber AcquisitionNumber ImagesInAcquisition ImageIndex NumberOfSlices
    TemporalPositionIdentifier NumberOfTemporalPositions TemporalResolution TemporalPositionIndex
    TemporalPositionTimeOffset InConcatenationNumber InConcatenationTotalNumber
    ConcatenationFrameOffsetNumber DimensionIndexValues FrameAcquisitionNumber InStackPositionNumber
    FrameAcquisitionDuration RepresentativeFrameNumber

    KVP XRayTubeCurrent XRayTubeCurrentInmA Exposure ExposureInuAs ExposureInmAs ExposureTime
    ExposureTimeInms GeneratorPower FocalSpots GantryDetectorTilt GantryDetectorSlew TableHeight
    DataCollectionDiameter ReconstructionDiameter DistanceSourceToDetector DistanceSourceToPatient
    DistanceSourceToDataCollectionCenter DataCollectionCenterPatient
    ReconstructionTargetCenterPatient ReconstructionFieldOfView ReconstructionPixelSpacing
    ReconstructionAngle SingleCollimationWidth TotalCollimationWidth TableSpeed TablePosition
    TableFeedPerRotation SpiralPitchFactor RevolutionTime TubeAngle CTDIvol

    EchoTime EffectiveEchoTime EchoNumbers EchoTrainLength RFEchoTrainLength GradientEchoTrainLength
    RepetitionTime InversionTime InversionTimes FlipAngle NumberOfAverages MagneticFieldStrength
    ImagingFrequency TransmitterFrequency PixelBandwidth PercentSampling PercentPhaseFieldOfView
    AcquisitionMatrix NumberOfPhaseEncodingSteps MRAcquisitionFrequencyEncodingSteps
    MRAcquisitionPhaseEncodingStepsInPlane MRAcquisitionPhaseEncodingStepsOutOfPlane
    ParallelReductionFactorInPlane ParallelReductionFactorOutOfPlane SAR dBdt
    AcquisitionDuration TriggerTime NominalCardiacTriggerDelayTime ActualCardiacTriggerDelayTime
    NominalPercentageOfCardiacPhase NominalPercentageOfRespiratoryPhase CardiacNumberOfImages
    DiffusionBValue DiffusionGradientOrientation DiffusionBValueXX DiffusionBValueXY
    DiffusionBValueXZ DiffusionBValueYY DiffusionBValueYZ DiffusionBValueZZ
    VelocityEncodingDirection VelocityEncodingMinimumValue VelocityEncodingMaximumValue

    FrameReferenceTime ActualFrameDuration FrameTime DecayFactor DoseCalibrationFactor
    ScatterFractionFactor DeadTimeFactor NumberOfRRIntervals NumberOfTimeSlots NumberOfTimeSlices
    RadionuclideHalfLife RadionuclidePositronFraction RadionuclideTotalDose
    EnergyWindowLowerLimit EnergyWindowUpperLimit NumberOfIterations NumberOfSubsets
    RealWorldValueFirstValueMapped RealWorldValueLastValueMapped RealWorldValueIntercept
    RealWorldValueSlope DoubleFloatRealWorldValueFirstValueMapped
    DoubleFloatRealWorldValueLastValueMapped

    SegmentNumber ReferencedSegmentNumber ReferencedFrameNumber MaximumFractionalValue
    RecommendedDisplayCIELabValue RecommendedDisplayGrayscaleValue
    ROINumber ReferencedROINumber ROIDisplayColor NumberOfContourPoints ContourData
    ObservationNumber
    NumericValue FloatingPointValue RationalNumeratorValue RationalDenominatorValue GraphicData
    ReferencedContentItemIdentifier
    """)
UIDS: Final = words("""
    SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID FrameOfReferenceUID
    SynchronizationFrameOfReferenceUID ConcatenationUID SOPInstanceUIDOfConcatenationSource
    AcquisitionUID IrradiationEventUID DimensionOrganizationUID ReferencedSOPClassUID
    ReferencedSOPInstanceUID ReferencedFrameOfReferenceUID TrackingUID DeviceUID UID
    """)
"""All are mapped, but for those that the standard registers."""
POINTERS: Final = frozenset({"DimensionIndexPointer", "FunctionalGroupPointer"})
"""Values that are tags."""
SEQUENCES: Final = words("""
    SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence FrameContentSequence
    PixelMeasuresSequence PlanePositionSequence PlaneOrientationSequence
    PixelValueTransformationSequence RealWorldValueMappingSequence FrameVOILUTSequence
    FrameAnatomySequence DerivationImageSequence SourceImageSequence ReferencedImageSequence
    ConversionSourceAttributesSequence TemporalPositionSequence CardiacSynchronizationSequence
    DimensionOrganizationSequence DimensionIndexSequence
    CTImageFrameTypeSequence CTAcquisitionTypeSequence CTAcquisitionDetailsSequence
    CTTableDynamicsSequence CTPositionSequence CTGeometrySequence CTReconstructionSequence
    CTExposureSequence CTXRayDetailsSequence
    MRImageFrameTypeSequence MREchoSequence MRDiffusionSequence DiffusionGradientDirectionSequence
    DiffusionBMatrixSequence MRTimingAndRelatedParametersSequence MRFOVGeometrySequence
    MRModifierSequence MRImagingModifierSequence MRAveragesSequence MRVelocityEncodingSequence
    PETFrameTypeSequence PETFrameAcquisitionSequence PETPositionSequence PETReconstructionSequence
    PETFrameCorrectionFactorsSequence RadiopharmaceuticalInformationSequence
    EnergyWindowRangeSequence

    SegmentSequence SegmentIdentificationSequence SegmentationAlgorithmIdentificationSequence
    StructureSetROISequence ROIDerivationAlgorithmIdentificationSequence DefinitionSourceSequence
    ROIContourSequence ContourSequence ContourImageSequence RTROIObservationsSequence
    RTROIIdentificationCodeSequence ReferencedFrameOfReferenceSequence RTReferencedStudySequence
    RTReferencedSeriesSequence
    ReferencedSeriesSequence ReferencedInstanceSequence ReferencedSOPSequence
    StudiesContainingOtherReferencedInstancesSequence CurrentRequestedProcedureEvidenceSequence
    ContributingEquipmentSequence ContentSequence ContentTemplateSequence MeasuredValueSequence

    ConceptNameCodeSequence ConceptCodeSequence MeasurementUnitsCodeSequence
    NumericValueQualifierCodeSequence AnatomicRegionSequence AnatomicRegionModifierSequence
    PrimaryAnatomicStructureSequence PrimaryAnatomicStructureModifierSequence DerivationCodeSequence
    PurposeOfReferenceCodeSequence SegmentedPropertyCategoryCodeSequence
    SegmentedPropertyTypeCodeSequence SegmentedPropertyTypeModifierCodeSequence
    AlgorithmFamilyCodeSequence RadionuclideCodeSequence RadiopharmaceuticalCodeSequence
    PatientOrientationCodeSequence PatientOrientationModifierCodeSequence
    PatientGantryRelationshipCodeSequence
    """)
_YES_NO: Final = frozenset({"YES", "NO"})
_Y_N: Final = frozenset({"Y", "N"})
_SIDES: Final = frozenset({"R", "L", "U", "B"})
_VALUE_KINDS: Final = frozenset({"DISTORTED", "MIXED", "SAMPLED", "VOLUME"})
_IMAGE_TYPE: Final = words("""
    ORIGINAL DERIVED MIXED PRIMARY SECONDARY AXIAL LOCALIZER REFORMATTED RESAMPLED NONE OTHER
    VOLUME CINE STATIC DYNAMIC GATED ANGIO CARDIAC CARDIAC_GATED CARDRESP_GATED RESPIRATORY_GATED
    PERFUSION ATTENUATION CALCIUM CT_MR PHASE_CONTRAST PHASE_MAP PROTON_DENSITY STRESS REST
    SPECTROSCOPY VELOCITY VELOCITY_MAP FLOW_ENCODED FLUID_ATTENUATED DIFFUSION DIFFUSION_ANISO
    METABOLITE_MAP PARALLEL T1 T1_MAP T2 T2_MAP T2_STAR TAGGING TEMPERATURE TOF PERFUSION_ASL
    MAGNITUDE PHASE REAL IMAGINARY M P R I IR MAP ADC FA TRACE TRACEW TENSOR B0 EXP SUB MPR MIP
    MAX_IP MIN_IP MINIP PROJECTION CPR MOSAIC VFRAME DIS2D DIS3D DIXON IN_PHASE OUT_PHASE OPP_PHASE
    WATER FAT W F IP OP FSE SE GR FFE M_SE M_FFE M_IR MFSPLIT NORM ND MEAN MEDIAN STDDEV MTT TTP CBF
    CBV TMAX MONOENERGETIC VMI EFF_ATOMIC_NUM ELECTRON_DENSITY MAT_SPECIFIC MAT_REMOVED
    MAT_FRACTIONAL VIRTUAL_NON_CONTRAST EDITED WHOLE BODY EMISSION TRANSMISSION DEFINITION
    """)
TERMS: Final = {
    "Modality": MODALITIES,
    "BodyPartExamined": BODY_PARTS,
    "ImageType": _IMAGE_TYPE,
    "FrameType": _IMAGE_TYPE,
    "Laterality": _SIDES,
    "ImageLaterality": _SIDES,
    "FrameLaterality": _SIDES,
    "PatientPosition": words(
        "HFP HFS HFDR HFDL FFDR FFDL FFP FFS LFP LFS RFP RFS AFDR AFDL PFDR PFDL"
    ),
    "PhotometricInterpretation": words("MONOCHROME1 MONOCHROME2 RGB YBR_FULL YBR_FULL_422"),
    "RescaleType": words("OD HU US MGML Z_EFF ED EDW HU_MOD PCT"),
    "LossyImageCompression": frozenset({"00", "01"}),
    "LossyImageCompressionMethod": words(
        "ISO_10918_1 ISO_14495_1 ISO_15444_1 ISO_15444_15 ISO_18181_1"
    ),
    "BurnedInAnnotation": _YES_NO,
    "RecognizableVisualFeatures": _YES_NO,
    "SpatialLocationsPreserved": frozenset({"YES", "NO", "REORIENTED_ONLY"}),
    "PresentationLUTShape": frozenset({"IDENTITY", "INVERSE"}),
    "PixelPresentation": frozenset({"COLOR", "MONOCHROME", "MIXED", "TRUE_COLOR"}),
    "VolumetricProperties": _VALUE_KINDS,
    "VolumeBasedCalculationTechnique": words(
        "MAX_IP MIN_IP VOLUME_RENDER SURFACE_RENDER MPR CURVED_MPR NONE MIXED"
    ),
    "ContentQualification": frozenset({"PRODUCT", "RESEARCH", "SERVICE"}),
    "DimensionOrganizationType": frozenset({"3D", "3D_TEMPORAL", "TILED_FULL", "TILED_SPARSE"}),
    # CT
    "ScanOptions": words("PER RG CG PPG FC PFF PFP SP FS AXIAL HELICAL SCOUT CINE NONE")
    | {"HELICAL MODE"},
    "RotationDirection": frozenset({"CW", "CC"}),
    "AcquisitionType": words("SEQUENCED SPIRAL CONSTANT_ANGLE STATIONARY FREE"),
    "ConvolutionKernelGroup": words("BRAIN SOFT_TISSUE LUNG BONE CONSTANT_ANGLE"),
    "ReconstructionAlgorithm": frozenset({"FILTER_BACK_PROJ", "ITERATIVE"}),
    # MR
    "ScanningSequence": words("SE IR GR EP RM"),
    "SequenceVariant": words("SK MTC SS TRSS SP MP OSP NONE"),
    "MRAcquisitionType": frozenset({"1D", "2D", "3D"}),
    "AngioFlag": _Y_N,
    "VariableFlipAngleFlag": _Y_N,
    "InPlanePhaseEncodingDirection": words("ROW COL COLUMN OTHER"),
    "ComplexImageComponent": words("MAGNITUDE PHASE REAL IMAGINARY MIXED"),
    "AcquisitionContrast": _IMAGE_TYPE,
    "ResonantNucleus": words("1H 3HE 7LI 13C 19F 23NA 31P 129XE"),
    "EchoPulseSequence": frozenset({"SPIN", "GRADIENT", "BOTH"}),
    "DiffusionDirectionality": words("DIRECTIONAL BMATRIX ISOTROPIC NONE"),
    "DiffusionAnisotropyType": frozenset({"FRACTIONAL", "RELATIVE", "VOLUME_RATIO"}),
    "InversionRecovery": _YES_NO,
    "CardiacSynchronizationTechnique": words("NONE REALTIME PROSPECTIVE RETROSPECTIVE PACED"),
    # PT
    "SeriesType": words("STATIC DYNAMIC GATED IMAGE REPROJECTION") | {"WHOLE BODY"},
    "Units": words("""
        CNTS NONE CM2 CM2ML PCNT CPS BQML MGMINML UMOLMINML MLMING MLG 1CM UMOLML PROPCNTS PROPCPS
        MLMINML MLML GML STDDEV SUV
        """),
    "SUVType": words("BSA BW LBM LBMJANMA LBMJAMES128 IBW"),
    "CountsSource": frozenset({"EMISSION", "TRANSMISSION"}),
    "CorrectedImage": words("DECY ATTN SCAT DTIM MOTN PMOT CLN RAN RADL DCAL NORM 3SCAT TOF PSF"),
    "DecayCorrection": frozenset({"NONE", "START", "ADMIN"}),
    "DecayCorrected": _YES_NO,
    "AttenuationCorrected": _YES_NO,
    "ScatterCorrected": _YES_NO,
    "RandomsCorrected": _YES_NO,
    "RandomsCorrectionMethod": frozenset({"NONE", "DLYD", "SING"}),
    # SEG
    "SegmentationType": frozenset({"BINARY", "FRACTIONAL", "LABELMAP"}),
    "SegmentationFractionalType": frozenset({"PROBABILITY", "OCCUPANCY"}),
    "SegmentsOverlap": frozenset({"YES", "UNDEFINED", "NO"}),
    "SegmentAlgorithmType": frozenset({"AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"}),
    "ContentLabel": frozenset({"SEGMENTATION"}),
    # RTSTRUCT
    "ROIGenerationAlgorithm": frozenset({"AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"}),
    "ContourGeometricType": words(
        "POINT OPEN_PLANAR OPEN_NONPLANAR CLOSED_PLANAR CLOSEDPLANAR_XOR"
    ),
    "RTROIInterpretedType": words("""
        EXTERNAL PTV CTV GTV TREATED_VOLUME IRRAD_VOLUME BOLUS AVOIDANCE ORGAN MARKER REGISTRATION
        ISOCENTER CONTRAST_AGENT CAVITY BRACHY_CHANNEL BRACHY_ACCESSORY BRACHY_SRC_APP
        BRACHY_CHNL_SHLD SUPPORT FIXATION DOSE_REGION CONTROL DOSE_MEASUREMENT DEVICE
        """),
    "ApprovalStatus": frozenset({"APPROVED", "UNAPPROVED", "REJECTED"}),
    # SR
    "ValueType": words("CONTAINER CODE NUM TEXT UIDREF IMAGE COMPOSITE SCOORD SCOORD3D"),
    "RelationshipType": frozenset(
        {
            *("CONTAINS", "HAS PROPERTIES", "HAS OBS CONTEXT", "HAS ACQ CONTEXT"),
            *("HAS CONCEPT MOD", "INFERRED FROM", "SELECTED FROM"),
        }
    ),
    "ContinuityOfContent": frozenset({"SEPARATE", "CONTINUOUS"}),
    "CompletionFlag": frozenset({"PARTIAL", "COMPLETE"}),
    "VerificationFlag": frozenset({"VERIFIED", "UNVERIFIED"}),
    "PreliminaryFlag": frozenset({"PRELIMINARY", "FINAL"}),
    "GraphicType": words("POINT MULTIPOINT POLYLINE POLYGON CIRCLE ELLIPSE ELLIPSOID"),
    "MappingResource": frozenset({"DCMR"}),
    "TemplateIdentifier": words("300 1204 1400 1410 1411 1419 1500 1501"),
}
"""Keyword → its defined terms: those of PS3.3, and words that scanners add to ImageType."""
INSTEAD: Final = {
    "Modality": "OT",
    "PhotometricInterpretation": "MONOCHROME2",
    "ContentLabel": "SEGMENTATION",
    # Nothing would be taken for Hounsfield units.
    "RescaleType": "US",
}
"""Keyword → what stands for a value that is not a defined term; without an entry it is removed."""
TOKENS: Final = words("""
    ImageType FrameType AcquisitionContrast ConvolutionKernel ContrastBolusAgent StackID LUTLabel
    TrackingID
    """)
"""Values that tell volumes apart: one that is not a known term becomes its keyed token."""
SAID: Final = words("""
    Manufacturer ManufacturerModelName DeviceSerialNumber SoftwareVersions AlgorithmName
    AlgorithmVersion AlgorithmSource AlgorithmParameters SegmentAlgorithmName SegmentLabel TextValue
    TrackingID SeriesDescription ContentDescription ContributionDescription ROIName
    StructureSetLabel StructureSetName
    """)
"""Free text of results, kept where the caller vouches for it, word for word."""
REQUIRED: Final = words("""
    Manufacturer ManufacturerModelName DeviceSerialNumber SoftwareVersions AlgorithmName
    AlgorithmVersion SegmentAlgorithmName SegmentLabel TextValue ROIName StructureSetLabel
    """)
"""Those of ``SAID`` that an object must have: what is not vouched for becomes ``"REMOVED"``."""
MANUFACTURERS: Final = frozenset(
    {
        *("SIEMENS", "Siemens", "Siemens Healthineers", "Siemens HealthCare GmbH"),
        *("GE MEDICAL SYSTEMS", "GE HEALTHCARE", "GE Healthcare"),
        *("Philips", "Philips Medical Systems", "Philips Healthcare", "PHILIPS", "Marconi"),
        *("TOSHIBA", "TOSHIBA_MEC", "CANON_MEC", "Canon Medical Systems", "Hitachi", "HITACHI"),
        *("Hitachi Medical Corporation", "FUJIFILM", "FUJIFILM Healthcare Corporation"),
        *("UIH", "United Imaging Healthcare", "NeuSoft", "Neusoft", "SHIMADZU", "Bruker"),
        *("Bruker BioSpin", "nestseg", "dcmqi", "MONAI Label", "QIICR", "highdicom"),
    }
)
EMPTY: Final = (
    *("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"),
    *("AccessionNumber", "ReferringPhysicianName"),
)
"""What every object must have, be it empty."""
EMPTY_IN_RTSTRUCT: Final = ("OperatorsName", "StructureSetDate", "StructureSetTime")
"""What a structure set must have besides; each observation in it has an ``ROIInterpreter``."""
DUMMIES: Final = {"ContentDate": "00010101", "ContentTime": "000000"}
"""What results must have with a value: the earliest there is."""

CODE: Final = ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
"""What a code consists of, once it is one of the standard's or of this site's."""
DONE: Final = (
    *("SpecificCharacterSet", "PatientID", "PatientName", "PatientIdentityRemoved"),
    *("DeidentificationMethod", "DeidentificationMethodCodeSequence"),
    *("LongitudinalTemporalInformationModified", "PositionReferenceIndicator", "ROIInterpreter"),
)
"""What is written new into every object, or without a value."""

# B30f, Br40d\3, FC08, STANDARD: letters for the part of the body, a number for the sharpness.
_KERNEL: Final = re.compile(
    r"(?:[A-DHIJQSTUV]|Ar|Bf|Bl|Br|Bv|Hc|Hf|Hp|Hr|Hv|Qr|Sa|Ur)\d\d[a-z]?|FC\d\d|Y?[A-F]|[1-5]|"
    r"SOFT|STANDARD|DETAIL|LUNG|BONE|BONEPLUS|EDGE|ULTRA|CHST|BODY|HEAD"
)
# Units of UCUM beyond those that pydicom's dictionary lists.
_UNITS: Final = words("mL ml L l g kg mg g/cm3 g/ml cm mm um cm2 mm2 cm3 mm3 HU")
_LANGUAGE: Final = re.compile(r"(?:de|en|es|fr|it|ja|ko|nl|pt|zh)(?:-[A-Z]{2})?")
_OLD_SCHEME: Final = "SRT"


def known_text(keyword: str, text: str) -> str:
    """Return a text as its attribute may keep it, ``""`` if it is not one of a fixed list."""
    if keyword == "Manufacturer":
        return text if text in MANUFACTURERS else ""
    if keyword == "ConvolutionKernel":
        return text if _KERNEL.fullmatch(text) else ""
    term = text.upper()
    return term if term in TERMS.get(keyword, ()) else ""


def known_code(scheme: str, value: str) -> str:
    """Return what a code of the standard means, ``""`` for codes that it does not know."""
    if scheme == "UCUM" and value in _UNITS:
        return value
    if scheme == "RFC5646" and _LANGUAGE.fullmatch(value):
        return value
    if scheme == _OLD_SCHEME:
        # SNOMED's former numbers, each of which has one of today's.
        from pydicom.sr._snomed_dict import mapping  # noqa: PLC0415  (no public way to the table)

        scheme, value = "SCT", mapping[_OLD_SCHEME].get(value, "")
    return _codes().get((scheme, value), "")


@cache
def _codes() -> dict[tuple[str, str], str]:
    from pydicom.sr.codedict import codes  # noqa: PLC0415  (most images hold no code; it is slow)

    return {
        (code.scheme_designator, code.value): code.meaning
        for scheme in codes.schemes()
        for code in getattr(codes, scheme).concepts.values()
    }
