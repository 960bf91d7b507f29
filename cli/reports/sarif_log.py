"""The parts of a SARIF 2.1.0 log that a report is made of, by the names and in the order of the standard.

https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/sarif-v2.1.0-errata01-os-complete.html
"""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType, field

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
SOURCE_ROOT = "%SRCROOT%"  # the name by which GitHub knows the top of a repository

Level = Literal["error", "warning", "note"]


class Part(Struct, frozen=True, omit_defaults=True, rename="camel"):
    """A part of the log. What is not set, or is as it usually is, is not written."""


class Message(Part, frozen=True, kw_only=True):
    """Words for a reader."""

    text: str
    markdown: str | UnsetType = UNSET


class ArtifactLocation(Part, frozen=True, kw_only=True):
    """A file, by its URI. Relative ones count from the folder that `uri_base_id` names."""

    uri: str
    uri_base_id: str | UnsetType = UNSET


class Region(Part, frozen=True, kw_only=True):
    """A part of a file, in lines and columns or in bytes."""

    start_line: int | UnsetType = UNSET
    start_column: int | UnsetType = UNSET
    end_line: int | UnsetType = UNSET
    end_column: int | UnsetType = UNSET
    byte_offset: int | UnsetType = UNSET
    byte_length: int | UnsetType = UNSET


class PhysicalLocation(Part, frozen=True, kw_only=True):
    """A file, and the part of it."""

    artifact_location: ArtifactLocation
    region: Region | UnsetType = UNSET


class LogicalLocation(Part, frozen=True, kw_only=True):
    """A thing with a name of its own."""

    fully_qualified_name: str
    kind: str


class Location(Part, frozen=True, kw_only=True):
    """Where something is."""

    id: int | UnsetType = UNSET
    physical_location: PhysicalLocation
    logical_locations: list[LogicalLocation] | UnsetType = UNSET
    message: Message | UnsetType = UNSET


class Result(Part, frozen=True, kw_only=True):
    """One finding."""

    rule_id: str
    rule_index: int | UnsetType = UNSET
    level: Level
    message: Message
    locations: list[Location]
    related_locations: list[Location] | UnsetType = UNSET
    partial_fingerprints: dict[str, str]


class Configuration(Part, frozen=True, kw_only=True):
    """How a rule is set unless somebody says otherwise."""

    enabled: bool = True
    level: Level


class RuleProperties(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What GitHub orders results by."""

    precision: Literal["very-high", "high", "medium"]
    problem_severity: Literal["error", "warning", "recommendation"] = field(name="problem.severity")
    security_severity: str | UnsetType = field(default=UNSET, name="security-severity")
    tags: list[str] | UnsetType = UNSET


class ReportingDescriptor(Part, frozen=True, kw_only=True):
    """A rule."""

    id: str
    name: str
    short_description: Message
    full_description: Message
    help: Message
    default_configuration: Configuration
    properties: RuleProperties


class ToolComponent(Part, frozen=True, kw_only=True):
    """The program, and the rules that it knows."""

    name: str
    version: str
    information_uri: str
    rules: list[ReportingDescriptor]


class Tool(Part, frozen=True, kw_only=True):
    """The program."""

    driver: ToolComponent


class Notification(Part, frozen=True, kw_only=True):
    """Something about the run itself."""

    level: Level
    message: Message


class Invocation(Part, frozen=True, kw_only=True):
    """One run of the program, and how it ended."""

    execution_successful: bool
    exit_code: int
    exit_code_description: str
    tool_execution_notifications: list[Notification] | UnsetType = UNSET


class AutomationDetails(Part, frozen=True, kw_only=True):
    """What tells this run from runs about other things."""

    id: str


class Run(Part, frozen=True, kw_only=True):
    """All of a report."""

    tool: Tool
    invocations: list[Invocation]
    automation_details: AutomationDetails
    column_kind: Literal["unicodeCodePoints"]
    original_uri_base_ids: dict[str, dict[str, Message]]
    results: list[Result]


class Log(Part, frozen=True, kw_only=True):
    """A whole file."""

    version: Literal["2.1.0"]
    schema: str = field(name="$schema")
    runs: list[Run]
