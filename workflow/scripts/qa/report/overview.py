"""What came out, at a glance: scores of all runs, what made them, and what each stage took."""

from typing import TYPE_CHECKING, Any

from qa.report import page
from qa.report.figures import SERIES, SOFT, Figures
from qa.report.results import Answers, Results

if TYPE_CHECKING:
    import pandas as pd

# Figures that others have reported for SQuAD 2.0's validation set: exact match and F1 in percent, none measured here.
PUBLISHED_FOR = ("rajpurkar/squad_v2", "validation")
PUBLISHED = (
    ("the walkthrough, RoBERTa-base (published)", 73.70, 76.74),
    ("RoBERTa-base, same hyperparameters (model card)", 80.37, 83.74),
    ("RoBERTa-base, batch 96, 2 epochs (model card)", 79.87, 82.91),
    ("RoBERTa-base, best model card seen", 81.19, 83.95),
)
COLUMNS = ("run", "decoding", "seeds", "exact", "exact_low", "exact_high", "f1", "f1_low", "f1_high")
HOLLOW = "; hollow marks are figures that others have published"
MOST_ROWS = 40  # of the figure; the table has all


def subtitle(results: Results) -> str:
    """One line on what the page is about."""
    counts = {"run": len({a.run for a in results.answers}), "training": len(results.models)}
    counts |= {"split": len(results.splits), "set of answers": len(results.answers)}
    told = [f"{n:,} {_plural(what, n)}" for what, n in counts.items()]
    return f"{', '.join(told)}; scores in percent, with 95 % bootstrap intervals"


def section(results: Results, figures: Figures) -> page.Section:
    """Scores of each split, provenance of each model, time and memory of each stage."""
    body = page.render(
        "overview.html",
        splits=[_split(results, split, number, figures) for number, split in enumerate(results.splits)],
        models=[_made(results, model) for model in results.models],
        stages=stages(results.resources()),
    )
    return page.Section("overview", "Overview", body)


def scores(answered: list[Answers]) -> "pd.DataFrame":
    """A row a run and decoding: mean over its variants, and the mean of the variants' intervals' ends, in percent.

    The interval is what other questions might have given; `exact_deviation` and `f1_deviation`, the standard deviation
    over variants, what other seeds might (empty for one).
    """
    import pandas as pd

    rows = []
    for answers in answered:
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
    """Reported figures to set beside the scores of a split; none for other questions than SQuAD 2.0's."""
    dataset, part = split.split("/")
    return PUBLISHED if (results.config["datasets"][dataset].get("repo"), part) == PUBLISHED_FOR else ()


def _split(results: Results, split: str, number: int, figures: Figures) -> dict[str, Any]:
    import pandas as pd

    table = scores(results.of_split(split))
    unit = results.of_split(split)[0].metrics()["interval"]["resampled"]  # articles or questions: of the split
    table["name"] = table["run"] + " / " + table["decoding"]
    best = table["f1"].idxmax()
    others = pd.DataFrame(published(results, split), columns=["name", "exact", "f1"])
    drawn = pd.concat([table.nlargest(MOST_ROWS, "f1").sort_index(), others], ignore_index=True)
    figure = figures.add(
        f"scores-{number + 1}",
        f"F1 on {split}. Bars are 95 % intervals over {unit}" + HOLLOW * (len(others) > 0) + ".",
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
        "published": others.to_dict("records"),
        "figure": figure,
        "omitted": max(0, len(table) - MOST_ROWS),
        "questions": results.of_split(split)[0].metrics()["total"],
        "best": table.loc[best].to_dict(),
    }


def _draw_scores(axes: Any, data: "pd.DataFrame") -> None:
    places = list(range(len(data)))[::-1]
    for place, row in zip(places, data.itertuples(), strict=True):
        own = row.f1_low == row.f1_low
        if own:
            axes.plot([row.f1_low, row.f1_high], [place, place], color=SERIES[0], linewidth=3, solid_capstyle="round")
        axes.plot([row.f1], [place], "o" if own else "D", color=SERIES[0] if own else SOFT, markersize=7,
                  markerfacecolor=SERIES[0] if own else "none")  # fmt: skip
        axes.annotate(f"{row.f1:.1f}", (row.f1, place), xytext=(0, 7), textcoords="offset points", ha="center",
                      color=SOFT)  # fmt: skip
    axes.set_yticks(places, data["name"])
    axes.set_ylim(-0.6, len(data) - 0.3)
    axes.set_xlabel("F1 (%)")
    axes.grid(axis="x")


def _made(results: Results, model: Any) -> dict[str, Any]:
    manifest = results.manifest(model)
    settings, machine = manifest["run_settings"], manifest["machine"]
    source = results.config["models"].get(settings["model"], {})
    where = source.get("repo") or source.get("path") or source.get("package") or ""
    revision = source.get("revision")
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
    """A row a rule: jobs, waits and times in seconds, memory in MiB, each with what was asked for where it was."""
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
                "asked": jobs["asked_seconds"].max(),
                "memory": jobs["peak_memory_mib"].max(),
                "asked_memory": jobs["asked_memory_mib"].max(),
                "gpu_memory": jobs["peak_gpu_memory_mib"].max(),
            }
        )
    return rows


def _plural(what: str, count: int) -> str:
    if count == 1:
        return what
    return what.replace("set of", "sets of") if what.startswith("set of") else f"{what}s"
