"""Distillation: soft targets against loops over windows and spans. The loss is in test_soft_loss.py."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tiny
from qa.common.errors import InputError
from qa.data.prepare_questions import convert
from qa.decoding.answers import Candidates
from qa.model.spans import Spans
from qa.model.window_dataset import PLACES, SOFT_TARGETS, read_targets
from qa.training.soft_targets import PLACES as WIDTH
from qa.training.soft_targets import soft_targets, write_targets
from qa.windows.read_windows import TokenOffsets, arrow_table
from qa.windows.tokenize_and_label import tokenize

TEMPERATURE = 2.0


@st.composite
def soft_targets_keys(draw):
    """Candidates for some records, and windows of tokens over their contexts, some without width or with gaps."""
    found, windows = [], []
    for record in range(draw(st.integers(1, 3))):
        span = st.tuples(st.integers(0, 22), st.integers(1, 8)).map(lambda pair: (pair[0], pair[0] + pair[1]))
        scores = draw(st.dictionaries(span, st.floats(-9, 9), max_size=6))
        found.append((scores, draw(st.floats(-9, 9))))
        for _ in range(draw(st.integers(1, 3))):
            before, after = draw(st.integers(1, 4)), draw(st.integers(1, 2))  # question and special tokens
            tokens, character = [], draw(st.integers(0, 12))
            for _ in range(draw(st.integers(0, 8))):
                gap, width, alike = draw(st.integers(0, 1)), draw(st.integers(0, 4)), draw(st.integers(1, 2))
                tokens += [(character + gap, character + gap + width)] * alike  # the bytes of one character
                character += gap + width
            windows.append((record, before, tokens, after))
    return found, windows


def candidates(found):
    rows = [
        (record, *span, score)
        for record, (scores, _) in enumerate(found)
        for span, score in sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    ]
    columns = list(zip(*rows, strict=True)) if rows else [[]] * 4
    return Candidates(
        *(np.array(column, np.int64) for column in columns[:3]),
        np.array(columns[3], float),
        np.array([null for _, null in found], float),
        np.ones(len(found), int),
    )


def arrays(windows, null_position=0):
    """Rows and the other columns of windows; question tokens have offsets of the question, which mean nothing here."""
    lengths = [before + len(tokens) + after for _, before, tokens, after in windows]
    offsets = [
        pair
        for _, before, tokens, after in windows
        for pair in [(0, 0), *((5 * n, 5 * n + 30) for n in range(before - 1)), *tokens, *[(0, 0)] * after]
    ]
    start, end = np.array(offsets, np.int32).T
    rows = TokenOffsets(
        np.array([window[0] for window in windows]),
        np.concatenate([[0], np.cumsum(lengths)]),
        start,
        end,
    )
    first = np.array([before for _, before, _, _ in windows])
    columns = {"context_start": first, "context_stop": first + [len(tokens) for _, _, tokens, _ in windows]}
    return rows, columns | {"null_position": np.full(len(windows), null_position)}


def slowly(found, window, temperature, null_position=0):
    """Dictionaries of a window's soft starts and ends, token by token and span by span."""
    record, before, tokens, _ = window
    scores, null = found[record]
    weights = {span: np.exp(score / temperature) for span, score in scores.items()}
    total = sum(weights.values()) + np.exp(null / temperature)
    start, end = {null_position: 1.0}, {null_position: 1.0}
    wide = [(number, a, b) for number, (a, b) in enumerate(tokens) if a < b]
    for (first, stop), weight in weights.items():
        holding = [number for number, a, b in wide if a < stop and b > first]
        if holding and min(a for _, a, _ in wide) <= first and stop <= max(b for _, _, b in wide):
            for places, token in ((start, holding[0]), (end, holding[-1])):
                places[before + token] = places.get(before + token, 0.0) + weight / total
                places[null_position] -= weight / total
    return start, end


def dense(targets, name, window):
    """The distribution over a window's tokens that its places and weights stand for."""
    found = {}
    for place, weight in zip(
        targets[f"{name}_places"][window].tolist(), targets[f"{name}_weights"][window].tolist(), strict=True
    ):
        if weight:
            found[place] = found.get(place, 0.0) + weight
    return found


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(soft_targets_keys(), st.sampled_from([0.5, 1.0, 2.0, 7.0]))
def test_targets_are_those_of_a_loop_over_windows_and_spans(soft_targets_key, temperature):
    found, windows = soft_targets_key
    targets = soft_targets(candidates(found), *arrays(windows), temperature)
    assert targets.keys() == set(SOFT_TARGETS)
    for number, window in enumerate(windows):
        for name, expected in zip(("start", "end"), slowly(found, window, temperature), strict=True):
            mine = dense(targets, name, number)
            assert mine == pytest.approx({p: w for p, w in expected.items() if p in mine}, abs=1e-6)
            assert all(weight == pytest.approx(0, abs=1e-6) for p, weight in expected.items() if p not in mine)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(soft_targets_keys())
