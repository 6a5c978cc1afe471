"""Distillation: soft targets against loops over windows and spans, and the loss against torch's own divergence."""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tiny
from qa import trainer, training
from qa.answers import Candidates
from qa.batching import PLACES, SOFT_TARGETS, Packer, Padder, TokenRows, WindowStore, read_targets
from qa.decoding import Rows
from qa.distillation import PLACES as WIDTH
from qa.distillation import soft_targets, write_targets
from qa.encoding import load_tokenizer
from qa.errors import InputError
from qa.packing import model_inputs, window_logits
from qa.rows import arrow_table
from qa.spans import Spans
from qa.squad import convert
from qa.trainer import soft_loss, window_loss
from qa.windows import tokenize

WINDOWS = {"max_length": 40, "overlap": 8, "max_question_length": 12, "long_contexts": "windows", "labels": "exact"}
TEMPERATURE = 2.0


@st.composite
def lessons(draw):
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
    rows = Rows(
        np.array([window[0] for window in windows]),
        np.zeros(len(windows), np.int64),
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
@given(lessons(), st.sampled_from([0.5, 1.0, 2.0, 7.0]))
def test_targets_are_those_of_a_loop_over_windows_and_spans(lesson, temperature):
    found, windows = lesson
    targets = soft_targets(candidates(found), *arrays(windows), temperature)
    assert targets.keys() == set(SOFT_TARGETS)
    for number, window in enumerate(windows):
        for name, expected in zip(("start", "end"), slowly(found, window, temperature), strict=True):
            mine = dense(targets, name, number)
            assert mine == pytest.approx({p: w for p, w in expected.items() if p in mine}, abs=1e-6)
            assert all(weight == pytest.approx(0, abs=1e-6) for p, weight in expected.items() if p not in mine)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(lessons())
def test_weights_are_none_below_0_sum_to_1_and_lie_on_the_windows_own_tokens(lesson):
    found, windows = lesson
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
        tokenize(folder / "records", tokenizer, WINDOWS, folder / name)
    return folder, context


def sure_of(folder, family, texts, context):
    """Spans of a teacher that has no doubt which text answers each record, "" for none; the path of their file."""
    table = arrow_table(folder / family)
    rows = Rows.of(table)
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
    spans.write(folder / f"{family}-spans")
    return str(folder / f"{family}-spans")


@pytest.mark.parametrize("text", ["1412", "Söhl", "東京", "1st bridge", "weeks; 東京, nobody"])
@pytest.mark.parametrize("student", TOKENIZERS)
@pytest.mark.parametrize("teacher", TOKENIZERS)
def test_a_teacher_without_doubt_teaches_the_labels_of_its_answer_whatever_the_tokenizers(
    teacher, student, text, taught, tmp_path
):
    folder, context = taught
    spans = sure_of(folder, teacher, [text, ""], context)
    write_targets([spans], [str(folder / teacher)], folder / "records", folder / student, 1.0, tmp_path / "t")
    table = arrow_table(folder / student)
    rows, first = Rows.of(table), context.index(text)
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
        write_targets([spans], [str(folder / "Unigram")], folder / "records", folder / student, 1.0, tmp_path / "t")
        targets, table = (
            read_targets([str(tmp_path / "t")], len(arrow_table(folder / student))),
            arrow_table(folder / student),
        )
        for name in ("start", "end"):
            labels = table.column(f"{name}_positions").to_pylist()
            assert [max(d, key=d.get) for d in (dense(targets, name, w) for w in range(len(table)))] == labels


def test_an_ensemble_teaches_the_mean_of_its_members(taught, tmp_path):
    folder, context = taught
    members = [("WordPiece", "1st"), ("Unigram", "bridge")]  # both in the first window
    spans = [sure_of(folder, family, [text, ""], context) for family, text in members]
    folders = [str(folder / family) for family, _ in members]
    student = folder / "byte-level BPE"
    write_targets(spans, folders, folder / "records", student, 1.0, tmp_path / "t")
    targets = read_targets([str(tmp_path / "t")], len(arrow_table(student)))
    both = dense(targets, "start", 0)
    assert sorted(both.values()) == pytest.approx([0.5, 0.5], abs=1e-6) and 0 not in both


@pytest.fixture
def written(taught, tmp_path):
    folder, context = taught
    spans = sure_of(folder, "WordPiece", ["1412", ""], context)
    for name, student in (("one", "WordPiece"), ("two", "Unigram")):
        write_targets([spans], [str(folder / "WordPiece")], folder / "records", folder / student, 2.0, tmp_path / name)
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
    with pytest.raises(InputError, match=rf"soft targets of {sum(sizes)} windows, where {sizes[0]} are trained on"):
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


# The loss


def targets_of(lengths, seed, places=4):
    """Random soft targets, some places twice, some without weight."""
    draw = np.random.default_rng(seed)
    found = {}
    for name in ("start", "end"):
        found[f"{name}_places"] = draw.integers(0, np.array(lengths)[:, None], (len(lengths), places)).astype(np.int32)
        weights = draw.random((len(lengths), places)) * (draw.random((len(lengths), places)) < 0.7)
        weights[:, 0] += 0.1
        found[f"{name}_weights"] = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return found


def batch_of(lengths, seed):
    draw = np.random.default_rng(seed)
    ids = {"input_ids": draw.integers(5, 60, sum(lengths)).astype(np.int32)}
    labels = {name: draw.integers(0, lengths) for name in ("start_positions", "end_positions")}
    return TokenRows(ids, labels | targets_of(lengths, seed), np.array(lengths, np.int64))


def dense_divergence(lengths, logits, targets, temperature):
    """The mean divergence, window by window without padding, on distributions over all of a window's tokens."""
    losses = []
    for window, length in enumerate(lengths):
        for side, name in enumerate(("start", "end")):
            wanted = torch.zeros(length)
            for place, weight in dense(targets, name, window).items():
                wanted[place] += weight
            softened = torch.log_softmax(logits[side][window][:length] / temperature, dim=0)
            losses.append(torch.nn.functional.kl_div(softened, wanted, reduction="sum"))
    return temperature**2 * torch.stack(losses).mean()


lengths = st.lists(st.integers(1, 12), min_size=1, max_size=5)


@settings(max_examples=100, deadline=None)
@given(lengths, st.integers(0, 10**6), st.sampled_from([0.5, 1.0, 2.0, 8.0]), st.integers(0, 4))
def test_the_loss_is_the_mean_divergence_of_dense_distributions(lengths, seed, temperature, more):
    generator = torch.Generator().manual_seed(seed)
    width = max(lengths) + more
    start, end = (torch.randn(len(lengths), width, generator=generator, requires_grad=True) for _ in range(2))
    tokens = torch.arange(width) < torch.tensor(lengths)[:, None]
    targets = targets_of(lengths, seed)
    given = {
        name: torch.from_numpy(values.astype(np.int64) if name in PLACES else values)
        for name, values in targets.items()
    }
    found = soft_loss(start, end, tokens, given, temperature)
    expected = dense_divergence(lengths, (start, end), targets, temperature)
    torch.testing.assert_close(found, expected)
    mine, theirs = torch.autograd.grad(found, (start, end)), torch.autograd.grad(expected, (start, end))
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
        assert not one[~tokens].any()


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_a_student_that_equals_its_teacher_at_the_temperature_has_no_loss_and_no_gradient(temperature):
    logits = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(1)).requires_grad_()
    shares = torch.softmax(logits.detach() / temperature, dim=2)
    places = torch.arange(6).expand(3, 6).clone()
    targets = {"start_places": places, "end_places": places, "start_weights": shares[0], "end_weights": shares[1]}
    loss = soft_loss(*logits, torch.ones(3, 6, dtype=torch.bool), targets, temperature)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(logits.grad, torch.zeros_like(logits), atol=1e-6, rtol=0)
    if temperature > 1:
        assert soft_loss(*logits, torch.ones(3, 6, dtype=torch.bool), targets, 1.0).item() > 0.01


