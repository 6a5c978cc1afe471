"""Labels: the tokens of an answer, for many answers by one search in the sorted offsets of all contexts."""

import numpy as np

from qa.windows.tokenizer import EncodedText, EncodedTexts

NONE = -2  # no label; -1 is a place that the walkthrough's rule can give


def answer_tokens(context: EncodedText, start: int, stop: int) -> tuple[int, int] | None:
    """First and last token of the smallest span that contains the characters [start, stop), or None.

    Tokens without width hold no character. Tokens that share the bytes of one character all belong to it.
    """
    holds = (context.stop > start) & (context.start < stop) & (context.stop > context.start)
    tokens = np.flatnonzero(holds)
    return (int(tokens[0]), int(tokens[-1])) if len(tokens) else None


def walkthrough_label(context: EncodedText, start: int, stop: int) -> tuple[int, int] | None:
    """The walkthrough's label (docs/baseline.md) of the answer [start, stop) in a context cut to its row, or None.

    First and last are token places in `context`. An answer that the cut divides ends one place after the last token;
    only an answer wholly outside has no label. So places can be -1 or len(context).
    """
    if not len(context) or context.start[0] > stop or context.stop[-1] < start:
        return None
    starts_after = np.flatnonzero(context.start > start)
    stops_before = np.flatnonzero(context.stop < stop)
    first = int(starts_after[0]) - 1 if len(starts_after) else len(context) - 1
    last = int(stops_before[-1]) + 1 if len(stops_before) else 0
    return first, last


class SearchableOffsets:
    """Offsets of several contexts as one sorted array: each context's are moved above those of the context before.

    Only the tokens `tokens` (numbers, in order) of `contexts` count. `unsorted` (bool, one a context) marks contexts
    whose own offsets go back and forth, as some normalizers make them: a search cannot serve these.
    """

    def __init__(self, contexts: EncodedTexts, tokens: np.ndarray):
        start, stop = contexts.start[tokens], contexts.stop[tokens]
        context = np.repeat(np.arange(len(contexts)), contexts.lengths)[tokens]
        self.highest = int(max(start.max(initial=0), stop.max(initial=0)))
        self.stride = self.highest + 2
        self.start, self.stop = start + context * self.stride, stop + context * self.stride
        self.unsorted = np.zeros(len(contexts), bool)
        for offsets in (self.start, self.stop):
            self.unsorted[context[1:][np.diff(offsets) < 0]] = True

    def first_above(self, offsets: np.ndarray, context: np.ndarray, character: np.ndarray) -> np.ndarray:
        """Number of the first token whose `start` or `stop` is after a character of its context.

        Where there is none, the number of the next context's first token.
        """
        return np.searchsorted(offsets, character.clip(-1, self.highest) + context * self.stride, "right")


def exact_labels(contexts: EncodedTexts, context: np.ndarray, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """`answer_tokens` of many answers: int64 of shape (answers, 2), tokens of the whole context, NONE without a label.

    Answer i is the characters [start[i], stop[i]) of context number context[i].
    """
    wide = np.flatnonzero(contexts.stop > contexts.start)
    offsets = SearchableOffsets(contexts, wide)
    first = offsets.first_above(offsets.stop, context, start)
    last = offsets.first_above(offsets.start, context, stop - 1) - 1
    labels = np.full((len(start), 2), NONE)
    found = first <= last
    tokens = np.column_stack([wide[first[found]], wide[last[found]]])
    labels[found] = tokens - contexts.bounds[context[found], None]
    for answer in np.flatnonzero(offsets.unsorted[context]):
        labels[answer] = answer_tokens(contexts[context[answer]], start[answer], stop[answer]) or NONE
    return labels


def walkthrough_labels(
    contexts: EncodedTexts,
    context: np.ndarray,
    part: tuple[np.ndarray, np.ndarray],
    start: np.ndarray,
    stop: np.ndarray,
) -> np.ndarray:
    """`walkthrough_label` of many answers: int64 of shape (answers, 2), tokens of the context's part, else NONE.

    Answer i is the characters [start[i], stop[i]) of context number context[i]. Of that context, the row has the
    tokens [part[0][i], part[1][i]).
    """
    offsets = SearchableOffsets(contexts, np.arange(len(contexts.ids)))
    begin, end = (contexts.bounds[context] + bound for bound in part)
    first = offsets.first_above(offsets.start, context, start).clip(begin, end) - begin - 1
    last = offsets.first_above(offsets.stop, context, stop - 1).clip(begin, end) - begin
    labels = np.full((len(start), 2), NONE)
    answers = np.flatnonzero(end > begin)
    inside = (contexts.start[begin[answers]] <= stop[answers]) & (contexts.stop[end[answers] - 1] >= start[answers])
    answers = answers[inside]
    labels[answers] = np.column_stack([first[answers], last[answers]])
    for answer in np.flatnonzero(offsets.unsorted[context]):
        tokens = contexts[context[answer]][part[0][answer] : part[1][answer]]
        labels[answer] = walkthrough_label(tokens, start[answer], stop[answer]) or NONE
    return labels
