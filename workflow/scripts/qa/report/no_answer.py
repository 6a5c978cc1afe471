"""No answer: how well null scores separate the questions, what thresholds cost, and whether probabilities are right."""

from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from qa.report import no_answer_data, page
from qa.report.drawing import in_words, legend, line_style, vertical_line
from qa.report.figures import INK, PAPER, SERIES, SOFT, Figures, shortened
from qa.report.no_answer_data import BEST, Group
from qa.report.results import Results

if TYPE_CHECKING:
    import pandas as pd

FEW = 500  # calibration questions: a threshold from fewer is often worse than 0
MOST_RUNS = 5  # with figures, for each split; the table shows all
SIZE = (420, 340)  # px, with room for a legend of three lines
OPEN = 1  # groups of a split that are unfolded at first
SCORES = ("exact", "f1", "answered", "best_f1", "best_f1_thresh", "pr_f1_ap", "ece", "ece_uncalibrated", "aurc")


def section(results: Results, figures: Figures) -> page.Section | None:
    """For each split, a table of all sets of answers, and figures for one variant of the best runs."""
    if not results.answers:
        return None
    splits = [_split(results, split, figures) for split in results.splits]
    return page.Section(
        "no-answer", "No answer and confidence", page.render("no_answer.html", splits=splits, opened=OPEN, few=FEW)
    )


def rows(results: Results, split: str) -> list[dict[str, Any]]:
    """The row of each set of answers in the table: thresholds in logits, scores in percent."""
    table = []
    for answers in results.of_split(split):
        metrics, calibration = answers.metrics(), results.calibration(answers)
        scores = {name: metrics.get(name) for name in SCORES}
        threshold = results.threshold(answers)
        temperature = calibration["temperature"] if calibration else None
        questions = calibration["questions"] if calibration else None
        gap = max(0.0, metrics["best_f1"] - metrics["f1"])  # two orders of summation may differ in the last digit
        row = {"name": answers.name, "threshold": threshold, "temperature": temperature, "questions": questions}
        table.append({**row, "gap": gap, **scores})
    return table


def _split(results: Results, split: str, figures: Figures) -> dict[str, Any]:
    best: dict[str, float] = {}
    for answers in results.one_of_each(split):
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
    curves = no_answer_data.precision_recall(group)
    if len(curves):
        rendered.append(_precision_recall(group, curves, name, subject, figures))
    return [*rendered, *_by_confidence(group, name, subject, figures)]


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


def _precision_recall(group: Group, curves: "pd.DataFrame", name: str, subject: str, figures: Figures) -> Markup:
    areas = {"F1": group.metrics["pr_f1_ap"], "EM": group.metrics["pr_exact_ap"]}
    return figures.add(
        f"{name}/precision-recall",
        "Precision and recall when only questions with a low null score are answered, by F1 and by exact match.",
        f"{subject}: the average precision is {_in_percent(areas)}.",
        curves,
        lambda axes, data: _draw_precision_recall(axes, data, areas),
        size=SIZE,
        table=_measures(areas, "average precision"),
    )


def _by_confidence(group: Group, name: str, subject: str, figures: Figures) -> list[Markup]:
    risks, errors = no_answer_data.measure(group, "aurc"), no_answer_data.measure(group, "ece")
    return [
        figures.add(
            f"{name}/risk-coverage",
            'Error rate when only the most confident questions are answered ("no answer" counts as an answer).',
            f"{subject}: the area under the curve is {_in_percent(risks)}.",
            no_answer_data.risk_coverage(group),
            lambda axes, data: _draw_risk_coverage(axes, data, risks),
            size=SIZE,
            table=_measures(risks, "area under the curve"),
        ),
        figures.add(
            f"{name}/reliability",
            "Reliability: the share of correct answers against their probability. A larger mark stands for more "
            "questions. On the thin line, probabilities are correct. Below it, they are too high.",
            f"{subject}: the expected calibration error (ECE) is {_in_percent(errors)}.",
            no_answer_data.reliability(group),
            lambda axes, data: _draw_reliability(axes, data, errors),
            size=SIZE,
            table=_measures(errors, "ECE"),
        ),
    ]


def _in_percent(values: dict[str, float]) -> str:
    return ", ".join(f"{value:.2f} % ({name})" for name, value in values.items())


def _measures(values: dict[str, float], measure: str) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame({"series": list(values), f"{measure} (%)": list(values.values())})


def _draw_histogram(axes: Any, data: "pd.DataFrame") -> None:
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


def _draw_against_threshold(axes: Any, data: "pd.DataFrame") -> None:
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


def _draw_precision_recall(axes: Any, data: "pd.DataFrame", areas: dict[str, float]) -> None:
    for number, (name, rows) in enumerate(data.groupby("series", sort=False)):
        label = f"{name} (average precision {areas[name]:.2f} %)"
        axes.step(rows["recall"], rows["precision"], where="pre", label=label, **line_style(number, marked=False))
    axes.set_xlim(0, 101)
    axes.set_ylim(0, 103)
    axes.set_xlabel("recall (%)")
    axes.set_ylabel("precision (%)")
    legend(axes)


def _draw_risk_coverage(axes: Any, data: "pd.DataFrame", areas: dict[str, float]) -> None:
    for number, (name, rows) in enumerate(data.groupby("series", sort=False)):
        label = f"{shortened(name, 28)} (area {areas[name]:.2f} %)"
        axes.plot(rows["coverage"], rows["risk"], label=label, **line_style(number, marked=False))
    axes.set_xlim(0, 101)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("coverage: questions answered (%)")
    axes.set_ylabel("error rate (%)")
    legend(axes)


def _draw_reliability(axes: Any, data: "pd.DataFrame", errors: dict[str, float]) -> None:
    axes.plot([0, 100], [0, 100], color=SOFT, linewidth=1, label="_diagonal")
    most = data["questions"].max()
    for number, (name, rows) in enumerate(data.groupby("series", sort=False)):
        style = line_style(number)
        label = f"{shortened(name, 28)} (ECE {errors[name]:.2f} %)"
        look = {key: style[key] for key in ("color", "marker")}
        places = rows["confidence"], rows["right"]
        axes.plot(*places, label=label, markersize=5, linewidth=1.2, linestyle=style["linestyle"], **look)
        axes.scatter(*places, s=20 + 230 * rows["questions"] / most, alpha=0.4, **look)
    axes.set_xlim(0, 103)
    axes.set_ylim(0, 103)
    axes.set_xlabel("probability of the answer (%)")
    axes.set_ylabel("exact match (%)")
    legend(axes)