def test_all_weight_on_one_token_is_the_loss_of_a_label():
    batch = Padder(0, 0, left=False)(batch_of([5, 3, 8], 3))
    logits = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(2))
    for name in ("start", "end"):
        batch[f"{name}_places"] = batch[f"{name}_positions"][:, None]
        batch[f"{name}_weights"] = torch.ones(3, 1)
    tokens = batch["attention_mask"].bool()
    torch.testing.assert_close(soft_loss(*logits, tokens, batch, 1.0), window_loss(*logits, tokens, batch))


class Reader(torch.nn.Module):
    """Logits that depend on a token alone, so that every form of batch must give the same."""

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(64, 2)
        torch.nn.init.normal_(self.table.weight, generator=torch.Generator().manual_seed(0))

    def forward(self, input_ids, **others):
        assert not {*SOFT_TARGETS, "start_positions", "end_positions"} & others.keys()
        start, end = self.table(input_ids).unbind(dim=-1)
        return type("Output", (), {"start_logits": start, "end_logits": end})


FORMS = {
    "left": Padder(9, 0, left=True),
    "wider": Padder(9, 0, left=False, width=20),
    "left and wider": Padder(9, 0, left=True, width=20),
    "packed": Packer(0, False),
    "packed in fixed shapes": Packer(0, False, budgets=(16, 64, 128), windows=8, width=14),
}


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=40, deadline=None)
@given(lengths=lengths, seed=st.integers(0, 10**6))
def test_every_form_of_batch_has_the_same_loss_and_gradient(form, lengths, seed):
    found = []
    for collator in (Padder(9, 0, left=False), FORMS[form]):
        model, batch = Reader(), collator(batch_of(lengths, seed))
        loss = soft_loss(*window_logits(model(**model_inputs(batch)), batch), batch, TEMPERATURE)
        loss.backward()
        found.append((loss.detach(), model.table.weight.grad))
    torch.testing.assert_close(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1])


