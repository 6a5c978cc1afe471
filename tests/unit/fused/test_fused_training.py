"""Hand-written kernels give what the plain model gives; on a CPU, Triton's interpreter runs them (see conftest.py)."""

import copy
import csv
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers

import tiny
import trainings
from qa.common.errors import InputError
from qa.fused import encoder, layers
from qa.fused import step as fused_step
from qa.model import packing
from qa.model.collators import PackingCollator, PaddingCollator
from qa.model.window_dataset import TokenRows
from qa.training import fit
from qa.training.trainer import window_loss

pytest.importorskip("triton")
pytestmark = pytest.mark.slow

BASE = {"vocab_size": 60, "max_position_embeddings": 90, "hidden_size": 48, "num_attention_heads": 3}
BASE |= {"num_hidden_layers": 2, "intermediate_size": 40, "attention_probs_dropout_prob": 0.0}
FAMILIES = {
    "bert": BASE,
    "roberta": {**BASE, "pad_token_id": 1, "type_vocab_size": 1},
    "electra": {**BASE, "embedding_size": 12},  # another width of embeddings
}
LENGTHS = [3, 70, 17]  # one window of two blocks


def model_of(family: str, **changes):
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(family, **{**FAMILIES[family], "hidden_dropout_prob": 0.0, **changes})
    model = transformers.AutoModelForQuestionAnswering.from_config(config)
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(0.1 * torch.randn_like(weights))
    assert packing.prepare(model) == ""
    return model.train()


def batch_of(model, lengths=LENGTHS, **fixed):
    draw = np.random.default_rng(0)
    lists = {"input_ids": draw.integers(5, 60, sum(lengths)).astype(np.int32)}
    types = model.config.type_vocab_size > 1
    if types:
        lists["token_type_ids"] = draw.integers(0, 2, sum(lengths)).astype(np.int32)
    starts = np.array(lengths) // 2
    rows = TokenRows(lists, {"start_positions": starts, "end_positions": starts}, np.array(lengths))
    return PackingCollator(packing.first_position(model), types, **fixed)(rows)


def computed(model, batch):
    """The loss, the logits of the windows' tokens, and every weight's gradient."""
    model.zero_grad()
    start, end, tokens = packing.window_logits(model(**packing.model_inputs(batch)), batch)
    loss = window_loss(start, end, tokens, batch)
    loss.backward()
    gradients = {name: weights.grad.clone() for name, weights in model.named_parameters() if weights.grad is not None}
    return loss.item(), torch.stack([start[tokens], end[tokens]]).detach(), gradients


@pytest.mark.parametrize("fixed", [{}, {"budgets": (128,), "windows": 5, "width": 72}])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_kernels_give_the_loss_logits_and_gradients_of_the_plain_model(family, fixed):
    plain = model_of(family)
    fused, batch = copy.deepcopy(plain), batch_of(plain, **fixed)
    assert encoder.fuse(fused, torch.float32) == ""
    expected, found = computed(plain, batch), computed(fused, batch)
    assert found[0] == pytest.approx(expected[0], abs=1e-5)
    torch.testing.assert_close(found[1], expected[1], atol=1e-5, rtol=1e-5)
    assert found[2].keys() == expected[2].keys()
    for name, gradient in expected[2].items():
        torch.testing.assert_close(found[2][name], gradient, atol=1e-5, rtol=1e-4, msg=name)


def test_the_gradients_are_those_of_the_loss_with_dropout():
    """Along one direction, by finite differences: the masks of both passes must be the same."""
    model = model_of("bert", hidden_dropout_prob=0.25)
    assert encoder.fuse(model, torch.float32) == ""
    batch, draw = batch_of(model, [20, 5]), torch.Generator().manual_seed(1)
    direction = {name: torch.randn(weights.shape, generator=draw) for name, weights in model.named_parameters()}

    def loss_at(step: float):
        moved = copy.deepcopy(model)
        with torch.no_grad():
            for name, weights in moved.named_parameters():
                weights.add_(step * direction[name])
        torch.manual_seed(7)  # from which the seeds of dropout are drawn
        return computed(moved, batch)

    gradients = loss_at(0.0)[2]
    slope = sum((gradient * direction[name]).sum().item() for name, gradient in gradients.items())
    assert slope == pytest.approx((loss_at(1e-3)[0] - loss_at(-1e-3)[0]) / 2e-3, rel=0.02)
    assert computed(model, batch)[0] != computed(model, batch)[0]  # each step has masks of its own


