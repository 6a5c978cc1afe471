"""Every family of encoders that the documents name goes through tokenize, train and predict."""

import json

import datasets
import numpy as np
import pytest
import sentencepiece
import transformers

import tiny
import trainings
from qa.common.errors import InputError
from qa.data.prepare_questions import convert
from qa.model.predict import predict
from qa.model.spans import Spans
from qa.windows.tokenize_and_label import tokenize
from qa.windows.tokenizer import load_tokenizer

SMALL = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
FAMILIES = {
    "bert": (tiny.word_piece, SMALL),
    "bert, one token type": (tiny.word_piece, {**SMALL, "type_vocab_size": 1}),  # its tokenizer makes two
    "roberta": (
        tiny.byte_level_bpe,
        {**SMALL, "max_position_embeddings": 130, "type_vocab_size": 1, "pad_token_id": 1},
    ),
    "deberta-v2": (
        tiny.unigram,
        {**SMALL, "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "type_vocab_size": 0},
    ),
    "electra": (tiny.word_piece, {**SMALL, "embedding_size": 16}),
    # one layer of each of its two kinds of attention, as transformers 5.5 requires
    "modernbert": (
        tiny.byte_level_bpe,
        {**SMALL, "num_hidden_layers": 2, "global_attn_every_n_layers": 2, "pad_token_id": 1},
    ),
    "distilbert": (tiny.word_piece, {"dim": 32, "n_layers": 1, "n_heads": 2, "hidden_dim": 48}),
}
SETTINGS = tiny.TRAINING | {
    "schedule": "cosine",
    "warmup": 1,
    "max_gradient_norm": 0.0,
    "precision": "bf16",
}
OPTIONS = tiny.RUNTIME_OPTIONS | {"compile": "kernels"}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_of_encoders_trains_and_predicts(family, tmp_path):
    make_tokenizer, options = FAMILIES[family]
    tokenizer = make_tokenizer()
    config = transformers.AutoConfig.for_model(family.partition(",")[0], vocab_size=len(tokenizer), **options)
    transformers.AutoModelForQuestionAnswering.from_config(config).save_pretrained(tmp_path / "given")
    tokenizer.save_pretrained(tmp_path / "given")
    convert([tiny.write_squad(tmp_path / "q.json", questions=8)], tmp_path / "r.parquet")
    tokenize(tmp_path / "r.parquet", load_tokenizer(tmp_path / "given"), tiny.WINDOWS, tmp_path / "windows")
    inputs = {"model": str(tmp_path / "given"), "windows": [str(tmp_path / "windows")]}
    trainings.train(inputs, tmp_path, SETTINGS, OPTIONS, seed=7)
    prediction = {"batch_size": 3, "candidates": 4, "precision": "bf16", "padding": "packed"}
    predict(tmp_path / "model", tmp_path / "windows", prediction, 1, tmp_path / "s.parquet")
    spans, windows = Spans.read(tmp_path / "s.parquet"), datasets.load_from_disk(tmp_path / "windows")
    assert len(spans) == len(windows) and np.isfinite(spans.null_score).all()
    label, null = (np.array(windows[name]) for name in ("start_positions", "null_position"))
    assert ((spans.label_tokens > 0) == (label != null)).all()
    inside = (spans.start_index >= np.array(windows["context_start"])[:, None]) | (spans.start_index == -1)
    assert inside.all()


def test_a_tokenizer_that_pads_on_the_left_gives_the_same_spans(tmp_path):
    make_tokenizer, options = FAMILIES["roberta"]
    config = transformers.AutoConfig.for_model("roberta", vocab_size=len(make_tokenizer()), **options)
    model = transformers.AutoModelForQuestionAnswering.from_config(config)
    convert([tiny.write_squad(tmp_path / "q.json", questions=8)], tmp_path / "r.parquet")
    tokenize(tmp_path / "r.parquet", make_tokenizer(), tiny.WINDOWS, tmp_path / "windows")
    prediction = {"batch_size": 50, "candidates": 4, "precision": "fp32", "padding": "max_length", "max_length": 80}
    found = {}
    for side in ("left", "right"):
        model.save_pretrained(tmp_path / side)
        make_tokenizer(padding_side=side).save_pretrained(tmp_path / side)
        predict(tmp_path / side, tmp_path / "windows", prediction, 1, tmp_path / f"{side}.parquet")
        found[side] = Spans.read(tmp_path / f"{side}.parquet")
    assert (found["left"].start_index == found["right"].start_index).all()
    assert (found["left"].end_index == found["right"].end_index).all()
    np.testing.assert_allclose(found["left"].null_score, found["right"].null_score, atol=1e-5)


def test_a_tokenizer_that_is_a_sentencepiece_model_only_is_read(tmp_path):
    (tmp_path / "text.txt").write_text("\n".join(tiny.TEXT * 20))
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "text.txt"),
        model_prefix=str(tmp_path / "spm"),
        vocab_size=110,
        pad_id=0,
        unk_id=3,
        bos_id=1,
        eos_id=2,
        pad_piece="[PAD]",
        unk_piece="[UNK]",
        bos_piece="[CLS]",
        eos_piece="[SEP]",
    )
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "deberta-v2", "vocab_size": 111}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "DebertaV2Tokenizer"}))
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.is_fast and tokenizer("the bridge")["input_ids"][0] == tokenizer.cls_token_id


def test_a_folder_without_a_tokenizer_is_named(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(InputError, match="its tokenizer has no vocabulary"):
        load_tokenizer(tmp_path)
