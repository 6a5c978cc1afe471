"""Exact match, F1, best thresholds and average precisions in plain Python, as the official script computes them.

The yardstick of the scoring benchmark, a process of its own: python plain_scorer.py DATA.json ANSWERS.json NULL.json
"""

import collections
import json
import re
import string
import sys

Gold = dict[str, list[str]]
Scores = dict[str, float]


def normalized(text: str) -> str:
    """Lower-case, without ASCII punctuation, the articles a, an and the, and spare white space."""
    text = "".join(letter for letter in text.lower() if letter not in PUNCTUATION)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


PUNCTUATION = set(string.punctuation)


def f1(gold: str, predicted: str) -> float:
    """F1 of the words that two texts share, from 0 to 1."""
    golds, predictions = normalized(gold).split(), normalized(predicted).split()
    shared = sum((collections.Counter(golds) & collections.Counter(predictions)).values())
    if not golds or not predictions:
        return float(golds == predictions)
    if not shared:
        return 0.0
    precision, recall = shared / len(predictions), shared / len(golds)
    return 2 * precision * recall / (precision + recall)


def raw_scores(golds: Gold, answers: dict[str, str]) -> tuple[Scores, Scores]:
    """Exact match and F1 of each question, the best over its golds."""
    exact, overlap = {}, {}
    for name, texts in golds.items():
        wanted = [text for text in texts if normalized(text)] or [""]
        exact[name] = float(max(normalized(text) == normalized(answers[name]) for text in wanted))
        overlap[name] = max(f1(text, answers[name]) for text in wanted)
    return exact, overlap


def means(golds: Gold, exact: Scores, overlap: Scores) -> dict[str, float]:
    """Means in percent over all questions, those with and those without an answer."""
    groups = {"": list(golds), "HasAns_": [k for k in golds if golds[k]], "NoAns_": [k for k in golds if not golds[k]]}
    found = {}
    for prefix, names in groups.items():
        if names:
            for key, scores in (("exact", exact), ("f1", overlap)):
                found[prefix + key] = 100.0 * sum(scores[name] for name in names) / len(names)
            found[f"{prefix}total"] = len(names)
    return found


def best_threshold(golds: Gold, answers: dict[str, str], scores: Scores, nulls: Scores) -> tuple[float, float]:
    """The best mean over all null thresholds, in percent, and the threshold."""
    current = best = sum(not texts for texts in golds.values())
    threshold = 0.0
    for name in sorted(nulls, key=lambda name: nulls[name]):
        current += scores[name] if golds[name] else -1 if answers[name] else 0
        if current > best:
            best, threshold = current, nulls[name]
    return 100.0 * best / len(scores), threshold


def average_precision(golds: Gold, scores: Scores, nulls: Scores) -> float:
    """Area under the steps of precision over recall, in percent, questions answered from the least null score up."""
    names, answerable = sorted(nulls, key=lambda name: nulls[name]), sum(map(bool, golds.values()))
    right, precision, recall, area = 0.0, 1.0, 0.0, 0.0
    for number, name in enumerate(names, start=1):
        right += scores[name] if golds[name] else 0.0
        if number == len(names) or nulls[name] != nulls[names[number]]:
            precision, before, recall = right / number, recall, right / answerable
            area += precision * (recall - before)
    return 100.0 * area


def score(golds: Gold, answers: dict[str, str], nulls: Scores) -> dict[str, float]:
    """All metrics under the official keys."""
    exact, overlap = raw_scores(golds, answers)
    found = means(golds, exact, overlap)
    for name, scores in (("exact", exact), ("f1", overlap)):
        found[f"best_{name}"], found[f"best_{name}_thresh"] = best_threshold(golds, answers, scores, nulls)
    oracle = {name: float(bool(texts)) for name, texts in golds.items()}
    for name, scores in (("exact", exact), ("f1", overlap), ("oracle", oracle)):
        found[f"pr_{name}_ap"] = average_precision(golds, scores, nulls)
    return found


def main(data_file: str, answers_file: str, nulls_file: str) -> None:
    """Print the metrics of the files as JSON."""
    contents = []
    for path in (data_file, answers_file, nulls_file):
        with open(path, encoding="utf-8") as stream:
            contents.append(json.load(stream))
    data, answers, nulls = contents
    golds = {
        question["id"]: [answer["text"] for answer in question["answers"]]
        for article in data["data"]
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
    }
    print(json.dumps(score(golds, answers, nulls), indent=2))


if __name__ == "__main__":
    main(*sys.argv[1:])
