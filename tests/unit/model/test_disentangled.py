"""DeBERTa v2 and v3 over packed rows: what padded rows give, on a CPU and by flashdeberta's kernel."""

import contextlib
import copy
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tiny
from qa.model import disentangled, packing
from qa.model.collators import PackingCollator, PaddingCollator
from qa.model.window_dataset import TokenRows
from qa.training.trainer import window_loss

FIXED = {"budgets": (130, 300), "windows": 7, "width": 40}
SHAPES = {
    "v3": {"share_att_key": True, "position_buckets": 8, "norm_rel_ebd": "layer_norm", "position_biased_input": False},
    "own projections": {"share_att_key": False, "position_buckets": 8, "position_biased_input": True},
    "no buckets": {"share_att_key": True, "max_relative_positions": 6, "type_vocab_size": 2},
    "one kind": {"share_att_key": True, "position_buckets": 8, "pos_att_type": ["c2p"]},
}
shapes = pytest.mark.parametrize("shape", SHAPES)
CPU, GPU = torch.device("cpu"), SimpleNamespace(type="cuda", index=0)


def model_of(shape: str = "v3", **changes):
    options = {"pos_att_type": ["c2p", "p2c"], "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    options |= {"relative_attention": True, "max_position_embeddings": 64, "num_hidden_layers": 2}
    size = {"vocab_size": 60, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 24}
    config = transformers.DebertaV2Config(**{**size, **options, **SHAPES[shape], **changes})
    torch.manual_seed(0)
    model = transformers.DebertaV2ForQuestionAnswering(config)
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(0.2 * torch.randn_like(weights))
    return model.eval()


def computed(model, collator, lengths):
    """Logits of the windows' own tokens, the loss, and every weight's gradient."""
    draw = np.random.default_rng(0)
    lists = {"input_ids": draw.integers(5, 60, sum(lengths)).astype(np.int32)}
    if model.config.type_vocab_size:
        lists["token_type_ids"] = draw.integers(0, 2, sum(lengths)).astype(np.int32)
    starts = np.array(lengths) // 2
    batch = collator(TokenRows(lists, {"start_positions": starts, "end_positions": starts}, np.array(lengths)))
    model.zero_grad()
    start, end, tokens = packing.window_logits(model(**packing.model_inputs(batch)), batch)
    loss = window_loss(start, end, tokens, batch)
    loss.backward()
    logits = torch.stack([start[tokens], end[tokens]]).detach()
    return {"logits": logits, "loss": loss.detach()} | {name: w.grad for name, w in model.named_parameters()}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        scale = max(1.0, values.abs().max().item())
        torch.testing.assert_close(found[name] / scale, values / scale, atol=2e-5, rtol=0, msg=name)


def padded_and_packed(shape, lengths, **fixed):
    model = model_of(shape)
    expected = computed(model, PaddingCollator(0, 0, left=False), lengths)
    assert packing.prepare(model) == ""
    collator = PackingCollator(packing.first_position(model), bool(model.config.type_vocab_size), **fixed)
    return expected, computed(model, collator, lengths)


@shapes
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(lengths=st.lists(st.integers(2, 40), min_size=1, max_size=6), fixed=st.sampled_from([{}, FIXED]))
def test_packed_windows_give_the_logits_losses_and_gradients_of_padded_ones(shape, lengths, fixed):
    assert_same(*padded_and_packed(shape, lengths, **fixed))


@pytest.fixture
def kernel(monkeypatch):
    """flashdeberta's own kernel, on the CPU by Triton's interpreter."""
    pytest.importorskip("triton")
    pytest.importorskip("flashdeberta")
    monkeypatch.setattr(torch.cuda, "device", lambda *_: contextlib.nullcontext())


@shapes
def test_the_kernel_gives_the_same(shape, kernel, monkeypatch):
    monkeypatch.setattr(disentangled.PackedSelfAttention, "by_turns", disentangled.PackedSelfAttention.by_kernel)
    assert_same(*padded_and_packed(shape, [9, 40, 2], **FIXED))


@shapes
def test_the_kernel_passes_its_trial(shape, kernel):
    model = model_of(shape)
    disentangled.pack(model)
    assert disentangled.try_kernel(model, CPU, torch.float32) == ""


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_kernel_passes_its_trial_on_a_gpu(dtype):
    pytest.importorskip("flashdeberta")
    model = model_of(hidden_size=128)
    disentangled.pack(model)
    assert disentangled.try_kernel(model, torch.device("cuda"), dtype) == ""


def test_a_row_makes_nothing_that_grows_with_its_square():
    model = model_of()
    disentangled.pack(model)
    mask = torch.ones(1, 10**6)
    assert model.deberta.encoder.get_attention_mask(mask) is mask
    assert model.deberta.encoder.get_rel_pos(torch.empty(1, 10**6, 32)) is None


def test_a_packed_model_keeps_the_names_of_its_weights_and_can_be_undone(tmp_path):
    model = model_of()
    names, classes = list(model.state_dict()), [type(module) for module in model.modules()]
    expected = computed(model, PaddingCollator(0, 0, left=False), [5, 9])
    disentangled.pack(model)
    assert list(model.state_dict()) == names and disentangled.is_packed(copy.deepcopy(model))
    model.save_pretrained(tmp_path)
    loaded = transformers.AutoModelForQuestionAnswering.from_pretrained(tmp_path)
    assert loaded.config.architectures == ["DebertaV2ForQuestionAnswering"]
    for _ in range(2):
        disentangled.unpack(model)
        assert [type(module) for module in model.modules()] == classes and not disentangled.is_packed(model)
    assert_same(computed(model, PaddingCollator(0, 0, left=False), [5, 9]), expected)


@pytest.mark.parametrize(
    ("changes", "why"),
    [({"conv_kernel_size": 3}, "give other logits"), ({"relative_attention": False}, "declares no attention backend")],
)
def test_a_deberta_that_cannot_pack_is_padded(changes, why):
    model = model_of(**changes)
    assert why in packing.prepare(model) and not disentangled.is_packed(model)
    assert type(model.deberta.encoder) is transformers.models.deberta_v2.modeling_deberta_v2.DebertaV2Encoder


def another_kernel(fault):
    """In place of flashdeberta's: one that fails as asked."""

    def attend(query, key, value, of_keys, of_queries, *others, **options):
        if fault == "raises":
            raise RuntimeError("out of resources")
        return value + of_keys.mean() + of_queries.mean()

    return attend


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("dropout", "attention dropout cannot pack its rows on a GPU"),
        ("not installed", "only with the Python package flashdeberta"),
        ("raises", "flashdeberta does not work here (RuntimeError: out of resources)"),
        ("computes something else", "flashdeberta gives other results or gradients (by "),
    ],
)
def test_on_a_gpu_a_model_without_a_kernel_that_works_is_padded(fault, why, monkeypatch):
    model = model_of(attention_probs_dropout_prob=0.1 if fault == "dropout" else 0.0)
    if fault == "not installed":
        monkeypatch.setitem(sys.modules, disentangled.KERNEL[0], None)
    else:
        monkeypatch.setattr(disentangled, "_kernel", lambda: another_kernel(fault))
    monkeypatch.setattr(model, "to", lambda _: model)
    monkeypatch.setattr(disentangled, "try_kernel", on_cpu(disentangled.try_kernel))
    assert why in packing._prepare(model, GPU, "bf16")
    assert not disentangled.is_packed(model)


def on_cpu(function):
    return lambda model, _, dtype: function(model, CPU, dtype)


def test_on_a_gpu_the_kernel_computes_if_it_works_and_nothing_is_compiled(monkeypatch):
    model, tried = model_of(), []
    monkeypatch.setattr(disentangled, "try_kernel", lambda *how: tried.append(how[1:]) or "")
    monkeypatch.setattr(model, "to", lambda _: model)
    collator, how = packing.collator(model, tiny.word_piece(), "packed", device=GPU, precision="bf16")
    assert isinstance(collator, PackingCollator) and disentangled.is_packed(model)
    assert how == "packed rows, attention by flashdeberta, attention dropout 0"
    assert tried == [(GPU, torch.bfloat16)]
    assert packing._attention_of(model, CPU, "bf16").startswith("attention by turns")
