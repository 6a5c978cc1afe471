"""Answers or silence: what null scores tell apart, what thresholds cost, and how far probabilities can be believed."""

from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from qa.report import no_answer_data, page
from qa.report.drawing import in_words, legend, line_style, vertical
from qa.report.figures import INK, PAPER, SERIES, SOFT, Figures, shortened
from qa.report.no_answer_data import BEST, Group
from qa.report.results import Results

if TYPE_CHECKING:
    import pandas as pd

MOST_RUNS = 5  # with figures, a split; the table has all
SIZE = (420, 340)  # px: room for a legend of three lines
OPEN = 1  # groups that are unfolded at first, a split
SCORES = ("exact", "f1", "answered", "best_f1", "best_f1_thresh", "pr_f1_ap", "ece", "ece_uncalibrated", "aurc")


def section(results: Results, figures: Figures) -> page.Section | None:
    """Of each split a table of all sets of answers, and figures of one variant of the best runs."""
    if not results.answers:
        return None
    splits = [_split(results, split, figures) for split in results.splits]
    return page.Section("silence", "Answers or silence", page.render("silence.html", splits=splits, opened=OPEN))


def rows(results: Results, split: str) -> list[dict[str, Any]]:
    """What the table says of each set of answers: thresholds in logits, scores in percent."""
    found = []
    for answers in results.of_split(split):
        metrics, calibration = answers.metrics(), results.calibration(answers)
        scores = {name: metrics.get(name) for name in SCORES}
        threshold = results.threshold(answers)
        temperature = calibration["temperature"] if calibration else None
        gap = max(0.0, metrics["best_f1"] - metrics["f1"])  # sums in two orders may differ in the last digit
        found.append({"name": answers.name, "threshold": threshold, "temperature": temperature, "gap": gap, **scores})
    return found


def _split(results: Results, split: str, figures: Figures) -> dict[str, Any]:
    one = results.one_of_each(split)
    best = {answers.run: 0.0 for answers in one}
    for answers in one:
        best[answers.run] = max(best[answers.run], answers.metrics()["f1"])
    runs = sorted(best, key=lambda run: -best[run])
    drawn = [
        {
            "name": f"{group.run} / {in_words([answers.decoding for answers in group.answers])}",
            "variant": group.answers[0].variant,
            "without": len(group.null_scores) - len(group.ranked),
            "figures": _figures_of(group, split, figures),
        }
        for group in no_answer_data.groups(results, split, runs[:MOST_RUNS])
    ]
    counts = {"drawn": len(runs[:MOST_RUNS]), "omitted": len(runs[MOST_RUNS:])}
    return {"name": split, "rows": rows(results, split), "groups": drawn, **counts}


def _figures_of(group: Group, split: str, figures: Figures) -> list[Markup]:
    name = f"silence/{split}/{group.run}/{group.answers[0].decoding}"
    who = f"{group.run} on {split}"
    made = []
    if group.ranked:
        made += _by_threshold(group, name, who, figures)
    curves = no_answer_data.precision_recall(group)
    if len(curves):
        areas = {"F1": group.metrics["pr_f1_ap"], "EM": group.metrics["pr_exact_ap"]}
        made.append(
            figures.add(
                f"{name}/precision-recall",
                "Precision and recall of answering the questions with the least null scores, by F1 and by exact match.",
                f"{who}: the average precision is {areas['F1']:.2f} % by F1 and {areas['EM']:.2f} % by exact match.",
                curves,
                lambda axes, data: _draw_precision_recall(axes, data, areas),
                size=SIZE,
                table=_areas(areas, "average precision"),
            )
        )
    risks, errors = no_answer_data.measure(group, "aurc"), no_answer_data.measure(group, "ece")
    made.append(
        figures.add(
            f"{name}/risk-coverage",
            "Risk of answering the surest questions only: how many of the answers, silence among them, are wrong.",
            f"{who}: the area under the curve is {_told(risks)}.",
            no_answer_data.risk_coverage(group),
            lambda axes, data: _draw_risk_coverage(axes, data, risks),
            size=SIZE,
            table=_areas(risks, "area under the curve"),
        )
    )
    made.append(
        figures.add(
            f"{name}/reliability",
            "Reliability: how sure the answers are, and how many of them are right; larger marks are more questions. "
            "On the thin line, probabilities are right; below it they are too high.",
            f"{who}: the expected calibration error (ECE) is {_told(errors)}.",
            no_answer_data.reliability(group),
            lambda axes, data: _draw_reliability(axes, data, errors),
            size=SIZE,
            table=_areas(errors, "ECE"),
        )
    )
    return made


def _by_threshold(group: Group, name: str, who: str, figures: Figures) -> list[Markup]:
    best, chosen = no_answer_data.best(group), group.thresholds
    places = {**chosen, BEST: best["threshold"]}
    told = f"Thresholds: {'; '.join(f'{mark} {place:.2f}' for mark, place in places.items())}.".replace(" -", " −")
    counts = no_answer_data.histogram(group)
    scores = no_answer_data.against_threshold(group)
    return [
        figures.add(
            f"{name}/null-scores",
            "Null scores: left of a threshold, questions are answered, right of it, the model is silent.",
            f"{who}: {counts['answerable'].sum():,.0f} answerable and {counts['unanswerable'].sum():,.0f} unanswerable "
            f"questions by null score. {told}",
            counts,
            _draw_histogram,
            size=SIZE,
            table=counts.loc[counts["mark"] != "", ["mark", "low"]].rename(columns={"low": "threshold"}),
        ),
        figures.add(
            f"{name}/threshold",
            f"F1 and exact match with every null threshold. {told}",
            f"{who}: F1 is {best['score']:.2f} % at best.",
            scores,
            _draw_against_threshold,
            size=SIZE,
            table=scores[~scores["series"].isin(["F1", "EM"])].rename(columns={"series": "mark", "score": "F1"}),
        ),
    ]


def _told(values: dict[str, float]) -> str:
    return ", ".join(f"{value:.2f} % ({name})" for name, value in values.items())


def _areas(values: dict[str, float], what: str) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame({"series": list(values), f"{what} (%)": list(values.values())})


def _draw_histogram(axes: Any, data: "pd.DataFrame") -> None:
    bins, marks = data[data["mark"] == ""], data[data["mark"] != ""]
    edges = [*bins["low"], bins["high"].iloc[-1]]
    looks = {"answerable": (SERIES[0], "-"), "unanswerable": (SERIES[1], (0, (4, 1.5)))}
    for kind, (colour, dashes) in looks.items():
        if bins[kind].sum():
            axes.stairs(bins[kind], edges, fill=True, color=colour, alpha=0.3)
            axes.stairs(bins[kind], edges, color=colour, linestyle=dashes, linewidth=2, label=kind)
    for number, mark in enumerate(marks.itertuples()):
        vertical(axes, mark.low, mark.mark, number)
    axes.set_xlabel("null score (logits)")
    axes.set_ylabel("questions")
    legend(axes, columns=2)


def _draw_against_threshold(axes: Any, data: "pd.DataFrame") -> None:
    for number, name in enumerate(("F1", "EM")):
        rows = data[data["series"] == name]
        axes.plot(rows["threshold"], rows["score"], label=name, **line_style(number, marked=False))
    marks = data[~data["series"].isin(["F1", "EM"])]
    for number, mark in enumerate(marks.itertuples()):
        vertical(axes, mark.threshold, mark.series, number)
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
    axes.set_ylabel("wrong (%)")
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
