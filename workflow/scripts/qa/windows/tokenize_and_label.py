"""Tokenize and label: rows of special tokens, question and a stretch of context, with their answer's token span.

Each text is encoded once, without special tokens; windows are slices of its tokens, so they equal what the tokenizer's
own overflow mechanism gives, and a question can be cut by tokens. Rows are stored unpadded; batches pad them.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from qa.common.errors import InputError, broken, some
from qa.common.files import written_aside
from qa.common.progress import Progress
from qa.data.read_records import number_of_records
from qa.windows.encoder import Encoder, Questions
from qa.windows.labels import NONE, exact_labels, walkthrough_labels
from qa.windows.tokenizer import row_template

TOKENS = 2**20  # of the rows made at once, but for one row that is longer
LIST_COLUMNS = ("input_ids", "token_type_ids", "offset_start", "offset_end")

log = logging.getLogger(__name__)


@dataclass
class Tally:
    """What `tokenize` made of the questions."""

    questions: int = 0
    windows: int = 0
    labelled: int = 0  # windows with an answer span
    truncated: int = 0  # questions whose context was cut
    question_cut: int = 0
    unlabelled: list[str] = field(default_factory=list)  # answerable questions without any labelled window


@dataclass(frozen=True)
class Windows:
    """Windows of some questions: int64 arrays of shape (windows,).

    `question` is the window's question, `number` the window's within it, `begin` and `end` bound its tokens of the
    whole context.
    """

    question: np.ndarray
    number: np.ndarray
    begin: np.ndarray
    end: np.ndarray

    def __len__(self) -> int:
        return len(self.question)


def window_counts(tokens: np.ndarray, room: np.ndarray, overlap: int) -> np.ndarray:
    """How many windows of `room` tokens, each sharing `overlap` with the one before, cover contexts of `tokens`.

    They start every room - overlap tokens, and the last ends with the context: the same as `stride=overlap` of the
    tokenizers library gives.
    """
    return 1 + np.maximum(0, -(-(tokens - room) // (room - overlap)))


class WindowBuilder:
    """Makes the rows of questions with one tokenizer and one choice of settings (`windows` of the configuration)."""

    def __init__(self, tokenizer: Any, settings: dict[str, Any]):
        self.tokenizer = tokenizer
        self.settings = settings
        self.template = row_template(tokenizer)
        self.with_types = "token_type_ids" in tokenizer.model_input_names
        self.schema = _schema(self.with_types)
        # the walkthrough takes the tokenizer's offsets as they are
        self.encoder = Encoder(tokenizer, trim=settings["labels"] == "exact")
        self.tally = Tally()
        if settings["max_length"] > tokenizer.model_max_length:
            raise InputError(
                f"windows.max_length: {settings['max_length']} tokens are more than the "
                f"{tokenizer.model_max_length} that the model {settings.get('model', '')} takes"
            )

    def rows(self, questions: Questions) -> Iterator[Any]:
        """Yield the questions' rows, in order, as one `pyarrow.RecordBatch` or several, and count them in the tally.

        A row has id, record, window (its number within the question), input_ids, token_type_ids where the model takes
        them, offset_start and offset_end (characters of the question for its tokens, of the context for its tokens,
        0 for special ones), context_token (the number of its first token within the whole context), context_start and
        context_stop (the context's places in the row), null_position, start_positions and end_positions (the label;
        the null position where the row holds no answer). Raises InputError for a question that leaves its context no
        room.
        """
        lengths = self._question_lengths(questions)
        windows = self._windows(questions, lengths)
        labels = self._labels(questions, windows)
        self._count(questions, windows, labels)
        pool = self._pool(questions)
        total = np.cumsum(self.template.special_tokens + lengths[windows.question] + windows.end - windows.begin)
        begin = 0
        while begin < len(total):
            before = total[begin - 1] if begin else 0
            end = max(begin + 1, int(np.searchsorted(total, before + TOKENS, "right")))
            part = Windows(*(array[begin:end] for array in vars(windows).values()))
            yield self._table(questions, lengths, part, labels[begin:end], pool)
            begin = end

    def _question_lengths(self, questions: Questions) -> np.ndarray:
        lengths, longest = questions.texts.lengths, self.settings["max_question_length"]
        if longest is None:
            return lengths
        self.tally.question_cut += int((lengths > longest).sum())
        return np.minimum(lengths, longest)

    def _windows(self, questions: Questions, lengths: np.ndarray) -> Windows:
        windowed = self.settings["long_contexts"] == "windows"
        overlap = self.settings["overlap"] if windowed else 0
        room = self.settings["max_length"] - self.template.special_tokens - lengths
        for question in np.flatnonzero(room <= overlap)[:1]:
            raise InputError(
                f"id {questions.ids[question].as_py()!r}: its question has {lengths[question]} tokens, which leaves "
                f"{max(room[question], 0)} of {self.settings['max_length']} for the context, with an overlap of "
                f"{overlap}; set windows.max_question_length, or raise windows.max_length"
            )
        tokens = questions.contexts.lengths[questions.context]
        count = window_counts(tokens, room, overlap)
        if not windowed:
            self.tally.truncated += int((count > 1).sum())
            count = np.ones_like(count)
        question = np.repeat(np.arange(len(count)), count)
        number = np.arange(len(question)) - np.repeat(np.cumsum(count) - count, count)
        begin = number * (room - overlap)[question]
        return Windows(question, number, begin, np.minimum(begin + room[question], tokens[question]))

    def _labels(self, questions: Questions, windows: Windows) -> np.ndarray:
        """First and last token of each window's answer within its slice of the context, NONE where it holds none."""
        labels = np.full((len(windows), 2), NONE)
        if self.settings["labels"] == "walkthrough":
            answerable = np.flatnonzero(questions.answerable[windows.question])
            question = windows.question[answerable]
            answers = questions.start[question], questions.stop[question]
            part = windows.begin[answerable], windows.end[answerable]
            labels[answerable] = walkthrough_labels(questions.contexts, questions.context[question], part, *answers)
            return labels
        answerable = np.flatnonzero(questions.answerable)
        answers = questions.start[answerable], questions.stop[answerable]
        spans = np.full((len(questions.answerable), 2), NONE)
        spans[answerable] = exact_labels(questions.contexts, questions.context[answerable], *answers)
        first, last = spans[windows.question].T
        inside = (first >= windows.begin) & (last < windows.end)
        labels[inside] = spans[windows.question[inside]] - windows.begin[inside, None]
        return labels

    def _count(self, questions: Questions, windows: Windows, labels: np.ndarray) -> None:
        labelled = labels[:, 0] != NONE
        self.tally.questions += len(questions)
        self.tally.windows += len(windows)
        self.tally.labelled += int(labelled.sum())
        lost = questions.answerable.copy()
        lost[windows.question[labelled]] = False
        self.tally.unlabelled += [questions.ids[question].as_py() for question in np.flatnonzero(lost)]

    def _pool(self, questions: Questions) -> dict[str, np.ndarray]:
        """What the list columns' values are drawn from: special tokens, then all questions', then all contexts'."""
        texts, contexts = questions.texts, questions.contexts
        before, between, after = self.template.before, self.template.between, self.template.after
        none = np.zeros(self.template.special_tokens, np.int32)
        first, of_question, middle, of_context, last = self.template.types
        types = (first, middle, last, of_question.repeat(len(texts.ids)), of_context.repeat(len(contexts.ids)))
        return {
            "input_ids": np.concatenate([before, between, after, texts.ids, contexts.ids]),
            "token_type_ids": np.concatenate(types),
            "offset_start": np.concatenate([none, texts.start, contexts.start]),
            "offset_end": np.concatenate([none, texts.stop, contexts.stop]),
        }

    def _table(
        self, questions: Questions, lengths: np.ndarray, windows: Windows, labels: np.ndarray, pool: dict[str, Any]
    ) -> Any:
        import pyarrow as pa

        sizes, index = self._drawn(questions, lengths, windows)
        bounds = np.concatenate([[0], np.cumsum(sizes.sum(1))]).astype(np.int32)
        null = self.template.null_position(sizes.sum(1))
        context_start = sizes[:, :3].sum(1)
        label = np.where(labels == NONE, null[:, None], labels + context_start[:, None])
        columns = {
            "id": questions.ids.take(pa.array(windows.question)),
            "record": questions.first + windows.question,
            "window": windows.number,
            "context_token": windows.begin,
            "context_start": context_start,
            "context_stop": context_start + windows.end - windows.begin,
            "null_position": null,
            "start_positions": label[:, 0],
            "end_positions": label[:, 1],
        }
        for name in set(LIST_COLUMNS) & set(self.schema.names):
            columns[name] = pa.ListArray.from_arrays(bounds, pool[name][index])
        arrays = [
            pa.array(columns[part.name].astype(np.int32)) if part.type == pa.int32() else columns[part.name]
            for part in self.schema
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _drawn(self, questions: Questions, lengths: np.ndarray, windows: Windows) -> tuple[np.ndarray, np.ndarray]:
        """Sizes of each row's five parts (windows, 5), and where in the pool the tokens of all rows are, end to end."""
        template, texts, contexts = self.template, questions.texts, questions.contexts
        before, between, after = len(template.before), len(template.between), len(template.after)
        first_context = template.special_tokens + texts.bounds[-1]
        context = contexts.bounds[questions.context[windows.question]]
        begins = np.empty((len(windows), 5), np.int64)
        begins[:] = 0, 0, before, 0, before + between
        begins[:, 1] = template.special_tokens + texts.bounds[windows.question]
        begins[:, 3] = first_context + context + windows.begin
        sizes = np.empty_like(begins)
        sizes[:] = before, 0, between, 0, after
        sizes[:, 1], sizes[:, 3] = lengths[windows.question], windows.end - windows.begin
        flat = sizes.ravel()
        moved = begins.ravel() - (np.cumsum(flat) - flat)
        return sizes, np.repeat(moved, flat) + np.arange(flat.sum())


def tokenize(records: str | Path, tokenizer: Any, settings: dict[str, Any], target: str | Path) -> Tally:
    """Write the windows of a records file as a `datasets.Dataset` folder (memory-mapped when loaded).

    Records are read some thousands at a time, so memory does not grow with their number; one batch is encoded while the
    rows of the batch before are made and written. Raises InputError for a question that leaves no room for its context.
    """
    import pyarrow as pa

    windower = WindowBuilder(tokenizer, settings)
    progress = Progress("tokenize and label", number_of_records(records), "questions")
    with written_aside(target, directory=True) as aside:
        data = _empty_dataset(aside, windower.schema)
        with pa.OSFile(str(data), "wb") as sink, pa.ipc.new_stream(sink, windower.schema) as writer:
            for questions in windower.encoder.read(records):
                for rows in windower.rows(questions):
                    writer.write_batch(rows)
                progress.reach(questions.first + len(questions))
    tally = windower.tally
    log.info(
        f"{tally.questions:,} questions, {tally.windows:,} windows, {tally.labelled:,} with an answer; "
        f"{tally.truncated:,} contexts truncated, {tally.question_cut:,} questions cut"
    )
    if tally.unlabelled:
        log.warning(f"no window holds the answer of {len(tally.unlabelled):,} questions: {some(tally.unlabelled)}")
    return tally


def _schema(with_types: bool) -> Any:
    import pyarrow as pa

    lists = [name for name in LIST_COLUMNS if with_types or name != "token_type_ids"]
    numbers = ("context_token", "context_start", "context_stop", "null_position", "start_positions", "end_positions")
    return pa.schema(
        [("id", pa.string()), ("record", pa.int32()), ("window", pa.int32())]
        + [(name, pa.list_(pa.int32())) for name in lists]
        + [(name, pa.int32()) for name in numbers]
    )


def _empty_dataset(folder: Path, schema: Any) -> Path:
    """Save a dataset without rows to `folder`, and return its data file, an Arrow stream of `schema` to be replaced.

    `datasets` itself could only copy a stream that is written already, and needs its pages in memory for it.
    """
    import datasets
    from datasets.fingerprint import generate_random_fingerprint

    datasets.disable_progress_bars()
    empty = datasets.Dataset(schema.empty_table(), fingerprint=generate_random_fingerprint())
    empty.save_to_disk(folder, num_shards=1)
    (data,) = folder.glob("*.arrow")
    return data


def load_windows(path: str | Path) -> Any:
    """The windows of a folder that `tokenize` wrote, a memory-mapped `datasets.Dataset`."""
    import datasets

    try:
        return datasets.load_from_disk(str(path))
    except (FileNotFoundError, OSError, ValueError) as error:
        raise broken(path, "windows", error) from None
