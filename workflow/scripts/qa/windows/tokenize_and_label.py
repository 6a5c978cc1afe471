"""Tokenize and label: rows of special tokens, a question and a window of its context, with the answer's token span.

The tokenizer encodes each text once, without special tokens. Windows are slices of those tokens, so they equal the
windows of the tokenizer's own overflow mechanism, and a question can be cut by tokens. Rows are stored unpadded;
collators pad or pack them.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from qa.common.errors import InputError, some
from qa.common.files import written_aside
from qa.common.progress import Progress
from qa.data.read_records import number_of_records
from qa.windows.encoder import EncodedQuestions, Encoder
from qa.windows.encoder_config import check_length
from qa.windows.labels import NONE, exact_labels, walkthrough_labels
from qa.windows.ranges import bounds_of, concatenated_ranges, slices_within
from qa.windows.tokenizer import row_template

BATCH_TOKENS = 2**20  # of the rows built at once; a longer row is built alone
LIST_COLUMNS = ("input_ids", "token_type_ids", "offset_start", "offset_end")

log = logging.getLogger(__name__)


@dataclass
class WindowCounts:
    """What `tokenize` counted."""

    questions: int = 0
    windows: int = 0
    labelled: int = 0  # windows with an answer span
    inexact: int = 0  # labels whose text is no exact match of the gold answer; 0 with the walkthrough's labels
    truncated: int = 0  # questions whose context was cut
    question_cut: int = 0  # questions that were cut themselves
    unlabelled: list[str] = field(default_factory=list)  # ids of answerable questions without a labelled window


@dataclass(frozen=True)
class Windows:
    """Windows of several questions, in order: int64 arrays of shape (windows,).

    `question` is the number of the window's question, `question_tokens` the tokens of it that the row keeps, `number`
    the window's number within the question. The window has the tokens [begin, end) of the context.
    """

    question: np.ndarray
    question_tokens: np.ndarray
    number: np.ndarray
    begin: np.ndarray
    end: np.ndarray

    def __len__(self) -> int:
        return len(self.question)

    def __getitem__(self, part: slice) -> "Windows":
        return Windows(*(array[part] for array in vars(self).values()))


def window_counts(tokens: np.ndarray, room: np.ndarray, overlap: int) -> np.ndarray:
    """How many windows of `room` tokens cover contexts of `tokens` tokens; neighbours share `overlap` tokens.

    Windows start every room - overlap tokens, and the last ends with the context, as with `stride=overlap` in the
    tokenizers library.
    """
    return 1 + np.maximum(0, -(-(tokens - room) // (room - overlap)))


class WindowBuilder:
    """Builds the rows of questions, with one tokenizer and one set of settings (`windows` of the configuration).

    For all questions at once, it does what this loop does:

        for question, context, golds in questions:
            question = question[:max_question_length]
            room = max_length - special_tokens - len(question)
            begin = 0
            while True:
                end = min(begin + room, len(context))
                row = [*before, *question, *between, *context[begin:end], *after]
                yield row, label(context, begin, end, golds)
                if end == len(context) or long_contexts == "truncate":
                    break
                begin += room - overlap
    """

    def __init__(self, tokenizer: Any, settings: dict[str, Any]):
        """Raises InputError where rows would be longer than the model takes."""
        self.settings = settings
        self.template = row_template(tokenizer)
        self.all_golds = settings.get("answers") == "all"
        self.schema = _schema("token_type_ids" in tokenizer.model_input_names, self.all_golds)
        # the walkthrough uses the tokenizer's offsets as they are
        self.encoder = Encoder(tokenizer, trim=settings["labels"] == "exact")
        self.counts = WindowCounts()
        check_length(settings["max_length"], tokenizer.model_max_length, settings.get("model", ""))

    def rows(self, questions: EncodedQuestions) -> Iterator[Any]:
        """Yield the questions' rows in order, as one or more `pyarrow.RecordBatch`, and add them to `counts`.

        The columns are: `id`; `record`; `window`, the window's number within the question; `input_ids`;
        `token_type_ids` where the model takes them; `offset_start` and `offset_end`, the characters of each token in
        the question or in the context, 0 for special tokens; `context_token`, the number of the window's first token
        in the whole context; `context_start` and `context_stop`, the window's places in the row; `null_position`;
        `start_positions` and `end_positions`, the label, which is the null position in rows without an answer.
        With `answers: all` there is also `golds`, the labels of all gold answers that the window holds: start and end
        of the first one, of the second one, and so on. Raises InputError for a question that leaves no room for its
        context.
        """
        windows = self._windows(questions)
        labels = self._labels(questions, windows)
        self._count(questions, windows, labels)
        pool = self._token_pool(questions)
        row_tokens = self.template.special_tokens + windows.question_tokens + windows.end - windows.begin
        for part in slices_within(row_tokens, BATCH_TOKENS):
            yield self._record_batch(questions, windows[part], labels[part], pool)

    def _windows(self, questions: EncodedQuestions) -> Windows:
        """Cut questions and contexts: the windows of all questions."""
        question_tokens = self._question_tokens(questions)
        windowed = self.settings["long_contexts"] == "windows"
        overlap = self.settings["overlap"] if windowed else 0
        room = self.settings["max_length"] - self.template.special_tokens - question_tokens
        for question in np.flatnonzero(room <= overlap)[:1]:
            raise InputError(
                f"id {questions.ids[question].as_py()!r}: its question has {question_tokens[question]} tokens, which "
                f"leaves {max(room[question], 0)} of {self.settings['max_length']} for the context, with an overlap "
                f"of {overlap}; set windows.max_question_length, or raise windows.max_length"
            )
        context_tokens = questions.contexts.lengths[questions.context]
        count = window_counts(context_tokens, room, overlap)
        if not windowed:
            self.counts.truncated += int((count > 1).sum())
            count = np.ones_like(count)
        question = np.repeat(np.arange(len(count)), count)
        number = concatenated_ranges(np.zeros_like(count), count)
        begin = number * (room - overlap)[question]
        end = np.minimum(begin + room[question], context_tokens[question])
        return Windows(question, question_tokens[question], number, begin, end)

    def _question_tokens(self, questions: EncodedQuestions) -> np.ndarray:
        """Tokens of each question that its rows keep, int64 of shape (questions,)."""
        tokens, longest = questions.texts.lengths, self.settings["max_question_length"]
        if longest is None:
            return tokens
        self.counts.question_cut += int((tokens > longest).sum())
        return np.minimum(tokens, longest)

    def _labels(self, questions: EncodedQuestions, windows: Windows) -> np.ndarray:
        """First and last token of the answer within each window: int64 of shape (windows, 2), NONE without one."""
        if self.settings["labels"] == "walkthrough":
            return _walkthrough_labels(questions, windows)
        labels, gold = _exact_labels(questions, windows)
        self.counts.inexact += _inexact(questions, windows, labels, gold)
        return labels

    def _count(self, questions: EncodedQuestions, windows: Windows, labels: np.ndarray) -> None:
        labelled = labels[:, 0] != NONE
        self.counts.questions += len(questions)
        self.counts.windows += len(windows)
        self.counts.labelled += int(labelled.sum())
        unlabelled = np.diff(questions.golds) > 0
        unlabelled[windows.question[labelled]] = False
        self.counts.unlabelled += [questions.ids[question].as_py() for question in np.flatnonzero(unlabelled)]

    def _token_pool(self, questions: EncodedQuestions) -> dict[str, np.ndarray]:
        """All tokens that rows can have, by list column: the special tokens, all questions', then all contexts'.

        A row is five slices of the pool, so one gather makes a whole column.
        """
        texts, contexts, template = questions.texts, questions.contexts, self.template
        no_offsets = np.zeros(template.special_tokens, np.int32)
        before, question, between, context, after = template.types
        types = (before, between, after, question.repeat(len(texts.ids)), context.repeat(len(contexts.ids)))
        return {
            "input_ids": np.concatenate([template.before, template.between, template.after, texts.ids, contexts.ids]),
            "token_type_ids": np.concatenate(types),
            "offset_start": np.concatenate([no_offsets, texts.start, contexts.start]),
            "offset_end": np.concatenate([no_offsets, texts.stop, contexts.stop]),
        }

    def _row_parts(self, questions: EncodedQuestions, windows: Windows) -> tuple[np.ndarray, np.ndarray]:
        """The five slices of `_token_pool` that make each row: begins and sizes, int64 of shape (windows, 5)."""
        template = self.template
        before, between, after = len(template.before), len(template.between), len(template.after)
        first_question = template.special_tokens
        first_context = first_question + len(questions.texts.ids)
        context_begin = first_context + questions.contexts.bounds[questions.context[windows.question]]
        question_begin = first_question + questions.texts.bounds[windows.question]
        begins = (0, question_begin, before, context_begin + windows.begin, before + between)
        sizes = (before, windows.question_tokens, between, windows.end - windows.begin, after)
        return tuple(np.stack(np.broadcast_arrays(*parts), axis=1) for parts in (begins, sizes))

    def _record_batch(
        self, questions: EncodedQuestions, windows: Windows, labels: np.ndarray, pool: dict[str, np.ndarray]
    ) -> Any:
        begins, sizes = self._row_parts(questions, windows)
        row_tokens = sizes.sum(axis=1)
        context_start = sizes[:, :3].sum(axis=1)
        null = self.template.null_positions(row_tokens)
        label = np.where(labels == NONE, null[:, None], labels + context_start[:, None])
        numbers = {
            "record": questions.first + windows.question,
            "window": windows.number,
            "context_token": windows.begin,
            "context_start": context_start,
            "context_stop": context_start + windows.end - windows.begin,
            "null_position": null,
            "start_positions": label[:, 0],
            "end_positions": label[:, 1],
        }
        columns = {name: pa.array(values.astype(np.int32)) for name, values in numbers.items()}
        if self.all_golds:
            columns["golds"] = _golds_column(questions, windows, label, context_start)
        columns["id"] = questions.ids.take(pa.array(windows.question))
        row_bounds = bounds_of(row_tokens).astype(np.int32)
        tokens = concatenated_ranges(begins.ravel(), sizes.ravel())
        for name in set(LIST_COLUMNS) & set(self.schema.names):
            columns[name] = pa.ListArray.from_arrays(row_bounds, pool[name][tokens])
        return pa.RecordBatch.from_arrays([columns[name] for name in self.schema.names], schema=self.schema)


def _held_golds(questions: EncodedQuestions, windows: Windows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each gold answer that a window wholly holds, window by window: the window, the gold answer, and its tokens.

    Numbers of windows and gold answers are int64 of shape (held,), first and last token within the window (held, 2).
    """
    context = np.repeat(questions.context, np.diff(questions.golds))
    spans = exact_labels(questions.contexts, context, questions.start, questions.stop)
    counts = np.diff(questions.golds)[windows.question]
    window = np.repeat(np.arange(len(windows)), counts)
    gold = concatenated_ranges(questions.golds[windows.question], counts)
    inside = (spans[gold, 0] >= windows.begin[window]) & (spans[gold, 1] < windows.end[window])
    window, gold = window[inside], gold[inside]
    return window, gold, spans[gold] - windows.begin[window, None]


