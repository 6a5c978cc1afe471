"""Packed rows: the same logits, losses and gradients as padded ones, in shapes that are compiled once."""

import copy
import csv
import json
import logging
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch._dynamo.testing
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

import tiny
import trainings
from qa.common.errors import InputError
from qa.model import attention, joined_products, packing
from qa.model.collators import IGNORED, PackingCollator, PaddingCollator
from qa.model.loading import with_attention_dropout
from qa.model.window_dataset import TokenRows, WindowDataset
from qa.training import fit
from qa.training.batch_sampler import EpochBatchSampler
from qa.training.trainer import window_loss

VOCABULARY = 60
LONGEST = 40
BASE = {"vocab_size": VOCABULARY, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
FAMILIES = {
    "bert": {**BASE, "max_position_embeddings": 64},
    "roberta": {**BASE, "max_position_embeddings": 66, "pad_token_id": 1, "type_vocab_size": 1},
    "electra": {**BASE, "max_position_embeddings": 64, "embedding_size": 12},
    "modernbert": {
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 64,
        "local_attention": 8,
        "global_attn_every_n_layers": 2,
        "pad_token_id": 1,
    },
}
families = pytest.mark.parametrize("family", FAMILIES)
shapes = st.fixed_dictionaries(
    {"heads": st.sampled_from([1, 2, 4]), "layers": st.integers(2, 3), "seed": st.integers(0, 10**6)}
)
lengths = st.lists(st.integers(2, LONGEST), min_size=1, max_size=6)
some = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def model_of(family: str, heads: int = 2, layers: int = 2, seed: int = 0):
    size = {"hidden_size": 8 * heads, "num_attention_heads": heads, "intermediate_size": 24}
    config = transformers.AutoConfig.for_model(family, **FAMILIES[family], **size, num_hidden_layers=layers)
    torch.manual_seed(seed)
    model = transformers.AutoModelForQuestionAnswering.from_config(config)
    with torch.no_grad():
        for weights in model.parameters():  # as drawn they are so small that attention hardly matters
            weights.add_(0.2 * torch.randn_like(weights))
    return model.eval()


def rows_of(lengths: list[int], seed: int, types: bool) -> TokenRows:
    draw = np.random.default_rng(seed)
    tokens = sum(lengths)
    lists = {"input_ids": draw.integers(5, VOCABULARY, tokens).astype(np.int32)}
    if types:
        lists["token_type_ids"] = draw.integers(0, 2, tokens).astype(np.int32)
    starts = np.array([draw.integers(0, length) for length in lengths])
    ends = np.array([draw.integers(start, length) for start, length in zip(starts, lengths, strict=True)])
    return TokenRows(lists, {"start_positions": starts, "end_positions": ends}, np.array(lengths, np.int64))


def computed(model, batch):
    """Logits of the windows' own tokens, the loss, and every parameter's gradient."""
    model.zero_grad()
    start, end, tokens = packing.window_logits(model(**packing.model_inputs(batch)), batch)
    loss = window_loss(start, end, tokens, batch)
    loss.backward()
    gradients = {name: weights.grad for name, weights in model.named_parameters() if weights.grad is not None}
    return torch.stack([start[tokens], end[tokens]]).detach(), loss.item(), gradients


def assert_same(one, other):
    assert one[0].shape == other[0].shape
    torch.testing.assert_close(one[0], other[0], atol=1e-5, rtol=1e-5)
    assert one[1] == pytest.approx(other[1], abs=1e-5)
    assert one[2].keys() == other[2].keys() and one[2]
    for name, gradient in one[2].items():
        scale = max(1.0, gradient.abs().max().item())
        torch.testing.assert_close(gradient / scale, other[2][name] / scale, atol=1e-5, rtol=0, msg=name)


def both(family, lengths, shape, packer_options=None):
    padded_model = model_of(family, **shape)
    rows = rows_of(lengths, shape["seed"], family in ("bert", "electra"))
    pad = padded_model.config.pad_token_id
    padded = computed(padded_model, PaddingCollator(pad, 0, left=False)(rows))
    packed_model = copy.deepcopy(padded_model)
    assert packing.prepare(packed_model) == ""
    first = packing.first_position(packed_model)
    packer = PackingCollator(first, family in ("bert", "electra", "roberta"), **(packer_options or {}))
    return padded, computed(packed_model, packer(rows))


@families
@some
@given(lengths=lengths, shape=shapes)
def test_packed_windows_give_the_logits_losses_and_gradients_of_padded_ones(family, lengths, shape):
    assert_same(*both(family, lengths, shape))


FIXED = {"budgets": (130, 300), "windows": 7, "width": LONGEST}


@pytest.mark.parametrize("way", ["by turns", "padded", "varlen"])
@families
@settings(parent=some, max_examples=10)
@given(lengths=lengths, shape=shapes)
def test_rows_filled_to_fixed_shapes_give_the_same_by_every_way_of_attention(way, family, lengths, shape):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "kernel", lambda *_: way)
        patch.setattr(attention, "varlen_attn", flash_attention_by_its_documentation)
        assert_same(*both(family, lengths, shape, FIXED))


