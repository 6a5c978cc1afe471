"""Epochs: the scores on held-out questions after each epoch, the choice of the best epoch, and an early end."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed
from transformers import TrainerCallback

from qa.common import checksums
from qa.common.files import written_aside
from qa.data.read_records import column, titles_and_golds
from qa.decoding import null_threshold
from qa.decoding.postprocess import n_best
from qa.model import packing, predict
from qa.model.collators import PackingCollator, PaddingCollator
from qa.model.loading import inputs_of
from qa.model.window_dataset import POSITIONS, WindowDataset
from qa.training import lora
from qa.training.trainer import window_loss
from qa.windows.read_windows import arrow_table

CANDIDATES, LONGEST_ANSWER = 20, 30  # of the n-best decoding here
# under names that the Trainer gives to metrics
LOSS, EXACT, F1 = "eval_loss", "eval_calibration_exact", "eval_calibration_f1"
BATCH = 64  # windows
DIVERGED = "the model after this epoch (did training diverge? see learning_rate and precision)"

log = logging.getLogger(__name__)


class Check:
    """EM and F1 of a model on held-out questions, at the null threshold that they would calibrate for F1.

    `windows` are folders, `records` the files with their questions, and `f1_by` what their F1 counts, one for each
    folder (None: words). The model is on `device`. `with_loss`: measure the loss of these windows in the same pass, so
    that the Trainer need not.
    """

    def __init__(
        self,
        windows: list[str],
        records: list[str],
        collator: PackingCollator | PaddingCollator,
        device: torch.device,
        with_loss: bool,
        f1_by: list[str] | None = None,
    ):
        self.windows, self.records, self.collator, self.device = windows, records, collator, device
        self.with_loss, self.f1_by = with_loss, f1_by or ["words"] * len(windows)
        self.losses: list[torch.Tensor] = []  # of each window so far

    def __call__(self, model: Any) -> dict[str, float]:
        """The scores in percent, and the mean loss over windows if asked for, by their names in the Trainer's log."""
        model.eval()
        self.losses = []
        with torch.compiler.set_stance("force_eager"):  # not compiled: shapes differ from training's
            splits = zip(self.windows, self.records, self.f1_by, strict=True)
            found = [self._questions(model, *split) for split in splits]
        questions = null_threshold.together(found)
        weights = np.ones(len(questions.difference))
        threshold = null_threshold.fit_threshold(questions, "f1", weights)
        scores = null_threshold.scores_at(questions, threshold, weights)
        loss = {LOSS: torch.cat(self.losses).mean().item()} if self.with_loss else {}
        return loss | {EXACT: scores["exact"], F1: scores["f1"]}

    def _questions(self, model: Any, windows: str, records: str, f1_by: str) -> null_threshold.CalibrationQuestions:
        table = arrow_table(windows)
        columns = [*inputs_of(model, ["input_ids", "token_type_ids"]), *POSITIONS, *predict.PLACES]
        store = WindowDataset(table, [name for name in columns if name in table.column_names])

        def forward(**batch: Any) -> Any:
            output = model(**packing.model_inputs(batch))  # not its forward: DeBERTa's hook takes the windows
            if self.with_loss:
                loss = window_loss(*packing.window_logits(output, batch), batch)
                self.losses.append(loss.expand(len(batch[POSITIONS[0]])))
            return output

        spans = predict.spans_of(forward, store, self.collator, BATCH, CANDIDATES, self.device, DIVERGED)
        golds = list(titles_and_golds(records)[1].values())
        candidates = n_best(spans.locate(table), CANDIDATES, LONGEST_ANSWER)
        contexts = column(records, "context")
        return null_threshold.questions_of(candidates, golds, contexts, f1_by)


class KeepBest(TrainerCallback):
    """Saves the weights after each epoch that is better than all before it, as `best-{step}` beside the checkpoints.

    All of them stay until the end. A training that is killed and resumed repeats some steps, and may then find another
    epoch to be the best. With a `patience`, training ends after so many epochs in a row that are no better: what the
    history says decides, so that a resumed training ends where an undisturbed one does.
    """

    def __init__(self, patience: int | None = None):
        self.patience = patience

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by the Trainer before it logs and validates: the history has the losses up to an early end."""
        control.should_log |= self.patience is not None

    def on_evaluate(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Called by the Trainer after a validation."""
        if args.process_index == 0 and best_step(state.log_history) == state.global_step:
            with written_aside(Path(args.output_dir, f"best-{state.global_step}"), directory=True) as partial:
                model.save_pretrained(partial, state_dict=lora.plain_weights(model))
                checksums.seal([partial])
        over = torch.tensor(int(is_over(state.log_history, self.patience)), device=args.device)
        if args.world_size > 1:  # all processes do as the first one does, whose history is saved
            torch.distributed.broadcast(over, src=0)
        if over.item():
            log.info(f"no epoch was better than the best one for {self.patience} in a row: training ends")
            control.should_training_stop = control.should_save = True


def is_over(history: list[dict[str, Any]], patience: int | None) -> bool:
    """Whether the last `patience` epochs in a Trainer's log are no better than the best one before; None: never."""
    return patience is not None and sum(F1 in row and row["step"] > best_step(history) for row in history) >= patience


def best_step(history: list[dict[str, Any]]) -> int:
    """The last step of the best epoch by F1 on held-out questions, in a Trainer's log; the first of equal epochs."""
    rows = [row for row in history if F1 in row]
    return max(rows, key=lambda row: (row[F1], -row["step"]))["step"]