def _exact_labels(questions: EncodedQuestions, windows: Windows) -> tuple[np.ndarray, np.ndarray]:
    """The tokens of the first gold answer that each window wholly holds, and the number of that gold answer."""
    window, gold, tokens = _held_golds(questions, windows)
    labels, number = np.full((len(windows), 2), NONE), np.zeros(len(windows), np.int64)
    labelled, first = np.unique(window, return_index=True)
    labels[labelled], number[labelled] = tokens[first], gold[first]
    return labels, number


def _inexact(questions: EncodedQuestions, windows: Windows, labels: np.ndarray, gold: np.ndarray) -> int:
    """How many labels have a text that is no exact match of their gold answer: a right model loses these."""
    # by name, so that a change of the scorer tokenizes nothing again
    normalized = import_module("qa.metrics.squad").normalize_answer
    labelled = np.flatnonzero(labels[:, 0] != NONE)
    question, gold = windows.question[labelled], gold[labelled]
    token = questions.contexts.bounds[questions.context[question]] + windows.begin[labelled] + labels[labelled].T
    spans = np.stack([questions.contexts.start[token[0]], questions.contexts.stop[token[1]]])
    golds = np.stack([questions.start[gold], questions.stop[gold]])
    contexts, count = questions.records.column("context"), 0
    for label in np.flatnonzero((spans != golds).any(axis=0)):
        context = contexts[int(question[label])].as_py()
        count += normalized(context[slice(*golds[:, label])]) != normalized(context[slice(*spans[:, label])])
    return count


