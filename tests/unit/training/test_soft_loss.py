"""Distillation: the loss against torch's own divergence, in every form of batch and through the Trainer."""

import csv

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_soft_targets import TEMPERATURE, TOKENIZERS, dense

import tiny
import trainings
from qa.common.errors import InputError
from qa.data.prepare_questions import convert
from qa.model.collators import PackingCollator, PaddingCollator
from qa.model.packing import model_inputs, window_logits
from qa.model.spans import Spans
from qa.model.window_dataset import PLACES, SOFT_TARGETS, TokenRows, WindowDataset
from qa.training import trainer
from qa.training.soft_targets import write_targets
from qa.training.trainer import soft_loss, window_loss
from qa.windows.read_windows import arrow_table
from qa.windows.tokenize_and_label import tokenize
from qa.windows.tokenizer import load_tokenizer


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
    batch = PaddingCollator(0, 0, left=False)(batch_of([5, 3, 8], 3))
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
    "left": PaddingCollator(9, 0, left=True),
    "wider": PaddingCollator(9, 0, left=False, width=20),
    "left and wider": PaddingCollator(9, 0, left=True, width=20),
    "packed": PackingCollator(0, False),
    "packed in fixed shapes": PackingCollator(0, False, budgets=(16, 64, 128), windows=8, width=14),
}


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=40, deadline=None)
@given(lengths=lengths, seed=st.integers(0, 10**6))
def test_every_form_of_batch_has_the_same_loss_and_gradient(form, lengths, seed):
    found = []
    for collator in (PaddingCollator(9, 0, left=False), FORMS[form]):
        model, batch = Reader(), collator(batch_of(lengths, seed))
        loss = soft_loss(*window_logits(model(**model_inputs(batch)), batch), batch, TEMPERATURE)
        loss.backward()
        found.append((loss.detach(), model.table.weight.grad))
    torch.testing.assert_close(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1])


def test_windows_that_only_fill_have_no_weight_and_count_in_no_mean():
    batch = PackingCollator(0, False, (64,), 6, 16)(batch_of([7, 9], 0))
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
    batch = PaddingCollator(9, 0, left=False)(batch_of([5, 12], 4))
    logits = (8 * torch.randn(2, 2, 12, generator=torch.Generator().manual_seed(0))).to(dtype)
    tokens = batch["attention_mask"].bool()
    found = soft_loss(*logits, tokens, batch, TEMPERATURE)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, soft_loss(*logits.float(), tokens, batch, TEMPERATURE))


def test_a_store_of_windows_gives_each_window_its_own_targets():
    table = pa.table({"input_ids": pa.array([[1, 2], [3], [4, 5, 6]], pa.list_(pa.int32()))})
    targets = targets_of([2, 1, 3], 0)
    rows = WindowDataset(table, ["input_ids"], targets).rows([2, 0])
    assert all((rows.numbers[name] == targets[name][[2, 0]]).all() for name in SOFT_TARGETS)
    assert rows.lists["input_ids"].tolist() == [4, 5, 6, 1, 2]


def test_on_the_left_the_places_of_targets_move_with_their_tokens():
    rows = batch_of([3, 6], 1)
    batch = PaddingCollator(9, 0, left=True, width=8)(rows)
    for name in PLACES:
        assert (batch[name] == torch.from_numpy(rows.numbers[name] + np.array([[5], [2]]))).all()
        assert batch[name].dtype == torch.int64


SETTINGS = tiny.TRAINING | {"overrides": {"hidden_dropout_prob": 0.0}}
OPTIONS = tiny.RUNTIME_OPTIONS | {"compile": "kernels"}


