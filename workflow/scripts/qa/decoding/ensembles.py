"""Ensembles: one distribution over spans of text from several models, whatever their tokenizers."""

import numpy as np

from qa.decoding.answers import Candidates
from qa.decoding.probabilities import log_probabilities


def average(models: list[Candidates], size: int) -> Candidates:
    """Average the span probabilities of models that answer the same questions.

    A model's probabilities are the softmax over its candidates' scores and its null score; a span that a model does not
    list has probability 0 there. In the result, `score` and `null_score` are logarithms of the means, the best `size`
    spans of each question are kept, and `windows` are those of the first model. Probabilities, unlike logits, need no
    common scale to be averaged (Lakshminarayanan, Pritzel and Blundell 2017).
    """
    share, questions = np.log(len(models)), len(models[0].null_score)
    logs = [log_probabilities(model.score, model.record, model.null_score) for model in models]
    record, start, stop = (
        np.concatenate([getattr(model, name) for model in models]) for name in ("record", "start", "stop")
    )
    score = np.concatenate([spans for spans, _ in logs]) - share
    order = np.lexsort((stop, start, record))
    record, start, stop, score = (values[order] for values in (record, start, stop, score))
    new = (np.diff(record, prepend=-1) != 0) | (np.diff(start, prepend=-1) != 0) | (np.diff(stop, prepend=-1) != 0)
    first = np.flatnonzero(new)
    record, start, stop = (values[first] for values in (record, start, stop))
    score = np.logaddexp.reduceat(score, first) if len(first) else score
    best = np.lexsort((-score, record))  # stable: equals stay in the order of start and stop
    best = best[np.arange(len(best)) - np.searchsorted(record, np.arange(questions))[record] < size]
    null = np.logaddexp.reduce(np.stack([nulls for _, nulls in logs]), axis=0) - share
    return Candidates(record[best], start[best], stop[best], score[best], null, models[0].windows)
