"""Callbacks of the Trainer: the epoch for the sampler, progress lines, checkpoints, and the stop in time."""

import time
from enum import IntEnum
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from transformers import TrainerCallback

from qa.common.errors import Interrupted
from qa.common.progress import Progress
from qa.jobs.interruption import Pace, Requests, Walltime
from qa.model.window_dataset import WindowDataset
from qa.training.batch_sampler import EpochBatchSampler
from qa.training.checkpoints import TrainingMemory, mark_complete
from qa.training.trainer import WindowTrainer

SIGN_OF_LIFE = 30.0  # seconds between two updates of the attempt's entry in the memory
AGREE_EVERY = 5  # steps after which several processes agree on whether to stop


class StopReason(IntEnum):
    """Why training stops before its last step. Where processes have several reasons, the greatest counts."""

    NONE = 0
    WALLTIME = 1
    SIGTERM = 2
    SIGUSR1 = 3
    SIGINT = 4
    SIGHUP = 5

    @property
    def text(self) -> str:
        """The reason in words, for after `since`."""
        if self == StopReason.WALLTIME:
            return "its walltime is about to end"
        return f"{self.name}{' (Ctrl-C)' if self == StopReason.SIGINT else ''} was received"


class SetEpochCallback(TrainerCallback):
    """Sets the epoch of the batch sampler and of the windows."""

    def __init__(self, batches: EpochBatchSampler, windows: WindowDataset):
        self.batches, self.windows = batches, windows

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by the Trainer before it asks for an epoch's batches."""
        epoch = int(state.epoch or 0)
        self.batches.set_epoch(epoch)
        self.windows.set_epoch(epoch)


class ProgressCallback(TrainerCallback):
    """A progress line every few seconds, of training and of validation, and samples/s in each logged row."""

    def __init__(self, windows: int):
        self.windows = windows
        self.progress: Progress | None = None
        self.validation: Progress | None = None
        self.logged_at = (0.0, 0.0)

    def _samples(self, state: Any) -> float:
        return (state.epoch or 0.0) * self.windows

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by the Trainer before the first step."""
        self.progress = Progress("train", state.max_steps, "steps", state.global_step)
        self.logged_at = (time.monotonic(), self._samples(state))

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by the Trainer after each optimizer step."""
        rate = self.progress.rate * self._samples(state) / max(state.global_step, 1)
        losses = [row["loss"] for row in state.log_history[-3:] if "loss" in row]
        loss = f", loss {losses[-1]:.3f}" if losses else ""
        self.progress.reach(state.global_step, f"{rate:.1f} samples/s{loss}")

    def on_prediction_step(
        self, args: Any, state: Any, control: Any, eval_dataloader: Any = None, **kwargs: Any
    ) -> None:
        """Called by the Trainer after each batch of a validation."""
        if self.validation is None:
            self.validation = Progress("validate", len(eval_dataloader), "batches")
        self.validation.reach(self.validation.done + 1)

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by the Trainer after a validation."""
        self.validation = None

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by the Trainer after it has added a row to the history."""
        if "loss" in state.log_history[-1]:
            (before, samples), now = self.logged_at, time.monotonic()
            rate = (self._samples(state) - samples) / max(now - before, 1e-9)
            state.log_history[-1]["samples_per_second"] = round(rate, 2)
            self.logged_at = (now, self._samples(state))