def flash_attention_by_its_documentation(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale, window_size):
    """What torch documents of varlen_attn, which needs a GPU: sequences by their bounds, window_size (left, right)."""
    assert query.shape == key.shape == value.shape and query.dim() == 3 and query.stride(2) == 1
    assert cu_seq_q is cu_seq_k and cu_seq_q.dtype == torch.int32 and cu_seq_q[0] == 0 and cu_seq_q[-1] == len(query)
    assert isinstance(max_q, int) and max_q == max_k >= cu_seq_q.diff().max()
    found = []
    for first, stop in zip(cu_seq_q[:-1].tolist(), cu_seq_q[1:].tolist(), strict=True):
        places = torch.arange(stop - first)
        ahead = places - places[:, None]
        left, right = (10**9 if side == -1 else side for side in window_size)
        scores = torch.einsum("qhd,khd->hqk", query[first:stop], key[first:stop]) * scale
        scores = scores.masked_fill((ahead < -left) | (ahead > right), -torch.inf)
        found.append(torch.einsum("hqk,khd->qhd", scores.softmax(-1), value[first:stop]))
    return torch.cat(found)


@families
def test_the_varlen_kernel_accepts_what_it_is_given_forwards_and_backwards(family, monkeypatch):
    model = model_of(family).to(torch.bfloat16)
    model.config._attn_implementation = attention.NAME
    rows = rows_of([9, 30, 5], 3, False)
    batch = PackingCollator(packing.first_position(model), family != "modernbert", **FIXED)(rows)
    monkeypatch.setattr(attention, "kernel", lambda *_: "varlen")
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:  # shapes and types only: the kernel itself needs a GPU
        own = dict(model.named_parameters()) | dict(model.named_buffers())
        weights = {name: fake.from_tensor(values.detach()) for name, values in own.items()}
        for name, values in weights.items():
            values.requires_grad_(own[name].requires_grad)
        given = {name: fake.from_tensor(v) if isinstance(v, torch.Tensor) else v for name, v in batch.items()}
        output = torch.func.functional_call(model, weights, kwargs=packing.model_inputs(given))
        start, end, tokens = packing.window_logits(output, given)
        assert start.shape == end.shape == tokens.shape == (7, LONGEST) and start.dtype == torch.bfloat16
        window_loss(start, end, tokens, given).backward()
    assert weights["qa_outputs.weight" if family != "modernbert" else "classifier.weight"].grad.dtype == torch.bfloat16


@families
def test_no_window_sees_another(family):
    model = model_of(family)
    assert packing.prepare(model) == ""
    packer, logits = PackingCollator(packing.first_position(model), family != "modernbert"), []
    for seed in (1, 2):
        rows = rows_of([9, 30, 5], 0, False)
        rows.lists["input_ids"][9:39] = np.random.default_rng(seed).integers(5, VOCABULARY, 30)
        batch = packer(rows)
        start, end, tokens = packing.window_logits(model(**packing.model_inputs(batch)), batch)
        logits.append([torch.stack([start[i, tokens[i]], end[i, tokens[i]]]) for i in range(3)])
    first, second = logits
    assert torch.equal(first[0], second[0]) and torch.equal(first[2], second[2])
    assert not torch.allclose(first[1], second[1])


