"""Tokenizers: loading one, the special tokens that it puts around a pair of texts, and texts as arrays of tokens."""

import itertools
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qa.common.errors import InputError, first_line, shortage
from qa.common.files import read_json
from qa.windows.encoder_config import encoder_config, longest_row
from qa.windows.ranges import bounds_of

# Control characters, soft hyphen, direction marks, byte order mark. Not joiners, with which words are spelt.
INVISIBLE = {*range(0x20), *range(0x7F, 0xA0), 0xAD, 0x61C, 0x200B, 0x200E, 0x200F, *range(0x202A, 0x202F)}
INVISIBLE |= {*range(0x2060, 0x2070), 0xFEFF}
# White space or invisible, by code point. The last entry serves all higher points.
BLANK = np.array([point in INVISIBLE or chr(point).isspace() for point in range(0xFF01)])

CAPITALS = 0.05  # share of tokens with capitals that no vocabulary of lower-cased texts has


@dataclass(frozen=True)
class EncodedText:
    """Tokens of one text: their ids, and the characters [start, stop) of each; int32 arrays of shape (tokens,)."""

    ids: np.ndarray
    start: np.ndarray
    stop: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, part: slice) -> "EncodedText":
        return EncodedText(self.ids[part], self.start[part], self.stop[part])


@dataclass(frozen=True)
class EncodedTexts:
    """Tokens of several texts end to end: the arrays of `EncodedText`, and the bounds of each text.

    Text i has the tokens bounds[i] to bounds[i+1]; `bounds` is an int64 array of shape (texts + 1,).
    """

    ids: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    bounds: np.ndarray

    @classmethod
    def joined(cls, texts: Iterable[EncodedText]) -> "EncodedTexts":
        """Copies of the tokens of several texts, end to end."""
        texts = list(texts)
        empty = np.zeros(0, np.int32)
        ids = np.concatenate([empty, *(text.ids for text in texts)])
        start = np.concatenate([empty, *(text.start for text in texts)])
        stop = np.concatenate([empty, *(text.stop for text in texts)])
        return cls(ids, start, stop, bounds_of([len(text) for text in texts]))

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def __getitem__(self, text: int) -> EncodedText:
        part = slice(self.bounds[text], self.bounds[text + 1])
        return EncodedText(self.ids[part], self.start[part], self.stop[part])

    def between(self, first: int, stop: int) -> "EncodedTexts":
        """The texts with the numbers from `first` to `stop`, without `stop`."""
        part = slice(self.bounds[first], self.bounds[stop])
        bounds = self.bounds[first : stop + 1] - self.bounds[first]
        return EncodedTexts(self.ids[part], self.start[part], self.stop[part], bounds)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each text, int64 of shape (texts,)."""
        return np.diff(self.bounds)


@dataclass(frozen=True)
class RowTemplate:
    """Special tokens of a row: `before` the question, `between` question and context, and `after` the context.

    The arrays are int32. `types` are the token types of a row's five parts: before, question, between, context, after;
    question and context have one type each. `null_index` is the place of the token that stands for no answer, the
    row's [CLS] or else its first token. A negative place counts from the row's end.
    """

    before: np.ndarray
    between: np.ndarray
    after: np.ndarray
    types: tuple[np.ndarray, ...]
    null_index: int

    @property
    def special_tokens(self) -> int:
        """Special tokens of a row."""
        return len(self.before) + len(self.between) + len(self.after)

    def null_positions(self, lengths: np.ndarray) -> np.ndarray:
        """Place of the token for no answer in rows of these lengths (tokens, int of any shape)."""
        return self.null_index + (lengths if self.null_index < 0 else np.zeros_like(lengths))


def load_tokenizer(path: str | Path) -> Any:
    """Load the tokenizer of a model folder, from local files only.

    Raises InputError for a tokenizer that is missing, broken or slow, or that does not belong to the folder's model,
    and for a model that cannot serve. An error of the machine (`errors.shortage`) is raised unchanged.
    """
    from transformers import AutoTokenizer
    from transformers.utils import logging as transformers_logging

    config = encoder_config(path)
    transformers_logging.set_verbosity_error()  # it would warn of contexts longer than a row, which windows cut
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # broken files raise errors of many kinds
        if shortage(error):
            raise
        raise InputError(f"{path}: its tokenizer cannot be loaded ({first_line(error)})") from None
    if len(tokenizer) <= len(tokenizer.all_special_ids):  # transformers accepts a missing vocabulary
        raise InputError(f"{path}: its tokenizer has no vocabulary; are all of the tokenizer's files there?")
    if not tokenizer.is_fast:
        raise InputError(
            f"{path}: {type(tokenizer).__name__} is a slow tokenizer without offsets; a fast one is needed"
        )
    embeddings, highest = config.get("vocab_size"), max(tokenizer.get_vocab().values())
    if isinstance(embeddings, int) and highest >= embeddings:
        raise InputError(
            f"{path}: its tokenizer has tokens up to number {highest:,}, its model embeddings for {embeddings:,} "
            "(vocab_size of config.json); take both from the same model"
        )
    _check_case(Path(path), tokenizer)
    # some tokenizers name no longest row, and token types that the model has no embeddings for
    tokenizer.model_max_length = min(tokenizer.model_max_length, longest_row(config) or tokenizer.model_max_length)
    if config.get("type_vocab_size") == 1:
        tokenizer.model_input_names = [name for name in tokenizer.model_input_names if name != "token_type_ids"]
    return tokenizer


def _check_case(folder: Path, tokenizer: Any) -> None:
    """Raise InputError where transformers lower-cases texts by default, but the vocabulary has capitals.

    Some repositories of cased BERTs have nothing but a vocab.txt.
    """
    config = folder / "tokenizer_config.json"
    stated = (folder / "tokenizer.json").exists() or (config.exists() and "do_lower_case" in read_json(config))
    normalizer = tokenizer.backend_tokenizer.normalizer
    if stated or normalizer is None or normalizer.normalize_str("A") == "A":
        return
    known = tokenizer.get_vocab().keys() - set(tokenizer.all_special_tokens)
    capitals = sum(token != token.lower() for token in known)
    if capitals > CAPITALS * len(known):
        raise InputError(
            f"{folder}: no file says whether its tokenizer lower-cases texts; it would, but {capitals:,} of its "
            f"{len(known):,} tokens have capitals; copy the folder, add {config.name} with "
            '{"do_lower_case": false} to the copy, and name that as the model\'s path'
        )


def row_template(tokenizer: Any) -> RowTemplate:
    """Read the special tokens and token types from the tokenizer's row for a pair of short texts."""
    pair = tokenizer("a", "a")
    ids, sides = np.array(pair["input_ids"], np.int32), pair.sequence_ids(0)
    types = np.array(pair.get("token_type_ids") or [0] * len(ids), np.int32)
    question = [place for place, side in enumerate(sides) if side == 0]
    context = [place for place, side in enumerate(sides) if side == 1]
    assert question and context and question[-1] < context[0], "question first, then context"
    bounds = (0, question[0], question[-1] + 1, context[0], context[-1] + 1, len(ids))
    parts = [slice(begin, end) for begin, end in itertools.pairwise(bounds)]
    before, _, between, _, after = (ids[part] for part in parts)
    types_before, question_types, types_between, context_types, types_after = (types[part] for part in parts)
    return RowTemplate(
        before,
        between,
        after,
        (types_before, question_types[:1], types_between, context_types[:1], types_after),
        _null_index(tokenizer.cls_token_id, before, after),
    )


