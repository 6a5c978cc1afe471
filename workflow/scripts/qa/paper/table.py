"""`qa table`: finished runs for a paper. Tables as LaTeX and Markdown, methods, BibTeX, and figures as PDF.

All numbers are those of metrics.json and comparison.csv; nothing is computed anew.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from qa.common import checksums
from qa.common.errors import InputError, some
from qa.common.files import read_json, sha256_of_file, write_json, written_aside
from qa.config import comparisons, lineage, settings, stages
from qa.config.fields import listed
from qa.config.schema import External
from qa.evaluation import compare, question_scores, summarize
from qa.evaluation.compare import NOTABLE
from qa.paper import methods
from qa.paper.references import References, label, latex
from qa.plan import rule_inputs
from qa.report import build, overview, questions
from qa.report.drawing import in_words
from qa.report.figures import PdfFigures
from qa.report.results import FOLDER, Model, Results

RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
MADE = "Written by `qa table`. The next call replaces this file."
NEEDS = r"% The tables need \usepackage{booktabs}, references.bib needs \usepackage{url} or hyperref."


class Table(NamedTuple):
    """The scores on one split as text, the header first, and the sentences that explain them."""

    split: str
    rows: list[list[str]]
    notes: list[str]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code. Raises InputError where results are missing or are not of the files."""
    parser = argparse.ArgumentParser(
        prog="qa table",
        description="Write finished results for a paper: results.tex, results.md, methods.tex, methods.md, "
        "references.bib, and figures as PDF. The tables are printed too.",
    )
    parser.add_argument(
        "files", nargs="*", metavar="FILE", help="the configuration files of the results; default: config/config.yaml"
    )
    parser.add_argument("--split", action="append", metavar="DATASET/SPLIT", help="this split only; may be repeated")
    parser.add_argument("--decoding", action="append", metavar="NAME", help="this decoding only; may be repeated")
    parser.add_argument("--out", default="paper", metavar="FOLDER", help="default: paper")
    options = parser.parse_args(arguments)
    files = options.files or ["config/config.yaml"]
    if missing := [file for file in files if not Path(file).is_file()]:
        raise InputError(f"{missing[0]}: no such file; name the configuration files of the results")
    results = Results(settings.check(files))
    check(results)
    if missing := [file for file in rule_inputs.reported(results.config) if not Path(file).exists()]:  # for figures
        raise InputError(f"no such file: {some(missing, 2)}; run the workflow without a target")
    decodings = _known(options.decoding, {answers.decoding for answers in results.answers}, "decoding")
    tables = [table(results, split, decodings) for split in _known(options.split, results.splits, "split")]
    shown = write(results, [each for each in tables if each], Path(options.out))
    print(f"{shown}\n\nWritten to {options.out}")
    return 0


def _known(asked: list[str] | None, known: Any, what: str) -> list[str]:
    if unknown := [name for name in asked or [] if name not in known]:
        raise InputError(f"no {what} `{unknown[0]}` in the results; there are {', '.join(sorted(known))}")
    return asked or list(known)


def check(results: Results) -> None:
    """Raise InputError where a result is missing, damaged, older than its sources, or of another configuration."""
    scored = list(lineage.scored(results.config))
    pairs, paired = comparisons.compared(results.config, scored)
    scores = [str(answers.folder / "metrics.json") for answers in results.answers]
    compared = [str(FOLDER.joinpath(*answered) / "question_scores.parquet") for answered in paired]
    summary, comparison = FOLDER / "summary.csv", FOLDER / "comparison.csv"
    needed = [*scores, str(summary), str(comparison)]
    if missing := [file for file in needed if not Path(file).exists()]:
        raise InputError(
            f"no such file: {some(missing, 2)}; run the workflow with this configuration first, or name that of the "
            "results: qa table FILE"
        )
    faults = [summarize.outdated(summary, scores, scored), compare.outdated(comparison, compared, pairs)]
    if told := "".join(faults):
        raise InputError(" ".join(told.split()))
    if older := set(compare.COLUMNS) - set(results.comparison()):
        raise InputError(
            f"{FOLDER}/comparison.csv: of an older version, without {some(sorted(older), 2)}; run the workflow"
        )
    checksums.check(rule_inputs.reported(results.config), "run the workflow")
    _check_sources(results)
    for model in results.models:
        _check_training(results, model)
    for answers in results.answers:
        run = results.config.all_runs[answers.run]
        given = [Path(run.answers[answers.split]).expanduser()] if isinstance(run, External) else []
        if changed := checksums.changed_sources(answers.folder / "answers.json", given, of_any_age=True):
            raise InputError(f"{changed[0]}: changed since run `{answers.run}` was made of it; run the workflow")
        now = stages.answered_with(results.config, answers.run, answers.variant, answers.split, answers.decoding)
        made = question_scores.answered_with(answers.folder / "question_scores.parquet")
        _refuse_other(f"{answers.folder}: answered", made, now)


