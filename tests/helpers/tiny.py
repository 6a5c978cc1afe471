"""Small things made in the tests: tokenizers of three families, a model that takes seconds, a few questions."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertForQuestionAnswering, PreTrainedTokenizerFast, set_seed

from qa.data.prepare_questions import records_schema

TEXT = [
    "The 1st bridge over the river Söhl was built in 1412, of oak and slate.",
    "Its keeper, Ada Venn-Mor, was paid €40 a year; her sister got £7.50!",
    "naïve café owners say “the fair lasts 3 weeks” 東京 — nobody knows why",
    "Who built it? When was the second bridge repaired? How much was the keeper paid?",
    "un able tele graph ing works ers 1234567890 abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ",
]
# The params of the rule `tokenize_and_label` where a test says nothing else.
WINDOWS = {"max_length": 64, "overlap": 16, "max_question_length": 24, "long_contexts": "windows", "labels": "exact"}
OUTPUTS = ("answers", "null_scores", "nbest", "no_answer_probabilities")  # of postprocess
SHORT_WINDOWS = WINDOWS | {"max_length": 40, "overlap": 8, "max_question_length": 12}
# The params of the rule `train` where a test says nothing else: its settings, and the options that change no result.
TRAINING = {
    "max_steps": 2,
    "batch_size": 4,
    "accumulation_steps": 1,
    "learning_rate": 0.001,
    "schedule": "constant",
    "warmup": 0,
    "weight_decay": 0.0,
    "max_gradient_norm": 1.0,
    "precision": "fp32",
    "padding": "packed",
    "attention_dropout": 0.0,
    "keep_epoch": "last",
    "overrides": {},
}
RUNTIME_OPTIONS = {
    "every_steps": 9,
    "keep": 1,
    "keep_after_success": False,
    "log_every_steps": 1,
    "threads": 1,
    "gpus": 1,
    "nodes": 1,
    "compile": "none",
    "gradient_checkpointing": False,
    "report_to": [],
    "walltime_minutes": None,
}


def byte_level_bpe(texts: Iterable[str] = TEXT, size: int = 400, **options: Any) -> PreTrainedTokenizerFast:
    """As RoBERTa's: bytes as letters, no token types, `<s> question </s></s> context </s>`, offsets trimmed."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), True, False)
    names = {"cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return _wrapped(tokenizer, ["input_ids", "attention_mask"], **names, **options)


def word_piece(texts: Iterable[str] = TEXT, size: int = 400, **options: Any) -> PreTrainedTokenizerFast:
    """As BERT's: lower-cased, accents stripped, `[CLS] question [SEP] context [SEP]` with token types."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return _bert_like(tokenizer, **options)


def unigram(texts: Iterable[str] = TEXT, size: int = 200, **options: Any) -> PreTrainedTokenizerFast:
    """As DeBERTa-v3's: NFKC, a word's space belongs to its first token, BERT's special tokens."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("  ", " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    trainer = trainers.UnigramTrainer(
        vocab_size=size, special_tokens=special, unk_token="[UNK]", show_progress=False, seed_size=1000
    )
    tokenizer.train_from_iterator(texts, trainer)
    return _bert_like(tokenizer, **options)


FAMILIES = {"byte-level BPE": byte_level_bpe, "WordPiece": word_piece, "Unigram": unigram}


def _bert_like(tokenizer: Tokenizer, **options: Any) -> PreTrainedTokenizerFast:
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )
    names = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    return _wrapped(tokenizer, ["input_ids", "token_type_ids", "attention_mask"], **names, **options)


def _wrapped(tokenizer: Tokenizer, inputs: list[str], **options: Any) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_input_names=inputs, model_max_length=512, **options
    )


def save_model(
    folder: Path, texts: Iterable[str] = TEXT, dropout: float = 0.1, family: Callable[..., Any] = word_piece
) -> Path:
    """A BERT of one narrow layer with random weights and a tokenizer of a family, saved as the hub has them."""
    tokenizer = family(texts)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=48,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    set_seed(0)
    BertForQuestionAnswering(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def squad(questions: int = 12, prefix: str = "q") -> dict[str, Any]:
    """SQuAD v2.0 JSON of short made-up paragraphs, every third question unanswerable, every sixth context long."""
    paragraphs = []
    for number in range(questions):
        year, name = 1300 + number, f"Tarn{chr(97 + number % 26)}{number}"
        context = f"The mill of {name} was built in {year} by Ada Venn. It ground oats for {number + 2} villages."
        if number % 6 == 0:
            context += " Nobody knows why the river there runs cold." * 12
        answers = [] if number % 3 == 2 else [{"text": str(year), "answer_start": context.index(str(year))}]
        asked = "burnt down" if not answers else "built"
        question = {"id": f"{prefix}-{number}", "question": f"When was the mill of {name} {asked}?", "answers": answers}
        paragraphs.append({"context": context, "qas": [{**question, "is_impossible": not answers}]})
    return {"version": "v2.0", "data": [{"title": f"Mills of {prefix}", "paragraphs": paragraphs}]}


def write_squad(path: Path, **options: Any) -> Path:
    """Write `squad(**options)` to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(squad(**options), ensure_ascii=False), encoding="utf-8")
    return path


def rows(builder: Any, records: list[dict[str, Any]], at_once: int = 1000) -> Iterator[dict[str, Any]]:
    """The rows that a `WindowBuilder` builds from records, as dictionaries, their lists as arrays."""
    for first in range(0, len(records), at_once):
        batch = pa.RecordBatch.from_pylist(records[first : first + at_once], schema=records_schema())
        for table in builder.rows(builder.encoder.questions(batch, first)):
            for row in range(len(table)):
                cells = {name: table.column(name)[row] for name in table.schema.names}
                yield {
                    name: cell.values.to_numpy() if pa.types.is_list(cell.type) else cell.as_py()
                    for name, cell in cells.items()
                }
