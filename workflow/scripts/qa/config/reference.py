"""What the typed configuration is written out as: the table of all keys, and the JSON schema that editors read.

`python -m qa.config.reference DOCUMENT SCHEMA` writes the table into a document and the schema into a file.
"""

import json
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from qa.config import settings
from qa.config.schema import ConfigurationFile, Settings

SPECIAL = {
    "nothing": "nothing",
    "soft_targets": "soft_targets, train and all after it",
    "calibrate": "calibrate, postprocess and all after it",
    "compare": "compare",
    "package": "package",
}
BOUNDS = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2, "description": "[low, high]"}
DISTRIBUTION = {
    "type": "object",
    "description": "What the `draws` of the run are drawn from.",
    "properties": {"uniform": BOUNDS, "log_uniform": BOUNDS, "choice": {"type": "array", "minItems": 1}},
    "additionalProperties": False,
    "minProperties": 1,
    "maxProperties": 1,
}
TABLE = re.compile(r"(?<=<!-- keys -->\n).*?(?=<!-- /keys -->)", re.DOTALL)


class Key(NamedTuple):
    """A key of the configuration: `stage` is the first one that reads it, "" for a section."""

    path: str
    kind: str
    default: str
    description: str
    unit: str
    stage: str


@cache
def every_key() -> list[Key]:
    """Every key of the configuration, those of `defaults` not again in runs; `*` stands for the user's own names."""
    schema = ConfigurationFile.model_json_schema()
    return list(_keys("", schema, schema["$defs"]))


def _keys(path: str, node: dict[str, Any], definitions: dict[str, Any]) -> Iterator[Key]:
    for name, below in node.get("properties", {}).items():
        if path == "runs.*." and name in Settings.model_fields:
            continue
        where, target = f"{path}{name}", _target(below, definitions)
        yield Key(
            where,
            _kind(below, definitions),
            f"`{_plain(below['default'])}`" if "default" in below else "",
            below.get("description") or target["description"],
            below.get("x-unit", ""),
            below.get("x-reruns", ""),
        )
        yield from _keys(f"{where}.", target, definitions)
        for named in below.get("patternProperties", {}).values():
            choices = [_target(choice, definitions) for choice in named.get("oneOf", [named])]
            yield from _keys(f"{where}.*.", {"properties": _merged(choices)}, definitions)


def _merged(choices: list[dict[str, Any]]) -> dict[str, Any]:
    """The keys of sections that may stand in the same place; a key that tells them apart has the values of all."""
    merged: dict[str, Any] = {}
    for choice in choices:
        for key, node in choice.get("properties", {}).items():
            known = merged.setdefault(key, node)
            if "const" in known and node is not known:
                merged[key] = {**known, "enum": [known["const"], node["const"]]}
    return merged


def _target(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """What a node refers to; of several choices, the one section among them."""
    node = next((choice for choice in node.get("oneOf", []) if "$ref" in choice), node)
    return definitions[node["$ref"].rpartition("/")[2]] if "$ref" in node else node


def _kind(node: dict[str, Any], definitions: dict[str, Any]) -> str:
    choices = node.get("anyOf") or node.get("oneOf")
    if choices:
        return " or ".join(_kind(choice, definitions) for choice in choices)
    if "const" in node or "enum" in node:
        return ", ".join(f"`{value}`" for value in node.get("enum", [node.get("const")]))
    if node.get("type") == "array":
        return f"list of {_kind(node['items'], definitions)}"
    return _target(node, definitions).get("type", "")


def table() -> str:
    """The keys of the configuration as a table in Markdown."""
    lines = ["| key | type | default | what it is | a change reruns |", "| --- | --- | --- | --- | --- |"]
    for key in every_key():
        if key.stage:
            unit = f" Unit: {key.unit}." if key.unit else ""
            reruns = SPECIAL.get(key.stage, f"{key.stage} and all after it")
            lines.append(f"| `{key.path}` | {key.kind} | {key.default} | {key.description}{unit} | {reruns} |")
        else:
            lines.append(f"| **`{key.path}`** | | | {key.description} | |")
    return "\n".join(lines)


def _plain(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("\n...\n").strip()


def editors_schema() -> dict[str, Any]:
    """The JSON schema that editors read. Settings of runs may also be lists or distributions there, for sweeps."""
    schema = ConfigurationFile.model_json_schema()
    definitions = schema["$defs"]
    definitions["Distribution"] = DISTRIBUTION
    for path in settings.settable():
        *section, key = path.split(".")
        holder = definitions["Run"]
        for name in section:
            holder = _target(holder["properties"][name], definitions)
        node = holder["properties"][key]
        about = {name: node.pop(name) for name in ("default", "description", "title") if name in node}
        holder["properties"][key] = {
            "anyOf": [node, {"type": "array", "items": dict(node)}, {"$ref": "#/$defs/Distribution"}],
            **about,
        }
    return schema | {"title": "Configuration of the workflow"}


def main(document: str, schema: str) -> None:
    """Write the table between the marks of a Markdown document, and the schema to a JSON file."""
    path = Path(document)
    path.write_text(TABLE.sub(lambda _: f"{table()}\n", path.read_text(encoding="utf-8")), encoding="utf-8")
    Path(schema).write_text(json.dumps(editors_schema(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
