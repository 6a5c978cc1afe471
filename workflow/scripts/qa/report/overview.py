"""The overview: scores of all runs, the trainings behind them, and the time and memory of each stage."""

from typing import TYPE_CHECKING, Any

from qa.config import lineage
from qa.report import drawing, page
from qa.report.figures import SOFT, Figures
from qa.report.results import Answers, Results

if TYPE_CHECKING:
    import pandas as pd

# Scores on SQuAD 2.0's validation set that others have published: exact match and F1 in percent. None is measured here.
PUBLISHED_FOR = ("rajpurkar/squad_v2", "validation")
PUBLISHED = (
    ("the walkthrough, RoBERTa-base (published)", 73.70, 76.74),
    ("RoBERTa-base, same hyperparameters (model card)", 80.37, 83.74),
    ("RoBERTa-base, batch 96, 2 epochs (model card)", 79.87, 82.91),
    ("RoBERTa-base, best model card seen", 81.19, 83.95),
)
COLUMNS = ("run", "decoding", "seeds", "exact", "exact_low", "exact_high", "f1", "f1_low", "f1_high")
HOLLOW = " Hollow marks are scores that others have published."
MOST_ROWS = 40  # in the figure; the table shows all


def subtitle(results: Results) -> str:
    """One line that counts what the page shows."""
    counts = {"run": len({a.run for a in results.answers}), "training": len(results.models)}
    counts |= {"split": len(results.splits), "set of answers": len(results.answers)}
    parts = [f"{count:,} {_plural(noun, count)}" for noun, count in counts.items()]
    limits: dict[str, int] = {}
    for name, run in results.config.all_runs.items():
        limits |= lineage.limits(results.config, name, run.evaluate_on)
    listed = ", ".join(f"{dataset}: {limit}" for dataset, limit in limits.items())
    few = f"a quick try on few questions of each split ({listed}); " if limits else ""
    return f"{few}{', '.join(parts)}; scores in percent, with 95 % bootstrap intervals"


def section(results: Results, figures: Figures) -> page.Section:
    """The scores on each split, the provenance of each model, and the time and memory of each stage."""
    body = page.render(
        "overview.html",
        splits=[_split(results, split, number, figures) for number, split in enumerate(results.splits)],
        models=[_provenance(results, model) for model in results.models],
        stages=stages(results.resources()),
    )
    return page.Section("overview", "Overview", body)


def scores(answer_sets: list[Answers]) -> "pd.DataFrame":
    """One row for each run and decoding, in percent: scores and interval bounds, each a mean over the run's variants.

    The interval shows how much the score depends on the questions. `exact_deviation` and `f1_deviation`, standard
    deviations over variants, show how much it depends on the seed; they are NaN for a single variant.
    """
    import pandas as pd

    rows = []
    for answers in answer_sets:
        metrics = answers.metrics()
        row: dict[str, Any] = {"run": answers.run, "decoding": answers.decoding, "seeds": 1}
        for metric in ("exact", "f1"):
            low, high = metrics["intervals"][metric]
            row |= {metric: metrics[metric], f"{metric}_low": low, f"{metric}_high": high}
            row[f"{metric}_deviation"] = metrics[metric]
        rows.append(row)
    measures = dict.fromkeys(COLUMNS[3:], "mean") | {"exact_deviation": "std", "f1_deviation": "std"}
    table = pd.DataFrame(rows).groupby(["run", "decoding"], sort=False, as_index=False)
    return table.agg({"seeds": "sum", **measures})


def published(results: Results, split: str) -> tuple[tuple[str, float, float], ...]:
    """Published scores to compare with those on a split; empty unless the split is SQuAD 2.0's validation set."""
    dataset, part = split.split("/")
    return PUBLISHED if (results.config.datasets[dataset].repo, part) == PUBLISHED_FOR else ()