class CheckpointCallback(TrainerCallback):
    """Saves checkpoints that an undisturbed training could have made, and stops training in time.

    Its states, and the calls of the Trainer that lead from one to the next:

        TRAINING --on_step_end, no checkpoint is due-------------------> TRAINING
        TRAINING --on_step_end, one is due within an epoch-------------> SAVING
        TRAINING --on_step_end, one is due at the end of an epoch------> WAITING
        WAITING  --on_epoch_end, then the validation, on_evaluate------> SAVING
        SAVING   --on_save, no reason to stop--------------------------> TRAINING
        SAVING   --on_save, a reason to stop---------------------------> raises Interrupted

    WAITING is `waiting`, SAVING is `control.should_save`. A checkpoint is due every `save_steps` steps, after the last
    step, and when there is a reason to stop. In a SLURM job one is also due after the first step: it shows that saving
    works, and how long it takes. The last step counts as the end of an epoch. A checkpoint there waits for the
    validation, because a resumed training would skip that validation. A stop raises Interrupted, because the Trainer's
    own way to end would validate.
    """

    def __init__(
        self, trainer: WindowTrainer, memory: TrainingMemory, keep: int, requests: Requests, walltime: Walltime
    ):
        self.trainer, self.memory, self.keep = trainer, memory, keep
        self.requests, self.walltime = requests, walltime
        self.pace = Pace()
        self.reason = StopReason.NONE
        self.waiting = False
        self.lap_started = self.noted = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by the Trainer before the first step."""
        self.lap_started = self.noted = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by the Trainer after each optimizer step."""
        self.pace.steps.append(self._lap())
        last = state.global_step >= state.max_steps
        if not last:
            self.reason = self._reason_to_stop(args, state)
        first_in_job = self.pace.save is None and self.walltime.job is not None
        due = control.should_save or last or first_in_job or self.reason != StopReason.NONE
        epoch_ends = last or float(state.epoch).is_integer()
        self.waiting = due and epoch_ends
        control.should_save = due and not epoch_ends
        control.should_log |= last
        if args.process_index == 0 and self.lap_started - self.noted >= SIGN_OF_LIFE:
            self.noted = self.lap_started
            self.memory.note(state.global_step)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by the Trainer at the end of an epoch or of training, before it validates and saves."""
        control.should_save |= self.waiting
        self.waiting = False

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by the Trainer after a validation."""
        self.pace.validation = self._lap()

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by the Trainer, on every process, after it has written a checkpoint."""
        checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        self.trainer.save_unlogged(checkpoint)  # all processes meet here: all have written their part
        if args.process_index == 0:
            mark_complete(checkpoint, self.keep)
            self.memory.note(state.global_step)
        self.pace.save = max(self._lap(), self.pace.save or 0.0)
        if self.reason == StopReason.NONE:
            return
        if args.process_index == 0:
            self.memory.note(state.global_step, f"stopped: {self.reason.text}")
        raise Interrupted(
            f"stopped at step {state.global_step:,} of {state.max_steps:,}, since {self.reason.text}; saved in "
            f"{checkpoint}, where the next attempt goes on ({self.memory.summary()} so far)"
        )

    def _lap(self) -> float:
        """Seconds since the previous lap ended."""
        before, self.lap_started = self.lap_started, time.monotonic()
        return self.lap_started - before

    def _reason_to_stop(self, args: Any, state: Any) -> StopReason:
        """Why to stop after this step. Several processes agree every few steps, and all stop at the same one."""
        if args.world_size == 1:
            return self._own_reason(args, state, steps=1)
        if state.global_step % AGREE_EVERY:
            return StopReason.NONE
        reason = torch.tensor(int(self._own_reason(args, state, steps=AGREE_EVERY)), device=args.device)
        torch.distributed.all_reduce(reason, op=torch.distributed.ReduceOp.MAX)
        return StopReason(int(reason.item()))

    def _own_reason(self, args: Any, state: Any, steps: int) -> StopReason:
        """Why this process would stop, if the next chance comes in `steps` steps."""
        if self.requests.received:
            return StopReason[self.requests.received]
        epoch_then = float(state.epoch) * (1 + steps / max(state.global_step, 1))
        validation = args.eval_strategy != "no" and int(epoch_then) > int(state.epoch)
        left = self.walltime.left()
        if left is not None and left < self.pace.needed(steps, validation):
            return StopReason.WALLTIME
        return StopReason.NONE
