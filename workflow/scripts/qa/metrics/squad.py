"""Exact match and F1 of extracted answers, with the numbers of SQuAD's official scorer to the last digit.

Source of every definition here: the official evaluation script for SQuAD 2.0 (evaluate-v2.0.py; Rajpurkar, Jia and
Liang, "Know What You Don't Know", 2018). The command `qa score` is in qa.evaluation.score_files.

Gold answers are a dictionary {question id: texts}, in the order of the data set. An empty list marks a question
without an answer. A question whose answers all normalise to nothing counts among those with an answer (HasAns), as in
the official script, although only an empty prediction is right for it.

A null score says how sure the model is that a question has no answer: a probability, or any other finite number.
"""

import math
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, groupby, pairwise
from typing import NamedTuple

from qa.common.errors import InputError, check_ids
from qa.common.progress import watched

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLE = re.compile(r"\b(?:an?|the)\b")
F1_BY = {"words": str.split, "characters": lambda text: text.replace(" ", "")}  # what F1 counts in normalised texts

GoldAnswers = Mapping[str, Sequence[str]]
Texts = Mapping[str, str]
Scores = Mapping[str, float]


def normalize_answer(text: str, f1_by: str = "words") -> str:
    """Lower-case, drop ASCII punctuation, then the words a, an and the, then collapse white space.

    If F1 counts characters, all of Unicode's punctuation is dropped, such as 。 and 「, as in MLQA's evaluation script
    (mlqa_evaluation_v1.py; Lewis et al., "MLQA: Evaluating Cross-lingual Extractive Question Answering", 2020). That of
    CMRC 2018 (Cui et al., 2019) drops a list of such marks.
    """
    if f1_by == "characters":
        text = "".join(letter for letter in text if not unicodedata.category(letter).startswith("P"))
    return " ".join(_ARTICLE.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def _f1_of_normalized(gold: str, predicted: str, f1_by: str) -> float:
    """F1 of normalised texts. 0 and "both empty" are ints as in the official script: sum() rounds them otherwise."""
    if not gold or not predicted:
        return int(gold == predicted)
    gold_units, predicted_units = F1_BY[f1_by](gold), F1_BY[f1_by](predicted)
    if set(gold_units).isdisjoint(predicted_units):
        return 0
    shared = (Counter(gold_units) & Counter(predicted_units)).total()
    precision = shared / len(predicted_units)
    recall = shared / len(gold_units)
    return 2 * precision * recall / (precision + recall)


def raw_scores(
    gold_answers: GoldAnswers, predictions: Texts, f1_by: str = "words"
) -> tuple[dict[str, int], dict[str, float]]:
    """Exact match and F1 of each question, the best over its gold answers, in the order of `gold_answers`.

    The official F1 counts `words`. `characters`, without white space, is for languages that write no spaces; both
    scores then ignore all punctuation (see normalize_answer).
    Gold answers that normalise to nothing are left out; where none remains, the gold answer is the empty text.
    Raises InputError unless `predictions` holds exactly the ids of `gold_answers`.
    """
    check_ids(gold_answers, predictions, "predictions")
    exact, f1_scores = {}, {}
    for question, texts in watched(gold_answers.items(), "score", "questions"):
        golds = list(filter(None, dict.fromkeys(normalize_answer(text, f1_by) for text in texts))) or [""]
        predicted = normalize_answer(predictions[question], f1_by)
        exact[question] = int(predicted in golds)
        f1_scores[question] = max(_f1_of_normalized(gold, predicted, f1_by) for gold in golds)
    return exact, f1_scores


def mark(f1_by: str) -> dict[str, str]:
    """The entry of metrics that says what their F1 counts; none for the official words."""
    return {} if f1_by == "words" else {"f1_by": f1_by}


def official_metrics(
    gold_answers: GoldAnswers,
    predictions: Texts,
    null_scores: Scores | None = None,
    null_threshold: float = 1.0,
    *,
    best_texts: Texts | None = None,
    average_precision: bool = False,
    raw: tuple[Scores, Scores] | None = None,
    f1_by: str = "words",
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
    predictions, if the caller has them; for `f1_by` see there.

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
    exact, f1_scores = raw or raw_scores(gold_answers, predictions, f1_by)
    metrics = _averages(gold_answers, exact, f1_scores, null_scores, null_threshold)
    if null_scores is None:
        return metrics
    if best_texts is not None:
        differing = {key: golds for key, golds in gold_answers.items() if best_texts[key] != predictions[key]}
        best_exact, best_f1 = raw_scores(differing, {key: best_texts[key] for key in differing}, f1_by)
        exact, f1_scores = {**exact, **best_exact}, {**f1_scores, **best_f1}
    for name, scores in (("exact", exact), ("f1", f1_scores)):
        best, threshold = best_threshold(gold_answers, best_texts or predictions, scores, null_scores)
        metrics |= {f"best_{name}": best, f"best_{name}_thresh": threshold}
    if average_precision:
        for name, points in precision_recall_curves(gold_answers, exact, f1_scores, null_scores).items():
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
) -> dict[str, Iterator[CurvePoint]]:
    """Precision-recall curves named exact, f1 and oracle (every answered question with an answer is right).

    A curve starts at precision 1 and recall 0 and has a point for each distinct null score, in rising order. The
    points are iterators, since lists of a million would double the memory. The dictionary is empty if no question has
    an answer.
    """
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
