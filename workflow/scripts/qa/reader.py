"""Questions answered by a fine-tuned model as the workflow answers them: same windows, same decoding, same numbers.

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
from qa.common.errors import InputError, some
from qa.common.files import read_json
from qa.hub.package import PACKAGE, SETTINGS

AT_ONCE = 512  # questions computed together

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Question:
    """A question about a context; `id` is repeated in its answer and in messages."""

    question: str
    context: str
    id: str = ""


@dataclass(frozen=True)
class Answer:
    """What a model answers to a question.

    `text` is context[start:end] (characters, the end exclusive); "" and None, None where there is no answer.
    `probability`, from 0 to 1, is that of what is answered, silence included; `null_probability` that of no answer.
    `null_score` is the null score minus the best span's, in logits, which the null threshold decides on.
    """

    id: str
    text: str
    start: int | None
    end: int | None
    probability: float
    null_probability: float
    null_score: float

    def __bool__(self) -> bool:
        return bool(self.text)


class Reader:
    """A model that answers questions, by the settings saved with it; `decodings` names its ways to, `decoding` its one.

    The model's folder is one that the workflow made. For any other of a model fine-tuned for question answering the
    workflow's defaults hold, with a null threshold of 0.
    """

    def __init__(self, folder: str | Path, decoding: str | None = None, threads: int | None = None):
        """Load a model, from this machine's files only; `decoding` is by default the first of the model's run.

        Raises InputError for a folder without a model, one that is not fine-tuned for question answering, a decoding
        that it does not have, and one that is not calibrated yet.
        """
        folder = Path(folder)
        self.settings = settings_of(folder)
        self.decodings = list(self.settings["decodings"])
        self.decoding = self.decodings[0] if decoding is None else decoding
        if self.decoding not in self.decodings:
            raise InputError(f"{folder}: no decoding `{self.decoding}`; it has {', '.join(self.decodings)}")
        self._how = self.settings["decodings"][self.decoding]
        if isinstance(self._how.get("null_threshold"), str):
            raise InputError(
                f"{folder}: its decoding `{self.decoding}` is not calibrated yet; let the workflow finish "
                f"{folder.parent / PACKAGE} and name that, or choose another with --decoding"
            )
        # torch takes seconds to import, and a mistake in the lines above should show at once
        from qa.model.predict import Predictor
        from qa.windows.tokenize_and_label import WindowBuilder

        settings = self.settings["prediction"] | {"precision": _possible(self.settings["prediction"]["precision"])}
        self._predictor = Predictor(folder, settings, threads or len(os.sched_getaffinity(0)))
        tokenizer = self._predictor.tokenizer
        windows = dict(self.settings["windows"])
        if not self.settings.get("run"):
            windows["max_length"] = min(windows["max_length"], tokenizer.model_max_length)
        self._windower = WindowBuilder(tokenizer, windows)

    def answer(self, question: str, context: str) -> Answer:
        """Answer one question about a context; raises InputError where either is empty or no text."""
        return self.answer_all([Question(question, context)])[0]

    def answer_all(self, questions: Iterable[Question | tuple[str, str]]) -> list[Answer]:
        """Answer many questions, each a Question or a pair of question and context, in their order."""
        return list(self.answers(questions))

    def answers(self, questions: Iterable[Question | tuple[str, str]], at_once: int = AT_ONCE) -> Iterator[Answer]:
        """Yield the answers to questions as they come, `at_once` computed together; memory grows with that number."""
        coming = (each if isinstance(each, Question) else Question(*each) for each in questions)
        while batch := list(islice(coming, at_once)):
            yield from self._answered(batch)

    def _answered(self, questions: list[Question]) -> list[Answer]:
        import pyarrow as pa

        from qa.decoding.answers import decide
        from qa.decoding.postprocess import Rows, decoded

        encoded = self._windower.encoder.questions(_records(questions))
        table = pa.Table.from_batches(list(self._windower.rows(encoded)))
        found = decoded(self._predictor.spans(table), Rows.of(table), len(questions), self._how)
        threshold = self._how.get("null_threshold", np.inf)  # the walkthrough has no null rule
        decision = decide(found, threshold, self._how.get("temperature"))
        answers = []
        for number, each in enumerate(questions):
            best = decision.bounds[number]
            answered = bool(decision.answered[number])
            start, end = (int(found.start[best]), int(found.stop[best])) if answered else (0, 0)
            text = each.context[start:end]
            null = float(decision.null_probability[number])
            answers.append(
                Answer(
                    id=each.id,
                    text=text,
                    start=start if text else None,
                    end=end if text else None,
                    probability=float(decision.probability[best]) if answered else null,
                    null_probability=null,
                    null_score=float(decision.difference[number]),
                )
            )
        return answers


def settings_of(folder: Path) -> dict[str, Any]:
    """The settings saved with a model: its `windows`, `prediction` and `decodings` by name, the usual one first.

    A run's model is asked by those of the package made of it, which know what was calibrated since. Raises InputError
    for a folder without a model, and for settings that are broken.
    """
    if not (folder / "config.json").is_file():
        what = "a folder without a model (it has no config.json)" if folder.is_dir() else "no such folder"
        raise InputError(f"{folder}: {what}; name one of a run, such as results/RUN/seed-1/{PACKAGE}")
    checksums.check([folder])
    package = folder.parent / PACKAGE
    source = package if _same_weights(folder, package) else folder
    file = source / SETTINGS
    if not file.exists():
        log.warning(f"{folder}: no {SETTINGS}, so it is asked by the workflow's defaults and a null threshold of 0")
        return _defaults()
    found = read_json(file)
    missing = [key for key in ("windows", "prediction", "decodings") if not isinstance(found.get(key), dict)]
    if missing or not found["decodings"]:
        raise InputError(f"{file}: no settings that this workflow wrote ({some(missing) or 'decodings'} is missing)")
    return found


def _same_weights(folder: Path, package: Path) -> bool:
    """Whether a package was made of the model in a folder as it is now; hard links are told without reading them."""
    names = [path.name for path in folder.glob("*.safetensors")]
    there = [(package / name).is_file() for name in names]
    return bool(names) and all(there) and all(filecmp.cmp(folder / name, package / name) for name in names)


def _defaults() -> dict[str, Any]:
    """The workflow's own settings, for a model that has none."""
    from qa.config import settings

    run = settings.with_defaults({}, "settings")
    decoding = settings.with_defaults({"method": "n_best", "null_threshold": 0.0}, "decoding")
    return {
        "windows": run["windows"],
        "prediction": {**run["prediction"], "precision": run["precision"], "padding": run["padding"]},
        "decodings": {"n_best": settings.answering(decoding)},
    }