def _null_index(cls_id: int | None, before: np.ndarray, after: np.ndarray) -> int:
    """Place of the first [CLS] before the question; else of the first after the context, from the end; else 0."""
    if len(places := np.flatnonzero(before == cls_id)):
        return int(places[0])
    if len(places := np.flatnonzero(after == cls_id)):
        return int(places[0]) - len(after)
    return 0


def encode_only(tokenizer: Any, texts: list[str]) -> list[Any]:
    """The tokenizers library's encodings of whole texts, without special tokens. Other threads run meanwhile.

    transformers' own call gives the same tokens but takes twice as long, because it copies each encoding.
    """
    with _whole_texts(tokenizer) as backend:
        return backend.encode_batch(texts, add_special_tokens=False)


def tokens_of(encodings: list[Any], texts: list[str], trim: bool = True) -> EncodedTexts:
    """The encodings of texts as arrays. Offsets count characters within each text.

    With `trim`, offsets hold each token's own letters, whatever its tokenizer counts: what is BLANK at both ends is
    left out (SentencePiece counts the space before a word as part of it), and letters that no token has go to a
    neighbour (`covering`). A token without letters stops before it starts (`between_letters`). Without `trim`, offsets
    are the tokenizer's.
    """
    flat = itertools.chain.from_iterable
    bounds = bounds_of([len(encoding) for encoding in encodings])
    ids = np.fromiter(flat(encoding.ids for encoding in encodings), np.int32, bounds[-1])
    offsets = np.fromiter(flat(flat(encoding.offsets for encoding in encodings)), np.int32, 2 * bounds[-1])
    start, stop = offsets.reshape(-1, 2).T
    if trim:
        # all texts as one array of code points, a line feed between two of them
        points = np.frombuffer("\n".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32)
        begins = bounds_of([len(text) + 1 for text in texts])
        text_begin, next_begin = (np.repeat(places, np.diff(bounds)) for places in (begins[:-1], begins[1:]))
        places = covering(points, *trimmed(points, start + text_begin, stop + text_begin))
        places = between_letters(points, *places)
        start, stop = ((place.clip(text_begin, next_begin - 1) - text_begin).astype(np.int32) for place in places)
    return EncodedTexts(ids, np.ascontiguousarray(start), np.ascontiguousarray(stop), bounds)


