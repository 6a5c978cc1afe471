"""Questions of a records file, encoded batch by batch. A thread encodes the next batches while one is worked on."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from qa.common.parquet import opened
from qa.windows.ranges import bounds_of, slices_within
from qa.windows.tokenizer import EncodedText, EncodedTexts, encode_only, tokens_of

BATCH_RECORDS = 2_000  # records encoded at once
BATCH_CHARACTERS = 2**23  # of their contexts (a longer one is encoded alone): a character can be a token of 100 bytes
BATCHES_AHEAD = 2  # batches that the thread has while the rows of one are built: the one it encodes, and the next
CACHED_CHARACTERS = 2**25  # of contexts whose tokens are kept for later questions: some 130 MB of English
COLUMNS = ["id", "question", "context", "answers"]


@dataclass(frozen=True)
class EncodedQuestions:
    """The tokens and the gold answers of consecutive records.

    `first` is the number of the first record, `records` a `pyarrow.RecordBatch` of them, `texts` and `contexts` the
    tokens of each question and of each distinct context. `context`, int (questions,), is the number of the question's
    context in `contexts`. Question i has the gold answers golds[i] to golds[i+1]: `golds`, int64 (questions + 1,), are
    bounds in `start` and `stop`, int64 (golds,), the characters of each gold answer.
    """

    first: int
    records: Any
    texts: EncodedTexts
    contexts: EncodedTexts
    context: np.ndarray
    golds: np.ndarray
    start: np.ndarray
    stop: np.ndarray

    def __len__(self) -> int:
        return len(self.context)

    @property
    def ids(self) -> Any:
        """Ids of the questions, a `pyarrow.Array`."""
        return self.records.column("id")


@dataclass
class CachedContext:
    """The tokens of a context; None until they are computed."""

    tokens: EncodedText | None = None


class ContextCache:
    """Contexts of earlier batches, so that each distinct context is encoded once. The oldest are dropped first."""

    def __init__(self, characters: int = CACHED_CHARACTERS):
        self.room = characters
        self.cached: dict[str, CachedContext] = {}

    def find(self, contexts: list[str]) -> tuple[list[str], list[CachedContext]]:
        """The new ones among distinct contexts, and the entries of all.

        The caller encodes the new contexts and fills their entries. It keeps its entries even where the cache drops
        them.
        """
        new = [context for context in contexts if context not in self.cached]
        self.cached.update((context, CachedContext()) for context in new)
        entries = [self.cached[context] for context in contexts]
        self.room -= sum(map(len, new))
        while self.room < 0:
            oldest = next(iter(self.cached))
            self.room += len(oldest)
            del self.cached[oldest]
        return new, entries


@dataclass(frozen=True)
class QuestionBatch:
    """Records to encode. The tokenizer gets `texts`, the new contexts and then all questions.

    `entries` are the batch's distinct contexts; `context`, int (records,), numbers each record's context in them.
    """

    first: int
    records: Any
    new_contexts: list[str]
    questions: list[str]
    entries: list[CachedContext]
    context: np.ndarray

    @property
    def texts(self) -> list[str]:
        """The texts to encode."""
        return self.new_contexts + self.questions


class Encoder:
    """Encodes records with one tokenizer; for `trim` see `tokens_of`. `cached` characters of contexts are kept."""

    def __init__(self, tokenizer: Any, trim: bool, cached: int = CACHED_CHARACTERS):
        self.tokenizer, self.trim = tokenizer, trim
        self.cache = ContextCache(cached)

    def questions(self, records: Any, first: int = 0) -> EncodedQuestions:
        """Encode a `pyarrow.RecordBatch` of the records' schema; `first` is the number of its first record."""
        batch = self._batch(records, first)
        return self._encoded(batch, encode_only(self.tokenizer, batch.texts))

    def read(self, path: str | Path) -> Iterator[EncodedQuestions]:
        """Yield the questions of a records file (Parquet), some thousands at a time.

        The thread only calls the tokenizers library, which leaves Python free, and always has a batch waiting.
        """
        with ThreadPoolExecutor(1) as thread:
            waiting: deque[tuple[QuestionBatch, Future[list[Any]]]] = deque()
            for batch in self._batches(path):
                waiting.append((batch, thread.submit(encode_only, self.tokenizer, batch.texts)))
                if len(waiting) > BATCHES_AHEAD:
                    oldest, encodings = waiting.popleft()
                    yield self._encoded(oldest, encodings.result())
            for batch, encodings in waiting:
                yield self._encoded(batch, encodings.result())

    def _batches(self, path: str | Path) -> Iterator[QuestionBatch]:
        first = 0
        with opened(path, read_dictionary=["context"]) as file:
            for records in file.iter_batches(batch_size=BATCH_RECORDS, columns=COLUMNS):
                for part in slices_within(_context_lengths(records), BATCH_CHARACTERS):
                    yield self._batch(records.slice(part.start, part.stop - part.start), first + part.start)
                first += len(records)

    def _batch(self, records: Any, first: int) -> QuestionBatch:
        contexts = records.column("context").dictionary_encode()  # no work for a file's column, which is encoded so
        distinct, context = np.unique(contexts.indices.to_numpy(), return_inverse=True)
        new, entries = self.cache.find(contexts.dictionary.take(pa.array(distinct)).to_pylist())
        questions = [question.strip() for question in records.column("question").to_pylist()]
        return QuestionBatch(first, records, new, questions, entries, context)

    def _encoded(self, batch: QuestionBatch, encodings: list[Any]) -> EncodedQuestions:
        tokens = tokens_of(encodings, batch.texts, self.trim)
        new = len(batch.new_contexts)
        contexts, questions = tokens.between(0, new), tokens.between(new, len(tokens))
        empty = [entry for entry in batch.entries if entry.tokens is None]
        for number, entry in enumerate(empty):
            entry.tokens = contexts[number]
        if len(empty) < len(batch.entries):
            contexts = EncodedTexts.joined(entry.tokens for entry in batch.entries)
        answers = _gold_answers(batch.records.column("answers"))
        return EncodedQuestions(batch.first, batch.records, questions, contexts, batch.context, *answers)


def _context_lengths(records: Any) -> np.ndarray:
    """Characters of each record's context, int64 of shape (records,)."""
    contexts = records.column("context")
    return pc.utf8_length(contexts.dictionary).to_numpy()[contexts.indices.to_numpy()].astype(np.int64)


def _gold_answers(answers: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bounds of each question's gold answers, and the characters [start, stop) of all of them."""
    texts, starts = pc.struct_field(answers, "text"), pc.struct_field(answers, "answer_start")
    start = starts.flatten().to_numpy().astype(np.int64)
    stop = start + pc.utf8_length(texts.flatten()).to_numpy()
    return bounds_of(pc.fill_null(pc.list_value_length(texts), 0).to_numpy()), start, stop