@pytest.fixture(scope="module")
def soft_targets_key(tmp_path_factory):
    """A student, windows of two splits, and for each the soft targets of a teacher with another tokenizer."""
    folder = tmp_path_factory.mktemp("soft_targets_key")
    tiny.save_model(folder / "model")
    inputs = {"model": str(folder / "model"), "windows": [], "targets": []}
    rng = np.random.default_rng(0)
    for name in ("one", "other"):
        convert([tiny.write_squad(folder / f"{name}.json", questions=8, prefix=name)], folder / f"{name}.records")
        tokenize(folder / f"{name}.records", load_tokenizer(folder / "model"), tiny.SHORT_WINDOWS, folder / name)
        tokenize(folder / f"{name}.records", TOKENIZERS["Unigram"], tiny.SHORT_WINDOWS, folder / f"{name}-teacher")
        table = arrow_table(folder / f"{name}-teacher")
        spans = Spans.empty(len(table), 5)
        spans.start_index[:], spans.end_index[:] = np.sort(rng.integers(14, 34, (2, len(spans), 5)), axis=0)
        spans.start_logit[:], spans.end_logit[:] = rng.normal(size=(2, len(spans), 5))
        spans.null_score[:] = spans.row_start_logit[:] = spans.row_end_logit[:] = 0
        spans.locate(table).write(folder / f"{name}.spans")
        write_targets([str(folder / f"{name}.spans")], folder / name, TEMPERATURE, folder / f"{name}.targets")
        inputs["windows"].append(str(folder / name))
        inputs["targets"].append(str(folder / f"{name}.targets"))
    return inputs | {"validation": inputs["windows"][:1]}


def trained(inputs, folder, weight=None, **changes):
    """The history of a training with so much weight on its teacher's distribution, None for no teacher."""
    taught = {"distillation": {"weight": weight, "temperature": TEMPERATURE}} if weight else {}
    inputs = {name: paths for name, paths in inputs.items() if weight or name != "targets"}
    trainings.train(inputs, folder, {**SETTINGS, **taught, **changes}, OPTIONS)
    with open(folder / "history", newline="") as stream:
        return list(csv.DictReader(stream))


def losses(history, name="loss"):
    return [float(row[name]) for row in history if row[name]]


def test_the_loss_is_a_mixture_of_labels_and_teacher_and_each_teaches_something_else(soft_targets_key, tmp_path):
    labels, teacher, mixed = (
        losses(trained(soft_targets_key, tmp_path / str(weight), weight)) for weight in (None, 1.0, 0.25)
    )
    assert mixed[0] == pytest.approx(0.75 * labels[0] + 0.25 * teacher[0], rel=1e-5)
    assert len({labels[1], teacher[1], mixed[1]}) == 3 and abs(labels[0] - teacher[0]) > 1e-3


def test_labels_count_for_nothing_where_the_teacher_has_all_the_weight(soft_targets_key, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "soft_loss", lambda start, *others: 0.0 * start.sum())
    assert losses(trained(soft_targets_key, tmp_path / "all", 1.0)) == [0, 0]
    assert losses(trained(soft_targets_key, tmp_path / "half", 0.5))[0] > 0


@pytest.mark.parametrize("changes", [{"padding": "longest"}, {"accumulation_steps": 2}])
def test_a_taught_training_takes_the_same_course_however_it_is_computed(changes, soft_targets_key, tmp_path):
    plain, other = (
        trained(soft_targets_key, tmp_path / name, 0.5, **more) for name, more in (("a", {}), ("b", changes))
    )
    for name in ("loss", "gradient_norm", "validation_loss"):
        assert losses(other, name) == pytest.approx(losses(plain, name), rel=1e-4)


def test_the_validation_loss_is_that_of_the_labels(soft_targets_key, tmp_path):
    still = {"learning_rate": 1e-12}  # so that both have the same weights
    taught, plain = (
        trained(soft_targets_key, tmp_path / str(w), w, max_steps=None, epochs=1, **still) for w in (0.5, None)
    )
    assert losses(taught, "validation_loss") == pytest.approx(losses(plain, "validation_loss"), rel=1e-5)
    assert losses(taught)[0] != pytest.approx(losses(plain)[0], rel=1e-3)


def test_targets_of_other_windows_end_the_training(soft_targets_key, tmp_path):
    with pytest.raises(InputError, match="soft targets of .* windows, but training has .* windows"):
        trained({**soft_targets_key, "targets": soft_targets_key["targets"][:1]}, tmp_path, 0.5)