@contextmanager
def _whole_texts(tokenizer: Any) -> Iterator[Any]:
    """The tokenizers library's own tokenizer, without truncation and padding inside the block.

    transformers sets `encode_special_tokens` before each call of it; so does this.
    """
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


def trimmed(points: np.ndarray, start: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Starts and stops of tokens without what is BLANK at their ends: for all tokens at once, what this loop does.

        while start < stop and BLANK[text[start]]:
            start += 1
        while start < stop and BLANK[text[stop - 1]]:
            stop -= 1

    `points` are the text's code points; `start` and `stop` are int64 of shape (tokens,).
    """
    blank = _are_blank(points)
    wide = np.flatnonzero(stop > start)  # only tokens with a width have something to lose
    begin, end = start[wide], stop[wide]
    if not (blank[begin] | blank[end - 1]).any():
        return start, stop
    next_letter, last_letter_end = _letters_beside(blank)
    start, stop = start.copy(), stop.copy()
    start[wide] = begin = np.minimum(next_letter[begin], end)
    stop[wide] = np.maximum(last_letter_end[end], begin)
    return start, stop


def _letters_beside(blank: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each place, also the text's end: the first letter from there on, and the end of the last letter before it."""
    places = np.arange(len(blank))
    next_letter = np.minimum.accumulate(np.where(blank, len(blank), places)[::-1])[::-1]
    last_letter_end = np.maximum.accumulate(np.where(blank, 0, places + 1))
    return np.append(next_letter, len(blank)), np.insert(last_letter_end, 0, 0)


def between_letters(points: np.ndarray, start: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Starts and stops where each token without width starts at the next letter and stops after the last one.

    So a span from or to such a token, often white space, has nothing BLANK at its ends. Arguments as of `trimmed`.
    """
    empty = start == stop
    if not empty.any():
        return start, stop
    next_letter, last_letter_end = _letters_beside(_are_blank(points))
    return np.where(empty, next_letter[start], start), np.where(empty, last_letter_end[stop], stop)


def covering(points: np.ndarray, start: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Starts and stops of tokens, moved so that letters that no token has belong to the token beside them.

    Some tokenizers drop the accents that follow a letter; the offsets of others leave out a word's first letter. An
    answer's text would lose them. Combining marks belong to the token before, other letters to the token after; or to
    the other neighbour, if that token does not touch them. What is BLANK belongs to none. Arguments as of `trimmed`.
    For all runs at once, what this loop does:

        for first, end in runs:                # of letters without a token; a token without width ends a run
            before = [token for token in tokens if stop[token] == first]
            after = [token for token in tokens if start[token] == end]
            split = first
            while before and split < end and (not after or is_mark(text[split])):
                split += 1
            new_stop[before] = split
            # a token without width is a word of one letter, which it lost: a wide one beside it keeps its own letters
            new_start[[token for token in after if stop[token] == end] or after] = split
    """
    wide = stop > start
    starting, stopping = (np.bincount(places[wide], minlength=len(points) + 1) for places in (start, stop))
    left_out = np.flatnonzero((np.cumsum(starting - stopping)[:-1] == 0) & ~_are_blank(points))
    if not len(left_out):
        return start, stop
    # 1. The runs. `opens` and `run` are of each letter that is left out.
    opens = (np.diff(left_out, prepend=-2) > 1) | np.isin(left_out, start)
    run = np.cumsum(opens) - 1
    first, end = left_out[opens], left_out[np.append(opens[1:], True)] + 1
    # 2. Where each run is split: after the combining marks at its beginning, if tokens touch it on both sides.
    distinct, kind = np.unique(points[left_out], return_inverse=True)
    mark = np.array([unicodedata.category(chr(point)).startswith("M") for point in distinct])[kind]
    others = np.cumsum(~mark)
    leading = others == (others - ~mark)[opens][run]
    split = first + np.bincount(run, leading).astype(np.int64)
    split = np.where(np.isin(end, start), split, end)
    split = np.where(np.isin(first, stop), split, first)
    # 3. The tokens that touch a run. Those that share a place, as the bytes of one character do, all move.
    before_run = np.isin(stop, first)
    after_run = np.isin(start, end) & ~(wide & np.isin(start, start[~wide]))
    new_start, new_stop = start.copy(), stop.copy()
    new_stop[before_run] = split[np.searchsorted(first, stop[before_run])]
    new_start[after_run] = split[np.searchsorted(end, start[after_run])]
    return new_start, new_stop


def _are_blank(points: np.ndarray) -> np.ndarray:
    return BLANK[np.minimum(points, len(BLANK) - 1)]
