"""No answer: how well null scores separate the questions, what thresholds cost, and whether probabilities are right."""

from functools import partial
from typing import Any

import pandas as pd
from markupsafe import Markup

from qa.decoding.calibrate import FEW_QUESTIONS
from qa.report import no_answer_data, page
from qa.report.drawing import in_words, legend, line_style, vertical_line
from qa.report.figures import INK, PAPER, SERIES, SOFT, Figures, shortened
from qa.report.no_answer_data import BEST, Group
from qa.report.results import Results

MOST_RUNS = 5  # with figures, for each split; the table shows all
SIZE = (420, 340)  # px, with room for a legend of three lines
OPEN = 1  # groups of a split that are unfolded at first
CAPTIONS = {
    "precision_recall": "Precision and recall when only questions with a low null score are answered, by F1 and by EM.",
    "risk_coverage": 'Error rate when only the most confident questions are answered; "no answer" counts as an answer.',
    "reliability": "Reliability: the share of correct answers against their probability. A larger mark stands for more "
    "questions. On the thin line, probabilities are correct. Below it, they are too high.",
}
AXES = {
    "recall": "recall (%)",
    "precision": "precision (%)",
    "coverage": "coverage: questions answered (%)",
    "risk": "error rate (%)",
    "confidence": "probability of the answer (%)",
    "right": "exact match (%)",
}
SCORES = ("exact", "f1", "answered", "best_f1", "best_f1_thresh", "pr_f1_ap", "ece", "ece_uncalibrated", "aurc")


def section(results: Results, figures: Figures) -> page.Section | None:
    """For each split, a table of all sets of answers, and figures for one variant of the best runs.

    Answers without probabilities, as of another system, are left out.
    """
    with_probabilities = dict.fromkeys(answers.split for answers in results.answers if answers.has_probabilities)
    if not with_probabilities:
        return None
    splits = [_split(results, split, figures) for split in with_probabilities]
    return page.Section(
        "no-answer",
        "No answer and confidence",
        page.render("no_answer.html", splits=splits, opened=OPEN, few=FEW_QUESTIONS),
    )


def rows(results: Results, split: str) -> list[dict[str, Any]]:
    """The row of each set of answers in the table: thresholds in logits, scores in percent."""
    table = []
    for answers in results.of_split(split):
        if not answers.has_probabilities:
            continue
        metrics, calibration = answers.metrics(), results.calibration(answers)
        scores = {name: metrics.get(name) for name in SCORES}
        threshold = results.threshold(answers)
        temperature = calibration["temperature"] if calibration else None
        questions = calibration["questions"] if calibration else None
        interval = calibration["intervals"].get("null_threshold") if calibration else None
        gap = max(0.0, metrics["best_f1"] - metrics["f1"])  # two orders of summation may differ in the last digit
        row = {"name": answers.name, "threshold": threshold, "temperature": temperature, "questions": questions}
        table.append({**row, "interval": interval, "gap": gap, **scores})
    return table


def _split(results: Results, split: str, figures: Figures) -> dict[str, Any]:
    best: dict[str, float] = {}
    for answers in results.one_of_each(split):
        if answers.has_probabilities:
            best[answers.run] = max(best.get(answers.run, 0.0), answers.metrics()["f1"])
    runs = sorted(best, key=lambda run: -best[run])
    groups = [
        {
            "name": f"{group.run} / {in_words([answers.decoding for answers in group.answers])}",
            "variant": group.answers[0].variant,
            "without": len(group.null_scores) - len(group.ranked),
            "figures": _figures_of(group, split, figures),
        }
        for group in no_answer_data.groups(results, split, runs[:MOST_RUNS])
    ]
    counts = {"drawn": len(runs[:MOST_RUNS]), "omitted": len(runs[MOST_RUNS:])}
    return {"name": split, "rows": rows(results, split), "groups": groups, **counts}


def _figures_of(group: Group, split: str, figures: Figures) -> list[Markup]:
    """The figures of a group. A figure without data is left out."""
    name = f"no-answer/{split}/{group.run}/{group.answers[0].decoding}"
    subject = f"{group.run} on {split}"
    rendered = _by_threshold(group, name, subject, figures) if group.ranked else []
    precisions = {series: group.metrics.get(f"pr_{key}_ap") for series, key in (("F1", "f1"), ("EM", "exact"))}
    risks, errors = no_answer_data.measure(group, "aurc"), no_answer_data.measure(group, "ece")
    for kind, word, values, draw in (
        ("precision_recall", "average precision", precisions, partial(_draw_curves, x="recall", y="precision")),
        ("risk_coverage", "area", risks, partial(_draw_curves, x="coverage", y="risk")),
        ("reliability", "ECE", errors, _draw_reliability),
    ):
        data = getattr(no_answer_data, kind)(group)
        if not len(data):
            continue
        labels = {series: f"{shortened(series, 28)} ({word} {value:.2f} %)" for series, value in values.items()}
        rendered.append(
            figures.add(
                f"{name}/{kind.replace('_', '-')}",
                CAPTIONS[kind],
                f"{subject}: {'; '.join(labels.values())}.",
                data,
                partial(draw, labels=labels),
                size=SIZE,
                table=pd.DataFrame({"series": list(values), f"{word} (%)": list(values.values())}),
            )
        )
    return rendered


