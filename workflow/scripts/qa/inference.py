"""Prediction: the best starts and ends of each window with their logits, never all logits of a dataset."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from qa import devices
from qa.batching import Padder
from qa.errors import InputError
from qa.files import written_aside
from qa.models import inputs_of, load_model
from qa.progress import Progress
from qa.spans import Spans
from qa.windows import load_tokenizer, load_windows

log = logging.getLogger(__name__)
PLACES = ["context_start", "context_stop", "null_position"]


@dataclass(frozen=True)
class Place:
    """Where a batch's rows stand after padding: int64 tensors of shape (rows,), in places of the padded row."""

    context_start: torch.Tensor
    context_stop: torch.Tensor
    null: torch.Tensor
    shift: torch.Tensor


def predict(
    model_folder: str | Path, windows_folder: str | Path, settings: dict[str, Any], threads: int, target: str | Path
) -> None:
    """Run a model over windows and write their spans (see `qa.spans.Spans`) in the windows' order.

    Windows of like length share a batch, so that little is padded. Memory grows with the number of windows times
    `candidates`, not with their length. Raises InputError for logits that are not finite: such a model has no answers.
    """
    device = devices.device()
    devices.set_threads(threads)
    tokenizer, windows = load_tokenizer(model_folder), load_windows(windows_folder)
    padder = Padder.of(tokenizer, settings)
    model = load_model(model_folder).to(device).eval()
    columns = [*inputs_of(model, ["input_ids", "token_type_ids"]), *PLACES]
    windows = windows.select_columns([name for name in columns if name in windows.column_names])
    lengths = row_lengths(windows)
    order = np.argsort(-lengths, kind="stable")
    spans = Spans.empty(len(windows), settings["candidates"])
    progress = Progress("predict", len(windows), "windows")
    log.info(f"predicting {len(windows):,} windows on {device}, {settings['precision']}")
    with torch.inference_mode(), devices.arithmetic(settings["precision"]):
        for first in range(0, len(order), settings["batch_size"]):
            chosen = order[first : first + settings["batch_size"]]
            rows = windows[chosen.tolist()]
            rows = [dict(zip(rows, values, strict=True)) for values in zip(*rows.values(), strict=True)]
            batch = {name: tensor.to(device) for name, tensor in padder(rows).items()}
            output = model(**batch)
            start, end = output.start_logits.float(), output.end_logits.float()
            if not (torch.isfinite(start).all() and torch.isfinite(end).all()):
                raise InputError(f"{model_folder}: its logits are not finite (window {chosen[0]}); train it anew")
            found = best_spans(start, end, _places(rows, padder.shifts(lengths[chosen]), device), spans.candidates)
            spans.put(chosen, {name: tensor.cpu().numpy() for name, tensor in found.items()})
            progress.reach(min(first + len(chosen), len(order)))
    with written_aside(target) as aside:
        spans.write(aside)


def row_lengths(windows: Any) -> np.ndarray:
    """Tokens of each row, int64 of shape (windows,), read from the offsets of the column, not from its values."""
    chunks = windows.data.table.column("input_ids").chunks
    return np.concatenate([np.diff(chunk.offsets.to_numpy()) for chunk in chunks]) if chunks else np.zeros(0, np.int64)


def _places(rows: list[dict[str, Any]], shifts: np.ndarray, device: torch.device) -> Place:
    def moved(name: str) -> torch.Tensor:
        return torch.from_numpy(np.array([row[name] for row in rows]) + shifts).to(device)

    return Place(
        moved("context_start"), moved("context_stop"), moved("null_position"), torch.from_numpy(shifts).to(device)
    )


def best_spans(start: torch.Tensor, end: torch.Tensor, place: Place, candidates: int) -> dict[str, torch.Tensor]:
    """Pick from logits of shape (rows, width), float32, what `Spans` keeps of a window, on their own device.

    Places in the result count from the row's first token, whatever the padding's side; a context shorter than
    `candidates` is filled up with place -1 and logit -inf. Ties go to the earlier place.
    """
    width = start.shape[1]
    columns = torch.arange(width, device=start.device)
    outside = (columns < place.context_start[:, None]) | (columns >= place.context_stop[:, None])
    found: dict[str, torch.Tensor] = {}
    for name, logits in (("start", start), ("end", end)):
        best, where = _top(logits.masked_fill(outside, -torch.inf), candidates)
        where = torch.where(best > -torch.inf, where - place.shift[:, None], -1)
        found |= {f"{name}_logit": best, f"{name}_index": where.int()}
        row_best, row_where = _top(logits, 1)
        found |= {f"row_{name}_logit": row_best[:, 0], f"row_{name}_index": (row_where[:, 0] - place.shift).int()}
    null = place.null[:, None]
    found["null_score"] = (start.gather(1, null) + end.gather(1, null))[:, 0]
    return found


def _top(logits: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The `count` greatest of each row, greatest first, the earlier place first among equals, filled up with -inf."""
    values, places = logits.sort(dim=1, descending=True, stable=True)
    missing = count - logits.shape[1]
    if missing > 0:
        values = torch.nn.functional.pad(values, (0, missing), value=-torch.inf)
        places = torch.nn.functional.pad(places, (0, missing))
    return values[:, :count], places[:, :count]
