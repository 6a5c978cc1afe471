"""Tokenizers: loading one, what it puts around a pair of texts, and the tokens of many texts as flat arrays."""

import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qa.common.errors import InputError, first_line, shortage
from qa.common.files import read_json

WHITE_SPACE = np.array([chr(point).isspace() for point in range(0x3002)])  # the last entry: any higher code point


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
class Texts:
    """Tokens of several texts end to end: the arrays of `Encoded`, and where each text's begin.

    Those of text i lie from bounds[i] to bounds[i+1]; `bounds` is an int64 array of shape (texts + 1,).
    """

    ids: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    bounds: np.ndarray

    @classmethod
    def joined(cls, texts: Iterable[Encoded]) -> "Texts":
        """Copies of some texts' tokens, end to end."""
        texts = list(texts)
        columns = [[text.ids for text in texts], [text.start for text in texts], [text.stop for text in texts]]
        none = np.zeros(0, np.int32)
        return cls(*(np.concatenate(column) if texts else none for column in columns), _bounds(map(len, texts)))

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def __getitem__(self, text: int) -> Encoded:
        part = slice(self.bounds[text], self.bounds[text + 1])
        return Encoded(self.ids[part], self.start[part], self.stop[part])

    def between(self, first: int, last: int) -> "Texts":
        """The texts from number `first` up to, but without, number `last`."""
        part = slice(self.bounds[first], self.bounds[last])
        bounds = self.bounds[first : last + 1] - self.bounds[first]
        return Texts(self.ids[part], self.start[part], self.stop[part], bounds)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each text, int64 of shape (texts,)."""
        return np.diff(self.bounds)


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

    def null_position(self, length: Any) -> Any:
        """Where rows of `length` tokens (a number, or an array) hold the token that stands for no answer.

        That is their [CLS], else the first.
        """
        side, place = self.null_from
        return length * 0 + place if side == "before" else length - len(self.after) + place


def load_tokenizer(path: str | Path) -> Any:
    """The tokenizer of a model folder, local files only.

    Raises InputError for one that is missing, broken or slow, and what the machine lacks (`errors.shortage`) as it is.
    """
    from transformers import AutoTokenizer
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()  # lest it warn of contexts that are longer than a row: they will be cut
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # of many kinds, for files that hold anything
        if shortage(error):
            raise
        raise InputError(f"{path}: its tokenizer cannot be loaded ({first_line(error)})") from None
    if len(tokenizer) <= len(tokenizer.all_special_ids):  # a missing vocabulary is no error to transformers
        raise InputError(f"{path}: its tokenizer has no vocabulary; are all of the tokenizer's files there?")
    if not tokenizer.is_fast:
        raise InputError(
            f"{path}: {type(tokenizer).__name__} is a slow tokenizer without offsets; a fast one is needed"
        )
    embedded, highest = _embeddings(Path(path, "config.json")), max(tokenizer.get_vocab().values())
    if embedded is not None and highest >= embedded:
        raise InputError(
            f"{path}: its tokenizer has tokens up to number {highest:,}, its model embeddings for {embedded:,} "
            "(vocab_size of config.json): the two are no pair"
        )
    return tokenizer


def _embeddings(config: Path) -> int | None:
    """Tokens that a model has embeddings for, None where its configuration does not say."""
    said = read_json(config) if config.is_file() else None
    size = said.get("vocab_size") if isinstance(said, dict) else None
    return size if isinstance(size, int) else None


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


def encode(tokenizer: Any, texts: list[str], trim: bool = True) -> Texts:
    """Tokens of whole texts without special tokens: `tokens_of` what `encode_only` gives."""
    return tokens_of(encode_only(tokenizer, texts), texts, trim)


def encode_only(tokenizer: Any, texts: list[str]) -> list[Any]:
    """The tokenizers library's encodings of whole texts without special tokens; other threads run meanwhile.

    transformers' own call gives the same tokens but takes twice as long, for the copies that it makes of each.
    """
    with _whole_texts(tokenizer) as backend:
        return backend.encode_batch(texts, add_special_tokens=False)


def tokens_of(encodings: list[Any], texts: list[str], trim: bool = True) -> Texts:
    """The encodings of some texts as arrays; offsets count characters of each text.

    `trim` leaves white space at their ends out: SentencePiece tokenizers count the space before a word as the word's,
    RoBERTa's leave it out by themselves.
    """
    flat = itertools.chain.from_iterable
    bounds = _bounds(map(len, encodings))
    ids = np.fromiter(flat(text.ids for text in encodings), np.int32, bounds[-1])
    pairs = np.fromiter(flat(flat(text.offsets for text in encodings)), np.int32, 2 * bounds[-1]).reshape(-1, 2)
    start, stop = trimmed(texts, bounds, *pairs.T) if trim else pairs.T
    return Texts(ids, np.ascontiguousarray(start), np.ascontiguousarray(stop), bounds)


@contextmanager
def _whole_texts(tokenizer: Any) -> Iterator[Any]:
    """The tokenizers library's tokenizer as transformers would set it, its truncation and padding off for a while."""
    backend = tokenizer.backend_tokenizer
    truncation, padding = backend.truncation, backend.padding
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = tokenizer.split_special_tokens
    try:
        yield backend
    finally:
        if truncation is not None:
            backend.enable_truncation(**truncation)
        if padding is not None:
            backend.enable_padding(**padding)


def trimmed(texts: list[str], bounds: np.ndarray, start: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Spans of characters without white space at their ends, in each of some texts; nothing but it has no width.

    `start` and `stop` are int32 of shape (tokens,), counted within the text; those of text i lie between bounds[i] and
    bounds[i+1].
    """
    base = np.repeat(_bounds(map(len, texts))[:-1], np.diff(bounds))  # characters before each token's text
    points = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32)
    wide = np.flatnonzero(stop > start)
    first, last = start[wide] + base[wide], stop[wide] + base[wide]
    if not (_is_space(points[first]) | _is_space(points[last - 1])).any():
        return start, stop
    space, places = _is_space(points), np.arange(len(points))
    next_letter = np.minimum.accumulate(np.where(space, len(points), places)[::-1])[::-1]
    after_letter = np.maximum.accumulate(np.where(space, 0, places + 1))
    start, stop = start.copy(), stop.copy()
    first = np.minimum(next_letter[first], last)
    start[wide], stop[wide] = first - base[wide], np.maximum(after_letter[last - 1], first) - base[wide]
    return start, stop


def _bounds(lengths: Iterable[int]) -> np.ndarray:
    return np.fromiter(itertools.accumulate(lengths, initial=0), np.int64)


def _is_space(points: np.ndarray) -> np.ndarray:
    return WHITE_SPACE[np.minimum(points, len(WHITE_SPACE) - 1)]
