"""Tokenize and label: rows of special tokens, question and a stretch of context, with their answer's token span.

Each text is encoded once, without special tokens; windows are slices of its tokens, so they equal what the tokenizer's
own overflow mechanism gives, and a question can be cut by tokens. Rows are stored unpadded; batches pad them.
"""

import itertools
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from qa.errors import InputError, some
from qa.files import remove, written_aside
from qa.progress import Progress

BATCH = 1_000  # records encoded at once
LIST_COLUMNS = ("input_ids", "token_type_ids", "offset_start", "offset_end")
WHITE_SPACE = np.array([point for point in range(0x3001) if chr(point).isspace()], np.uint32)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Encoded:
    """Tokens of one text: ids and the characters [start, stop) that each covers, int32 arrays of shape (tokens,)."""

    ids: np.ndarray
    start: np.ndarray
    stop: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, part: slice) -> "Encoded":
        return Encoded(self.ids[part], self.start[part], self.stop[part])


@dataclass(frozen=True)
class RowTemplate:
    """Special tokens before the question, between question and context, and after it.

    `types` are the token types of the special tokens, in that order, with the question's and the context's (one number
    each) in their places.
    """

    before: np.ndarray
    between: np.ndarray
    after: np.ndarray
    types: tuple[np.ndarray, ...]
    null_from: tuple[str, int]

    @property
    def special_tokens(self) -> int:
        """Special tokens of a row."""
        return len(self.before) + len(self.between) + len(self.after)

    def null_position(self, length: int) -> int:
        """Where a row of `length` tokens holds the token that stands for no answer: its [CLS], else the first."""
        side, place = self.null_from
        return place if side == "before" else length - len(self.after) + place


@dataclass
class Tally:
    """What `tokenize` made of the questions."""

    questions: int = 0
    windows: int = 0
    labelled: int = 0  # windows with an answer span
    truncated: int = 0  # questions whose context was cut
    question_cut: int = 0
    unlabelled: list[str] = field(default_factory=list)  # answerable questions without any labelled window


def load_tokenizer(path: str | Path) -> Any:
    """The tokenizer of a model folder, local files only; raises InputError for one that is missing, broken or slow."""
    from transformers import AutoTokenizer
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()  # lest it warn of contexts that are longer than a row: they will be cut
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise InputError(f"{path}: its tokenizer cannot be loaded ({str(error).splitlines()[0]})") from None
    if len(tokenizer) <= len(tokenizer.all_special_ids):  # a missing vocabulary is no error to transformers
        raise InputError(f"{path}: its tokenizer has no vocabulary; are all of the tokenizer's files there?")
    if not tokenizer.is_fast:
        raise InputError(
            f"{path}: {type(tokenizer).__name__} is a slow tokenizer without offsets; a fast one is needed"
        )
    return tokenizer


def row_template(tokenizer: Any) -> RowTemplate:
    """Read off a pair of short texts which special tokens and token types the tokenizer puts around them."""
    pair = tokenizer("a", "a")
    ids, parts = np.array(pair["input_ids"], np.int32), pair.sequence_ids(0)
    types = pair.get("token_type_ids") or [0] * len(ids)
    question = [place for place, part in enumerate(parts) if part == 0]
    context = [place for place, part in enumerate(parts) if part == 1]
    assert question and context and question[-1] < context[0], "question first, then context"
    bounds = (0, question[0], question[-1] + 1, context[0], context[-1] + 1, len(ids))
    before, _, between, _, after = (ids[a:b] for a, b in itertools.pairwise(bounds))
    kinds = [np.array(types[a:b], np.int32) for a, b in itertools.pairwise(bounds)]
    kinds[1], kinds[3] = kinds[1][:1], kinds[3][:1]
    null_from = ("before", 0)
    for side, tokens in (("after", after), ("before", before)):
        places = np.flatnonzero(tokens == tokenizer.cls_token_id) if tokenizer.cls_token_id is not None else []
        if len(places):
            null_from = (side, int(places[0]))
    return RowTemplate(before, between, after, tuple(kinds), null_from)


