"""The command `qa score`: predictions scored with the numbers, arguments and output of SQuAD's evaluate-v2.0.py."""

import argparse
import json
import sys
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from qa.common.errors import InputError, check_ids
from qa.common.files import write_csv, written_aside
from qa.data.prepare_questions import gold_texts
from qa.data.read_answers import by_id, json_of, read_answers
from qa.metrics import squad

BINS = 20  # of a histogram
BIN = ("from", "to", "proportion")


def read_predictions(path: str | Path) -> dict[str, str]:
    """Predicted texts by question id, from any file that `read_answers` reads, with its errors."""
    return {identity: answer.text for identity, answer in read_answers(path).items()}


def read_null_scores(path: str | Path) -> dict[str, float]:
    """Null scores by question id, in file order, from one JSON object (.gz too); InputError for anything else."""
    return by_id(
        json_of(path),
        path,
        "a finite number",
        lambda value: type(value) in (int, float) and abs(value) <= sys.float_info.max,
    )


def histogram(scores: Sequence[float], low: float, high: float) -> list[tuple[float, float, float]]:
    """Rows (from, to, proportion) of equal bins from `low` to `high`; the last bin holds its upper end too."""
    edges = [low + (high - low) * i / BINS for i in range(BINS)] + [high]
    counts = Counter(bisect_right(edges, score, hi=BINS) for score in scores)
    return [(edges[i - 1], edges[i], counts[i] / len(scores)) for i in range(1, BINS + 1)]


def write_curves(
    folder: str | Path,
    gold_answers: squad.GoldAnswers,
    raw: tuple[squad.Scores, squad.Scores],
    null_scores: squad.Scores,
) -> None:
    """Write what the official script draws, as pr_*.csv and na_prob_hist_*.csv (over 0 to 1, or more if needed)."""
    for name, points in squad.precision_recall_curves(gold_answers, *raw, null_scores).items():
        write_csv(Path(folder, f"pr_{name}.csv"), squad.CurvePoint._fields, (point._asdict() for point in points))
    low, high = min(0.0, *null_scores.values()), max(1.0, *null_scores.values())
    for name, has_answer in (("hasAns", True), ("noAns", False)):
        if scores := [score for key, score in null_scores.items() if bool(gold_answers[key]) == has_answer]:
            rows = (dict(zip(BIN, row, strict=True)) for row in histogram(scores, low, high))
            write_csv(Path(folder, f"na_prob_hist_{name}.csv"), BIN, rows)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="qa score",
        description="Score predictions with the numbers, arguments and output of SQuAD's evaluate-v2.0.py. "
        "Unlike that script, it refuses predictions and null scores that lack a question or hold an unknown one.",
    )
    add = parser.add_argument
    add("data_file", metavar="DATA", help="SQuAD's JSON, or any other file that the workflow reads")
    add(
        "pred_file",
        metavar="PRED.json",
        help="predictions: {id: text}, or rows of id and answer (any input file may be .gz)",
    )
    add("--out-file", "-o", metavar="FILE", help="write the scores there as JSON (default: print them)")
    na_help = "probabilities of no answer, or null scores: {id: number}; adds the best thresholds"
    add("--na-prob-file", "-n", metavar="FILE", help=na_help)
    threshold_help = "count a question as unanswered if its null score (0 without -n) exceeds T (default: 1.0)"
    add("--na-prob-thresh", "-t", metavar="T", type=float, default=1.0, help=threshold_help)
    curves_help = "with -n: add average precisions; write precision-recall curves and null-score histograms to DIR "
    curves_help += "as CSV files (no images: they would need a plotting library)"
    add("--out-image-dir", "-p", metavar="DIR", help=curves_help)
    f1_help = "what F1 counts: words (default, official), or characters for languages without spaces"
    add("--f1-by", choices=list(squad.F1_BY), default="words", help=f1_help)
    add("--verbose", "-v", action="store_true", help="accepted; changes nothing, as in evaluate-v2.0.py")
    return parser


def _score_files(options: argparse.Namespace) -> None:
    gold_answers, predictions = gold_texts(options.data_file), read_predictions(options.pred_file)
    check_ids(gold_answers, predictions, options.pred_file)
    null_scores = None
    if options.na_prob_file:
        null_scores = read_null_scores(options.na_prob_file)
        check_ids(gold_answers, null_scores, options.na_prob_file)
    curves = bool(options.out_image_dir and null_scores)
    raw = squad.raw_scores(gold_answers, predictions, options.f1_by)
    metrics = squad.official_metrics(
        gold_answers, predictions, null_scores, options.na_prob_thresh, average_precision=curves, raw=raw
    )
    metrics |= squad.mark(options.f1_by)
    if curves:
        write_curves(options.out_image_dir, gold_answers, raw, null_scores)
    elif options.out_image_dir:
        print("note: --out-image-dir needs --na-prob-file; no curves are written", file=sys.stderr)
    if not options.out_file:
        print(json.dumps(metrics, indent=2))
        return
    path = Path(options.out_file)
    special = path.exists() and not path.is_file()  # a rename must not replace a device or a pipe
    with nullcontext(path) if special else written_aside(path.resolve()) as target:
        target.write_text(json.dumps(metrics), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 1 after one line about a user's mistake (argparse exits with 2)."""
    try:
        _score_files(_parser().parse_args(arguments))
    except (InputError, OSError) as error:
        print("error:", " ".join(str(error).splitlines()), file=sys.stderr)
        return 1
    return 0
