"""The reference of the configuration, from its schema: `python -m qa.config.reference` prints its table."""

from collections.abc import Iterator
from typing import Any

import yaml

from qa.config import settings

RERUNS = {
    "nothing": "nothing",
    "download": "download and all after it",
    "prepare_questions": "prepare_questions and all after it",
    "tokenize_and_label": "tokenize_and_label and all after it",
    "hold_out_calibration": "hold_out_calibration and all after it",
    "soft_targets": "soft_targets, train and all after it",
    "train": "train and all after it",
    "predict": "predict and all after it",
    "calibrate": "calibrate, postprocess and all after it",
    "postprocess": "postprocess and all after it",
    "compare": "compare",
    "package": "package",
}


def every_key() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every key of the configuration as (path, schema node), names of the user's own written `*`."""
    yield from _keys("", settings.schema())


def _keys(path: str, node: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, below in node.get("properties", {}).items():
        below, where = settings.dereferenced(below), f"{path}{name}"
        if path == "runs.*." and name in settings.GROUPS:
            continue  # the same as under `defaults`
        yield where, below
        inner = below.get("additionalProperties")
        if isinstance(inner, dict):
            kinds = [settings.dereferenced(inner[name]) for name in ("then", "else")] if "if" in inner else [inner]
            both = {key: node for kind in kinds for key, node in _properties(kind).items()}
            yield from _keys(f"{where}.*.", {"properties": both})
        yield from _keys(f"{where}.", below)


def _properties(node: dict[str, Any]) -> dict[str, Any]:
    return settings.dereferenced(node).get("properties", {})


def reference() -> str:
    """The keys of the configuration as a table in Markdown, for config/README.md."""
    lines = ["| key | type | default | what it is | a change reruns |", "| --- | --- | --- | --- | --- |"]
    for path, node in every_key():
        if node.get("type") == "object" and "x-reruns" not in node:
            lines.append(f"| **`{path}`** | | | {node['description']} | |")
            continue
        default = f"`{_plain(node['default'])}`" if "default" in node else ""
        what = node["description"] + (f" Unit: {node['x-unit']}." if "x-unit" in node else "")
        lines.append(f"| `{path}` | {_kind(node)} | {default} | {what} | {RERUNS[node['x-reruns']]} |")
    return "\n".join(lines)


def _plain(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("\n...\n").strip()


def _kind(node: dict[str, Any]) -> str:
    if "enum" in node:
        return ", ".join(f"`{value}`" for value in node["enum"])
    kinds = [node["type"]] if isinstance(node.get("type"), str) else list(node.get("type", []))
    kinds += [_kind(settings.dereferenced(choice)) for choice in node.get("oneOf", [])]
    lists = "list of " if kinds == ["array"] else ""
    return lists + (_kind(settings.dereferenced(node["items"])) if lists else " or ".join(map(str, kinds)))


if __name__ == "__main__":
    print(reference())
