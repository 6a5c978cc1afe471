"""Labels: the tokens of an answer, found in sorted offsets for all questions at once."""

import numpy as np

from qa.windows.tokenizer import Encoded, Texts

NONE = -2  # no label; -1 is a place that the walkthrough may give


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


class Offsets:
    """Offsets of contexts end to end, each context's moved beyond those before it, so that one search finds all.

    Only tokens at `places` of `contexts` count. `unsorted` (bool, one a context) says where a context's own offsets go
    back and forth, as some normalizers make them: there a search finds nothing of use.
    """

    def __init__(self, contexts: Texts, places: np.ndarray):
        start, stop = contexts.start[places], contexts.stop[places]
        of = np.repeat(np.arange(len(contexts)), contexts.lengths)[places]
        self.end = int(max(start.max(initial=0), stop.max(initial=0)))  # no offset lies beyond it
        self.stride = self.end + 2
        self.start, self.stop = start + of * self.stride, stop + of * self.stride
        self.unsorted = np.zeros(len(contexts), bool)
        for offsets in (self.start, self.stop):
            self.unsorted[of[1:][np.diff(offsets) < 0]] = True

    def first_start_above(self, context: np.ndarray, character: np.ndarray) -> np.ndarray:
        """Number of the first token that starts after a character of its context; the next context's where none."""
        return self._first_above(self.start, context, character)

    def first_stop_above(self, context: np.ndarray, character: np.ndarray) -> np.ndarray:
        """Number of the first token that stops after a character of its context; the next context's where none."""
        return self._first_above(self.stop, context, character)

    def _first_above(self, offsets: np.ndarray, context: np.ndarray, character: np.ndarray) -> np.ndarray:
        return np.searchsorted(offsets, character.clip(-1, self.end) + context * self.stride, "right")


def exact_labels(contexts: Texts, context: np.ndarray, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """`answer_tokens` of many answers: int64 of shape (answers, 2), tokens of the whole context, NONE where none.

    Answer i is the characters [start[i], stop[i]) of context number context[i].
    """
    wide = np.flatnonzero(contexts.stop > contexts.start)
    offsets = Offsets(contexts, wide)
    first = offsets.first_stop_above(context, start)
    last = offsets.first_start_above(context, stop - 1) - 1
    labels = np.full((len(start), 2), NONE)
    found = first <= last
    tokens = np.column_stack([wide[first[found]], wide[last[found]]])
    labels[found] = tokens - contexts.bounds[context[found], None]
    for answer in np.flatnonzero(offsets.unsorted[context]):
        labels[answer] = answer_tokens(contexts[context[answer]], start[answer], stop[answer]) or NONE
    return labels


def walkthrough_labels(
    contexts: Texts, context: np.ndarray, part: tuple[np.ndarray, np.ndarray], start: np.ndarray, stop: np.ndarray
) -> np.ndarray:
    """`walkthrough_label` of many answers: int64 of shape (answers, 2), tokens of the context's part, NONE where none.

    `part` is the first token of each answer's part of its context, and the one after its last.
    """
    offsets = Offsets(contexts, np.arange(len(contexts.ids)))
    begin, end = (contexts.bounds[context] + bound for bound in part)
    first = offsets.first_start_above(context, start).clip(begin, end) - begin - 1
    last = offsets.first_stop_above(context, stop - 1).clip(begin, end) - begin
    labels = np.full((len(start), 2), NONE)
    some = np.flatnonzero(end > begin)
    inside = (contexts.start[begin[some]] <= stop[some]) & (contexts.stop[end[some] - 1] >= start[some])
    some = some[inside]
    labels[some] = np.column_stack([first[some], last[some]])
    for answer in np.flatnonzero(offsets.unsorted[context]):
        tokens = contexts[context[answer]][part[0][answer] : part[1][answer]]
        labels[answer] = walkthrough_label(tokens, start[answer], stop[answer]) or NONE
    return labels