@families
def test_every_batch_of_a_size_runs_the_code_compiled_for_the_first(family, monkeypatch):
    monkeypatch.setattr(attention, "kernel", lambda *_: "padded")  # as on a GPU without the varlen kernel
    model = model_of(family)
    assert packing.prepare(model) == ""
    packer = PackingCollator(packing.first_position(model), family != "modernbert", (96, 160), 6, LONGEST)
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounter()
    compiled = torch.compile(model, backend=counter, dynamic=False, fullgraph=True)
    for lengths, expected in (([9, 30, 5], 1), ([40, 40], 1), ([2] * 6, 1), ([40, 40, 40], 2), ([25] * 5, 2)):
        batch = packer(rows_of(lengths, 3, False))
        output = compiled(**packing.model_inputs(batch))
        assert counter.frame_count == expected
        torch.testing.assert_close(output.start_logits, model(**packing.model_inputs(batch)).start_logits)


@given(training=st.integers(1, 30_000), validation=st.integers(0, 30_000), step=st.integers(1, 300))
def test_sizes_of_row_hold_the_largest_batches_and_training_has_only_one(training, validation, step):
    sizes = packing.budgets(training, validation, step)
    assert all(size % step == 0 for size in sizes) and len(sizes) <= 2
    assert sizes[0] - step < training <= sizes[0]
    assert sizes[-1] >= validation and sizes[-1] - step < max(training, validation)


def test_totals_are_the_tokens_of_each_batch_in_every_epoch():
    lengths = np.arange(1, 12)
    batches = EpochBatchSampler(lengths, batch_size=4, seed=5, parts=2)
    totals = batches.totals(3)
    assert len(totals) == 3 * len(batches) and totals.sum() == 3 * lengths.sum()
    batches.set_epoch(2)
    assert totals[-len(batches) :].tolist() == [sum(lengths[batch]) for batch in batches]


@pytest.mark.parametrize(
    ("family", "options", "why"),
    [
        ("deberta", {}, "declares no attention backend"),
        ("mobilebert", {"embedding_size": 16, "intra_bottleneck_size": 16}, "give other logits"),
    ],
)
def test_an_encoder_that_cannot_pack_is_padded_and_the_log_says_why(family, options, why, caplog):
    size = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24, "num_hidden_layers": 1}
    config = transformers.AutoConfig.for_model(family, vocab_size=VOCABULARY, **size, **options)
    torch.manual_seed(0)
    model = transformers.AutoModelForQuestionAnswering.from_config(config)
    before = model.config._attn_implementation
    with caplog.at_level(logging.WARNING):
        collator, rows = packing.collator(model, tiny.word_piece(), "packed")
    assert (
        isinstance(collator, PaddingCollator) and collator.width is None and rows.startswith("padded rows, attention ")
    )
    assert why in caplog.text and "padded to the longest" in caplog.text
    assert model.config._attn_implementation == before and model.training


def test_packed_rows_have_few_lengths_where_each_costs_memory():
    packer = PackingCollator(0, False, few_lengths=True)
    batches = {total: packer(rows_of([total - 7, 7], 0, False)) for total in range(64, 512, 3)}
    lengths = {total: batch["input_ids"].shape[1] for total, batch in batches.items()}
    assert len(set(lengths.values())) <= 3 * 16 + 1
    assert all(total <= length <= total * 17 / 16 for total, length in lengths.items())
    for total, batch in batches.items():
        assert batch["window_bounds"][:3].tolist() == [0, total - 7, total]
        assert batch["window_bounds"][-1] == lengths[total] and len(batch["window_places"]) == 2


