"""The trainings: loss, learning rate and speed over steps, and their interruptions."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import pandas as pd

from qa.config.schema import Run
from qa.report import page
from qa.report.drawing import MOST_POINTS, in_words, legend, line_style, thinned
from qa.report.figures import SOFT, Figures, shortened
from qa.report.results import Model, Results

MOST_RUNS = 8  # with figures; the table shows all
MOST_SEEDS = 6  # in a figure
OPEN = 2  # runs that are unfolded at first
RESUMED = "resumed"


@dataclass(frozen=True)
class Curve:
    """A figure of a training: columns of its history, label of the vertical axis, and caption."""

    name: str
    columns: tuple[str, ...]
    axis: str
    caption: str
    per_epoch: bool = False  # one point for each epoch instead of many along a line


CURVES = (
    Curve("loss", ("loss",), "loss (nats)", "Training loss: the mean since the previous point."),
    Curve("validation-loss", ("validation_loss",), "loss (nats)", "Loss on {validation}.", True),
    Curve(
        "calibration",
        ("calibration_f1", "calibration_exact"),
        "score (%)",
        "F1 and exact match (EM) on {calibration}, with the threshold that they calibrate.",
        True,
    ),
    Curve("learning-rate", ("learning_rate",), "learning rate (×10⁻⁵)", "Learning rate."),
    Curve("speed", ("samples_per_second",), "windows per second", "Speed: training windows per second."),
    Curve("gradient-norm", ("gradient_norm",), "norm", "Gradient norm before clipping."),
)
LABELS = {"calibration_f1": "F1", "calibration_exact": "EM"}


def section(results: Results, figures: Figures) -> page.Section | None:
    """The curves of each trained run, all seeds in one figure, and a table of all trainings."""
    if not results.models:
        return None
    runs = list(dict.fromkeys(model.run for model in results.models))
    of_run = {run: [model for model in results.models if model.run == run] for run in runs}
    shown = runs[:MOST_RUNS]
    body = page.render(
        "training.html",
        rows=[row(results, model) for model in results.models],
        runs=[
            {"name": run, "figures": _figures_of(results, of_run[run], figures), "seeds": len(of_run[run])}
            for run in shown
        ],
        omitted=runs[MOST_RUNS:],
        opened=OPEN,
        most_seeds=MOST_SEEDS,
        most_points=MOST_POINTS,
    )
    return page.Section("training", "Training", body)


def row(results: Results, model: Model) -> dict[str, Any]:
    """The row of a model in the table; times in seconds, memory in GiB."""
    manifest, history = results.manifest(model), results.history(model)
    losses, settings = history["loss"].dropna(), manifest["run_settings"]
    start = settings["model"]  # a name, or the run that it comes from
    return {
        "name": model.name,
        "model": start if isinstance(start, str) else f"model of run {start['run']}",
        "trained_on": ", ".join(settings["train_on"]),
        "started": manifest["started"].replace("T", " ")[:16],
        "steps": manifest["steps"],
        "epochs": history["epoch"].max(),
        "loss": losses.iloc[-1] if len(losses) else None,
        "seconds": manifest["attempts_seconds"],
        "rate": manifest["samples_per_second"],
        "memory": manifest["peak_memory_gib"],
        "gpu_memory": manifest["peak_gpu_memory_gib"] or None,
        "attempts": len(manifest["attempts"]),
        "interruptions": interruptions(manifest["attempts"]),
        "device": ", then ".join(devices(manifest)),
    }


def devices(manifest: dict[str, Any]) -> list[str]:
    """What a model was trained on, in words, the first device first; attempts of older versions say nothing."""
    machine = manifest["machine"]
    last = f"{manifest['gpus']} × {gpu}" if (gpu := machine["gpu"]) else f"{machine['cpu_threads']} CPU threads"
    found = [attempt["device"] for attempt in effective(manifest["attempts"]) if "device" in attempt]
    return list(dict.fromkeys(found)) or [last]


def effective(attempts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The attempts whose steps a model has: the last one, and each that saved some steps for the next one."""
    ends = [*(attempt["resumed_at_step"] for attempt in attempts[1:]), float("inf")]
    return [attempt for attempt, end in zip(attempts, ends, strict=True) if attempt["resumed_at_step"] < end]


