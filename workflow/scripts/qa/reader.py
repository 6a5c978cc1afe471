"""Answers of a fine-tuned model to single questions, with the workflow's windows and decoding: the same numbers.

from qa.reader import Reader
reader = Reader("results/demo/seed-42/package")
answer = reader.answer("Who built it?", "Ada Venn built the mill in 1412.")
answer.text, answer.start, answer.end, answer.probability
"""

import filecmp
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from qa.common import checksums
from qa.common.errors import InputError, some, unencodable
from qa.common.files import read_json
from qa.hub.package import PACKAGE, SETTINGS

AT_ONCE = 512  # questions computed together

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Question:
    """A question about a context. Its answer and messages repeat the `id`; `document` names the context."""

    question: str
    context: str
    id: str = ""
    document: str = ""


@dataclass(frozen=True)
class Candidate:
    """A span that may be an answer: its text, context[start:end], and its probability (0 to 1)."""

    text: str
    start: int
    end: int
    probability: float


@dataclass(frozen=True)
class Answer:
    """A model's answer to a question.

    `text` is context[start:end] (characters, the end exclusive). Where the model abstains, `text` is "", and `start`
    and `end` are None. `probability` (0 to 1) is the probability of this answer, `null_probability` that of no answer.
    `null_score` is the null score minus the best span's score, in logits; the null threshold decides on it.
    `candidates` are the most probable spans, best first, as many as were asked for and at most the `n_best_size` of the
    decoding; there are some where the model abstains, too.
    """

    id: str
    text: str
    start: int | None
    end: int | None
    probability: float
    null_probability: float
    null_score: float
    candidates: tuple[Candidate, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.text)


