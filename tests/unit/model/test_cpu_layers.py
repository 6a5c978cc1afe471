"""Layers for CPUs: the numbers of torch's own, and torch's own where they do not work."""

import copy

import pytest
import torch
import transformers
from encoder_families import SIZES
from torch.nn import Identity, Linear
from torch.nn.functional import gelu, linear
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

import tiny
import trainings
from qa.model import cpu_layers, devices
from qa.model.predict import Predictor

FAMILIES = ["bert", "roberta", "electra", "mpnet", "convbert", "distilbert", "albert", "modernbert", "deberta-v2"]


def plain_product(inputs, weight, bias, activation):
    output = linear(inputs, weight, bias)
    return gelu(output) if activation == "gelu" else output


@pytest.fixture(autouse=True)
def product(monkeypatch):
    """The operator of oneDNN, or torch's own in its place on a processor for which it has none in bf16."""
    if not cpu_layers._works():
        monkeypatch.setattr(cpu_layers, "_product", plain_product)


def model_of(kind, **changes):
    known = CONFIG_MAPPING[kind]().to_dict()
    config = CONFIG_MAPPING[kind](**{name: value for name, value in SIZES.items() if name in known}, **changes)
    torch.manual_seed(0)
    model = transformers.AutoModelForQuestionAnswering.from_config(config)
    with torch.no_grad():
        for weights in model.parameters():  # as drawn they are so small that layers hardly matter
            weights.add_(0.1 * torch.randn_like(weights))
    return model.eval()


@torch.inference_mode()
def logits(model, precision):
    ids = torch.randint(3, 150, (2, 40), generator=torch.Generator().manual_seed(1))
    with devices.precision_context(precision):
        return model(input_ids=ids, attention_mask=torch.ones_like(ids)).start_logits.float()


def kinds(model):
    return {type(module) for module in model.modules()}


@pytest.mark.parametrize("kind", [*FAMILIES, "roberta-prelayernorm"])
def test_a_fused_model_gives_the_logits_of_the_plain_one(kind):
    plain = model_of(kind)
    fused = copy.deepcopy(plain)
    cpu_layers.fuse_linear(fused)
    assert cpu_layers._FusedLinear in kinds(fused) and list(fused.state_dict()) == list(plain.state_dict())
    assert torch.equal(logits(fused, "fp32"), logits(plain, "fp32"))
    precise, rounded, found = logits(plain, "fp32"), logits(plain, "bf16"), logits(fused, "bf16")
    scale = precise.abs().max()
    assert (found - precise).abs().max() / scale < 2 * (rounded - precise).abs().max() / scale + 0.01


@pytest.mark.parametrize(("activation", "fused"), [("gelu", True), ("gelu_new", False), ("relu", False)])
def test_gelu_is_fused_and_other_activations_stay(activation, fused):
    plain = model_of("bert", hidden_act=activation)
    model = copy.deepcopy(plain)
    cpu_layers.fuse_linear(model)
    assert all(
        isinstance(layer.intermediate.intermediate_act_fn, Identity) == fused for layer in model.bert.encoder.layer
    )
    assert (logits(model, "bf16") - logits(plain, "bf16")).abs().max() < 0.05


def no_operator(*_):
    raise RuntimeError("could not create a primitive descriptor")


def wrong_operator(inputs, weight, *_):
    return inputs.new_zeros(len(inputs), len(weight))


@pytest.mark.parametrize("operator", [no_operator, wrong_operator])
def test_layers_stay_plain_where_the_operator_fails_or_gives_other_numbers(operator, monkeypatch):
    monkeypatch.setattr(cpu_layers, "_product", operator)
    model = model_of("bert")
    cpu_layers.fuse_linear(model)
    assert Linear in kinds(model) and cpu_layers._FusedLinear not in kinds(model)


@pytest.mark.parametrize(("precision", "fused"), [("bf16", True), ("fp32", False)])
def test_prediction_on_a_cpu_fuses_layers_in_bf16_only(precision, fused, tmp_path):
    folder = trainings.train(trainings.inputs_in(tmp_path), tmp_path / "trained")
    settings = {"batch_size": 4, "candidates": 5, "padding": "packed", "precision": precision}
    assert (cpu_layers._FusedLinear in kinds(Predictor(folder / "model", settings, 1).model)) == fused


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_keeps_its_share_scales_it_and_gives_the_gradient_of_what_it_kept(p, dtype):
    torch.manual_seed(0)
    ones = torch.ones(401, 501, dtype=dtype, requires_grad=True)
    layer = cpu_layers._FastDropout(p)
    output = layer(ones)
    output.sum().backward()
    kept = output.detach() != 0
    numbers = ones.numel()
    assert abs(kept.sum().item() - numbers * (1 - p)) < 5 * (numbers * p * (1 - p)) ** 0.5
    assert torch.allclose(output[kept].float(), torch.tensor(1 / (1 - p)), rtol=5e-3)
    assert torch.equal(ones.grad, output)
    by_place = kept.flatten()[: numbers // 4 * 4].view(-1, 4).float().mean(0)  # four are drawn at once
    assert (by_place - (1 - p)).abs().max() < 5 * (p * (1 - p) * 4 / numbers) ** 0.5
    again = layer(ones) != 0
    assert abs((again == kept).float().mean().item() - (p**2 + (1 - p) ** 2)) < 0.01  # drawn anew
    torch.manual_seed(0)
    assert torch.equal(layer(ones), output)
    assert layer.eval()(ones) is ones


def test_dropout_of_nothing_and_of_all():
    values = torch.randn(3, 5)
    assert cpu_layers._FastDropout(0.0)(values) is values
    assert torch.equal(cpu_layers._FastDropout(1.0)(values), torch.zeros(3, 5))


@pytest.mark.parametrize(("padding", "replaced"), [("packed", True), ("longest", False)])
def test_packed_rows_on_a_cpu_are_trained_with_it(padding, replaced, tmp_path, monkeypatch):
    called = []
    monkeypatch.setattr(cpu_layers, "replace_dropout", called.append)
    settings = {**tiny.TRAINING, "padding": padding}
    trainings.train(trainings.inputs_in(tmp_path), tmp_path / "trained", settings)
    assert bool(called) == replaced