def test_windows_that_only_fill_have_no_weight_and_count_in_no_mean():
    batch = Packer(0, False, (64,), 6, 16)(batch_of([7, 9], 0))
    for name in ("start", "end"):
        assert batch[f"{name}_places"].shape == batch[f"{name}_weights"].shape == (6, 4)
        assert not batch[f"{name}_weights"][2:].any() and batch[f"{name}_weights"][:2].sum(
            dim=1
        ).tolist() == pytest.approx([1, 1])
    logits = torch.randn(2, 6, 16, generator=torch.Generator().manual_seed(0))
    whole = soft_loss(*logits, batch["window_tokens"].bool(), batch, TEMPERATURE)
    part = {name: values[:2] for name, values in batch.items() if name in SOFT_TARGETS}
    alone = soft_loss(*logits[:, :2], batch["window_tokens"][:2].bool(), part, TEMPERATURE)
    torch.testing.assert_close(whole, alone)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_loss_is_computed_in_fp32_whatever_the_logits_are(dtype):
    batch = Padder(9, 0, left=False)(batch_of([5, 12], 4))
    logits = (8 * torch.randn(2, 2, 12, generator=torch.Generator().manual_seed(0))).to(dtype)
    tokens = batch["attention_mask"].bool()
    found = soft_loss(*logits, tokens, batch, TEMPERATURE)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, soft_loss(*logits.float(), tokens, batch, TEMPERATURE))


def test_a_store_of_windows_gives_each_window_its_own_targets():
    table = pa.table({"input_ids": pa.array([[1, 2], [3], [4, 5, 6]], pa.list_(pa.int32()))})
    targets = targets_of([2, 1, 3], 0)
    rows = WindowStore(table, ["input_ids"], targets).rows([2, 0])
    assert all((rows.numbers[name] == targets[name][[2, 0]]).all() for name in SOFT_TARGETS)
    assert rows.lists["input_ids"].tolist() == [4, 5, 6, 1, 2]


def test_on_the_left_the_places_of_targets_move_with_their_tokens():
    rows = batch_of([3, 6], 1)
    batch = Padder(9, 0, left=True, width=8)(rows)
    for name in PLACES:
        assert (batch[name] == torch.from_numpy(rows.numbers[name] + np.array([[5], [2]]))).all()
        assert batch[name].dtype == torch.int64