def test_dropout_keeps_its_share_and_scales_the_rest_up():
    norms = layers.Norms(torch.tensor([5]), 0.25, 1e-5)
    shape = layers.Shape(1, torch.tensor([0, 400], dtype=torch.int32), 400, torch.float32, norms)
    width = 64
    fields = layers.Weights._fields
    weights = layers.Weights(*(torch.ones(width) if "bias" in name else torch.ones(width, width) for name in fields))
    masks = []
    for number in (0, 1):
        layer = layers.Layer(number, weights, shape)
        ones, zeros = torch.ones(400, width), torch.zeros(400, width)
        layer._norm("norm", ones, zeros, torch.ones(width), torch.zeros(width))
        masks.append(layer.keep["norm_xhat"] > 0)
    kept, both = masks[0].float().mean().item(), (masks[0] & masks[1]).float().mean().item()
    assert kept == pytest.approx(0.75, abs=0.01) and both == pytest.approx(0.75**2, abs=0.01)


def test_in_evaluation_and_over_padded_rows_the_model_is_the_plain_one():
    plain = model_of("bert").eval()
    fused = copy.deepcopy(plain)
    assert encoder.fuse(fused) == ""
    batch, names = batch_of(plain), list(plain.state_dict())
    assert torch.equal(computed(plain, batch)[1], computed(fused, batch)[1])
    fused.train().config._attn_implementation = plain.train().config._attn_implementation = "sdpa"
    rows = packing._probe(plain)
    padded = PaddingCollator(0, 0, left=False)(rows)
    assert torch.equal(packing._logits(plain, padded), packing._logits(fused, padded))
    assert list(fused.state_dict()) == names
    encoder.undo(fused)
    assert all("forward" not in vars(part) for part in fused.modules())


@pytest.mark.parametrize(
    ("family", "changes", "reason"),
    [
        ("bert", {"hidden_act": "relu"}, "BertForQuestionAnswering has no encoder with BERT's layers"),
        ("bert", {"attention_probs_dropout_prob": 0.1}, "it drops out attention weights"),
        ("bert", {"num_attention_heads": 2}, "its attention heads have 24 numbers, the kernels' 16, 32, 64, 128"),
    ],
)
def test_a_model_of_another_kind_is_left_alone(family, changes, reason):
    model = model_of(family, **changes)
    assert encoder.fuse(model) == reason
    assert not encoder._fused(model)


def test_without_triton_the_reason_is_told(monkeypatch):
    def missing():
        raise ImportError("No module named 'triton'")

    monkeypatch.setattr(encoder, "kernels", missing)
    assert encoder.fuse(model_of("bert")) == "Triton is not there (No module named 'triton')"


def test_a_trial_accepts_right_kernels_and_refuses_wrong_ones(monkeypatch):
    model = model_of("roberta", hidden_dropout_prob=0.1)
    assert fused_step.prepare(model, "fp32") == ""
    assert encoder._fused(model) and model.training and all(part.grad is None for part in model.parameters())
    encoder.undo(model)
    monkeypatch.setattr(layers.Layer, "_scale", lambda self: 3.0)
    assert fused_step.prepare(model, "fp32").startswith("they give other logits or gradients (by ")
    assert not encoder._fused(model) and model.training

    def broken(*_):
        raise RuntimeError("no kernel image is available\nfor this device")

    monkeypatch.setattr(layers.Layer, "forward", broken)
    assert fused_step.prepare(model, "fp32") == "their trial failed (RuntimeError: no kernel image is available)"
    assert not encoder._fused(model)


class Replayed:
    """In the place of a CUDA graph: computes again what was captured, into the tensors of the capture."""

    def __init__(self, step):
        self.step = step

    def replay(self):
        gradients = self.step.gradients
        loss = self.step._passes(self.step.inputs | self.step.numbers)
        self.step.loss.copy_(loss)
        for weights, static in gradients:
            static.copy_(weights.grad)
            weights.grad = None


