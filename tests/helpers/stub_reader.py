"""A reader without a model, for `qa serve`: words have fixed scores, and the library decides by them."""

from collections.abc import Iterable, Iterator

import numpy as np

from qa.decoding.answers import Candidates, decide
from qa.reader import Answer, Candidate, Question


class StubReader:
    """Finds each of `scores`, a word and its score, where it first stands in a context; null has one score."""

    decoding = "n_best"

    def __init__(
        self,
        scores: dict[str, float],
        null_score: float = 1.0,
        null_threshold: float = 0.0,
        temperature: float | None = None,
        run: str = "stub",
    ):
        self.scores, self.null_score, self.settings = scores, null_score, {"run": run, "variant": "seed-1"}
        self.null_threshold, self.temperature = null_threshold, temperature

    def answers(self, questions: Iterable[Question], top: int = 0) -> Iterator[Answer]:
        return map(self.answer, questions)

    def answer(self, question: Question) -> Answer:
        text = question.context
        found = sorted(((score, word) for word, score in self.scores.items() if word in text), reverse=True)
        scores = np.array([score for score, _ in found])
        starts = np.array([text.index(word) for _, word in found], int)
        ends = starts + [len(word) for _, word in found]
        spans = Candidates(np.zeros(len(found), int), starts, ends, scores, np.array([self.null_score]), np.array([1]))
        decision = decide(spans, self.null_threshold, self.temperature)
        places = zip(starts.tolist(), ends.tolist(), decision.probability.tolist(), strict=True)
        candidates = tuple(Candidate(text[start:end], start, end, sure) for start, end, sure in places)
        null, score = float(decision.null_probability[0]), float(decision.difference[0])
        if not decision.answered[0]:
            return Answer(question.id, "", None, None, null, null, score, candidates)
        best = candidates[0]
        return Answer(question.id, best.text, best.start, best.end, best.probability, null, score, candidates)