def _by_threshold(group: Group, name: str, subject: str, figures: Figures) -> list[Markup]:
    best = no_answer_data.best(group)
    places = {**group.thresholds, BEST: best["threshold"]}
    listed = "; ".join(f"{mark} {place:.2f}" for mark, place in places.items()).replace(" -", " −")
    counts = no_answer_data.histogram(group)
    answerable, unanswerable = (f"{counts[kind].sum():,.0f} {kind}" for kind in ("answerable", "unanswerable"))
    scores = no_answer_data.against_threshold(group)
    return [
        figures.add(
            f"{name}/null-scores",
            "Null scores. The model answers the questions left of its threshold and abstains right of it.",
            f"{subject}: {answerable} and {unanswerable} questions by null score. Thresholds: {listed}.",
            counts,
            _draw_histogram,
            size=SIZE,
            table=counts.loc[counts["mark"] != "", ["mark", "low"]].rename(columns={"low": "threshold"}),
        ),
        figures.add(
            f"{name}/threshold",
            f"F1 and exact match for every null threshold. Thresholds: {listed}.",
            f"{subject}: the best F1 is {best['score']:.2f} %.",
            scores,
            _draw_against_threshold,
            size=SIZE,
            table=scores[~scores["series"].isin(["F1", "EM"])].rename(columns={"series": "mark", "score": "F1"}),
        ),
    ]


def _draw_histogram(axes: Any, data: pd.DataFrame) -> None:
    bins, marks = data[data["mark"] == ""], data[data["mark"] != ""]
    edges = [*bins["low"], bins["high"].iloc[-1]]
    looks = {"answerable": (SERIES[0], "-"), "unanswerable": (SERIES[1], (0, (4, 1.5)))}
    for kind, (colour, dashes) in looks.items():
        if bins[kind].sum():
            axes.stairs(bins[kind], edges, fill=True, color=colour, alpha=0.3)
            axes.stairs(bins[kind], edges, color=colour, linestyle=dashes, linewidth=2, label=kind)
    for number, mark in enumerate(marks.itertuples()):
        vertical_line(axes, mark.low, mark.mark, number)
    axes.set_xlabel("null score (logits)")
    axes.set_ylabel("questions")
    legend(axes, columns=2)


def _draw_against_threshold(axes: Any, data: pd.DataFrame) -> None:
    for number, name in enumerate(("F1", "EM")):
        rows = data[data["series"] == name]
        axes.plot(rows["threshold"], rows["score"], label=name, **line_style(number, marked=False))
    marks = data[~data["series"].isin(["F1", "EM"])]
    for number, mark in enumerate(marks.itertuples()):
        vertical_line(axes, mark.threshold, mark.series, number)
        shape = "*" if mark.series == BEST else "o"
        axes.plot([mark.threshold], [mark.score], shape, color=INK, markersize=15 if shape == "*" else 9,
                  markeredgecolor=PAPER, zorder=3)  # fmt: skip
    axes.set_xlabel("null threshold (logits)")
    axes.set_ylabel("score (%)")
    legend(axes, columns=2)


def _draw_curves(axes: Any, data: pd.DataFrame, labels: dict[str, str], x: str, y: str) -> None:
    """Column `x` of the data against `y`, both in percent, a line for each series. Precision goes in steps."""
    drawstyle = "steps-pre" if y == "precision" else "default"
    for number, (name, rows) in enumerate(data.groupby("series", sort=False)):
        axes.plot(rows[x], rows[y], label=labels[name], drawstyle=drawstyle, **line_style(number, marked=False))
    axes.set_xlim(0, 103)
    axes.set_ylim(0, 103 if y != "risk" else None)
    axes.set_xlabel(AXES[x])
    axes.set_ylabel(AXES[y])
    legend(axes)


def _draw_reliability(axes: Any, data: pd.DataFrame, labels: dict[str, str]) -> None:
    axes.plot([0, 100], [0, 100], color=SOFT, linewidth=1, label="_diagonal")
    sizes = 20 + 230 * data["questions"] / data["questions"].max()
    for number, (_, rows) in enumerate(data.groupby("series", sort=False)):
        look = {key: line_style(number)[key] for key in ("color", "marker")}
        axes.scatter(rows["confidence"], rows["right"], sizes[rows.index], alpha=0.4, **look)
    _draw_curves(axes, data, labels, "confidence", "right")
