"""Linear layers by oneDNN's fused operator: the logits of plain ones; where it does not work, layers stay plain."""

import copy

import pytest
import torch
import transformers
from encoder_families import SIZES
from torch.nn import Identity, Linear
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

import trainings
from qa.model import cpu_linear, devices
from qa.model.predict import Predictor

FAMILIES = ["bert", "roberta", "electra", "mpnet", "convbert", "distilbert", "albert", "modernbert", "deberta-v2"]


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
    cpu_linear.fuse(fused)
    assert cpu_linear._Fused in kinds(fused) and list(fused.state_dict()) == list(plain.state_dict())
    assert torch.equal(logits(fused, "fp32"), logits(plain, "fp32"))
    precise, rounded, found = logits(plain, "fp32"), logits(plain, "bf16"), logits(fused, "bf16")
    scale = precise.abs().max()
    assert (found - precise).abs().max() / scale < 2 * (rounded - precise).abs().max() / scale + 0.01


@pytest.mark.parametrize(("activation", "fused"), [("gelu", True), ("gelu_new", False), ("relu", False)])
def test_gelu_is_fused_and_other_activations_stay(activation, fused):
    plain = model_of("bert", hidden_act=activation)
    model = copy.deepcopy(plain)
    cpu_linear.fuse(model)
    assert all(
        isinstance(layer.intermediate.intermediate_act_fn, Identity) == fused for layer in model.bert.encoder.layer
    )
    assert (logits(model, "bf16") - logits(plain, "bf16")).abs().max() < 0.05


def no_operator(*_):
    raise RuntimeError("could not create a primitive descriptor")


def wrong_operator(inputs, weight, *_):
    return inputs.new_zeros(len(inputs), len(weight))


@pytest.mark.parametrize("product", [no_operator, wrong_operator])
def test_layers_stay_plain_where_the_operator_fails_or_gives_other_numbers(product, monkeypatch):
    monkeypatch.setattr(cpu_linear, "_product", product)
    model = model_of("bert")
    cpu_linear.fuse(model)
    assert Linear in kinds(model) and cpu_linear._Fused not in kinds(model)


@pytest.mark.parametrize(("precision", "fused"), [("bf16", True), ("fp32", False)])
def test_prediction_on_a_cpu_fuses_layers_in_bf16_only(precision, fused, tmp_path):
    folder = trainings.train(trainings.inputs_in(tmp_path), tmp_path / "trained")
    settings = {"batch_size": 4, "candidates": 5, "padding": "packed", "precision": precision}
    assert (cpu_linear._Fused in kinds(Predictor(folder / "model", settings, 1).model)) == fused