def _check_sources(results: Results) -> None:
    """Compare models and datasets with what was downloaded. A folder that was removed says nothing."""
    models = {("models", run.pretrained) for run in results.config.runs.values()}
    for kind, name in sorted(models | {("datasets", name) for name in lineage.datasets(results.config)}):
        record, now = Path("resources", kind, name, "source.json"), stages.source(getattr(results.config, kind)[name])
        if not record.exists():
            continue
        made, files = read_json(record), now.pop("splits", {})
        for place, entry in {} if made.keys() & {"repo", "package"} else made["files"].items():
            file = entry.get("from") or f"{made['path']}/{place}"
            if (path := Path(file).expanduser()).exists() and sha256_of_file(path) != entry["sha256"]:
                raise InputError(f"{file}: changed since the results were made of it; run the workflow")
        if files and "repo" not in now:  # where they are patterns
            now["splits"] = {split: listed(named) for split, named in files.items()}
            own = {place: entry["from"] for place, entry in made["files"].items()}
            made["splits"] = {split: [own[place] for place in places] for split, places in made["splits"].items()}
        _refuse_other(f"{record}: downloaded", {key: made.get(key) for key in now}, now)


def _check_training(results: Results, model: Model) -> None:
    run, manifest = results.config.runs[model.run], results.manifest(model)
    windows, recorded = stages.tokenization(run), manifest["run_settings"]
    del windows["model"]
    now = {**stages.training(run, results.config), **windows, "train_on": run.train_on, "teacher": run.teacher}
    made = {**manifest["settings"], "train_on": recorded["train_on"], "teacher": recorded.get("teacher")}
    now["model"], made["model"] = (_model_of(settings, model) for settings in (run.model_dump(), recorded))
    made |= {key: recorded["windows"].get(key) for key in windows}
    if share := lineage.held_out_share(run):
        now["hold_out"], made["hold_out"] = share, recorded.get("hold_out")
    _refuse_other(f"{model.folder}/manifest.json: trained", made, now)


def _model_of(run_settings: dict[str, Any], model: Model) -> str:
    """What a model was fine-tuned from, by a run's settings: the name of a pretrained model, or another run's."""
    name = run_settings["model"]
    if isinstance(name, str):
        return name
    seed = name.get("seed")
    return f"{name['run']}/{model.variant if seed is None else f'seed-{seed}'}"


def _refuse_other(what: str, made: dict[str, Any], now: dict[str, Any]) -> None:
    """Raise InputError for the first setting that is another one now than when a result was made."""
    if other := [key for key in {**now, **made} if now.get(key) != made.get(key)]:
        raise InputError(
            f"{what} with {other[0]} {made.get(other[0])}, but the configuration has {now.get(other[0])}; run the "
            "workflow with this configuration, or name that of the results"
        )


def table(results: Results, split: str, decodings: list[str]) -> Table | None:
    """The scores on a split with deviations, intervals and marks; None where no run has one of the decodings."""
    answers = [each for each in results.of_split(split) if each.decoding in decodings]
    if not answers:
        return None
    metrics, comparisons = answers[0].metrics(), results.comparison()
    compared = comparisons[comparisons["dataset"] + "/" + comparisons["split"] == split]
    interval = f"{100 * metrics['interval']['level']:g} % interval"
    f1 = f"F1 ({metrics['f1_by']})" if "f1_by" in metrics else "F1"
    rows = [["Run", "Decoding", "Seeds", "EM", interval, f1, interval]]
    for row in overview.scores(answers).to_dict("records"):
        rows.append([row["run"], row["decoding"], str(row["seeds"])])
        for metric in ("exact", "f1"):
            deviation = f" ± {row[f'{metric}_deviation']:.2f}" if row["seeds"] > 1 else ""
            rows[-1] += [
                f"{row[metric]:.2f}{deviation}{_marks(compared, row['run'], row['decoding'], metric)}",
                f"[{row[f'{metric}_low']:.2f}, {row[f'{metric}_high']:.2f}]",
            ]
    notes = [
        f"Exact match (EM) and F1 in percent on the {metrics['total']:,} questions of `{split}`: mean and, with "
        f"several seeds, ± standard deviation. Brackets: {interval}s over {metrics['interval']['resampled']} "
        "(bootstrap), each end a mean over seeds."
    ]
    return Table(split, rows, notes + (_tests(compared, len(comparisons)) if len(compared) else []))


