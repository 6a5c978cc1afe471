"""What becomes of each family that transformers has a head for questions for: tried with tiny models, no list of ours.

`make config-reference` runs this file, which writes the table of docs/extending.md.
"""

import inspect
import re
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES as HEADS
from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

from qa.common.errors import InputError
from qa.common.files import write_json
from qa.model import packing
from qa.model.collators import PaddingCollator
from qa.model.window_dataset import TokenRows
from qa.windows.encoder_config import encoder_config

DOCUMENT = Path(__file__).parents[2] / "docs" / "extending.md"
TABLE = re.compile(r"(?<=<!-- encoder families -->\n).*?(?=<!-- /encoder families -->)", re.DOTALL)
SIZES = {
    **dict.fromkeys(["hidden_size", "d_model", "dim", "emb_dim", "embedding_size", "embedding_dim"], 32),
    **dict.fromkeys(["num_hidden_layers", "n_layers", "num_layers", "n_layer", "encoder_layers", "decoder_layers"], 2),
    **dict.fromkeys(["num_attention_heads", "n_heads", "num_heads", "n_head", "encoder_attention_heads"], 2),
    **dict.fromkeys(["intermediate_size", "d_ff", "hidden_dim", "encoder_ffn_dim", "decoder_ffn_dim", "d_inner"], 48),
    **dict.fromkeys(["bos_token_id", "cls_token_id", "eos_token_id", "sep_token_id", "decoder_start_token_id"], 2),
    **{"vocab_size": 200, "entity_vocab_size": 9, "pad_token_id": 1, "decoder_attention_heads": 2},
    **{"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    **{"default_language": "en_XX", "axial_pos_embds_dim": (16, 16), "global_attn_every_n_layers": 2},
}
OTHER_INPUTS = {"bbox": "page layout", "visual_feats": "images", "xpath_tags_seq": "the markup of web pages"}
LENGTHS = (37, 70)  # tokens of two windows; no multiples of a block


def outcome(kind: str, folder: Path) -> tuple[str, str]:
    """What becomes of a family's windows (packed, padded or refused), and why. `folder` is for a config.json.

    Raises what the model raises where windows can be neither packed nor padded.
    """
    write_json(folder / "config.json", {"model_type": kind})
    try:
        encoder_config(folder)
    except InputError as error:
        return "refused", re.search(r"its model \(\S+\) (?:is )?(.+?)[:,;]", str(error))[1]
    tokenizer = getattr(transformers, TOKENIZER_MAPPING_NAMES.get(kind) or "PreTrainedTokenizerFast")
    if not issubclass(tokenizer, transformers.PreTrainedTokenizerFast):
        return "refused", "its tokenizer is slow, so it gives no character offsets"
    head = getattr(transformers, HEADS[kind])
    if others := OTHER_INPUTS.keys() & inspect.signature(head.forward).parameters:
        return "not for plain text", f"also reads {OTHER_INPUTS[others.pop()]}"
    config = CONFIG_MAPPING[kind]
    known = config().to_dict() | {"decoder_start_token_id": None}  # T5's repositories have it, its class does not
    torch.manual_seed(0)
    model = head(config(**{name: value for name, value in SIZES.items() if name in known}))
    fault = packing.prepare(model)
    if not fault:
        return "packed", ""
    reason = "declares no attention backend" if "declares" in fault else "packed rows give other logits"
    return (
        ("padded", reason)
        if train_padded(model)
        else ("padded", "padding changes its logits: its answers depend on the batch")
    )


def train_padded(model: transformers.PreTrainedModel) -> bool:
    """Whether a window has the same logits alone as padded to a longer one. Gradients must be finite numbers."""
    ids = 3 + np.arange(sum(LENGTHS), dtype=np.int32) % 150
    ids[[8, 9, 36, 45, 46, 106]] = 2  # Longformer looks for three separators in each row
    collator = PaddingCollator(1, 0, left=False)
    batch = collator(TokenRows({"input_ids": ids}, {}, np.array(LENGTHS)))
    alone = collator(TokenRows({"input_ids": ids[: LENGTHS[0]]}, {}, np.array(LENGTHS[:1])))
    with torch.no_grad():
        torch.manual_seed(0)  # YOSO draws hashes
        padded = model.eval()(**batch).start_logits[0, : LENGTHS[0]]
        torch.manual_seed(0)
        difference = (padded - model(**alone).start_logits[0]).abs().max() / padded.abs().max()
    start, end, tokens = packing.window_logits(model.train()(**batch), batch)
    assert start.shape == end.shape == tokens.shape
    (start[tokens].square().mean() + end[tokens].square().mean()).backward()
    assert all(weights.grad.isfinite().all() for weights in model.parameters() if weights.grad is not None)
    return bool(difference < packing.TOLERANCE)


def table(folder: Path) -> str:
    """The families by outcome, as the document has them."""
    found: dict[tuple[str, str], list[str]] = {}
    for kind in sorted(HEADS):
        found.setdefault(outcome(kind, folder), []).append(kind)
    order = ["packed", "padded", "refused", "not for plain text"]
    lines = ["| windows | `model_type` | why |", "| --- | --- | --- |"]
    for (what, why), kinds in sorted(found.items(), key=lambda item: (order.index(item[0][0]), -len(item[1]))):
        lines.append(f"| {what} | {', '.join(kinds)} | {why} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        written = table(Path(folder))
    DOCUMENT.write_text(TABLE.sub(lambda _: written, DOCUMENT.read_text()))
