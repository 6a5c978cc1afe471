"""Ensembles: one distribution over spans of text from those of several models, whatever their tokenizers."""

import numpy as np

from qa.decoding.answers import Candidates
from qa.decoding.probabilities import log_probabilities


def average(variants: list[Candidates], size: int) -> Candidates:
    """The mean of the variants' span probabilities: a span of characters that a variant does not list has 0 there.

    A variant's probabilities are the softmax over its candidates' scores and its null score. In the result `score` and
    `null_score` are logarithms of the means, the best `size` of each record kept. The variants answer the same records.
    Averaging probabilities, not logits, needs no common scale (Lakshminarayanan, Pritzel and Blundell 2017).
    """
    share, records = np.log(len(variants)), len(variants[0].null_score)
    logs = [log_probabilities(variant.score, variant.record, variant.null_score) for variant in variants]
    record, start, stop = (
        np.concatenate([getattr(variant, name) for variant in variants]) for name in ("record", "start", "stop")
    )
    score = np.concatenate([spans for spans, _ in logs]) - share
    order = np.lexsort((stop, start, record))
    record, start, stop, score = (values[order] for values in (record, start, stop, score))
    new = (np.diff(record, prepend=-1) != 0) | (np.diff(start, prepend=-1) != 0) | (np.diff(stop, prepend=-1) != 0)
    first = np.flatnonzero(new)
    record, start, stop = (values[first] for values in (record, start, stop))
    score = np.logaddexp.reduceat(score, first) if len(first) else score
    best = np.lexsort((-score, record))  # stable: equals stay in the order of start and stop
    best = best[np.arange(len(best)) - np.searchsorted(record, np.arange(records))[record] < size]
    null = np.logaddexp.reduce(np.stack([nulls for _, nulls in logs]), axis=0) - share
    return Candidates(record[best], start[best], stop[best], score[best], null)
