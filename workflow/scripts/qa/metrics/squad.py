"""Exact match and F1 of extracted answers, with the numbers of SQuAD's official scorer to the last digit.

Source of every definition here: the official evaluation script for SQuAD 2.0 (evaluate-v2.0.py; Rajpurkar, Jia and
Liang, "Know What You Don't Know", 2018). `python -m qa.metrics --help` takes that script's arguments.

Gold answers are a dictionary {question id: texts}, in the order of the data set. An empty list marks a question
without an answer. A question whose answers all normalise to nothing counts among those with an answer (HasAns), as in
the official script, although only an empty prediction is right for it.

A null score says how sure the model is that a question has no answer: a probability, or any other finite number.
"""

import argparse
import csv
import gzip
import json
import math
import re
import string
import sys
import zlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import accumulate, groupby, pairwise
from pathlib import Path
from typing import Any, NamedTuple

from qa.common.errors import InputError, some
from qa.common.files import read_json, written_aside
from qa.common.progress import watched

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLE = re.compile(r"\b(?:an?|the)\b")
_BINS = 20
_LARGEST = sys.float_info.max

GoldAnswers = Mapping[str, Sequence[str]]
Texts = Mapping[str, str]
Scores = Mapping[str, float]


def normalize_answer(text: str) -> str:
    """Lower-case, drop ASCII punctuation, then the words a, an and the, then collapse white space."""
    return " ".join(_ARTICLE.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(gold: str, predicted: str) -> int:
    """1 if both texts normalise to the same, else 0."""
    return int(normalize_answer(gold) == normalize_answer(predicted))


def f1(gold: str, predicted: str) -> float:
    """F1, from 0 to 1, of the words that two texts share once normalised; 1 if both are empty, 0 if one is."""
    return _f1_of_normalized(normalize_answer(gold), normalize_answer(predicted))


def _f1_of_normalized(gold: str, predicted: str) -> float:
    """F1 of normalised texts. 0 and "both empty" are ints as in the official script: sum() rounds them otherwise."""
    if not gold or not predicted:
        return int(gold == predicted)
    gold_words, predicted_words = gold.split(), predicted.split()
    if set(gold_words).isdisjoint(predicted_words):
        return 0
    shared = (Counter(gold_words) & Counter(predicted_words)).total()
    precision = shared / len(predicted_words)
    recall = shared / len(gold_words)
    return 2 * precision * recall / (precision + recall)


def raw_scores(gold_answers: GoldAnswers, predictions: Texts) -> tuple[dict[str, int], dict[str, float]]:
    """Exact match and F1 of each question, the best over its gold answers, in the order of `gold_answers`.

    Gold answers that normalise to nothing are left out; where none remains, the gold answer is the empty text.
    Raises InputError unless `predictions` holds exactly the ids of `gold_answers`.
    """
    check_ids(gold_answers, predictions, "predictions")
    exact, f1_scores = {}, {}
    for question, texts in watched(gold_answers.items(), "score", "questions"):
        golds = list(filter(None, dict.fromkeys(map(normalize_answer, texts)))) or [""]
        predicted = normalize_answer(predictions[question])
        exact[question] = int(predicted in golds)
        f1_scores[question] = max(_f1_of_normalized(gold, predicted) for gold in golds)
    return exact, f1_scores


def check_ids(gold_answers: GoldAnswers, ids: Iterable[str], name: str) -> None:
    """Raise InputError unless `ids` are exactly the ids of `gold_answers`; the message names `name` and some ids."""
    ids = dict.fromkeys(ids)
    if missing := [key for key in gold_answers if key not in ids]:
        count = f"{len(missing):,} of {len(gold_answers):,} questions"
        raise InputError(f"{name}: nothing for {count} ({some(missing)}); give each question an entry")
    if unknown := [key for key in ids if key not in gold_answers]:
        count = f"{len(unknown):,} ids that the data does not hold"
        raise InputError(f"{name}: {count} ({some(unknown)}); remove them, or score against their own data")


def official_metrics(
    gold_answers: GoldAnswers,
    predictions: Texts,
    null_scores: Scores | None = None,
    null_threshold: float = 1.0,
    *,
    best_texts: Texts | None = None,
    average_precision: bool = False,
    raw: tuple[Scores, Scores] | None = None,
) -> dict[str, float]:
    """Score predictions as the official script does, in percent, under its keys and in its order.

    The keys are exact, f1 and total. The same keys with the prefix HasAns_ are for questions with an answer, with
    NoAns_ for those without. `null_scores` add best_exact, best_exact_thresh, best_f1 and best_f1_thresh (thresholds in
    units of the null scores). `average_precision` adds pr_exact_ap, pr_f1_ap and pr_oracle_ap if any question has an
    answer.

    A question whose null score exceeds `null_threshold` counts as answered with the empty text; without `null_scores`
    every null score is 0. `math.inf` takes the predictions as they are. The threshold search and the average precisions
    use `best_texts`, the best non-null text of each question. Without it they use the predictions, which is wrong if a
    threshold emptied some of them. Equal null scores keep the order of `null_scores`. `raw` are the `raw_scores` of the
    predictions, if the caller has them.

    Raises InputError if there is no question, or if a dictionary lacks a question or holds an unknown one; ValueError
    for average precisions without null scores.
    """
    if average_precision and null_scores is None:
        raise ValueError("average precisions need null scores")
    if not gold_answers:
        raise InputError("the data holds no question; give data with at least one")
    for name, values in (("null scores", null_scores), ("best texts", best_texts)):
        if values is not None:
            check_ids(gold_answers, values, name)
    exact, f1_scores = raw or raw_scores(gold_answers, predictions)
    metrics = _averages(gold_answers, exact, f1_scores, null_scores, null_threshold)
    if null_scores is None:
        return metrics
    if best_texts is not None:
        differing = {key: golds for key, golds in gold_answers.items() if best_texts[key] != predictions[key]}
        best_exact, best_f1 = raw_scores(differing, {key: best_texts[key] for key in differing})
        exact, f1_scores = {**exact, **best_exact}, {**f1_scores, **best_f1}
    for name, scores in (("exact", exact), ("f1", f1_scores)):
        best, threshold = best_threshold(gold_answers, best_texts or predictions, scores, null_scores)
        metrics |= {f"best_{name}": best, f"best_{name}_thresh": threshold}
    if average_precision:
        for name, points in _curves(gold_answers, exact, f1_scores, null_scores).items():
            metrics[f"pr_{name}_ap"] = _average_precision(points)
    return metrics


def _averages(
    gold_answers: GoldAnswers, exact: Scores, f1_scores: Scores, null_scores: Scores | None, null_threshold: float
) -> dict[str, float]:
    """Mean scores in percent over all questions, those with and those without an answer, under the threshold."""
    null_scores = null_scores or dict.fromkeys(gold_answers, 0.0)
    emptied = {key: float(not golds) for key, golds in gold_answers.items() if null_scores[key] > null_threshold}
    exact, f1_scores = {**exact, **emptied}, {**f1_scores, **emptied}
    answerable = [key for key, golds in gold_answers.items() if golds]
    unanswerable = [key for key, golds in gold_answers.items() if not golds]
    metrics = {}
    for prefix, keys in (("", list(gold_answers)), ("HasAns_", answerable), ("NoAns_", unanswerable)):
        if keys:  # a built-in sum in the order of the data: another way of adding may differ in the last digit
            metrics[f"{prefix}exact"] = 100.0 * sum(exact[key] for key in keys) / len(keys)
            metrics[f"{prefix}f1"] = 100.0 * sum(f1_scores[key] for key in keys) / len(keys)
            metrics[f"{prefix}total"] = len(keys)
    return metrics


def best_threshold(gold_answers: GoldAnswers, texts: Texts, scores: Scores, null_scores: Scores) -> tuple[float, float]:
    """The best mean of `scores`, in percent, over all null thresholds, and the least threshold that reaches it.

    Questions with a null score up to the threshold are answered with their text, the others with the empty text. The
    threshold is 0.0 if it is best to answer nothing at all. The search may stop between equal null scores, as in the
    official script. Then the best mean lies a little above what its threshold gives, and depends on their order.
    """
    order = sorted(null_scores, key=null_scores.__getitem__)
    gains = (scores[key] if gold_answers[key] else -bool(texts[key]) for key in order)
    totals = list(accumulate(gains, initial=sum(not golds for golds in gold_answers.values())))
    best = max(totals)
    answered = totals.index(best)
    return 100.0 * best / len(gold_answers), null_scores[order[answered - 1]] if answered else 0.0


class CurvePoint(NamedTuple):
    """Precision and recall, from 0 to 1, if the questions with a null score of at most `null_score` are answered."""

    null_score: float
    precision: float
    recall: float


def precision_recall_curves(
    gold_answers: GoldAnswers, exact: Scores, f1_scores: Scores, null_scores: Scores
) -> dict[str, list[CurvePoint]]:
    """Precision-recall curves named exact, f1 and oracle (every answered question with an answer is right).

    A curve starts at precision 1 and recall 0 and has a point for each distinct null score, in rising order. The
    dictionary is empty if no question has an answer.
    """
    return {name: list(points) for name, points in _curves(gold_answers, exact, f1_scores, null_scores).items()}


def _curves(
    gold_answers: GoldAnswers, exact: Scores, f1_scores: Scores, null_scores: Scores
) -> dict[str, Iterator[CurvePoint]]:
    """The curves' points as iterators: lists of a million points would double the memory."""
    if not (answerable := sum(map(bool, gold_answers.values()))):
        return {}
    oracle = {key: float(bool(golds)) for key, golds in gold_answers.items()}
    order = sorted(null_scores, key=null_scores.__getitem__)

    def curve(scores: Scores) -> Iterator[CurvePoint]:
        yield CurvePoint(-math.inf, 1.0, 0.0)
        answered, right = 0, 0.0
        for null_score, keys in groupby(order, key=null_scores.__getitem__):
            for key in keys:
                answered += 1
                right += scores[key] if gold_answers[key] else 0.0
            yield CurvePoint(null_score, right / answered, right / answerable)

    return {name: curve(scores) for name, scores in (("exact", exact), ("f1", f1_scores), ("oracle", oracle))}


def _average_precision(points: Iterable[CurvePoint]) -> float:
    """Area under the steps of a precision-recall curve, in percent."""
    area = 0.0
    for before, after in pairwise(points):
        area += after.precision * (after.recall - before.recall)  # not sum(), which rounds otherwise since Python 3.12
    return 100.0 * area


def read_squad_gold(path: str | Path) -> dict[str, list[str]]:
    """Gold answers by question id, in file order, from a SQuAD v1.1 or v2.0 JSON file (gzip if its name ends in .gz).

    Raises InputError with file and id for another layout, a repeated id, or no question.
    """
    try:
        questions = [qa for article in _read_json(path)["data"] for part in article["paragraphs"] for qa in part["qas"]]
    except (KeyError, TypeError):
        raise InputError(f"{path}: not in SQuAD's layout (data, in it paragraphs, in them qas)") from None
    gold: dict[str, list[str]] = {}
    for number, question in enumerate(questions, start=1):
        key = question.get("id") if isinstance(question, dict) else None
        if not isinstance(key, str):
            raise InputError(f"{path}: question {number:,} has no id that is a text; give it one")
        if key in gold:
            raise InputError(f"{path}: id {key} occurs twice; ids must be unique")
        try:
            gold[key] = [answer["text"] for answer in question["answers"]]
            "".join(gold[key])
        except (KeyError, TypeError):
            raise InputError(f"{path}: id {key}: answers must be a list of objects that hold a text") from None
    if not gold:
        raise InputError(f"{path}: no question in it; give data with at least one")
    return gold


def read_predictions(path: str | Path) -> dict[str, str]:
    """Predicted texts by question id, from one JSON object (.gz too); raises InputError for anything else."""
    return _read_by_id(path, "a text", lambda value: isinstance(value, str))


def read_null_scores(path: str | Path) -> dict[str, float]:
    """Null scores by question id, in file order, from one JSON object (.gz too); InputError for anything else."""
    return _read_by_id(path, "a finite number", lambda value: type(value) in (int, float) and abs(value) <= _LARGEST)


def _read_by_id(path: str | Path, kind: str, is_right: Callable[[Any], bool]) -> dict[str, Any]:
    values = _read_json(path)
    if not isinstance(values, dict):
        raise InputError(f"{path}: not a JSON object of question ids; it must map each id to {kind}")
    if wrong := [key for key, value in values.items() if not is_right(value)]:
        raise InputError(f"{path}: not {kind} for {len(wrong):,} ids ({some(wrong)}); it must map each id to {kind}")
    return values


def _read_json(path: str | Path) -> Any:
    if Path(path).suffix != ".gz":
        return read_json(path)
    try:
        return json.loads(gzip.decompress(Path(path).read_bytes()))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (gzip.BadGzipFile, EOFError, zlib.error, ValueError) as error:
        raise InputError(f"{path}: not JSON compressed with gzip ({error})") from None


def histogram(scores: Sequence[float], low: float, high: float) -> list[tuple[float, float, float]]:
    """Rows (from, to, proportion) of equal bins from `low` to `high`; the last bin holds its upper end too."""
    edges = [low + (high - low) * i / _BINS for i in range(_BINS)] + [high]
    counts = Counter(bisect_right(edges, score, hi=_BINS) for score in scores)
    return [(edges[i - 1], edges[i], counts[i] / len(scores)) for i in range(1, _BINS + 1)]


def write_curves(folder: str | Path, gold_answers: GoldAnswers, texts: Texts, null_scores: Scores) -> None:
    """Write what the official script draws, as pr_*.csv and na_prob_hist_*.csv (over 0 to 1, or more if needed)."""
    for name, points in precision_recall_curves(gold_answers, *raw_scores(gold_answers, texts), null_scores).items():
        _write_csv(Path(folder, f"pr_{name}.csv"), CurvePoint._fields, points)
    low, high = min(0.0, *null_scores.values()), max(1.0, *null_scores.values())
    for name, has_answer in (("hasAns", True), ("noAns", False)):
        if scores := [score for key, score in null_scores.items() if bool(gold_answers[key]) == has_answer]:
            rows = histogram(scores, low, high)
            _write_csv(Path(folder, f"na_prob_hist_{name}.csv"), ("from", "to", "proportion"), rows)


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[float]]) -> None:
    with written_aside(path) as aside, aside.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows([header, *rows])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="qa score",
        description="Score predictions with the numbers, arguments and output of SQuAD's evaluate-v2.0.py. "
        "Unlike that script, it refuses predictions and null scores that lack a question or hold an unknown one.",
    )
    add = parser.add_argument
    add("data_file", metavar="DATA.json", help="SQuAD v1.1 or v2.0 data (any input file may be .gz)")
    add("pred_file", metavar="PRED.json", help="predictions: {id: text}")
    add("--out-file", "-o", metavar="FILE", help="write the scores there as JSON (default: print them)")
    add("--na-prob-file", "-n", metavar="FILE", help="null scores: {id: number}; adds the best thresholds")
    threshold_help = "count a question as unanswered if its null score (0 without -n) exceeds T (default: 1.0)"
    add("--na-prob-thresh", "-t", metavar="T", type=float, default=1.0, help=threshold_help)
    curves_help = "with -n: add average precisions; write precision-recall curves and null-score histograms to DIR "
    curves_help += "as CSV files (no images: they would need a plotting library)"
    add("--out-image-dir", "-p", metavar="DIR", help=curves_help)
    add("--verbose", "-v", action="store_true", help="accepted; changes nothing, as in evaluate-v2.0.py")
    return parser


def _score_files(options: argparse.Namespace) -> None:
    gold_answers, predictions = read_squad_gold(options.data_file), read_predictions(options.pred_file)
    check_ids(gold_answers, predictions, options.pred_file)
    null_scores = None
    if options.na_prob_file:
        null_scores = read_null_scores(options.na_prob_file)
        check_ids(gold_answers, null_scores, options.na_prob_file)
    curves = bool(options.out_image_dir and null_scores)
    metrics = official_metrics(gold_answers, predictions, null_scores, options.na_prob_thresh, average_precision=curves)
    if curves:
        write_curves(options.out_image_dir, gold_answers, predictions, null_scores)
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