def _split(results: Results, split: str, number: int, figures: Figures) -> dict[str, Any]:
    import pandas as pd

    table = scores(results.of_split(split))
    unit = results.of_split(split)[0].metrics()["interval"]["resampled"]  # articles or questions
    table["name"] = table["run"] + " / " + table["decoding"]
    best = table["f1"].idxmax()
    reported = pd.DataFrame(published(results, split), columns=["name", "exact", "f1"])
    drawn = pd.concat([table.nlargest(MOST_ROWS, "f1").sort_index(), reported], ignore_index=True)
    figure = figures.add(
        f"scores-{number + 1}",
        f"F1 on {split}. Bars are 95 % intervals over {unit}." + HOLLOW * (len(reported) > 0),
        f"F1 of {len(table)} runs and decodings on {split}; the best is {table['name'][best]}.",
        drawn[["name", "seeds", "exact", "exact_low", "exact_high", "f1", "f1_low", "f1_high"]],
        _draw_scores,
        size=(420, 90 + 30 * len(drawn)),
    )
    rows = [{**row, "best": index == best} for index, row in table.to_dict("index").items()]
    return {
        "name": split,
        "unit": unit,
        "rows": rows,
        "published": reported.to_dict("records"),
        "figure": figure,
        "omitted": max(0, len(table) - MOST_ROWS),
        "questions": results.of_split(split)[0].metrics()["total"],
        "best": table.loc[best].to_dict(),
    }


def _draw_scores(axes: Any, data: "pd.DataFrame") -> None:
    for place, row in zip(drawing.rows(axes, data["name"]), data.itertuples(), strict=True):
        if page.is_number(row.f1_low):
            drawing.interval(axes, place, row.f1, row.f1_low, row.f1_high, f"{row.f1:.1f}")
        else:  # published elsewhere
            axes.plot([row.f1], [place], "D", color=SOFT, markersize=7, markerfacecolor="none")
            drawing.above(axes, place, row.f1, f"{row.f1:.1f}")
    axes.set_xlabel("F1 (%)")


def _provenance(results: Results, model: Any) -> dict[str, Any]:
    manifest = results.manifest(model)
    settings, machine = manifest["run_settings"], manifest["machine"]
    source = results.config.models.get(settings["model"])
    where = (source.repo or source.path or source.package) if source else ""
    revision = source.revision if source else None
    return {
        "name": model.name,
        "model": f"{settings['model']} ({where}{'@' + revision[:10] if revision else ''})",
        "trained_on": ", ".join(settings["train_on"]),
        "windows": manifest["training_windows"],
        "commit": (manifest["git_commit"] or "unknown")[:10] + (" with changes" if manifest["git_dirty"] else ""),
        "started": manifest["started"].replace("T", " ")[:16],
        "seconds": manifest["attempts_seconds"],
        "machine": machine["gpu"] or f"{machine['cpu_threads']} CPU threads",
        "job": machine["slurm_job_id"],
        "versions": {name: manifest["versions"].get(name) for name in ("python", "torch", "transformers")},
    }


def stages(resources: "pd.DataFrame") -> list[dict[str, Any]]:
    """One row for each rule: jobs, waits and times in seconds, memory in MiB, and the time and memory requested."""
    rows = []
    for rule, jobs in resources.groupby("rule", sort=False):
        rows.append(
            {
                "rule": rule,
                "jobs": int((jobs["attempt"] == 1).sum()),
                "attempts": len(jobs),
                "wait": jobs["wait_seconds"].max(),
                "longest": jobs["elapsed_seconds"].max(),
                "total": jobs["elapsed_seconds"].sum(),
                "requested": jobs["asked_seconds"].max(),
                "memory": jobs["peak_memory_mib"].max(),
                "requested_memory": jobs["asked_memory_mib"].max(),
                "gpu_memory": jobs["peak_gpu_memory_mib"].max(),
            }
        )
    return rows


def _plural(noun: str, count: int) -> str:
    if count == 1:
        return noun
    return noun.replace("set of", "sets of") if noun.startswith("set of") else f"{noun}s"