def _references(compared: pd.DataFrame) -> dict[tuple[str, str], str]:
    """The numbers of the sides that others are compared with, raised; none where there is only one."""
    sides = dict.fromkeys(zip(compared["reference_run"], compared["reference_decoding"], strict=True))
    return {side: str(number).translate(RAISED) if len(sides) > 1 else "" for number, side in enumerate(sides, 1)}


def _marks(compared: pd.DataFrame, run: str, decoding: str, metric: str) -> str:
    """A mark for each reference that a run and decoding differs from."""
    marks, numbers = "", _references(compared)
    for row in compared[(compared["run"] == run) & (compared["decoding"] == decoding)].to_dict("records"):
        number = numbers[row["reference_run"], row["reference_decoding"]]
        if row[f"{metric}_p_holm"] < NOTABLE:
            marks += f"{'‡' if row[f'{metric}_seeds_p_holm'] < NOTABLE else '†'}{number}"  # NaN is not below
    return marks


def _tests(compared: pd.DataFrame, corrected: int) -> list[str]:
    """What the marks of a table mean, with the test behind each."""
    named = in_words([f"{number}`{'/'.join(side)}`" for side, number in _references(compared).items()])
    units, drawn = compared["units"].iloc[0], compared["resampled"].iloc[0]
    notes = [
        f"† differs from {named} (p < {NOTABLE}, paired randomisation test over {units:,} {drawn}, Holm's rule for "
        f"{corrected} comparison{'s' * (corrected > 1)})."
    ]
    if compared["f1_seeds_p_holm"].notna().any():
        notes.append(f"‡ differs for other seeds too (p < {NOTABLE}, t-test over {drawn} and seeds, Holm's rule).")
    return notes


def write(results: Results, tables: list[Table], folder: Path) -> str:
    """Write all files into a folder; return the tables as Markdown."""
    references = References()
    paragraphs = methods.describe(results, references)
    warnings = [*summarize.warnings(FOLDER / "summary.csv"), *compare.warnings(results.comparison().to_dict("records"))]
    shown = "\n\n".join([*map(_markdown, tables), *(f"Warning: {warning}" for warning in warnings)])
    remarks = [f"% Warning: {warning}" for warning in warnings]
    contents = {
        "results.md": shown,
        "results.tex": "\n\n".join([NEEDS, *remarks, *map(_latex, tables)]),
        "methods.md": "\n\n".join(paragraphs),
        "methods.tex": "\n\n".join(map(latex, paragraphs)),
        "references.bib": references.bibtex(" ".join(paragraphs)),
    }
    for name, text in contents.items():
        comment = f"<!-- {MADE} -->" if name.endswith(".md") else f"% {MADE}"
        with written_aside(folder / name) as partial:
            partial.write_text(f"{comment}\n\n{text.rstrip()}\n", encoding="utf-8")
    _draw(results, folder / "figures")
    return shown


def _draw(results: Results, folder: Path) -> None:
    """Draw the report's figures, and remove those of an earlier call. Other files of the folder stay."""
    folder.mkdir(exist_ok=True)
    figures, earlier = PdfFigures(folder), folder / ".figures-of-qa-table.json"
    for name in read_json(earlier) if earlier.exists() else []:
        (folder / f"{name}.pdf").unlink(missing_ok=True)
    for module in build.SECTIONS:
        if module is not questions:  # which draws nothing, and reads every answer
            module.section(results, figures)
    write_json(earlier, sorted(figures.names))


def _markdown(table: Table) -> str:
    import tabulate

    header, *rows = table.rows
    align = ["left"] * 2 + ["right"] * (len(header) - 2)
    lines = tabulate.tabulate(rows, header, tablefmt="pipe", disable_numparse=True, colalign=align)
    return f"{lines}\n\n{' '.join(table.notes)}"


def _latex(table: Table) -> str:
    header, *rows = (" & ".join(map(latex, row)) + r" \\" for row in table.rows)
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering\footnotesize\setlength{\tabcolsep}{4pt}",
            rf"\caption{{{latex(' '.join(table.notes))}}}",
            rf"\label{{{label(table.split)}}}",
            rf"\begin{{tabular}}{{ll{'r' * (len(table.rows[0]) - 2)}}}",
            *(r"\toprule", header, r"\midrule", *rows, r"\bottomrule"),
            r"\end{tabular}",
            r"\end{table}",
        ]
    )
