"""Questions of a records file, read and encoded batch by batch: one is encoded while the one before is worked on."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from qa.common.parquet import opened
from qa.windows.tokenizer import Encoded, Texts, encode_only, tokens_of

BATCH = 2_000  # records encoded at once
CHARACTERS = 2**23  # of their contexts, at most, but for one that is longer: a character may be a token of 100 bytes
AHEAD = 2  # batches that the thread has before the rows of one are made: the one that it encodes, and the next
REMEMBERED = 2**25  # characters of contexts whose tokens are kept for later questions: some 130 MB of English
COLUMNS = ["id", "question", "context", "answers"]


@dataclass(frozen=True)
class Questions:
    """Some records, encoded.

    `first` is the number of the first record, `ids` a `pyarrow.Array`, `texts` and `contexts` the tokens of each
    question and of each distinct context. Arrays of shape (questions,): `context`, the number of its context among
    those; `answerable`; `start` and `stop`, the characters of its first answer, 0 where it has none.
    """

    first: int
    ids: Any
    texts: Texts
    contexts: Texts
    context: np.ndarray
    answerable: np.ndarray
    start: np.ndarray
    stop: np.ndarray

    def __len__(self) -> int:
        return len(self.context)


@dataclass
class Remembered:
    """Where a context's tokens are kept, None until they are there."""

    tokens: Encoded | None = None


class Memory:
    """The contexts of the batches so far, so that each distinct one is encoded once; the oldest are forgotten."""

    def __init__(self, characters: int = REMEMBERED):
        self.room = characters
        self.known: dict[str, Remembered] = {}

    def find(self, contexts: list[str]) -> tuple[list[str], list[Remembered]]:
        """Those of some distinct contexts that are new here, to be encoded and put in their place; and all places.

        A place stays with its batch even when its context is forgotten.
        """
        new = [context for context in contexts if context not in self.known]
        self.known.update((context, Remembered()) for context in new)
        places = [self.known[context] for context in contexts]
        self.room -= sum(map(len, new))
        while self.room < 0:
            oldest = next(iter(self.known))
            self.room += len(oldest)
            del self.known[oldest]
        return new, places


@dataclass(frozen=True)
class Batch:
    """Some records to encode: their contexts that are `new`, then all questions; `context` numbers the `places`."""

    first: int
    records: Any
    new: list[str]
    questions: list[str]
    places: list[Remembered]
    context: np.ndarray


class Encoder:
    """Encodes records with one tokenizer; `trim` as in `tokens_of`, `remembered` in characters of contexts."""

    def __init__(self, tokenizer: Any, trim: bool, remembered: int = REMEMBERED):
        self.tokenizer, self.trim = tokenizer, trim
        self.memory = Memory(remembered)

    def questions(self, records: Any, first: int = 0) -> Questions:
        """The questions of a `pyarrow.RecordBatch` of the records' schema; `first` is its first record's number."""
        batch = self._batch(records, first)
        return self._arrays(batch, encode_only(self.tokenizer, batch.new + batch.questions))

    def read(self, path: str | Path) -> Iterator[Questions]:
        """Yield the questions of a records file (Parquet), some thousands at a time.

        A thread does nothing but encode, and has the next batch waiting: while it encodes, Python is free.
        """
        with ThreadPoolExecutor(1) as thread:
            coming: deque[tuple[Batch, Future[list[Any]]]] = deque()
            for batch in self._batches(path):
                coming.append((batch, thread.submit(encode_only, self.tokenizer, batch.new + batch.questions)))
                if len(coming) > AHEAD:
                    yield self._finished(*coming.popleft())
            while coming:
                yield self._finished(*coming.popleft())

    def _batches(self, path: str | Path) -> Iterator[Batch]:

        first = 0
        with opened(path, read_dictionary=["context"]) as file:
            for records in file.iter_batches(batch_size=BATCH, columns=COLUMNS):
                for part in _parts(records):
                    yield self._batch(part, first)
                    first += len(part)

    def _batch(self, records: Any, first: int) -> Batch:
        import pyarrow as pa

        contexts = records.column("context").dictionary_encode()  # of a file's: all of a row group's, encoded already
        used, numbers = np.unique(contexts.indices.to_numpy(), return_inverse=True)
        new, places = self.memory.find(contexts.dictionary.take(pa.array(used)).to_pylist())
        questions = [question.strip() for question in records.column("question").to_pylist()]
        return Batch(first, records, new, questions, places, numbers)

    def _finished(self, batch: Batch, encodings: Future[list[Any]]) -> Questions:
        return self._arrays(batch, encodings.result())

    def _arrays(self, batch: Batch, encodings: list[Any]) -> Questions:
        tokens = tokens_of(encodings, batch.new + batch.questions, self.trim)
        contexts = tokens.between(0, len(batch.new))
        empty = [place for place in batch.places if place.tokens is None]
        for number, place in enumerate(empty):
            place.tokens = contexts[number]
        if len(empty) < len(batch.places):
            contexts = Texts.joined(place.tokens for place in batch.places)
        texts = tokens.between(len(batch.new), len(tokens))
        answers = _first_answers(batch.records.column("answers"))
        return Questions(batch.first, batch.records.column("id"), texts, contexts, batch.context, *answers)


def _parts(records: Any) -> Iterator[Any]:
    """Records in parts of no more than CHARACTERS of contexts."""
    import pyarrow.compute as pc

    contexts = records.column("context")
    sizes = pc.utf8_length(contexts.dictionary).to_numpy()[contexts.indices.to_numpy()]
    part = np.cumsum(sizes.astype(np.int64)) // CHARACTERS
    bounds = [0, *(np.flatnonzero(np.diff(part)) + 1).tolist(), len(records)]
    yield from (records.slice(a, b - a) for a, b in pairwise(bounds) if b > a)


def _first_answers(answers: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whether each question has an answer, and the characters [start, stop) of its first, 0 where it has none."""
    import pyarrow.compute as pc

    texts, starts = pc.struct_field(answers, "text"), pc.struct_field(answers, "answer_start")
    answerable = pc.greater(pc.fill_null(pc.list_value_length(texts), 0), 0).to_numpy(zero_copy_only=False)
    start, stop = np.zeros((2, len(answers)), np.int64)
    start[answerable] = _first_values(starts, answerable).to_numpy()
    stop[answerable] = start[answerable] + pc.utf8_length(_first_values(texts, answerable)).to_numpy()
    return answerable, start, stop


def _first_values(lists: Any, rows: np.ndarray) -> Any:
    import pyarrow as pa

    return lists.values.take(pa.array(lists.offsets.to_numpy()[:-1][rows]))
