r"""Audit -> record: the public, versioned shape of a report, the same for JSON, Python and every printed format.

Every field says what it means and in which unit; `report_schema` is made from these words. A quantity that could not
be had is null, and the field beside it says why: no NaN or infinity is ever written. Texts that come out of a
checkpoint are kept as they are but for lone surrogates, which are no Unicode and stand as `\\udc80`.

`fits` has what is said of one set of weights, `layers` of layers and roles, `claims` of the claim over many layers, and
`report` joins them.
"""

from jaynes_audit.analyzers.record.claims import ClaimRecord, claim_record
from jaynes_audit.analyzers.record.fits import CandidateRecord, FitRecord, RulerRecord, SpreadRecord, ruler_records
from jaynes_audit.analyzers.record.layers import AnatomyRecord, LayerRecord, RoleRecord, VerdictRecord
from jaynes_audit.analyzers.record.report import (
    ConnectedRecord,
    DefectRecord,
    FailureRecord,
    FindingRecord,
    HoldingRecord,
    LeftOutRecord,
    ModelRecord,
    ReportRecord,
    Tool,
    failure_record,
    finding_record,
    optimizer_null_record,
    record_of,
    report_schema,
)

__all__ = [
    "AnatomyRecord",
    "CandidateRecord",
    "ClaimRecord",
    "ConnectedRecord",
    "DefectRecord",
    "FailureRecord",
    "FindingRecord",
    "FitRecord",
    "HoldingRecord",
    "LayerRecord",
    "LeftOutRecord",
    "ModelRecord",
    "ReportRecord",
    "RoleRecord",
    "RulerRecord",
    "SpreadRecord",
    "Tool",
    "VerdictRecord",
    "claim_record",
    "failure_record",
    "finding_record",
    "optimizer_null_record",
    "record_of",
    "report_schema",
    "ruler_records",
]