SETTINGS = {
    "max_steps": 2,
    "batch_size": 4,
    "accumulation_steps": 1,
    "length_groups": 3,
    "learning_rate": 1e-3,
    "schedule": "constant",
    "warmup": 0,
    "weight_decay": 0.0,
    "max_gradient_norm": 1.0,
    "precision": "fp32",
    "padding": "packed",
    "attention_dropout": 0.0,
    "keep_epoch": "last",
    "overrides": {"hidden_dropout_prob": 0.0},
}
RUNNING = {"every_steps": 9, "keep": 1, "keep_after_success": False, "log_every_steps": 1, "threads": 1}
RUNNING |= {"gpus": 1, "nodes": 1, "compile": "kernels", "walltime_minutes": None}


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    """A student, windows of two splits, and for each the soft targets of a teacher with another tokenizer."""
    folder = tmp_path_factory.mktemp("lesson")
    tiny.save_model(folder / "model")
    inputs = {"model": str(folder / "model"), "windows": [], "targets": []}
    rng = np.random.default_rng(0)
    for name in ("one", "other"):
        convert([tiny.write_squad(folder / f"{name}.json", questions=8, prefix=name)], folder / f"{name}.records")
        tokenize(folder / f"{name}.records", load_tokenizer(folder / "model"), WINDOWS, folder / name)
        tokenize(folder / f"{name}.records", TOKENIZERS["Unigram"], WINDOWS, folder / f"{name}-teacher")
        spans = Spans.empty(len(arrow_table(folder / f"{name}-teacher")), 5)
        spans.start_index[:], spans.end_index[:] = np.sort(rng.integers(14, 34, (2, len(spans), 5)), axis=0)
        spans.start_logit[:], spans.end_logit[:] = rng.normal(size=(2, len(spans), 5))
        spans.null_score[:] = spans.row_start_logit[:] = spans.row_end_logit[:] = 0
        spans.write(folder / f"{name}.spans")
        teacher = [str(folder / f"{name}.spans")], [str(folder / f"{name}-teacher")]
        write_targets(*teacher, folder / f"{name}.records", folder / name, TEMPERATURE, folder / f"{name}.targets")
        inputs["windows"].append(str(folder / name))
        inputs["targets"].append(str(folder / f"{name}.targets"))
    return inputs | {"validation": inputs["windows"][:1]}


def trained(inputs, folder, weight=None, **changes):
    """The history of a training with so much weight on its teacher's distribution, None for no teacher."""
    outputs = {name: str(folder / name) for name in ("model", "history", "manifest", "checkpoints")}
    taught = {"distillation": {"weight": weight, "temperature": TEMPERATURE}} if weight else {}
    inputs = {name: paths for name, paths in inputs.items() if weight or name != "targets"}
    training.train(inputs, {**SETTINGS, **taught, **changes}, 1, RUNNING, outputs, {"code": "x"})
    with open(folder / "history", newline="") as stream:
        return list(csv.DictReader(stream))


def losses(history, name="loss"):
    return [float(row[name]) for row in history if row[name]]


def test_the_loss_is_a_mixture_of_labels_and_teacher_and_each_teaches_something_else(lesson, tmp_path):
    labels, teacher, mixed = (losses(trained(lesson, tmp_path / str(weight), weight)) for weight in (None, 1.0, 0.25))
    assert mixed[0] == pytest.approx(0.75 * labels[0] + 0.25 * teacher[0], rel=1e-5)
    assert len({labels[1], teacher[1], mixed[1]}) == 3 and abs(labels[0] - teacher[0]) > 1e-3


def test_labels_count_for_nothing_where_the_teacher_has_all_the_weight(lesson, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "soft_loss", lambda start, *others: 0.0 * start.sum())
    assert losses(trained(lesson, tmp_path / "all", 1.0)) == [0, 0]
    assert losses(trained(lesson, tmp_path / "half", 0.5))[0] > 0


@pytest.mark.parametrize("changes", [{"padding": "longest"}, {"accumulation_steps": 2}])
def test_a_taught_training_takes_the_same_course_however_it_is_computed(changes, lesson, tmp_path):
    plain, other = (trained(lesson, tmp_path / name, 0.5, **more) for name, more in (("a", {}), ("b", changes)))
    for name in ("loss", "gradient_norm", "validation_loss"):
        assert losses(other, name) == pytest.approx(losses(plain, name), rel=1e-4)


def test_the_validation_loss_is_that_of_the_labels(lesson, tmp_path):
    still = {"learning_rate": 1e-12}  # so that both have the same weights
    taught, plain = (trained(lesson, tmp_path / str(w), w, max_steps=None, epochs=1, **still) for w in (0.5, None))
    assert losses(taught, "validation_loss") == pytest.approx(losses(plain, "validation_loss"), rel=1e-5)
    assert losses(taught)[0] != pytest.approx(losses(plain)[0], rel=1e-3)


def test_targets_of_other_windows_end_the_training(lesson, tmp_path):
    with pytest.raises(InputError, match="soft targets of .* windows, where .* are trained on"):
        trained({**lesson, "targets": lesson["targets"][:1]}, tmp_path, 0.5)
