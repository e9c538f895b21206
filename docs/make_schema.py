"""Writes docs/reference/report.schema.json, the JSON Schema of `-f json` and `-f jsonl`, from the report's own types.

    python docs/make_schema.py

Field for field from the dataclasses in curate/reports/report.py; a comment behind a field becomes its description.
"""

import dataclasses
import inspect
import json
import re
import types
import typing
from pathlib import Path

from curate.gate.judgement import Gate
from curate.reports import report as reports
from curate.reports.json import NOT_TOLD, SCHEMA_VERSION

PLACE = Path(__file__).parent / "reference" / "report.schema.json"
PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean"}
LEFT_OUT = {"reference"}
"""Told by name within ``gate``."""


def of_type(kind: object, found: dict[str, object]) -> dict[str, object]:
    if kind in PLAIN:
        return {"type": PLAIN[kind]}
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        parts = [of_type(part, found) for part in arguments if part is not type(None)]
        only = parts[0]
        if "type" in only and isinstance(only["type"], str):
            return {**only, "type": [only["type"], "null"]}
        return {"anyOf": [*parts, {"type": "null"}]}
    if origin is tuple:
        return {"type": "array", "items": of_type(arguments[0], found)}
    if isinstance(origin, type) and issubclass(origin, typing.Mapping):
        values = {} if arguments[1] is typing.Any else {"additionalProperties": of_type(arguments[1], found)}
        return {"type": "object", **values}
    assert dataclasses.is_dataclass(kind), kind
    name = kind.__name__
    if name not in found:
        found[name] = {}
        found[name] = of_class(kind, found)
    return {"$ref": f"#/$defs/{name}"}


def of_class(kind: type, found: dict[str, object]) -> dict[str, object]:
    told = dict(re.findall(r"^    (\w+): [^#\n]+#\s*(.+)$", inspect.getsource(kind), re.MULTILINE))
    hints = typing.get_type_hints(kind, {**vars(reports), **dict.fromkeys(("Gallery", "Sketch"), object)})
    names = [field.name for field in dataclasses.fields(kind) if field.name not in (*LEFT_OUT, *NOT_TOLD)]
    properties = {name: of_type(hints[name], found) for name in names}
    for name, sentence in told.items():
        if name in properties:
            properties[name] = {"description": sentence.replace("None", "null"), **properties[name]}
    return {
        "description": " ".join((kind.__doc__ or "").split("\n\n")[0].split()),
        "type": "object",
        "properties": properties,
        "required": names,
        "additionalProperties": False,
    }


def schema() -> dict[str, object]:
    found: dict[str, object] = {}
    whole = of_class(reports.Report, found)
    gate = of_class(Gate, found)
    told = {
        "status": {"type": "integer", "description": "the exit status that the outcome stands for, before --exit-zero"},
        "found": {"type": "integer", "description": "findings that count"},
        "allowed": {"type": ["integer", "null"], "description": "of them; null where findings are not counted"},
        "spared": {"type": "object", "additionalProperties": {"type": "integer"},
                   "description": "findings that do not count, by reason"},
        "reference": {"type": ["string", "null"], "description": "what the gate compared with"},
    }  # fmt: skip
    found["Gate"] = gate
    judged = {**gate, "properties": {**gate["properties"], **told}, "required": [*gate["required"], *told]}
    properties = {
        "schema_version": {"const": SCHEMA_VERSION, "description": "raised where a name goes or changes its meaning"},
        **whole["properties"],
        "gate": judged,
        "summary": {"type": "string", "description": "the findings in one sentence"},
        "passed": {"type": "boolean", "description": "what the gate says"},
        "outcome": {"type": "string", "description": "the last line of the report"},
    }
    del found["Outcome"]
    line = found["Finding"]
    head = {name: {"type": kind} for name, kind in (("dataset", "string"), ("run", "integer"))}
    found["Line"] = {
        **line,
        "description": "One line of -f jsonl: a finding, with the run it is of.",
        "properties": {"schema_version": {"const": SCHEMA_VERSION}, **head, **line["properties"]},
        "required": ["schema_version", *head, *line["required"]],
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The report of curate as JSON",
        **whole,
        "properties": properties,
        "required": list(properties),
        "$defs": dict(sorted(found.items())),
    }


def text() -> str:
    return json.dumps(schema(), indent=1) + "\n"


if __name__ == "__main__":
    PLACE.write_text(text(), "utf-8")