def _golds_column(questions: EncodedQuestions, windows: Windows, label: np.ndarray, context_start: np.ndarray) -> Any:
    """The column `golds` of WindowBuilder.rows. `label` is that of the first one, or the null position."""
    window, _, tokens = _held_golds(questions, windows)
    held = np.bincount(window, minlength=len(windows))
    counts = np.maximum(held, 1)
    pairs = np.repeat(label, counts, axis=0)
    pairs[np.repeat(held > 0, counts)] = tokens + context_start[window, None]
    return pa.ListArray.from_arrays((2 * bounds_of(counts)).astype(np.int32), pairs.ravel().astype(np.int32))


def _walkthrough_labels(questions: EncodedQuestions, windows: Windows) -> np.ndarray:
    """The walkthrough's label of the first gold answer in each window of an answerable question."""
    gold = questions.golds[windows.question]
    answerable = np.flatnonzero(gold < questions.golds[windows.question + 1])
    gold = gold[answerable]
    labels = np.full((len(windows), 2), NONE)
    labels[answerable] = walkthrough_labels(
        questions.contexts,
        questions.context[windows.question[answerable]],
        (windows.begin[answerable], windows.end[answerable]),
        questions.start[gold],
        questions.stop[gold],
    )
    return labels


def tokenize(records: str | Path, tokenizer: Any, settings: dict[str, Any], target: str | Path) -> WindowCounts:
    """Write the windows of a records file as a `datasets.Dataset` folder, which loads memory-mapped.

    Records are read some thousands at a time, so memory does not grow with their number. One batch is encoded while
    the rows of the batch before are built and written. Raises as `WindowBuilder`.
    """
    builder = WindowBuilder(tokenizer, settings)
    progress = Progress("tokenize and label", number_of_records(records), "questions")
    with written_aside(target, directory=True) as folder:
        data = _empty_dataset(folder, builder.schema)
        with pa.OSFile(str(data), "wb") as sink, pa.ipc.new_stream(sink, builder.schema) as writer:
            for questions in builder.encoder.read(records):
                for rows in builder.rows(questions):
                    writer.write_batch(rows)
                progress.reach(questions.first + len(questions))
    counts = builder.counts
    log.info(
        f"{counts.questions:,} questions, {counts.windows:,} windows, {counts.labelled:,} with an answer "
        f"({counts.inexact:,} of their texts are no exact match of the gold answer); "
        f"{counts.truncated:,} contexts truncated, {counts.question_cut:,} questions cut"
    )
    if counts.unlabelled:
        log.warning(f"no window holds the answer of {len(counts.unlabelled):,} questions: {some(counts.unlabelled)}")
    return counts


def _schema(with_types: bool, with_golds: bool) -> Any:
    lists = [name for name in LIST_COLUMNS if with_types or name != "token_type_ids"]
    numbers = ("context_token", "context_start", "context_stop", "null_position", "start_positions", "end_positions")
    return pa.schema(
        [("id", pa.string()), ("record", pa.int32()), ("window", pa.int32())]
        + [(name, pa.list_(pa.int32())) for name in lists]
        + [(name, pa.int32()) for name in numbers]
        + [("golds", pa.list_(pa.int32()))] * with_golds
    )


def _empty_dataset(folder: Path, schema: Any) -> Path:
    """Save a dataset without rows in `folder`. Returns its data file, to be overwritten with an Arrow stream.

    `datasets` itself can only copy a finished stream, and needs its pages in memory to do so.
    """
    import datasets
    from datasets.fingerprint import generate_random_fingerprint

    datasets.disable_progress_bars()
    empty = datasets.Dataset(schema.empty_table(), fingerprint=generate_random_fingerprint())
    empty.save_to_disk(folder, num_shards=1)
    (data,) = folder.glob("*.arrow")
    return data