class Reader:
    """A model that answers questions with the settings saved beside it.

    `decodings` are the names of the model's decodings, `decoding` is the one in use. `null_threshold` (in logits, inf
    for a decoding that always answers) and `temperature` (None where probabilities are not calibrated) are those of
    `qa.decoding.answers.decide`. A model that the workflow has not made gets the workflow's default settings and a null
    threshold of 0.
    """

    def __init__(self, folder: str | Path, decoding: str | None = None, threads: int | None = None):
        """Load the model of a folder, from local files only; `decoding` defaults to the first of the model's run.

        Raises InputError for a folder without a model, a model that is not fine-tuned for question answering, and a
        decoding that the model does not have or that is not calibrated yet.
        """
        folder = Path(folder)
        self.settings = settings_of(folder)
        self.decodings = list(self.settings["decodings"])
        self.decoding = self.decodings[0] if decoding is None else decoding
        if self.decoding not in self.decodings:
            raise InputError(f"{folder}: no decoding `{self.decoding}`; it has {', '.join(self.decodings)}")
        self._decoding_settings = self.settings["decodings"][self.decoding]
        if isinstance(self._decoding_settings.get("null_threshold"), str):
            raise InputError(
                f"{folder}: its decoding `{self.decoding}` is not calibrated yet; let the workflow finish "
                f"{folder.parent / PACKAGE} and name that, or choose another with --decoding"
            )
        self.null_threshold: float = self._decoding_settings.get("null_threshold", np.inf)  # the walkthrough has none
        self.temperature: float | None = self._decoding_settings.get("temperature")
        # importing torch takes seconds, and a mistake above should show at once
        from qa.model.predict import Predictor
        from qa.windows.tokenize_and_label import WindowBuilder

        settings = self.settings["prediction"] | {"precision": _supported(self.settings["prediction"]["precision"])}
        self._predictor = Predictor(folder, settings, threads or len(os.sched_getaffinity(0)))
        tokenizer = self._predictor.tokenizer
        windows = dict(self.settings["windows"])
        if not self.settings.get("run"):
            windows["max_length"] = longest = min(windows["max_length"], tokenizer.model_max_length)
            for part in ("max_question_length", "overlap"):  # a third each at most, and the context has a third
                windows[part] = min(windows[part], longest // 3)
        self._builder = WindowBuilder(tokenizer, windows)

    def answer(self, question: str, context: str) -> Answer:
        """Answer one question about a context. Raises InputError where either is empty or no text."""
        return self.answer_all([Question(question, context)])[0]

    def answer_all(self, questions: Iterable[Question | tuple[str, str]]) -> list[Answer]:
        """Answer many questions in order; each is a Question or a pair of question and context."""
        return list(self.answers(questions))

    def answers(
        self, questions: Iterable[Question | tuple[str, str]], at_once: int = AT_ONCE, top: int = 0
    ) -> Iterator[Answer]:
        """Yield the answers in order, each with its `top` candidates; `at_once` are computed together in memory."""
        checked = (item if isinstance(item, Question) else Question(*item) for item in questions)
        while batch := list(islice(checked, at_once)):
            yield from self._answered(batch, top)

    def _answered(self, questions: list[Question], top: int) -> list[Answer]:
        import pyarrow as pa

        from qa.decoding.answers import decide
        from qa.decoding.postprocess import decoded

        encoded = self._builder.encoder.questions(_records(questions))
        table = pa.Table.from_batches(list(self._builder.rows(encoded)))
        found = decoded(self._predictor.spans(table), self._decoding_settings)
        decision = decide(found, self.null_threshold, self.temperature)
        columns = [values.tolist() for values in (found.start, found.stop, decision.probability)]
        bounds, answers = decision.bounds.tolist(), []
        for number, question in enumerate(questions):
            first, answered = bounds[number], bool(decision.answered[number])
            end = min(bounds[number + 1], first + max(top, answered))
            places = zip(*(values[first:end] for values in columns), strict=True)
            spans = [Candidate(question.context[start:stop], start, stop, sure) for start, stop, sure in places]
            null = float(decision.null_probability[number])
            best = spans[0] if answered and spans[0].text else None
            answers.append(
                Answer(
                    id=question.id,
                    text=best.text if best else "",
                    start=best.start if best else None,
                    end=best.end if best else None,
                    probability=spans[0].probability if answered else null,
                    null_probability=null,
                    null_score=float(decision.difference[number]),
                    candidates=tuple(spans[:top]),
                )
            )
        return answers


def settings_of(folder: Path) -> dict[str, Any]:
    """The settings saved with a model: `windows`, `prediction`, and `decodings` by name, the default one first.

    A model in a run's folder gets the settings of the package made from it, which include the calibration. Raises
    InputError for a folder without a model, and for broken settings.
    """
    if not (folder / "config.json").is_file():
        fault = "a folder without a model (it has no config.json)" if folder.is_dir() else "no such folder"
        raise InputError(f"{folder}: {fault}; name a run's model, such as results/RUN/seed-1/{PACKAGE}")
    checksums.check([folder])
    package = folder.parent / PACKAGE
    source = package if _same_weights(folder, package) else folder
    file = source / SETTINGS
    if not file.exists():
        log.warning(f"{folder}: no {SETTINGS}; the workflow's default settings and a null threshold of 0 are used")
        return _defaults()
    saved = read_json(file)
    missing = [key for key in ("windows", "prediction", "decodings") if not isinstance(saved.get(key), dict)]
    if missing or not saved["decodings"]:
        raise InputError(f"{file}: no settings that this workflow wrote ({some(missing) or 'decodings'} is missing)")
    return saved


def _same_weights(folder: Path, package: Path) -> bool:
    """Whether a package has the weights of the model in a folder. Hard links are recognized without reading them."""
    names = [path.name for path in folder.glob("*.safetensors")]
    packaged = all((package / name).is_file() for name in names)
    return bool(names) and packaged and all(filecmp.cmp(folder / name, package / name) for name in names)


def _defaults() -> dict[str, Any]:
    """The workflow's own settings, for a model that has none."""
    from qa.config import stages
    from qa.config.schema import Settings
    from qa.config.sections import NBest

    defaults = Settings()
    computing = {"precision": defaults.precision, "padding": defaults.padding}
    return {
        "windows": defaults.windows.model_dump(),
        "prediction": {**defaults.prediction.model_dump(), **computing},
        "decodings": {"n_best": stages.answering(NBest(method="n_best", null_threshold=0.0))},
    }


def _supported(precision: str) -> str:
    """The run's precision where this machine supports it, else fp32; scores then differ by rounding."""
    from qa.model import devices

    devices.device()
    try:
        devices.check_precision(precision)
    except InputError as error:
        log.warning(f"{error}; fp32 is used here, so scores can differ by rounding")
        return "fp32"
    return precision


def _records(questions: list[Question]) -> Any:
    """Questions as a `pyarrow.RecordBatch` of the records' schema, without answers."""
    import pyarrow as pa

    from qa.data.prepare_questions import records_schema

    for number, question in enumerate(questions, 1):
        label = f"question {question.id!r}" if question.id else f"question {number}"
        for name in ("question", "context"):
            text = getattr(question, name)
            if not isinstance(text, str) or not text.strip():
                raise InputError(f"{label}: its {name} is {'empty' if isinstance(text, str) else 'no text'}")
            if fault := unencodable(text):
                raise InputError(f"{label}: its {name} {fault}")
    no_answers = {"text": [], "answer_start": []}
    rows = [
        {"id": each.id, "title": "", "context": each.context, "question": each.question, "answers": no_answers}
        for each in questions
    ]
    return pa.RecordBatch.from_pylist(rows, schema=records_schema())