def test_weights_are_none_below_0_sum_to_1_and_lie_on_the_windows_own_tokens(soft_targets_key):
    found, windows = soft_targets_key
    targets = soft_targets(candidates(found), *arrays(windows, null_position=0), TEMPERATURE)
    lengths = np.array([before + len(tokens) + after for _, before, tokens, after in windows])
    for name in ("start", "end"):
        places, weights = targets[f"{name}_places"], targets[f"{name}_weights"]
        assert places.shape == weights.shape == (len(windows), WIDTH)
        assert places.dtype == np.int32 and weights.dtype == np.float32
        assert (weights >= 0).all() and weights.sum(axis=1) == pytest.approx(1)
        assert (places >= 0).all() and (places < lengths[:, None]).all() and (places[:, 0] == 0).all()


ONE = [({(4, 10): 2.0}, 0.0)]  # the teacher has one span


@pytest.mark.parametrize(
    ("tokens", "held"),
    [
        ([(0, 3), (4, 7), (8, 10), (11, 14)], (2, 3)),
        ([(4, 10)], (1, 1)),
        ([(3, 5), (6, 12)], (1, 2)),  # tokens that reach further than the span
        ([(3, 4), (5, 6), (8, 9), (10, 11)], (2, 3)),  # characters that no token holds at both ends
        ([(4, 5), (4, 5), (5, 9), (9, 10), (9, 10)], (1, 5)),  # bytes of one character
        ([(4, 4), (4, 10), (10, 10)], (2, 2)),  # tokens without width
        ([(0, 3), (4, 9)], None),  # its end is in the next window
        ([(5, 10), (11, 14)], None),  # its start is in the one before
        ([(0, 3), (11, 14)], None),  # nothing of it has a token
        ([], None),
    ],
)
def test_a_span_falls_on_the_tokens_that_hold_it_or_on_null(tokens, held):
    windows = [(0, 1, tokens, 1)]
    targets = soft_targets(candidates(ONE), *arrays(windows), TEMPERATURE)
    for side, name in enumerate(("start", "end")):
        shares = {0: 1 - 1 / (1 + np.exp(-1))} | ({held[side]: 1 / (1 + np.exp(-1))} if held else {0: 1.0})
        assert dense(targets, name, 0) == pytest.approx(shares)


def test_the_null_position_is_where_the_window_has_it():
    rows, columns = arrays([(0, 2, [(0, 3)], 3)], null_position=5)  # after the context, as XLNet's
    targets = soft_targets(candidates(ONE), rows, columns, TEMPERATURE)
    assert dense(targets, "start", 0) == dense(targets, "end", 0) == {5: 1.0}


def test_a_record_without_candidates_teaches_silence():
    targets = soft_targets(candidates([({}, -3.0)]), *arrays([(0, 1, [(0, 3)], 1)]), TEMPERATURE)
    assert dense(targets, "start", 0) == dense(targets, "end", 0) == {0: 1.0}


TOKENIZERS = {name: make() for name, make in tiny.FAMILIES.items()}
CONTEXT = (
    "The 1st bridge over the river Söhl was built in 1412, of oak. The fair lasts 3 weeks; 東京, nobody knows why. "
)


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """Two questions about one context, the second of them unanswerable, cut into windows by every tokenizer."""
    folder = tmp_path_factory.mktemp("taught")
    texts = [("When was the bridge built?", ["1412"]), ("Who burnt it?", [])]
    context = CONTEXT * 2
    questions = [
        {
            "id": str(number),
            "question": question,
            "answers": [{"text": text, "answer_start": context.index(text)} for text in answers],
            "is_impossible": not answers,
        }
        for number, (question, answers) in enumerate(texts)
    ]
    data = {"version": "v2.0", "data": [{"title": "T", "paragraphs": [{"context": context, "qas": questions}]}]}
    (folder / "q.json").write_text(json.dumps(data))
    convert([folder / "q.json"], folder / "records")
    for name, tokenizer in TOKENIZERS.items():
        tokenize(folder / "records", tokenizer, tiny.SHORT_WINDOWS, folder / name)
    return folder, context


def sure_of(folder, family, texts, context):
    """Spans of a teacher that has no doubt which text answers each record, "" for none; the path of their file."""
    table = arrow_table(folder / family)
    rows = TokenOffsets.of(table)
    spans = Spans.empty(len(rows.record), 2)
    spans.null_score[:] = spans.row_start_logit[:] = spans.row_end_logit[:] = 0
    for window, record in enumerate(rows.record.tolist()):
        if not texts[record]:
            continue
        first, stop = context.index(texts[record]), context.index(texts[record]) + len(texts[record])
        begin = rows.first_token[window]
        for place in range(table["context_start"][window].as_py(), table["context_stop"][window].as_py()):
            a, b = rows.offset_start[begin + place], rows.offset_end[begin + place]
            if a <= first < b and spans.start_index[window, 0] < 0:
                spans.start_index[window, 0], spans.start_logit[window, 0] = place, 50
            if a < stop <= b:
                spans.end_index[window, 0], spans.end_logit[window, 0] = place, 50
        if spans.end_index[window, 0] < 0 or spans.start_index[window, 0] < 0:
            spans.start_index[window], spans.end_index[window] = -1, -1
            spans.start_logit[window], spans.end_logit[window] = -np.inf, -np.inf
    spans.locate(table).write(folder / f"{family}-spans")
    return str(folder / f"{family}-spans")