def interruptions(attempts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """For every attempt but the last: its outcome, its last step, and the step from which the next attempt resumed."""
    return [
        {"outcome": attempt["outcome"], "step": attempt["step"], "resumed_at": following["resumed_at_step"]}
        for attempt, following in pairwise(attempts)
    ]


def curve_data(results: Results, models: Sequence[Model], curve: Curve) -> pd.DataFrame:
    """The data of a figure: series, step and value. Long histories are thinned (see drawing.thinned).

    A row of the series `{variant} resumed` has the step from which a training resumed, and no value. If all variants
    have the same values, they become one series.
    """
    parts: dict[str, pd.DataFrame] = {}
    resumed = []
    for model in models:
        history = results.history(model)
        for column in curve.columns:
            rows = history.loc[history[column].notna(), ["step", column]].rename(columns={column: "value"})
            if len(rows):
                parts[f"{model.variant} {LABELS.get(column, '')}".strip()] = thinned(rows, "value")
        for interruption in interruptions(results.manifest(model)["attempts"]):
            resumed.append({"series": f"{model.variant} {RESUMED}", "step": interruption["resumed_at"]})
    tables = [part.reset_index(drop=True) for part in parts.values()]
    if len(curve.columns) == 1 < len(tables) and all(table.equals(tables[0]) for table in tables):
        parts = {f"all {len(tables)} seeds": tables[0]}
    if not parts:
        return pd.DataFrame(columns=["series", "step", "value"])
    series = [part.assign(series=name) for name, part in parts.items()]
    marks = pd.DataFrame(resumed, columns=["series", "step"]).assign(value=float("nan"))
    return pd.concat([*series, *([marks] if len(marks) else [])], ignore_index=True)[["series", "step", "value"]]


def questions_of(run: Run) -> dict[str, str]:
    """The questions whose loss is measured during training (`validation`) and whose EM and F1 are (`calibration`)."""
    held_out = (
        f"the questions of {in_words(run.calibrate_on)}" if run.calibrate_on else "questions held out of training"
    )
    return {
        "calibration": held_out,
        "validation": f"the questions of {run.validate_on}" if run.validate_on else held_out,
    }


def _figures_of(results: Results, models: Sequence[Model], figures: Figures) -> list[Any]:
    run, drawn, rendered = models[0].run, models[:MOST_SEEDS], []
    asked = questions_of(results.config.runs[run])
    for curve in CURVES:
        data = curve_data(results, drawn, curve)
        values = data.dropna(subset=["value"])
        if not len(values):
            continue
        caption = curve.caption.format_map(asked) + " Dotted lines: resumed after an interruption." * (
            len(values) < len(data)
        )
        alt = (
            f"{curve.axis} of run {run} over {values['step'].max():,} steps: from {values['value'].iloc[0]:.3g} to "
            f"{values['value'].iloc[-1]:.3g}, between {values['value'].min():.3g} and {values['value'].max():.3g}."
        )
        name, draw = f"training/{run}/{curve.name}", partial(_draw, curve)
        ends = values.groupby("series", sort=False)["value"].agg(["first", "last", "min", "max"]).reset_index()
        rendered.append(figures.add(name, caption, alt, data, draw, table=ends))
    return rendered


def _draw(curve: Curve, axes: Any, data: pd.DataFrame) -> None:
    from matplotlib.ticker import MaxNLocator

    values = data.dropna(subset=["value"])
    scale = 1e5 if curve.columns == ("learning_rate",) else 1.0
    groups = list(values.groupby("series", sort=False))
    for number, (name, rows) in enumerate(groups):
        style = line_style(number, len(rows), curve.per_epoch)
        axes.plot(rows["step"], scale * rows["value"], label=shortened(name), **style)
    for number, step in enumerate(data.loc[data["value"].isna(), "step"].unique()):
        axes.axvline(step, color=SOFT, linewidth=1.4, linestyle=(0, (1, 2)), label="_" * (number > 0) + RESUMED)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlabel("optimizer step")
    axes.set_ylabel(curve.axis)
    if not curve.per_epoch or len(values) > 1:
        axes.set_ylim(bottom=min(0, scale * values["value"].min()) if curve.name != "calibration" else None)
    if len(groups) > 1 or len(values) < len(data):
        legend(axes, columns=3 if max(len(name) for name, _ in groups) < 8 else 2)
