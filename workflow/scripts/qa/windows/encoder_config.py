"""What an encoder's config.json says of the rows that it can read; without torch and transformers, so in no time."""

import re
from pathlib import Path
from typing import Any

from qa.common.errors import InputError
from qa.common.files import read_json

# How the types of decoder-only models begin.
DECODER = re.compile(
    "arcee|bloom|diffllama|exaone|falcon|gemma|gpt|llama|minimax|ministral|mistral|mixtral|mpt|nemotron|opt|phi|qwen|"
    "seed_oss|smollm"
)
ONE_WIDTH = ("nystromformer", "reformer")  # trained at other widths they raise errors
# Types that begin to count positions after the padding token's number. The positions before are lost.
AFTER_PADDING = re.compile(
    "camembert|data2vec-text|ibert|longformer|luke|mpnet|roberta(-prelayernorm)?|xlm-roberta(-xl)?|xmod"
)


def encoder_config(folder: str | Path) -> dict[str, Any]:
    """The values of a model folder's config.json; {} without one. Raises InputError for a model that cannot serve.

    The first token of a decoder-only model, which stands for "no answer", sees neither question nor context.
    """
    file = Path(folder, "config.json")
    values = read_json(file) if file.is_file() else {}
    if not isinstance(values, dict):
        return {}
    kind = values.get("model_type")
    if DECODER.match(str(kind)) or values.get("is_decoder") is True:
        raise InputError(
            f"{folder}: its model ({kind}) is decoder-only: a token sees only the tokens before it, so it cannot "
            "learn when there is no answer; use an encoder, such as RoBERTa, DeBERTa-v3 or ModernBERT"
        )
    if kind in ONE_WIDTH:
        raise InputError(
            f"{folder}: its model ({kind}) computes rows of one width only, and windows have many; use another "
            "encoder, such as RoBERTa, DeBERTa-v3 or ModernBERT"
        )
    return values


def longest_row(config: dict[str, Any]) -> int | None:
    """Tokens of the longest row that a model has positions for; None where its configuration does not say."""
    positions, padding = config.get("max_position_embeddings"), config.get("pad_token_id", 1)
    if not isinstance(positions, int) or positions < 1 or config.get("position_biased_input") is False:
        return None  # the last: DeBERTa with relative positions only
    skipped = padding + 1 if AFTER_PADDING.fullmatch(str(config.get("model_type"))) and isinstance(padding, int) else 0
    return positions - skipped


def check_length(max_length: int, longest: int | None, model: str | Path) -> None:
    """Raise InputError if rows of `max_length` tokens are longer than the model takes."""
    if longest is not None and max_length > longest:
        raise InputError(
            f"windows.max_length: {max_length} tokens are more than the {longest} that the model {model} takes"
        )