@pytest.mark.parametrize(("fused", "steps", "batch"), [(False, 7, 16), (True, 3, 4)])
def test_training_in_a_graph_takes_the_course_of_training_without(fused, steps, batch, tmp_path, monkeypatch):
    """Through the Trainer: several epochs with validation, or few steps by the kernels. Batches have several shapes."""
    inputs = trainings.inputs_in(tmp_path)
    settings = tiny.TRAINING | {"padding": "packed", "max_steps": steps, "batch_size": batch, "precision": "fp32"}
    settings |= {"overrides": {"hidden_dropout_prob": 0.0}, "max_gradient_norm": 0.05}  # each step is clipped
    shapes = []

    def capture(step, batch):
        step.shapes = fused_step._shapes(batch)
        step.inputs = {name: values.clone() for name, values in batch.items() if isinstance(values, torch.Tensor)}
        step.numbers = {name: value for name, value in batch.items() if name not in step.inputs}
        step.loss = step._passes(batch).clone()
        step.gradients = [(w, w.grad.clone()) for w in step.weights if w.grad is not None]
        step.graph = Replayed(step)

    def called(step, batch):
        shapes.append(fused_step._shapes(batch)["input_ids"])
        return plain_call(step, batch)

    def collator(model, *others):
        chosen = plain_collator(model, *others)
        assert fused_step.prepare(model, "fp32") == ""
        return chosen

    plain_call, plain_collator = fused_step.StepGraph.__call__, packing.collator
    courses = [course_of(inputs, tmp_path / "plain", settings)]
    monkeypatch.setattr(fused_step.StepGraph, "__call__", called)
    monkeypatch.setattr(fused_step.StepGraph, "_capture", capture)
    if fused:
        monkeypatch.setattr(packing, "collator", collator)
    build = fit.WindowTrainer
    monkeypatch.setattr(fit, "WindowTrainer", lambda **options: build(**options | {"in_graph": True}))
    courses.append(course_of(inputs, tmp_path / "graph", settings))
    assert courses[0] == pytest.approx(courses[1], rel=1e-4)
    assert len(shapes) == steps and len(set(shapes)) > 1


@pytest.mark.parametrize("error", [RuntimeError("operation not permitted"), torch.OutOfMemoryError("out of memory")])
def test_a_step_that_cannot_be_captured_names_the_setting_and_short_memory_stays_what_it_is(error, monkeypatch):
    @contextmanager
    def graph(*_, **__):
        raise error
        yield

    stream = SimpleNamespace(wait_stream=lambda other: None)
    fakes = {"Stream": lambda: stream, "current_stream": lambda: stream, "stream": lambda _: nullcontext()}
    fakes |= {"current_device": lambda: 0, "CUDAGraph": object, "graph": graph}
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: nullcontext())
    model, passes = torch.nn.Linear(2, 1), []
    step = fused_step.StepGraph(lambda batch: passes.append(batch) or model(batch["rows"]).sum(), model)
    refused = type(error) if isinstance(error, torch.OutOfMemoryError) else InputError
    with pytest.raises(refused) as raised:
        step({"rows": torch.ones(3, 2), "longest_window": 3})
    assert len(passes) == fused_step.WARM_UPS and step.graph is None
    told = "training.compile: a step cannot be captured as a CUDA graph (operation not permitted); set it to kernels"
    assert refused is not InputError or str(raised.value) == told


def course_of(inputs, folder, settings, options=tiny.RUNTIME_OPTIONS):
    """The losses in training and validation that a training logs."""
    rows = csv.DictReader((trainings.train(inputs, folder, settings, options) / "history").open(newline=""))
    return [float(value) for row in rows for name, value in row.items() if name.endswith("loss") and value]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_on_a_gpu_training_by_the_kernels_takes_the_course_of_plain_training(tmp_path, monkeypatch):
    inputs = trainings.inputs_in(tmp_path)
    settings = tiny.TRAINING | {"padding": "packed", "max_steps": 20, "precision": "bf16", "attention_dropout": 0.0}
    settings |= {"overrides": {"hidden_dropout_prob": 0.0}}
    losses = {}
    for way in ("none", "graphs"):
        options = tiny.RUNTIME_OPTIONS | {"compile": way, "log_every_steps": 5}
        losses[way] = course_of(inputs, tmp_path / way, settings, options)
        assert (fit.FUSED in (tmp_path / way / "manifest").read_text()) == (way == "graphs")
    assert losses["graphs"] == pytest.approx(losses["none"], rel=0.05)
