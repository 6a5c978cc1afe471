"""Questions like SQuAD 2.0's in number and length, made of the demo's sentences: no download, the same each time."""

import json
import random
import re
from pathlib import Path
from typing import Any

DEMO = Path(__file__).parents[1] / "resources" / "demo" / "train.json"
CONTEXTS, QUESTIONS = 1_204, 11_873  # of SQuAD 2.0's development set
WORDS = (
    4.80,
    0.42,
)  # mean and deviation of the logarithm of a context's words: rows have 181 tokens in the mean, as there
SHORTEST, LONGEST = 25, 600  # words of a context
ANSWER = (1, 2, 2, 3, 3, 4, 6)  # words of an answer, three in the mean


def squad_like(contexts: int = CONTEXTS, questions: int = QUESTIONS, seed: int = 0) -> dict[str, Any]:
    """A dataset in SQuAD v2.0 format: ten questions a context, half of them unanswerable, 35 contexts an article."""
    draw = random.Random(seed)
    sentences, asked = _sentences_and_questions()
    paragraphs = []
    for number in range(contexts):
        words = min(max(round(draw.lognormvariate(*WORDS)), SHORTEST), LONGEST)
        context = _context(draw, sentences, words)
        here = range(number * questions // contexts, (number + 1) * questions // contexts)
        paragraphs.append({"context": context, "qas": [_question(draw, asked, context, number) for number in here]})
    groups = [paragraphs[first : first + 35] for first in range(0, contexts, 35)]
    return {
        "version": "v2.0",
        "data": [{"title": f"Article {i}", "paragraphs": group} for i, group in enumerate(groups)],
    }


def rows(dataset: dict[str, Any]) -> list[dict[str, Any]]:
    """The same questions as rows of id, title, context, question and answers{text, answer_start}."""
    return [
        {
            "id": question["id"],
            "title": article["title"],
            "context": paragraph["context"],
            "question": question["question"],
            "answers": {
                "text": [answer["text"] for answer in question["answers"]],
                "answer_start": [answer["answer_start"] for answer in question["answers"]],
            },
        }
        for article in dataset["data"]
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
    ]


def _sentences_and_questions() -> tuple[list[str], list[str]]:
    paragraphs = [part for article in json.loads(DEMO.read_text())["data"] for part in article["paragraphs"]]
    sentences = [text for part in paragraphs for text in re.split(r"(?<=[.!?])\s+", part["context"])]
    return sorted(set(sentences)), sorted({asked["question"] for part in paragraphs for asked in part["qas"]})


def _context(draw: random.Random, sentences: list[str], words: int) -> str:
    chosen: list[str] = []
    while len(chosen) < words:
        chosen += draw.choice(sentences).split()
    return " ".join(chosen[:words])


def _question(draw: random.Random, asked: list[str], context: str, number: int) -> dict[str, Any]:
    answers = []
    if number % 2:
        places = [match.span() for match in re.finditer(r"\S+", context)]
        length = draw.choice(ANSWER)
        first = draw.randrange(len(places) - length)
        start, stop = places[first][0], places[first + length - 1][1]
        answers = [{"text": context[start:stop], "answer_start": start}]
    question = {"id": f"question-{number}", "question": draw.choice(asked), "answers": answers}
    return {**question, "is_impossible": not answers}
