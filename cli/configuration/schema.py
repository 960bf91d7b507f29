"""The JSON Schema of a configuration file, for editors and for check-jsonschema."""

import msgspec

from jaynes_audit.analyzers.rules import RULES, Level
from jaynes_audit.analyzers.rules.thresholds import every_threshold
from jaynes_audit.cli.configuration.file import Configuration
from jaynes_audit.cli.configuration.policy import DTYPES, PREFIXES, RULE_OF_CODE
from jaynes_audit.cli.outputs import Format

JSON_SCHEMA = "https://json-schema.org/draft/2020-12/schema"
REFERENCE = "#/$defs/{name}"


def configuration_schema() -> dict[str, object]:
    """Give the JSON Schema (2020-12) of jaynes.toml: its keys, and all names of rules, thresholds and formats."""
    (root,), definitions = msgspec.json.schema_components([Configuration], ref_template=REFERENCE)
    definitions |= {
        "Level": {"enum": list(Level)},
        "Selector": {"enum": sorted({*RULE_OF_CODE, *PREFIXES})},
        "Severity": _closed({rule.code: {"description": rule.name, **_defined("Level")} for rule in RULES}),
        "Thresholds": _closed(
            {each.name: {"description": each.meaning, "type": "number", "minimum": 0} for each in every_threshold()}
        ),
    }
    keys = definitions["Configuration"]["properties"]
    for key in ("select", "extend-select", "ignore-rule"):
        keys[key]["items"] = _defined("Selector")
    keys["output"]["items"] = {"type": "string", "pattern": f"^({'|'.join(Format)})(=.+)?$"}
    keys["severity"] |= _defined("Severity")
    keys["thresholds"] |= _defined("Thresholds")
    definitions["Override"]["properties"]["thresholds"] |= _defined("Thresholds")
    definitions["Ignored"]["properties"]["rule"] |= _defined("Selector")
    definitions["Expect"]["properties"]["dtype"] |= {"enum": ["", *sorted(DTYPES)]}
    return {"$schema": JSON_SCHEMA, "title": "jaynes.toml", **root, "$defs": definitions}


def _defined(name: str) -> dict[str, object]:
    return {"$ref": REFERENCE.format(name=name)}


def _closed(properties: dict[str, dict[str, object]]) -> dict[str, object]:
    return {"type": "object", "properties": properties, "additionalProperties": False}