@pytest.mark.parametrize("text", ["1412", "Söhl", "東京", "1st bridge", "weeks; 東京, nobody"])
@pytest.mark.parametrize("student", TOKENIZERS)
@pytest.mark.parametrize("teacher", TOKENIZERS)
def test_a_teacher_without_doubt_teaches_the_labels_of_its_answer_whatever_the_tokenizers(
    teacher, student, text, taught, tmp_path
):
    folder, context = taught
    spans = sure_of(folder, teacher, [text, ""], context)
    write_targets([spans], folder / student, 1.0, tmp_path / "t")
    table = arrow_table(folder / student)
    rows, first = TokenOffsets.of(table), context.index(text)
    targets = read_targets([str(tmp_path / "t")], len(table))
    held = 0
    for window, record in enumerate(rows.record.tolist()):
        begin, start, stop = (
            rows.first_token[window],
            *(table[name][window].as_py() for name in ("context_start", "context_stop")),
        )
        offsets = [
            (place, int(rows.offset_start[begin + place]), int(rows.offset_end[begin + place]))
            for place in range(start, stop)
        ]
        wide = [(place, a, b) for place, a, b in offsets if a < b]
        holding = [place for place, a, b in wide if a < first + len(text) and b > first]
        whole = wide and wide[0][1] <= first and first + len(text) <= wide[-1][2]
        expected = (holding[0], holding[-1]) if record == 0 and whole else (0, 0)
        held += expected != (0, 0)
        for name, place in zip(("start", "end"), expected, strict=True):
            assert dense(targets, name, window)[place] == pytest.approx(1)
    assert 0 < held < len(table)


def test_the_labels_of_tokenize_are_what_a_teacher_without_doubt_teaches(taught, tmp_path):
    folder, context = taught
    spans = sure_of(folder, "Unigram", ["1412", ""], context)
    for student in TOKENIZERS:
        write_targets([spans], folder / student, 1.0, tmp_path / "t")
        targets, table = (
            read_targets([str(tmp_path / "t")], len(arrow_table(folder / student))),
            arrow_table(folder / student),
        )
        for name in ("start", "end"):
            labels = table.column(f"{name}_positions").to_pylist()
            assert [max(d, key=d.get) for d in (dense(targets, name, w) for w in range(len(table)))] == labels


def test_an_ensemble_teaches_the_mean_of_its_variants(taught, tmp_path):
    folder, context = taught
    variants = [("WordPiece", "1st"), ("Unigram", "bridge")]  # both in the first window
    spans = [sure_of(folder, family, [text, ""], context) for family, text in variants]
    student = folder / "byte-level BPE"
    write_targets(spans, student, 1.0, tmp_path / "t")
    targets = read_targets([str(tmp_path / "t")], len(arrow_table(student)))
    both = dense(targets, "start", 0)
    assert sorted(both.values()) == pytest.approx([0.5, 0.5], abs=1e-6) and 0 not in both


@pytest.fixture
def written(taught, tmp_path):
    folder, context = taught
    spans = sure_of(folder, "WordPiece", ["1412", ""], context)
    for name, student in (("one", "WordPiece"), ("two", "Unigram")):
        write_targets([spans], folder / student, 2.0, tmp_path / name)
    sizes = [len(arrow_table(folder / student)) for student in ("WordPiece", "Unigram")]
    return [str(tmp_path / "one"), str(tmp_path / "two")], sizes


def test_targets_of_several_files_follow_each_other(written):
    files, sizes = written
    both = read_targets(files, sum(sizes))
    for name in SOFT_TARGETS:
        alone = [read_targets([file], size)[name] for file, size in zip(files, sizes, strict=True)]
        assert both[name].shape == (sum(sizes), WIDTH) and (both[name] == np.concatenate(alone)).all()
        assert both[name].dtype == (np.int32 if name in PLACES else np.float32)


def test_targets_of_other_windows_are_refused(written):
    files, sizes = written
    with pytest.raises(InputError, match=rf"soft targets of {sum(sizes)} windows, but training has {sizes[0]} windows"):
        read_targets(files, sizes[0])


@pytest.mark.parametrize("damage", ["cut", "other", "missing"])
def test_targets_that_cannot_be_read_are_named(damage, written):
    files, sizes = written
    file = Path(files[0])
    if damage == "cut":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    elif damage == "other":
        parquet.write_table(pa.table({"id": ["x"]}), file)
    else:
        file.unlink()
    with pytest.raises(InputError) as error:
        read_targets(files[:1], sizes[0])
    assert files[0] in str(error.value) and "run again" in str(error.value)