@pytest.mark.parametrize("padding", ["packed", "longest"])
def test_rows_on_a_cpu_have_few_lengths_within_the_models_positions(padding):
    model = model_of("bert")
    collator, _ = packing.collator(model, tiny.word_piece(), padding)
    longest = model.config.max_position_embeddings
    widths = {
        collator(rows_of([length], 0, True))["input_ids"].shape[1] for length in range(longest // 2 + 1, longest + 1)
    }
    assert len(widths) <= longest // 4 and max(widths) == longest


def test_a_process_on_the_cpu_predicts_by_joined_projections():
    model = model_of("bert").eval()
    packing.collator(model, tiny.word_piece(), "packed", joined=True)
    assert "_Query" in {type(part).__name__ for part in model.modules()}


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("fault", ["raises", "computes something else", "none"])
def test_a_kernel_that_fails_with_the_model_on_its_gpu_is_replaced_before_the_first_step(
    fault, joined, monkeypatch, caplog
):
    def kernel(query, key, *others, **options):
        if fault == "raises":
            raise RuntimeError("head_size should be a multiple of 8")
        return flash_attention_by_its_documentation(query, key * (fault == "none"), *others, **options)

    model, tried = model_of("bert"), []
    before = model.config._attn_implementation
    way = lambda device, half, dropout: "varlen" if attention.varlen_works and half else "padded"  # noqa: E731
    monkeypatch.setattr(attention, "kernel", way)  # as on a GPU
    monkeypatch.setattr(attention, "varlen_attn", kernel)
    monkeypatch.setattr(attention, "varlen_works", True)
    monkeypatch.setattr(attention, "try_varlen", lambda *how: tried.append(how))
    gpu = SimpleNamespace(type="cuda", index=0)
    monkeypatch.setattr(model, "to", lambda device: tried.append(device))
    assert packing._prepare(model, gpu, "bf16", joined) == ""
    assert ("_Query" in {type(part).__name__ for part in model.modules()}) == (joined and fault == "none")
    assert tried == [gpu, (gpu, torch.bfloat16, 8)]  # the model is there, and heads of its size are tried
    assert model.config._attn_implementation == attention.NAME != before
    assert attention.varlen_works == (fault == "none") and ("padded instead" in caplog.text) == (fault != "none")
    assert packing._attention_of(model, gpu, "bf16").startswith(
        "attention varlen (flash attention)" if fault == "none" else "attention padded"
    )


@families
@some
@given(lengths=lengths, shape=shapes)
def test_joined_projections_give_the_logits_and_gradients_of_separate_ones(family, lengths, shape):
    model = model_of(family, **shape)
    joined, names = copy.deepcopy(model), list(model.state_dict())
    assert packing.prepare(model) == packing.prepare(joined, joined=True) == ""
    batch = PackingCollator(packing.first_position(model), family != "modernbert")(rows_of(lengths, 1, False))
    expected = computed(model, batch)
    assert_same(expected, computed(joined, batch))
    assert_same(expected, computed(copy.deepcopy(joined), batch))
    assert list(joined.state_dict()) == names
    kinds = {type(module).__name__ for module in joined.modules()}
    assert ("_Query" in kinds) == (family != "modernbert")  # whose projections are one product already
    joined_products.separate(joined)
    assert {type(module) for module in joined.modules()} == {type(module) for module in model.modules()}


def test_windows_are_read_across_the_chunks_of_a_table():
    lists = [[[1, 2], [3]], [[4, 5, 6]], [[7], [8, 9], [10]]]
    chunks = [pa.table({"input_ids": pa.array(part, pa.list_(pa.int32()))}) for part in lists]
    table = pa.concat_tables(chunks).append_column("start_positions", pa.array(range(6), pa.int32()))
    store = WindowDataset(table.slice(1), ["input_ids", "start_positions"])
    assert len(store) == 5 and store.lengths.tolist() == [1, 3, 1, 2, 1]
    rows = store.rows([3, 0, 1])
    assert rows.lists["input_ids"].tolist() == [8, 9, 3, 4, 5, 6] and rows.lengths.tolist() == [2, 1, 3]
    assert rows.numbers["start_positions"].tolist() == [4, 1, 2]


def test_windows_that_only_fill_a_row_count_in_no_loss():
    batch = PackingCollator(0, False, (40,), 4, 16)(rows_of([7, 9], 0, False))
    assert batch["start_positions"][2:].tolist() == [IGNORED] * 2
    assert batch["window_bounds"].tolist() == [0, 7, 16, 16, 16, 32, 40, 40] and batch["longest_window"] == 16
    assert batch["position_ids"][0].tolist() == [*range(7), *range(9), *range(16), *range(8)]
    assert batch["window_tokens"].sum(dim=1).tolist() == [7, 9, 0, 0]


@some
@given(lengths=lengths, fixed=st.booleans(), types=st.booleans(), seed=st.integers(0, 99))
def test_a_packed_batch_is_the_one_of_plain_loops(lengths, fixed, types, seed):
    rows, first = rows_of(lengths, seed, types), 2
    batch = PackingCollator(first, types, **(FIXED if fixed else {}))(rows)
    width = FIXED["width"] if fixed else max(lengths)
    left = min(budget for budget in FIXED["budgets"] if budget >= sum(lengths)) - sum(lengths) if fixed else 0
    fillings = [min(width, max(0, left - start)) for start in range(0, max(FIXED["budgets"]), width)] if fixed else []
    positions, bounds = [], [0]
    for length in [*lengths, *[0] * (FIXED["windows"] - len(lengths) if fixed else 0), *fillings]:
        positions += range(first, first + length)
        bounds += [len(positions)]
    assert batch["position_ids"].tolist() == [positions] and batch["window_bounds"].tolist() == bounds
    assert batch["longest_window"] == width
    for name, values in rows.lists.items():
        assert batch[name].tolist() == [[*values.tolist(), *[0] * left]]
    for number, length in enumerate(lengths):
        assert batch["window_tokens"][number].tolist() == [1] * length + [0] * (width - length)
        assert batch["window_places"][number, :length].tolist() == list(range(bounds[number], bounds[number + 1]))
        assert batch["start_positions"][number] == rows.numbers["start_positions"][number]


def test_a_batch_that_no_size_holds_has_its_own():
    batch = PackingCollator(0, False, (8, 16), 2, 16)(rows_of([16, 16], 0, False))
    assert batch["input_ids"].shape == (1, 32) and batch["window_bounds"].tolist() == [0, 16, 32, 32]


SETTINGS = tiny.TRAINING | {
    "max_steps": 7,
    "schedule": "linear",
    "warmup": 1,
    "weight_decay": 0.01,
    "overrides": {"hidden_dropout_prob": 0.0},
}
OPTIONS = tiny.RUNTIME_OPTIONS | {"compile": "kernels"}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return trainings.inputs_in(tmp_path_factory.mktemp("inputs"))


def trained(inputs, folder, checkpointing=False, **changes):
    trainings.train(inputs, folder, {**SETTINGS, **changes}, OPTIONS | {"gradient_checkpointing": checkpointing})
    with open(folder / "history", newline="") as stream:
        return list(csv.DictReader(stream)), json.loads((folder / "manifest").read_text())


def test_a_training_with_packed_rows_takes_the_course_of_one_with_padded_rows(inputs, tmp_path):
    courses = {way: trained(inputs, tmp_path / way, padding=way)[0] for way in ("packed", "longest")}
    assert len(courses["packed"]) == len(courses["longest"]) > 7
    for packed, padded in zip(courses["packed"], courses["longest"], strict=True):
        for name in ("loss", "gradient_norm", "validation_loss"):
            assert bool(packed[name]) == bool(padded[name])
            if packed[name]:
                assert float(packed[name]) == pytest.approx(float(padded[name]), rel=1e-4)


@pytest.mark.parametrize("padding", ["packed", "longest"])
def test_gradient_checkpointing_computes_layers_twice_and_changes_nothing(padding, inputs, tmp_path, monkeypatch):
    layer, calls = transformers.models.bert.modeling_bert.BertSelfAttention, []
    forward = layer.forward
    monkeypatch.setattr(layer, "forward", lambda *given, **named: (calls.append(1), forward(*given, **named))[1])
    changes = {"padding": padding, "overrides": {"hidden_dropout_prob": 0.2}}
    courses, counts = [], []
    for checkpointing in (False, True):
        calls.clear()
        course = trained(inputs, tmp_path / f"{checkpointing}", checkpointing=checkpointing, **changes)[0]
        courses.append([(row["loss"], row["gradient_norm"], row["validation_loss"]) for row in course])
        counts.append(len(calls))
    assert courses[0] == courses[1]
    assert (
        counts[1] - counts[0]
        == SETTINGS["max_steps"] * transformers.AutoConfig.from_pretrained(inputs["model"]).num_hidden_layers
    )
    configs = [(tmp_path / f"{way}" / "model" / "config.json").read_bytes() for way in (False, True)]
    assert configs[0] == configs[1]


def test_a_model_that_cannot_checkpoint_gradients_is_refused(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(transformers.BertForQuestionAnswering, "supports_gradient_checkpointing", False)
    with pytest.raises(InputError, match=r"training\.gradient_checkpointing: BertForQuestionAnswering cannot do this"):
        trained(inputs, tmp_path, checkpointing=True)


@pytest.mark.parametrize(("precision", "checkpointing"), [("fp32", False), ("fp32", True), ("bf16", False)])
def test_rows_in_fixed_shapes_take_the_same_course_and_are_compiled_once_a_size(
    precision, checkpointing, inputs, tmp_path, monkeypatch
):
    """As on a GPU, through the Trainer and its mixed precision, but for what the compiler makes of the graph."""
    plain = trained(inputs, tmp_path / "plain", padding="packed", precision=precision, max_steps=12)[0]
    collator, counter, sizes = packing.collator, torch._dynamo.testing.CompileCounter(), []

    def in_fixed_shapes(model, *others):
        packer, rows = collator(model, *others)
        spec = trainings.spec_of(inputs, {**SETTINGS, "max_steps": 12}, OPTIONS)
        arguments = fit.training_arguments(spec, tmp_path / "unused")
        fixed = fit._in_fixed_shapes(packer, fit._data(spec, model, arguments), arguments)
        assert fixed.budgets and fixed.windows == 4 and fixed.width == 64
        sizes.extend(fixed.budgets)
        torch._dynamo.reset()
        model.compile(dynamic=False, fullgraph=True, backend=counter)
        return fixed, rows

    monkeypatch.setattr(packing, "collator", in_fixed_shapes)
    monkeypatch.setattr(attention, "kernel", lambda *_: "padded")
    changes = {"padding": "packed", "precision": precision, "max_steps": 12}
    fixed = trained(inputs, tmp_path / "fixed", checkpointing, **changes)[0]
    assert 2 <= counter.frame_count <= 2 * len(sizes)  # once a size, for training and for validation
    close = {"fp32": 1e-4, "bf16": 0.05}[precision]
    for name in ("loss", "gradient_norm", "validation_loss"):
        values = [[float(row[name]) for row in course if row[name]] for course in (plain, fixed)]
        assert values[0] and values[0] == pytest.approx(values[1], rel=close)


def test_a_model_trained_on_packed_rows_is_a_plain_one_and_its_manifest_tells_how(inputs, tmp_path):
    _, manifest = trained(inputs, tmp_path, padding="packed")
    said = manifest["attempts"][0]["computed"]
    assert said == "packed rows, attention by turns, attention dropout 0"
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert attention.NAME not in json.dumps(config) and config["attention_probs_dropout_prob"] == 0.0
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(tmp_path / "model")
    assert model.config._attn_implementation != attention.NAME
    with torch.no_grad():
        assert model(torch.tensor([[2, 5, 3]])).start_logits.isfinite().all()


def test_attention_dropout_may_stay_the_models_own(inputs, tmp_path):
    _, manifest = trained(inputs, tmp_path, padding="packed", attention_dropout=None, max_steps=1)
    assert manifest["attempts"][0]["computed"].endswith("attention dropout 0.1")
    assert json.loads((tmp_path / "model" / "config.json").read_text())["attention_probs_dropout_prob"] == 0.1


def test_a_model_without_a_known_attention_dropout_is_named(tmp_path):
    transformers.AutoConfig.for_model("funnel").save_pretrained(tmp_path / "known")
    assert with_attention_dropout(tmp_path / "known", {}, 0.2) == {"attention_dropout": 0.2}
    transformers.AutoConfig.for_model("gpt2").save_pretrained(tmp_path / "other")
    with pytest.raises(InputError, match=r"training.attention_dropout: GPT2Config .* set null"):
        with_attention_dropout(tmp_path / "other", {}, 0.0)
    assert with_attention_dropout(tmp_path / "other", {"n_layer": 1}, None) == {"n_layer": 1}


@pytest.mark.parametrize(
    ("longest", "expected"),
    [(384, (64, 128, 192, 256, 320, 384)), (500, (128, 256, 384, 500)), (50, (50,)), (64, (64,))],
)
def test_padded_rows_that_are_compiled_have_at_most_six_widths(longest, expected):
    assert packing.widths(longest) == expected
    for lengths in ([1], [30, 2], [longest - 1], [longest]):
        rows = rows_of(lengths, seed=1, types=False)
        for left in (False, True):
            few, exact = (PaddingCollator(0, 0, left, widths=widths)(rows) for widths in (expected, ()))
            width = few["input_ids"].shape[1]
            assert width == min(width for width in expected if width >= max(lengths))
            for batch in (few, exact):  # the same tokens, and labels that point at the same ones
                batch["tokens"] = batch["input_ids"][batch["attention_mask"].bool()]
                batch["answers"] = batch["input_ids"][range(len(lengths)), batch["start_positions"]]
            assert few["tokens"].equal(exact["tokens"]) and few["answers"].equal(exact["answers"])


@pytest.mark.parametrize(
    ("wanted", "works", "parts", "told"),
    [
        ("none", True, 1, "not compiled"),
        ("kernels", False, 1, "not compiled"),
        ("kernels", True, 1, "compiled"),
        ("graphs", True, 1, "compiled, in CUDA graphs"),
        ("graphs", True, 2, "compiled"),
    ],
)
def test_a_model_is_compiled_in_place_where_the_machine_can(wanted, works, parts, told, monkeypatch, tmp_path):
    monkeypatch.setattr(fit.devices, "can_compile", lambda: works)
    model = model_of("bert")
    names = list(model.state_dict())
    settings = {**SETTINGS, "precision": "fp32", "accumulation_steps": parts}
    arguments = fit.training_arguments(trainings.spec_of({"model": "m"}, settings, OPTIONS), tmp_path)
    assert fit._compile(model, wanted, PaddingCollator(0, 0, False, width=64), arguments) == "not compiled"
    assert model._compiled_call_impl is None  # rows of the walkthrough
    assert fit._compile(model, wanted, PaddingCollator(0, 0, False, widths=(64, 128)), arguments) == told
    assert (model._compiled_call_impl is not None) == told.startswith("compiled")
    for kind, expected in (("deberta-v2", () if wanted == "none" else (64, 100)), ("mpnet", ())):
        other = SimpleNamespace(config=SimpleNamespace(model_type=kind), compile=lambda **_: None)
        spec = trainings.spec_of({"model": "m"}, settings, {**OPTIONS, "compile": wanted})
        data = SimpleNamespace(windows=SimpleNamespace(lengths=np.array([9, 100])), validation=None)
        assert fit._for_gpu(spec, other, PaddingCollator(0, 0, False), data, arguments)[0].widths == expected
    of_many_widths = fit._compile(model_of("bert"), wanted, PaddingCollator(0, 0, False), arguments)
    assert of_many_widths == "not compiled, since rows have many widths"
    assert list(model.state_dict()) == names
