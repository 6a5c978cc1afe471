"""Scoring: a plain scorer as the official script is, ours on the same files, and the bootstrap intervals."""

import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import data
from measure import Stage, seconds
from qa.metrics import squad, statistics

HERE = Path(__file__).parent
SCRIPTS = HERE.parent / "workflow" / "scripts"
FILES = ("data.json", "answers.json", "null_scores.json")
READ = "import json, sys; files = [json.load(open(path)) for path in sys.argv[1:]]; print(json.dumps(list(range(16))))"
OURS = """
import json, math, sys
from qa.data.prepare_questions import gold_texts
from qa.evaluation.score_files import read_null_scores, read_predictions
from qa.metrics import squad
gold, answers, nulls = gold_texts(sys.argv[1]), read_predictions(sys.argv[2]), read_null_scores(sys.argv[3])
print(json.dumps(squad.official_metrics(gold, answers, nulls, math.inf, average_precision=True), indent=2))
"""


def prepared(folder: Path, contexts: int, questions: int, seed: int = 0) -> None:
    """Write data, answers (right, half right, wrong or none, with capitals, articles and commas) and null scores.

    An answer has three annotators, as in SQuAD's development set, who agree but for a word.
    """
    dataset, draw = data.squad_like(contexts, questions), random.Random(seed)
    answers, nulls = {}, {}
    for article in dataset["data"]:
        for paragraph in article["paragraphs"]:
            words = paragraph["context"].split()
            for question in paragraph["qas"]:
                given = [answer["text"] for answer in question["answers"]]
                question["answers"] += [
                    {**each, "text": draw.choice(_shortened(each["text"]))} for each in 2 * question["answers"]
                ]
                place = draw.randrange(len(words))
                text = draw.choice([" ".join(words[place : place + 3]), *(given * 4), ""])
                answers[question["id"]] = draw.choice([text, f"The {text},", _shortened(text)[-1]]) if text else ""
                nulls[question["id"]] = draw.gauss(-2.0 if text else 2.0, 2.0)
    for name, content in zip(FILES, (dataset, answers, nulls), strict=True):
        (folder / name).write_text(json.dumps(content), encoding="utf-8")


def _shortened(text: str) -> list[str]:
    """A text, and without its last word where it has several."""
    return [text, text.rpartition(" ")[0] or text]


def process(folder: Path, *command: str) -> str:
    """What a Python process prints, run in `folder`."""
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout


def plain(folder: Path) -> dict[str, float]:
    """The plain scorer's metrics, by a process of its own."""
    return json.loads(process(folder, str(HERE / "plain_scorer.py"), *FILES))


def ours(folder: Path) -> dict[str, float]:
    """Our metrics of the same files, by a process of its own."""
    return json.loads(process(folder, "-c", OURS, *FILES))


def resampled(folder: Path) -> tuple[statistics.Ratios, list[str]]:
    """What the intervals are found from: the mean metrics' parts, and each question's title."""
    dataset, answers = (json.loads((folder / name).read_text(encoding="utf-8")) for name in FILES[:2])
    rows = data.rows(dataset)
    golds = {row["id"]: row["answers"]["text"] for row in rows}
    ratios = statistics.mean_metrics(golds, *squad.raw_scores(golds, answers), answers)
    return ratios, [row["title"] for row in rows]


def gathered(ratios: statistics.Ratios, resamples: int = statistics.RESAMPLES, seed: int = 0) -> dict[str, Any]:
    """The same intervals over questions as NumPy's usual way has them: draw places, take the rows, add them up."""
    draws, parts = np.random.default_rng(seed), (ratios.numerator, ratios.denominator)
    values = np.empty((resamples, len(ratios.names)))
    for number in range(resamples):
        places = draws.integers(len(ratios.numerator), size=len(ratios.numerator))
        above, below = (part[places].sum(axis=0) for part in parts)
        values[number] = 100 * above / below
    ends = np.percentile(values, [2.5, 97.5], axis=0).T
    return dict(zip(ratios.names, ends.tolist(), strict=True))


def stages(contexts: int = data.CONTEXTS, questions: int = data.QUESTIONS, rounds: int = 3) -> list[Stage]:
    """Two lines: all official metrics, process against process; and 10,000 bootstrap resamples of the means."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepared(folder, contexts, questions)
        found, expected = ours(folder), plain(folder)
        agree = list(found) == list(expected) and np.allclose(list(found.values()), list(expected.values()), rtol=1e-9)
        taken = seconds(
            {
                "official": lambda: plain(folder),
                "ours": lambda: ours(folder),
                "floor": lambda: process(folder, "-c", READ, *FILES),
            },
            rounds,
        )
        ratios, titles = resampled(folder)
    sizes = np.sort(np.unique(np.hstack([ratios.numerator, ratios.denominator]), axis=0, return_counts=True)[1])[::-1]
    times = seconds(
        {
            "articles": lambda: statistics.intervals(ratios, titles),
            "questions": lambda: statistics.bootstrap(ratios),
            "gathered": lambda: gathered(ratios, statistics.RESAMPLES // 100),
            "drawn": lambda: np.random.default_rng(0).multinomial(
                len(titles), sizes / len(titles), statistics.RESAMPLES
            ),
        },
        rounds,
    )
    return [
        Stage(
            "score",
            f"{questions:,} questions, whole processes, best thresholds and average precisions included; all metrics "
            f"{'equal' if agree else 'DIFFERENT'}; both recipes' scorer is the official script's computation",
            "s",
            taken["official"],
            taken["official"],
            taken["ours"],
            taken["floor"],
            "a Python process that reads the same files and prints as much",
        ),
        Stage(
            "score: intervals",
            f"{statistics.RESAMPLES:,} bootstrap resamples of {len(ratios.names)} means over {questions:,} questions "
            f"(by {len(set(titles))} articles: {times['articles']:.3f} s); drawing and adding up rows with NumPy: "
            f"{100 * times['gathered']:.1f} s; no recipe has them",
            "s",
            None,
            None,
            times["questions"],
            times["drawn"],
            f"drawing how often each of the {len(sizes)} groups of equal questions comes, and nothing else",
        ),
    ]
