"""Model folders that cannot serve, each named in one sentence, before anything is computed with them."""

import errno
import json
import pickle
import shutil
from contextlib import nullcontext

import pytest
import torch
import transformers
from transformers.models.auto import modeling_auto

import tiny
from plain_windows import SETTINGS
from qa.common.errors import InputError, shortage
from qa.hub import download
from qa.model.loading import load_model
from qa.preflight.checks import check_encoders
from qa.preflight.findings import PROBLEM
from qa.preflight.plan import Plan
from qa.windows import encoder_config
from qa.windows.tokenize_and_label import WindowBuilder
from qa.windows.tokenizer import load_tokenizer


@pytest.fixture(scope="module")
def right(tmp_path_factory):
    return tiny.save_model(tmp_path_factory.mktemp("right") / "m")


@pytest.fixture
def folder(right, tmp_path):
    shutil.copytree(right, tmp_path / "m")
    return tmp_path / "m"


def refusal(call, *arguments):
    with pytest.raises(InputError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def configure(folder, **values):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def only_pickle(folder):
    weights = load_model(folder).state_dict()
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")


def test_a_model_with_nothing_but_a_pickle_is_refused_when_it_is_brought_and_when_it_is_loaded(folder, tmp_path):
    only_pickle(folder)
    message = refusal(download.fetch_model, {"path": str(folder)}, tmp_path / "brought")
    assert "has no model.safetensors, only pickles (pytorch_model.bin), which can run any code when loaded" in message
    assert not (tmp_path / "brought").exists() and "discussions" not in message
    assert "no file named model.safetensors" in refusal(load_model, folder)


def test_a_pickle_under_the_name_of_safetensors_is_not_unpickled(folder, tmp_path):
    (folder / "model.safetensors").write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    assert "its safetensors file is broken" in refusal(load_model, folder)
    assert not (tmp_path / "ran").exists()


class Payload:
    """What a malicious pickle is: loading it makes a file."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return open, (str(self.file), "w")


SHORT = [(errno.EMFILE, "Too many open files"), (errno.EIO, "Input/output error"), (errno.ESTALE, "Stale file handle")]
LOADERS = {
    "AutoConfig": load_model,
    "AutoModelForQuestionAnswering": load_model,
    "AutoTokenizer": load_tokenizer,
}


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("number, words", [*SHORT, (errno.ENOSPC, "No space left on device")])
@pytest.mark.parametrize("loader", LOADERS)
def test_a_folder_is_not_called_unusable_for_what_the_machine_lacks(loader, number, words, behind, folder, monkeypatch):
    def short_of_it(*_, **__):
        try:
            raise OSError(number, words)
        except OSError as error:
            if behind:
                raise OSError("Can't load the model") from error
            raise

    monkeypatch.setattr(getattr(transformers, loader), "from_pretrained", short_of_it)
    with pytest.raises(OSError) as caught:
        LOADERS[loader](folder)
    assert words in shortage(caught.value)


ARCHITECTURES = {
    "for images": ({"model_type": "vit"}, "ViTConfig"),
    "that generates": ({"model_type": "t5gemma"}, "T5GemmaConfig"),
    "unknown": ({"model_type": "mill"}, "mill"),
    "not named": ({"model_type": None}, "config.json cannot be used"),
    "a list": ({"model_type": ["bert"]}, "config.json cannot be used"),
    "of other shapes": ({"hidden_size": 64}, "m: "),
    "no numbers": ({"hidden_size": "wide"}, "m: "),
    "of no size": ({"num_attention_heads": 0}, "m: "),
}


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_an_architecture_that_cannot_serve_is_named(kind, folder):
    values, named = ARCHITECTURES[kind]
    configure(folder, **values)
    assert named in refusal(load_model, folder)


@pytest.mark.parametrize("content", ["", "[]", "{", "5", '"bert"', "\x00", "[" * 5000])
def test_a_configuration_that_is_no_json_object_is_named(content, folder):
    (folder / "config.json").write_text(content)
    assert "config.json" in refusal(load_model, folder)
    assert str(folder) in refusal(load_tokenizer, folder)


def test_a_tokenizer_with_more_tokens_than_the_model_has_embeddings_is_refused(folder):
    tokens = len(load_tokenizer(folder))
    tokenizer = load_tokenizer(folder)
    tokenizer.add_tokens(["mill", "oats"])
    tokenizer.save_pretrained(folder)
    assert f"tokens up to number {tokens + 1}, its model embeddings for {tokens}" in refusal(load_tokenizer, folder)
    configure(folder, vocab_size=tokens + 2)
    assert load_tokenizer(folder).get_vocab()["oats"] == tokens + 1


def mapped(name):
    return set(getattr(modeling_auto, f"MODEL_FOR_{name}_MAPPING_NAMES"))


def test_every_decoder_only_model_with_a_head_for_questions_is_known_and_no_encoder_is_taken_for_one():
    heads = mapped("QUESTION_ANSWERING")
    encoders = mapped("MASKED_LM") | mapped("SEQ_TO_SEQ_CAUSAL_LM") | {"xlnet"}
    decoders = (heads & mapped("CAUSAL_LM")) - encoders
    assert {"gpt2", "llama", "qwen2"} <= decoders
    assert decoders == {kind for kind in heads if encoder_config.DECODER.match(kind)}


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"model_type": "qwen2"}, "decoder-only"),
        ({"model_type": "bert", "is_decoder": True}, "decoder-only"),
        ({"model_type": "nystromformer"}, "rows of one width only"),
        ({"model_type": "reformer"}, "rows of one width only"),
    ],
)
def test_a_model_that_cannot_serve_is_refused_before_tokenizing_and_by_preflight(values, reason, folder):
    configure(folder, **values)
    message = refusal(load_tokenizer, folder)
    assert reason in message and "encoder, such as" in message
    (finding,) = check_encoders(Plan({}, rows=((str(folder), 64),)))
    assert (finding.kind, finding.text) == (PROBLEM, message)


@pytest.mark.parametrize(
    ("values", "longest"),
    [
        ({"model_type": "bert"}, 512),
        ({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ({"model_type": "deberta-v2", "position_biased_input": False}, None),
    ],
)
def test_rows_that_are_longer_than_the_models_positions_are_refused_whatever_its_tokenizer_says(
    values, longest, folder
):
    configure(folder, **values)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    del settings["model_max_length"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    findings = list(check_encoders(Plan({}, rows=((str(folder), 600),))))
    assert not list(check_encoders(Plan({str(folder): ("model", {})}, rows=((str(folder), 600),))))
    tokenizer = load_tokenizer(folder)
    chosen = {**SETTINGS, "model": "m", "max_length": 600}
    if longest is None:
        assert WindowBuilder(tokenizer, chosen) and not findings
    else:
        message = refusal(WindowBuilder, tokenizer, chosen)
        assert message == f"windows.max_length: 600 tokens are more than the {longest} that the model m takes"
        assert [finding.text for finding in findings] == [message]


@pytest.mark.parametrize("family", ["bert", "camembert", "ibert", "mpnet", "xlm-roberta", "yoso"])
def test_the_longest_row_has_a_position_for_each_token(family):
    size = {"hidden_size": 8, "num_attention_heads": 1, "intermediate_size": 8, "num_hidden_layers": 1}
    config = transformers.AutoConfig.for_model(family, vocab_size=9, max_position_embeddings=32, **size)
    model = transformers.AutoModelForQuestionAnswering.from_config(config).eval()
    longest = encoder_config.longest_row(config.to_dict())
    for tokens, outcome in ((longest, nullcontext()), (longest + 1, pytest.raises((IndexError, RuntimeError)))):
        with torch.no_grad(), outcome:
            model(input_ids=torch.full((1, tokens), 5), attention_mask=torch.ones(1, tokens, dtype=torch.long))


def test_a_model_with_one_token_type_gets_windows_without_types(folder):
    configure(folder, type_vocab_size=1)
    builder = WindowBuilder(load_tokenizer(folder), SETTINGS)
    assert "token_type_ids" not in builder.schema.names and not any(part.any() for part in builder.template.types)


BROKEN_TOKENIZERS = ["", "{}", "[]", "null", '{"version": "1.0", "model": null}', "[" * 5000, "\x00"]


@pytest.mark.parametrize("content", BROKEN_TOKENIZERS)
def test_a_tokenizer_that_is_broken_is_named(content, folder):
    (folder / "tokenizer.json").write_text(content)
    assert str(folder) in refusal(load_tokenizer, folder)


def test_a_missing_tokenizer_is_named(folder, tmp_path):
    for file in folder.glob("*token*"):
        file.unlink()
    assert str(folder) in refusal(load_tokenizer, folder)
    assert "has no tokenizer: it needs one of" in refusal(download.fetch_model, {"path": str(folder)}, tmp_path / "b")


def test_a_tokenizer_without_offsets_is_refused(folder):
    for file in folder.glob("*token*"):
        file.unlink()
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "mill"]))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertJapaneseTokenizer"}))
    assert str(folder) in refusal(load_tokenizer, folder)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_weights_that_are_no_finite_numbers_are_named(value, folder):
    model = load_model(folder)
    with torch.no_grad():
        model.bert.encoder.layer[0].output.dense.weight[3, 5] = float(value)
    model.save_pretrained(folder)
    assert "finite numbers: bert.encoder.layer.0.output.dense.weight" in refusal(load_model, folder)


@pytest.mark.parametrize("labels", [1, 3])
def test_a_classifier_with_any_number_of_labels_gets_a_head_for_starts_and_ends(labels, folder):
    config = transformers.BertConfig.from_pretrained(folder, num_labels=labels)
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    model = load_model(folder)
    assert model.qa_outputs.out_features == model.config.num_labels == 2
    assert model(torch.tensor([[2, 5, 3]])).start_logits.shape == (1, 3)


def test_weights_of_another_architecture_are_named(folder):
    config = transformers.DistilBertConfig(vocab_size=400, dim=32, n_layers=1, n_heads=2, hidden_dim=48)
    transformers.DistilBertForQuestionAnswering(config).save_pretrained(folder.parent / "other")
    shutil.copy(folder.parent / "other" / "model.safetensors", folder)
    assert "weights of the encoder are missing" in refusal(load_model, folder)


def test_missing_weights_of_an_encoder_without_a_name_of_its_own_are_named(folder):
    sizes = {"vocab_size": 400, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 2}
    config = transformers.T5Config(**sizes, decoder_start_token_id=0)
    transformers.T5ForConditionalGeneration(config).save_pretrained(folder)
    assert load_model(folder)
    assert "encoder are missing: encoder.block.2." in refusal(load_model, folder, {"num_layers": 3})
    transformers.T5EncoderModel(config).save_pretrained(folder)
    assert "encoder are missing: decoder.block.0." in refusal(load_model, folder)


def test_a_cased_vocabulary_that_nothing_keeps_from_being_lower_cased_is_refused(folder):
    for file in folder.glob("*token*"):
        file.unlink()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "mill", "Mill", "Ada", "oats"]
    (folder / "vocab.txt").write_text("\n".join(words))
    assert "2 of its 4 tokens have capitals; copy the folder" in refusal(load_tokenizer, folder)
    for lower, tokens in ((False, ["Mill", "oats"]), (True, ["mill", "oats"])):
        (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lower}))
        assert load_tokenizer(folder).tokenize("Mill oats") == tokens
    (folder / "tokenizer_config.json").unlink()
    (folder / "vocab.txt").write_text("\n".join(word for word in words if word == word.lower() or word[0] == "["))
    assert load_tokenizer(folder).tokenize("Mill oats") == ["mill", "oats"]