def _possible(precision: str) -> str:
    """The run's precision where this machine has it, else fp32: then scores differ by rounding."""
    from qa.model import devices

    devices.device()
    try:
        devices.check_precision(precision)
    except InputError as error:
        log.warning(f"{error}; taken here: fp32, so that scores may differ by rounding")
        return "fp32"
    return precision


def _records(questions: list[Question]) -> Any:
    """Questions as a `pyarrow.RecordBatch` of the records' schema, without answers."""
    import pyarrow as pa

    for number, each in enumerate(questions, 1):
        named = f"question {each.id!r}" if each.id else f"question {number}"
        for name in ("question", "context"):
            text = getattr(each, name)
            if not isinstance(text, str) or not text.strip():
                raise InputError(f"{named}: its {name} is {'empty' if isinstance(text, str) else 'no text'}")
            if any("\ud800" <= letter <= "\udfff" for letter in text):
                raise InputError(f"{named}: its {name} holds half a surrogate pair, which is no character")
    answers = pa.struct([("text", pa.list_(pa.string())), ("answer_start", pa.list_(pa.int32()))])
    columns = {
        "id": pa.array([each.id for each in questions], pa.string()),
        "question": pa.array([each.question for each in questions], pa.string()),
        "context": pa.array([each.context for each in questions], pa.string()),
        "answers": pa.array([{"text": [], "answer_start": []}] * len(questions), answers),
    }
    return pa.RecordBatch.from_arrays(list(columns.values()), list(columns))