def encode(tokenizer: Any, texts: list[str], trim: bool = True) -> list[Encoded]:
    """Encode texts without special tokens; offsets count characters of each text.

    `trim` leaves white space at their ends out: SentencePiece tokenizers count the space before a word as the word's,
    RoBERTa's leave it out by themselves.
    """
    if not texts:
        return []
    options = {"return_attention_mask": False, "return_token_type_ids": False}
    batch = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True, **options)
    encoded = []
    for text, ids, offsets in zip(texts, batch["input_ids"], batch["offset_mapping"], strict=True):
        spans = np.array(offsets, np.int32).reshape(-1, 2)
        start, stop = trimmed(text, *spans.T) if trim else spans.T
        encoded.append(Encoded(np.array(ids, np.int32), start, stop))
    return encoded


def trimmed(text: str, start: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Spans of characters, int32 of shape (tokens,), without white space at their ends; nothing but it has no width."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    space = np.append(np.isin(points, WHITE_SPACE), False)
    if not len(start) or not (space[start] | space[stop - 1])[stop > start].any():
        return start, stop
    places = np.arange(len(space), dtype=np.int32)
    next_letter = np.minimum.accumulate(np.where(space, len(space), places)[::-1])[::-1]
    after_letter = np.maximum.accumulate(np.where(space, 0, places + 1))
    first = np.minimum(next_letter[start], stop)
    last = np.where(stop > start, np.maximum(after_letter[stop - 1], first), stop)
    return first.astype(np.int32), last.astype(np.int32)


def window_slices(tokens: int, room: int, overlap: int) -> list[slice]:
    """Slices of at most `room` tokens, each sharing `overlap` with the one before, that together cover all `tokens`.

    The last ends with the context. The same slices as `stride=overlap` of the tokenizers library gives.
    """
    last = max(0, -(-(tokens - room) // (room - overlap)))
    return [slice(i * (room - overlap), min(i * (room - overlap) + room, tokens)) for i in range(last + 1)]


def answer_tokens(context: Encoded, start: int, stop: int) -> tuple[int, int] | None:
    """First and last token of the smallest span that contains the characters [start, stop), or None.

    Tokens without width hold no character, and tokens that share the bytes of one character all belong to it.
    """
    holds = (context.stop > start) & (context.start < stop) & (context.stop > context.start)
    tokens = np.flatnonzero(holds)
    return (int(tokens[0]), int(tokens[-1])) if len(tokens) else None


def walkthrough_label(context: Encoded, start: int, stop: int) -> tuple[int, int] | None:
    """The published walkthrough's label of the answer [start, stop), as token places within a context cut to a row.

    An answer cut by the truncation gets the place after the context's last token as its end; only one that lies wholly
    outside gets None. Places may so be -1 or len(context).
    """
    if not len(context) or context.start[0] > stop or context.stop[-1] < start:
        return None
    too_late = np.flatnonzero(context.start > start)
    too_early = np.flatnonzero(context.stop < stop)
    first = int(too_late[0]) - 1 if len(too_late) else len(context) - 1
    last = int(too_early[-1]) + 1 if len(too_early) else 0
    return first, last


class Windower:
    """Makes the rows of questions with one tokenizer and one choice of settings (`windows` of the configuration)."""

    def __init__(self, tokenizer: Any, settings: dict[str, Any]):
        self.tokenizer = tokenizer
        self.settings = settings
        self.template = row_template(tokenizer)
        self.with_types = "token_type_ids" in tokenizer.model_input_names
        self.tally = Tally()
        if settings["max_length"] > tokenizer.model_max_length:
            raise InputError(
                f"windows.max_length: {settings['max_length']} tokens are more than the "
                f"{tokenizer.model_max_length} that the model {settings.get('model', '')} takes"
            )

    def rows(self, records: list[dict[str, Any]], first: int = 0) -> Iterator[dict[str, Any]]:
        """Yield the rows of some records, each distinct context encoded once; `first` numbers the records.

        A row has id, record, window (its number within the question), input_ids, token_type_ids where the model takes
        them, offset_start and offset_end (characters of the question for its tokens, of the context for its tokens,
        0 for special ones), context_start and context_stop (the context's places in the row), context_token (the
        number of its first token within the whole context), null_position, start_positions and end_positions (the
        label; the null position where the row holds no answer).
        """
        trim = self.settings["labels"] == "exact"  # the walkthrough takes the tokenizer's offsets as they are
        contexts = list(dict.fromkeys(record["context"] for record in records))
        context_tokens = dict(zip(contexts, encode(self.tokenizer, contexts, trim), strict=True))
        questions = encode(self.tokenizer, [record["question"].strip() for record in records], trim)
        for number, (record, question) in enumerate(zip(records, questions, strict=True), first):
            yield from self._rows_of(number, record, question, context_tokens[record["context"]])

    def _rows_of(
        self, number: int, record: dict[str, Any], question: Encoded, context: Encoded
    ) -> Iterator[dict[str, Any]]:
        longest = self.settings["max_question_length"]
        if longest is not None and len(question) > longest:
            self.tally.question_cut += 1
            question = question[:longest]
        slices = self._slices(record["id"], len(question), len(context))
        if self.settings["long_contexts"] == "truncate" and len(slices) > 1:
            self.tally.truncated += 1
            slices = slices[:1]
        labels = [self._label(record, context, part) for part in slices]
        self.tally.questions += 1
        self.tally.windows += len(slices)
        self.tally.labelled += sum(label is not None for label in labels)
        if record["answers"]["text"] and not any(labels):
            self.tally.unlabelled.append(record["id"])
        for window, (part, label) in enumerate(zip(slices, labels, strict=True)):
            row = self._row(question, context[part], label)
            yield {"id": record["id"], "record": number, "window": window, "context_token": part.start, **row}

    def _slices(self, identity: str, question: int, context: int) -> list[slice]:
        room = self.settings["max_length"] - self.template.special_tokens - question
        overlap = self.settings["overlap"] if self.settings["long_contexts"] == "windows" else 0
        if room <= overlap:
            raise InputError(
                f"id {identity!r}: its question has {question} tokens, which leaves {max(room, 0)} of "
                f"{self.settings['max_length']} for the context, with an overlap of {overlap}; set "
                "windows.max_question_length, or raise windows.max_length"
            )
        return window_slices(context, room, overlap)

    def _label(self, record: dict[str, Any], context: Encoded, part: slice) -> tuple[int, int] | None:
        """First and last token of the answer within the context's slice, or None."""
        if not record["answers"]["text"]:
            return None
        start = record["answers"]["answer_start"][0]
        stop = start + len(record["answers"]["text"][0])
        if self.settings["labels"] == "walkthrough":
            return walkthrough_label(context[part], start, stop)
        tokens = answer_tokens(context, start, stop)
        if tokens is None or tokens[0] < part.start or tokens[1] >= part.stop:
            return None
        return tokens[0] - part.start, tokens[1] - part.start

    def _row(self, question: Encoded, context: Encoded, label: tuple[int, int] | None) -> dict[str, Any]:
        template = self.template
        zeros = [np.zeros(len(part), np.int32) for part in (template.before, template.between, template.after)]
        parts = (template.before, question.ids, template.between, context.ids, template.after)
        ids = np.concatenate(parts)
        context_start = len(template.before) + len(question) + len(template.between)
        null = template.null_position(len(ids))
        start, end = (null, null) if label is None else (context_start + label[0], context_start + label[1])
        row = {
            "input_ids": ids,
            "offset_start": np.concatenate([zeros[0], question.start, zeros[1], context.start, zeros[2]]),
            "offset_end": np.concatenate([zeros[0], question.stop, zeros[1], context.stop, zeros[2]]),
            "context_start": context_start,
            "context_stop": context_start + len(context),
            "null_position": null,
            "start_positions": start,
            "end_positions": end,
        }
        if self.with_types:
            first, of_question, middle, of_context, last = template.types
            types = (first, of_question.repeat(len(question)), middle, of_context.repeat(len(context)), last)
            row["token_type_ids"] = np.concatenate(types)
        return row


def tokenize(records: str | Path, tokenizer: Any, settings: dict[str, Any], target: str | Path) -> Tally:
    """Write the windows of a records file as a `datasets.Dataset` folder (memory-mapped when loaded).

    Records are read a thousand at a time, so memory does not grow with their number. Raises InputError for a question
    that leaves no room for its context.
    """
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as parquet

    datasets.disable_progress_bars()
    windower = Windower(tokenizer, settings)
    progress = Progress("tokenize and label", parquet.read_metadata(records).num_rows, "questions")
    schema = _schema(windower.with_types)
    with written_aside(target, directory=True) as aside:
        stream = aside.with_name(f"{aside.name}.arrow")
        with pa.OSFile(str(stream), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
            first = 0
            for batch in _record_batches(records):
                writer.write_table(_table(list(windower.rows(batch, first)), schema))
                first += len(batch)
                progress.reach(first)
        datasets.Dataset.from_file(str(stream)).save_to_disk(aside)
        remove(stream)
    tally = windower.tally
    log.info(
        f"{tally.questions:,} questions, {tally.windows:,} windows, {tally.labelled:,} with an answer; "
        f"{tally.truncated:,} contexts truncated, {tally.question_cut:,} questions cut"
    )
    if tally.unlabelled:
        log.warning(f"no window holds the answer of {len(tally.unlabelled):,} questions: {some(tally.unlabelled)}")
    return tally


def _record_batches(records: str | Path) -> Iterable[list[dict[str, Any]]]:
    import pyarrow.parquet as parquet

    columns = ["id", "question", "context", "answers"]
    with parquet.ParquetFile(records) as file:
        for batch in file.iter_batches(batch_size=BATCH, columns=columns):
            yield batch.to_pylist()


def _schema(with_types: bool) -> Any:
    import pyarrow as pa

    lists = [name for name in LIST_COLUMNS if with_types or name != "token_type_ids"]
    numbers = ("context_token", "context_start", "context_stop", "null_position", "start_positions", "end_positions")
    return pa.schema(
        [("id", pa.string()), ("record", pa.int32()), ("window", pa.int32())]
        + [(name, pa.list_(pa.int32())) for name in lists]
        + [(name, pa.int32()) for name in numbers]
    )


def _table(rows: list[dict[str, Any]], schema: Any) -> Any:
    import pyarrow as pa

    columns = []
    for part in schema:
        values = [row[part.name] for row in rows]
        if pa.types.is_list(part.type):
            bounds = np.zeros(len(values) + 1, np.int32)
            np.cumsum([len(value) for value in values], out=bounds[1:])
            flat = np.concatenate(values) if values else np.zeros(0, np.int32)
            columns.append(pa.ListArray.from_arrays(bounds, pa.array(flat, pa.int32())))
        else:
            columns.append(pa.array(values, part.type))
    return pa.Table.from_arrays(columns, schema=schema)


def load_windows(path: str | Path) -> Any:
    """The windows of a folder that `tokenize` wrote, a memory-mapped `datasets.Dataset`."""
    import datasets

    try:
        return datasets.load_from_disk(str(path))
    except (FileNotFoundError, OSError, ValueError) as error:
        raise InputError(f"{path}: windows cannot be read ({error}); remove the folder and run again") from None
