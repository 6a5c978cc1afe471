"""A description of methods that is true of finished runs: their configuration and records in sentences.

The sentences are `templates/methods.j2`. What nothing records is left out.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from qa.common.text import counted, readable_seconds
from qa.config import lineage
from qa.config.schema import External
from qa.data.read_records import misaligned
from qa.evaluation import summarize
from qa.paper.references import COMMIT_DIGITS, SOFTWARE, References
from qa.report import training
from qa.report.drawing import in_words
from qa.report.results import Model, Results

TEMPLATES = Path(__file__).parent / "templates"


def describe(results: Results, references: References) -> list[str]:
    """Paragraphs: what is common to all runs, then a run's own sentences for each that has some."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template: Any = environment.get_template("methods.j2").module
    config = results.config
    own: dict[str, list[str]] = {}
    for name in config.runs:
        own[name] = template.of_run(**_of_run(results, name, references)).splitlines()
    alike = [lines for name, lines in own.items() if config.runs[name].is_trained] or list(own.values())
    common = [line for line in next(iter(alike), []) if all(line in lines for lines in alike)]
    for lines in alike:
        lines[:] = [line for line in lines if line not in common]
    for name, other in {**config.ensembles, **config.external}.items():
        parts = in_words(["`{}/{}`".format(*part) for part in lineage.parts(config, name, lineage.variants(other)[0])])
        text = template.of_external() if isinstance(other, External) else template.of_ensemble(parts)
        own[name] = text.splitlines()
    for name, lines in own.items():
        lines += [template.of_calibration(*found).strip() for found in _calibrations(results, name)]
    common += template.of_all(**_of_all(results, references)).splitlines()
    return [" ".join(common), *(f"Run `{name}`: {' '.join(lines)}" for name, lines in own.items() if lines)]


def _of_run(results: Results, name: str, references: References) -> dict[str, Any]:
    """The model, settings and trainings of a run."""
    run, pretrained = results.config.runs[name], results.config.models[results.config.runs[name].pretrained]
    before = lineage.earlier(run, lineage.variants(run)[0])
    models = [model for model in results.models if model.run == name]
    return {
        "run": run,
        "model": references.source(run.pretrained, pretrained),
        "overrides": in_words([f"`{key}` = {value}" for key, value in pretrained.overrides.items()]),
        "before": before[0] if before else "",
        "training": _trainings(results, models, references) if models else None,
        "used": results.manifest(models[0])["settings"] if models else None,
    }


def _trainings(results: Results, models: list[Model], references: References) -> dict[str, Any]:
    """What the records of a run's trainings say, as text."""
    run = results.config.runs[models[0].run]
    rows, manifests = ([read(results, model) for model in models] for read in (training.row, Results.manifest))
    seeds = [str(manifest["seed"]) for manifest in manifests]
    attempts = [attempt for manifest in manifests for attempt in training.effective(manifest["attempts"])]
    return {
        "data": _data(results, run.train_on or [], references),
        "held_out": f"{100 * lineage.held_out_share(run):g}" if lineage.held_out_share(run) else "",
        "windows": _span(manifest["training_windows"] for manifest in manifests),
        "steps": _span(row["steps"] for row in rows),
        "epochs": _span(round(row["epochs"], 2) for row in rows),
        "computed": "; ".join(_distinct(attempt.get("computed") for attempt in attempts)),
        "devices": in_words(_distinct(device for manifest in manifests for device in training.devices(manifest))),
        "time": _span((row["seconds"] for row in rows), readable_seconds),
        "seeds": f"seeds were {in_words(seeds)}" if len(seeds) > 1 else f"seed was {seeds[0]}",
    }


def _calibrations(results: Results, name: str) -> Iterable[tuple[str, str, str]]:
    """For each calibrated decoding of a run: its name, the questions behind its thresholds, and these."""
    splits = results.config.all_runs[name].calibrate_on
    questions = f"questions of {in_words([f'`{split}`' for split in splits])}" if splits else "held-out questions"
    found: dict[str, dict[str, Any]] = {}
    for answers in results.answers:
        if answers.run == name and (calibration := results.calibration(answers)):
            found.setdefault(answers.decoding, {})[answers.variant] = calibration
    for decoding, of_variant in found.items():
        number = _span(calibration["questions"] for calibration in of_variant.values())
        thresholds = in_words([f"{calibration['null_threshold']:.2f}" for calibration in of_variant.values()])
        yield decoding, f"{number} {questions}", thresholds


def _of_all(results: Results, references: References) -> dict[str, Any]:
    """Decodings, evaluation, statistics and software."""
    config, compared = results.config, results.comparison()
    manifests = [results.manifest(model) for model in results.models]
    metrics = {split: [answers.metrics() for answers in results.of_split(split)] for split in results.splits}
    versions = {package: _distinct(each["versions"].get(package) for each in manifests) for package in SOFTWARE}
    commits = _distinct(each["git_commit"] and each["git_commit"][:COMMIT_DIGITS] for each in manifests)
    return {
        "decodings": {answers.decoding: config.decodings[answers.decoding] for answers in results.answers},
        "splits": [
            {
                "data": _data(results, [split], references),
                "total": counted(each[0]["total"], "question"),
                "trained": max(one.get("trained_contexts", 0) for one in each),
            }
            for split, each in metrics.items()
        ],
        "datasets": {name: config.datasets[name] for name in lineage.datasets(config)},
        "interval": metrics[results.splits[0]][0]["interval"],
        "units": in_words(_distinct(each[0]["interval"]["resampled"] for each in metrics.values())),
        "compared": len(compared),
        "tested": in_words(_distinct(compared["resampled"])),
        "over_seeds": compared["f1_seeds_p"].notna().any(),
        "software": in_words([references.software(package, found) for package, found in versions.items() if found]),
        "commits": in_words([f"`{commit}`" for commit in commits]),
        "changed": any(each["git_dirty"] for each in manifests),
    }


def _data(results: Results, splits: Iterable[str], references: References) -> str:
    """Splits, each with where its dataset is from."""
    texts = []
    for split in splits:
        name = split.split("/")[0]
        dataset = results.config.datasets[name]
        records = results.records(split)
        counts = summarize.misaligned(misaligned(records)) if records.exists() else ""
        changed = f" without misaligned gold answers ({counts})" if counts else ""
        texts.append(f"`{split}` {'of ' if dataset.repo else ''}{references.source(name, dataset)}{changed}")
    return in_words(texts)


def _distinct(values: Iterable[Any]) -> list[str]:
    return list(dict.fromkeys(str(value) for value in values if value))


def _span(values: Iterable[float], text: Callable[[float], str] = "{:,.10g}".format) -> str:
    """A number, or the least and the greatest of several."""
    values = list(values)
    return " to ".join(dict.fromkeys(map(text, (min(values), max(values)))))
