"""Prediction: the best starts and ends of each window, with their logits and their characters of the context."""

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from qa.common.errors import InputError
from qa.common.files import written_aside
from qa.common.progress import Progress
from qa.model import cpu_layers, devices, packing
from qa.model.collators import PackingCollator, PaddingCollator
from qa.model.loading import inputs_of, load_model
from qa.model.spans import Spans
from qa.model.window_dataset import TokenRows, WindowDataset
from qa.windows.read_windows import arrow_table
from qa.windows.tokenizer import load_tokenizer

PLACES = ["context_start", "context_stop", "null_position"]
LABELS = ["start_positions", "end_positions", "null_position"]
AHEAD = 2  # batches that the GPU has been given while the results of an earlier one are taken

log = logging.getLogger(__name__)


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
    """Run a model over windows and write their spans (see `qa.model.spans.Spans`) in the windows' order.

    Memory grows with the number of windows times `candidates`, not with their length. For what is raised see Predictor.
    """
    spans = Predictor(model_folder, settings, threads).spans(arrow_table(windows_folder))
    with written_aside(target) as aside:
        spans.write(aside)


class Predictor:
    """A fine-tuned model, ready to find the spans of windows by the settings of prediction."""

    def __init__(self, folder: str | Path, settings: dict[str, Any], threads: int):
        """Load the model of a folder; raises InputError for one without a trained head: such models have no answers."""
        self.folder, self.settings = folder, settings
        self.device = devices.device()
        devices.prepare_cpu(threads)
        model = load_model(folder, settings.get("overrides"), trained=True).eval()
        self.tokenizer = load_tokenizer(folder)
        with devices.repeatable(settings.get("deterministic", False)):  # packing's trials are the first to use cuBLAS
            self.collator, self.how = packing.collator(
                model,
                self.tokenizer,
                settings["padding"],
                settings.get("max_length"),
                self.device,
                settings["precision"],
                joined=self.device.type == "cuda",
            )
        if self.device.type == "cpu" and settings["precision"] == "bf16":
            cpu_layers.fuse_linear(model)
        self.model = model

    def spans(self, table: Any) -> Spans:
        """The spans of a table of windows (see WindowBuilder.rows), in its order; InputError if logits are not finite.

        Windows of like length share a batch, so that little is padded.
        """
        columns = [*inputs_of(self.model, ["input_ids", "token_type_ids"]), *PLACES]
        windows = WindowDataset(table, [name for name in columns if name in table.column_names])
        precision = self.settings["precision"]
        log.info(f"predicting {len(windows):,} windows on {self.device}, {precision}, {self.how}")
        with devices.repeatable(self.settings.get("deterministic", False)), devices.precision_context(precision):
            spans = spans_of(
                self.model,
                windows,
                self.collator,
                self.settings["batch_size"],
                self.settings["candidates"],
                self.device,
                self.folder,
                self.settings["padding"] == "max_length",
            )
        first, last, null = (table.column(name).to_numpy() for name in LABELS)
        spans.label_tokens[:] = np.where(first == null, 0, last - first + 1)
        return spans.locate(table)


def spans_of(
    model: Callable[..., Any],
    windows: WindowDataset,
    collator: PackingCollator | PaddingCollator,
    batch_size: int,
    candidates: int,
    device: torch.device,
    name: str | Path,
    padding_counts: bool = False,
) -> Spans:
    """The spans of windows in their order, by a model that is on `device` and in evaluation mode.

    `name` stands for it in messages. For `padding_counts` see `_found`.
    """
    spans = Spans.empty(len(windows), candidates)
    progress = Progress("predict", len(windows), "windows")
    order = np.argsort(-windows.lengths, kind="stable")
    waiting: deque[Any] = deque()
    with torch.inference_mode():
        for first in range(0, len(order), batch_size):
            chosen = order[first : first + batch_size]
            rows = windows.rows(chosen)
            waiting.append((chosen, _found(model, collator, rows, candidates, device, padding_counts)))
            if len(waiting) > AHEAD:
                _put(spans, *waiting.popleft(), name)
                progress.reach(first)
        while waiting:
            _put(spans, *waiting.popleft(), name)
    progress.reach(len(windows))
    return spans


def _found(
    model: Any,
    collator: PackingCollator | PaddingCollator,
    rows: TokenRows,
    candidates: int,
    device: torch.device,
    padding_counts: bool,
) -> tuple[dict[str, torch.Tensor], Any]:
    """What `Spans` keeps of some windows, on its way from the device, and the event after which it has arrived.

    With `padding_counts` the greatest of a row may be in its padding, as in the walkthrough; else a window's results
    do not depend on those computed beside it.
    """
    batch = {name: _sent(values, device) for name, values in collator(rows).items()}
    start, end, tokens = packing.window_logits(model(**batch), batch)
    start, end = start.float(), end.float()
    finite = ((start.isfinite() & end.isfinite()) | ~tokens).all(dim=1)
    if not padding_counts:
        start, end = (logits.masked_fill(~tokens, -torch.inf) for logits in (start, end))
    shifts = collator.shifts(rows.lengths)
    places = [torch.from_numpy(rows.numbers[name] + shifts) for name in PLACES]
    place = Place(*(_sent(values, device) for values in (*places, torch.from_numpy(shifts))))
    found = best_spans(start, end, place, candidates) | {"finite": finite}
    found = {name: values.to("cpu", non_blocking=True) for name, values in found.items()}
    arrived = torch.cuda.Event() if device.type == "cuda" else None
    if arrived:
        arrived.record()
    return found, arrived


def _sent(values: Any, device: torch.device) -> Any:
    """Tensors on their way to the device: from pinned memory, or it would be waited for; numbers as they are."""
    if not isinstance(values, torch.Tensor) or device.type == "cpu":
        return values
    return values.pin_memory().to(device, non_blocking=True)


def _put(
    spans: Spans, chosen: np.ndarray, results: tuple[dict[str, torch.Tensor], Any], model_folder: str | Path
) -> None:
    found, arrived = results
    if arrived:
        arrived.synchronize()
    arrays = {name: tensor.numpy() for name, tensor in found.items()}
    if not arrays.pop("finite").all():
        raise InputError(f"{model_folder}: its logits are not finite (window {chosen[0]}); train it anew")
    spans.put(chosen, arrays)


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
