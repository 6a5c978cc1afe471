"""The workflow itself: its rules as a picture, and the software and settings of each run."""

from typing import Any

import yaml

from qa.config import reference
from qa.report import page
from qa.report.figures import INK, SERIES, SOFT, Figures
from qa.report.results import Results

# Column and row of each rule in the picture. A test holds rules and arrows against Snakemake's own rule graph.
PLACES = {
    "download": (1, 0),
    "prepare_questions": (1, 1),
    "hold_out_calibration": (1, 2),
    "tokenize_and_label": (1, 3),
    "soft_targets": (0, 4),
    "train": (1, 5),
    "predict": (1, 6),
    "calibrate": (2, 7),
    "postprocess": (1, 8),
    "score": (0.1, 9),
    "analyze_errors": (1.35, 9),
    "compare": (2.1, 9),
    "summarize": (-0.1, 10),
    "package": (0.67, 10),
    "resource_usage": (1, 11),
    "report": (1, 12),
}
# Which rule's files another one reads, but for what a path over others says already.
ARROWS = (
    ("download", "prepare_questions"),
    ("prepare_questions", "hold_out_calibration"),
    ("hold_out_calibration", "tokenize_and_label"),
    ("tokenize_and_label", "train"),
    ("tokenize_and_label", "soft_targets"),
    ("soft_targets", "train"),
    ("train", "predict"),
    ("predict", "soft_targets"),
    ("predict", "calibrate"),
    ("predict", "postprocess"),
    ("calibrate", "postprocess"),
    ("postprocess", "score"),
    ("postprocess", "compare"),
    ("postprocess", "analyze_errors"),
    ("score", "summarize"),
    ("score", "package"),
    ("package", "resource_usage"),
    ("summarize", "resource_usage"),
    ("compare", "resource_usage"),
    ("analyze_errors", "resource_usage"),
    ("resource_usage", "report"),
)
ON_GPU = ("train", "predict")
OF_ITSELF = ("resource_usage", "report")  # at work, or yet to come, when jobs are counted: one each
SOFTWARE = {
    "download": ("huggingface_hub",),
    "tokenize_and_label": ("tokenizers", "transformers", "datasets", "numpy"),
    "train": ("torch", "transformers", "accelerate", "safetensors"),
    "predict": ("torch", "transformers", "safetensors"),
    "postprocess": ("numpy",),
}
NO_RESULT = "nothing"  # the stage of settings that change no result, as the schema has it


def section(results: Results, figures: Figures) -> page.Section:
    """The rule graph with the number of jobs, and what each run was made with."""
    import pandas as pd

    jobs = results.resources().query("attempt == 1")["rule"].value_counts().to_dict() | dict.fromkeys(OF_ITSELF, 1)
    arrows = pd.DataFrame(ARROWS, columns=["rule", "feeds"])
    arrows["jobs"] = arrows["rule"].map(lambda rule: jobs.get(rule, 0))
    picture = figures.add(
        "workflow",
        "The rules and how many jobs each took; dashed where this configuration has none. Rules in bold run on a GPU.",
        "Graph of the rules: " + ", ".join(f"{maker} feeds {user}" for maker, user in ARROWS) + ".",
        arrows,
        lambda axes, data: _draw(axes, jobs),
        size=(420, 860),
    )
    runs = {**results.config["runs"], **results.config["ensembles"]}
    settings = [(name, _as_yaml(run)) for name, run in runs.items()]
    by_stage = settings_by_stage(results.config)
    decodings = _as_yaml(results.config["decodings"])
    versions = [(model.name, results.manifest(model)["versions"]) for model in results.models]
    body = page.render(
        "stages.html",
        picture=picture,
        stages=by_stage,
        software=SOFTWARE,
        settings=settings,
        decodings=decodings,
        versions=_grouped(versions),
    )
    return page.Section("stages", "Workflow", body)


def settings_by_stage(config: dict[str, Any]) -> dict[str, list[tuple[str, list[tuple[str, list[str]]]]]]:
    """The settings that each stage is the first to read: {stage: [(key, [(value, [whose])])]}, as the schema says.

    Of runs, models, data sets and decodings; `whose` is empty where all have the same value.
    """
    found: dict[str, list[tuple[str, list[tuple[str, list[str]]]]]] = {}
    for path, node in reference.every_key():
        kind, _, key = path.replace("defaults.", "runs.*.", 1).partition(".*.")
        if not key or "x-reruns" not in node:
            continue
        owners = {**config["runs"], **config["ensembles"]} if kind == "runs" else config[kind]
        values: dict[str, list[str]] = {}
        for name, settings in owners.items():
            if (value := _at(settings, key)) is not _NOT_THERE:
                values.setdefault(_plain(value), []).append(name)
        rows = [(value, names if len(values) > 1 else []) for value, names in values.items()]
        if rows:
            found.setdefault(node["x-reruns"], []).append((key if kind == "runs" else f"{kind}: {key}", rows))
    return {stage: found[stage] for stage in [*PLACES, NO_RESULT] if stage in found}


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


def _grouped(versions: list[tuple[str, dict[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
    """Models of equal versions in one row."""
    groups: dict[str, tuple[list[str], dict[str, Any]]] = {}
    for name, found in versions:
        groups.setdefault(repr(sorted(found.items())), ([], found))[0].append(name)
    return [(", ".join(names), found) for names, found in groups.values()]


def _draw(axes: Any, jobs: dict[str, int]) -> None:
    axes.set_axis_off()
    axes.set_xlim(-0.5, 2.5)
    axes.set_ylim(12.5, -0.5)
    for maker, user in ARROWS:
        _arrow(axes, PLACES[maker], PLACES[user], faint=not (jobs.get(maker) and jobs.get(user)))
    for rule, (column, row) in PLACES.items():
        count = jobs.get(rule, 0)
        axes.text(
            column,
            row,
            f"{rule}\n{count:,} job{'s' * (count != 1)}" if count else rule,
            ha="center",
            va="center",
            fontsize=13,
            fontweight="bold" if rule in ON_GPU else "normal",
            color=INK if count else SOFT,
            bbox={
                "boxstyle": "round,pad=0.35",
                "facecolor": "none",
                "edgecolor": SERIES[1] if rule in ON_GPU else SERIES[0] if count else SOFT,
                "linestyle": "-" if count else "--",
            },
        )


def _arrow(axes: Any, start: tuple[int, int], end: tuple[int, int], faint: bool) -> None:
    (x, y), (to_x, to_y) = start, end
    up = to_y < y
    axes.annotate(
        "",
        xy=(to_x, to_y + (0.36 if up else -0.36)),
        xytext=(x - (0.3 if up else 0), y + (0 if up else 0.36)),
        arrowprops={
            "arrowstyle": "-|>",
            "color": SOFT,
            "linestyle": ":" if faint else "-",
            "shrinkA": 0,
            "shrinkB": 0,
            "connectionstyle": "arc3,rad=-0.3" if up else "arc3,rad=0",
        },
    )
