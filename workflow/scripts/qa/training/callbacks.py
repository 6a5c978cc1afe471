"""What training does between the Trainer's steps: tells the epoch and the progress, saves, and stops in time."""

import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from transformers import TrainerCallback

from qa.common.errors import Interrupted
from qa.common.progress import Progress
from qa.jobs.interruption import Pace, Requests, Walltime
from qa.training.batch_sampler import EpochBatchSampler
from qa.training.checkpoints import TrainingMemory, mark_complete
from qa.training.trainer import WindowTrainer

SIGN_OF_LIFE = 30.0  # seconds between two notes of how far an attempt is
AGREE_EVERY = 5  # steps between two agreements of several processes on whether to stop
REASONS = ("", "its walltime is about to end", "SIGTERM was received", "SIGUSR1 was received")


class SetEpochCallback(TrainerCallback):
    """Tells the batches which epoch it is."""

    def __init__(self, batches: EpochBatchSampler):
        self.batches = batches

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by the Trainer before it asks for an epoch's batches."""
        self.batches.set_epoch(int(state.epoch or 0))


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
    """Checkpoints that an undisturbed training could have made, and the decision to stop in time.

    A checkpoint at the end of an epoch, or of training, waits for the validation there, which a resumed training would
    skip otherwise. In a SLURM job the first is saved after the first step: it shows that saving works, and how long
    it takes. A stop saves and raises Interrupted; it never leads through the Trainer's own end, which would validate.
    """

    def __init__(self, trainer: WindowTrainer, memory: TrainingMemory, keep: int, requests: Requests, limit: Walltime):
        self.trainer, self.memory, self.keep = trainer, memory, keep
        self.requests, self.walltime = requests, limit
        self.pace = Pace()
        self.reason = ""
        self.waits = False
        self.mark = self.noted = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by the Trainer before the first step."""
        self.mark = self.noted = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by the Trainer after each optimizer step."""
        self.pace.steps.append(self._since_mark())
        last = state.global_step >= state.max_steps
        if not last:
            self.reason = self._reason_to_stop(args, state)
        if self.reason or (self.pace.save is None and self.walltime.job):
            control.should_save = True
        if last:
            control.should_log = control.should_save = True
        if control.should_save:
            self.waits = last or float(state.epoch).is_integer()
            control.should_save = not self.waits
        if args.process_index == 0 and self.mark - self.noted >= SIGN_OF_LIFE:
            self.noted = self.mark
            self.memory.note(state.global_step)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by the Trainer at the end of an epoch or of training, before it validates and saves."""
        control.should_save |= self.waits
        self.waits = False

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by the Trainer after a validation."""
        self.pace.validation = self._since_mark()

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by the Trainer, on every process, after it has written a checkpoint."""
        checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        self.trainer.save_unlogged(checkpoint)  # all processes meet here: all have written their part
        if args.process_index == 0:
            mark_complete(checkpoint, self.keep)
            self.memory.note(state.global_step)
        self.pace.save = max(self._since_mark(), self.pace.save or 0.0)
        if self.reason:
            if args.process_index == 0:
                self.memory.note(state.global_step, f"stopped: {self.reason}")
            raise Interrupted(
                f"stopped at step {state.global_step:,} of {state.max_steps:,}, since {self.reason}; "
                f"saved in {checkpoint}, where the next attempt goes on ({self.memory.summary()} so far)"
            )

    def _since_mark(self) -> float:
        before, self.mark = self.mark, time.monotonic()
        return self.mark - before

    def _reason_to_stop(self, args: Any, state: Any) -> str:
        several = args.world_size > 1
        if several and state.global_step % AGREE_EVERY:
            return ""
        steps = AGREE_EVERY if several else 1
        left = self.walltime.left()
        epochs_then = float(state.epoch) * (1 + steps / max(state.global_step, 1))
        validation = args.eval_strategy != "no" and int(epochs_then) > int(state.epoch)
        why = 0
        if self.requests.received:
            why = REASONS.index(f"{self.requests.received} was received")
        elif left is not None and left < self.pace.needed(steps, validation):
            why = 1
        if several:
            agreed = torch.tensor(why, device=args.device)
            torch.distributed.all_reduce(agreed, op=torch.distributed.ReduceOp.MAX)
            why = int(agreed.item())
        return REASONS[why]
