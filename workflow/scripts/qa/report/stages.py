"""Settings and software: the settings that each stage reads, each run as configured, and the package versions."""

from typing import Any

import yaml

from qa.config import reference
from qa.config.schema import Configuration
from qa.report import page
from qa.report.figures import Figures
from qa.report.results import Results

NO_RESULT = "nothing"  # the stage of settings that change no result, as the reference has it
STAGES = (
    "download",
    "prepare_questions",
    "hold_out_calibration",
    "tokenize_and_label",
    "soft_targets",
    "train",
    "predict",
    "calibrate",
    "postprocess",
    "compare",
    "package",
    NO_RESULT,
)


def section(results: Results, figures: Figures) -> page.Section:
    """The settings of each stage, each run as it was configured, and the versions of the software."""
    settings = [(name, _as_yaml(run.model_dump())) for name, run in results.config.all_runs.items()]
    by_stage = settings_by_stage(results.config)
    decodings = _as_yaml({name: decoding.model_dump() for name, decoding in results.config.decodings.items()})
    versions = [(model.name, _software(results.manifest(model))) for model in results.models]
    body = page.render(
        "stages.html",
        stages=by_stage,
        settings=settings,
        decodings=decodings,
        versions=_grouped(versions),
    )
    return page.Section("stages", "Settings and software", body)


def settings_by_stage(config: Configuration) -> dict[str, list[tuple[str, list[tuple[str, list[str]]]]]]:
    """The settings by the first stage that reads them: {stage: [(key, [(value, [owner])])]}.

    An owner is the name of a run, model, data set or decoding. A value that all owners have comes without owners.
    """
    found: dict[str, list[tuple[str, list[tuple[str, list[str]]]]]] = {}
    named = {kind: getattr(config, kind) for kind in ("models", "datasets", "decodings")} | {"runs": config.all_runs}
    parts = {kind: {name: part.model_dump() for name, part in parts.items()} for kind, parts in named.items()}
    for setting in reference.every_key():
        kind, _, key = setting.path.replace("defaults.", "runs.*.", 1).partition(".*.")
        if not key or not setting.stage:
            continue
        values: dict[str, list[str]] = {}
        for name, settings in parts[kind].items():
            if (value := _at(settings, key)) is not _NOT_THERE:
                values.setdefault(_plain(value), []).append(name)
        rows = [(value, names if len(values) > 1 else []) for value, names in values.items()]
        if rows:
            found.setdefault(setting.stage, []).append((key if kind == "runs" else f"{kind}: {key}", rows))
    return {stage: found[stage] for stage in sorted(found, key=STAGES.index)}


_NOT_THERE = object()


def _at(settings: Any, path: str) -> Any:
    for key in path.split("."):
        if not isinstance(settings, dict) or key not in settings:
            return _NOT_THERE
        settings = settings[key]
    return settings


def _plain(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=1000).removesuffix("...\n").strip()


def _as_yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)


def _software(manifest: dict[str, Any]) -> dict[str, Any]:
    commit = (manifest["git_commit"] or "unknown")[:10] + " with changes" * bool(manifest["git_dirty"])
    return {"commit of this workflow": commit, **manifest["versions"]}


def _grouped(versions: list[tuple[str, dict[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
    """The models that were trained with the same versions, their names in one row."""
    groups: dict[str, tuple[list[str], dict[str, Any]]] = {}
    for name, packages in versions:
        groups.setdefault(repr(sorted(packages.items())), ([], packages))[0].append(name)
    return [(", ".join(names), packages) for names, packages in groups.values()]
