"""The Hugging Face Trainer with our batches and losses; its loop is untouched."""

import json
import logging
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch.utils.data import DataLoader
from transformers import Trainer
from transformers.trainer_utils import EvalLoopOutput

from qa.common.errors import InputError, shortage
from qa.fused.step import StepGraph
from qa.model import packing
from qa.model.collators import IGNORED
from qa.model.window_dataset import POSITIONS
from qa.training import lora
from qa.training.batch_sampler import EpochBatchSampler
from qa.training.checkpoints import checkpoints_in, is_whole
from qa.training.spec import Distillation

UNLOGGED = "unlogged_loss.json"
NEVER = 2**62  # a step that no training reaches

log = logging.getLogger(__name__)


class WindowTrainer(Trainer):
    """The Trainer over our batches, with a running sum of losses that survives a restart.

    A logged loss is the mean since the previous logged step. The Trainer forgets the sum when it resumes, so each
    checkpoint holds it. With `padding_counts` the loss is the model's own: its softmax runs over the whole row, padding
    included, as in the walkthrough. Without it, padding is left out, so a window's loss does not depend on the other
    windows of its batch. `distillation` weighs the loss on soft targets, where windows have some. Each validation adds
    the scores that `check`, an `epochs.Check`, returns for the model. With `in_graph`, both passes of a step are one
    CUDA graph: for one process in bf16 without accumulation, whose batches have one shape.
    """

    def __init__(
        self,
        *arguments: Any,
        batches: EpochBatchSampler,
        padding_counts: bool,
        distillation: Distillation | None = None,
        check: Any = None,
        in_graph: bool = False,
        **options: Any,
    ):
        super().__init__(*arguments, **options)
        # the Trainer divides a loss by the accumulation steps; in transformers 5.5 accelerate would do so again
        self.accelerator.gradient_accumulation_steps = 1
        self.batches, self.padding_counts = batches, padding_counts
        self.distillation, self.check = distillation, check
        self.in_graph, self.step_graph = in_graph, None
        self.unlogged = torch.tensor(0.0, device=self.args.device)
        self.logged_step = 0
        self.operations: int | None = None  # of a token, forward and backward
        self.diverged_at = torch.tensor(NEVER, device=self.args.device)

    def get_train_dataloader(self) -> DataLoader:
        """Our batches, which are already this process's share: accelerate must not split them again."""
        return DataLoader(
            self.train_dataset,
            batch_sampler=self.batches,
            collate_fn=self.data_collator,
            pin_memory=self.args.dataloader_pin_memory,
        )

    def _prepare_input(self, data: Any) -> Any:
        """Send a tensor to the device without waiting: the GPU would stand still while the next batch is prepared."""
        if isinstance(data, torch.Tensor):
            return data.to(self.args.device, non_blocking=True)
        return super()._prepare_input(data)

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **options: Any) -> Any:
        """The mean loss over a batch's windows, also where processes have unequal shares of the batch."""
        if self.padding_counts:
            loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **options)
        else:
            outputs = model(**packing.model_inputs(inputs))
            logits = packing.window_logits(outputs, inputs)
            loss = window_loss(*logits, inputs)
            if model.training and self.distillation:  # validation's loss stays comparable
                weight = self.distillation.weight
                loss = (1 - weight) * loss + weight * soft_loss(*logits, inputs, self.distillation.temperature)
        if self.args.world_size > 1 and model.training:
            here = (inputs[POSITIONS[0]] != IGNORED).sum().float()
            everywhere = here.clone()
            torch.distributed.all_reduce(everywhere)
            loss = loss * (here * self.args.world_size / everywhere)
        return (loss, outputs) if return_outputs else loss

    def training_step(self, model: Any, inputs: Any, *arguments: Any, **options: Any) -> torch.Tensor:
        """The Trainer's step. It adds the loss to the sum on the device, without waiting for it.

        The device also remembers the first step whose loss is not finite. A CPU checks that at once; a GPU would have
        to wait, so it is checked when a loss is logged or a checkpoint is saved.
        """
        loss = self._step_in_graph(model, inputs) if self.in_graph else None
        if loss is None:
            loss = super().training_step(model, inputs, *arguments, **options)
        self.unlogged += loss.detach()
        first = ~self.unlogged.isfinite() & (self.diverged_at == NEVER)
        self.diverged_at.masked_fill_(first, self.state.global_step + 1)
        if self.args.device.type == "cpu" and self.args.world_size == 1:
            self._check_losses()
        return loss

    def _step_in_graph(self, model: Any, inputs: Any) -> torch.Tensor | None:
        """A step's loss and gradients, or None for a batch whose shape the graph does not have."""
        if not model.training:  # after a validation
            model.train()
        if self.step_graph is None:
            self.step_graph = StepGraph(lambda batch: self.compute_loss(model, batch), model)
            model.zero_grad = self.step_graph.zero_grad
        return self.step_graph(self._prepare_inputs(inputs))

    def _clip_grad_norm(self, model: Any) -> Any:
        """The norm of all gradients. In a graph, the fused optimizer clips the gradients as it reads them.

        accelerate's function walks all modules, looks at each weight, and writes all gradients once more.
        """
        if self.step_graph is None or not self.optimizer.optimizer.defaults.get("fused"):
            return super()._clip_grad_norm(model)
        norm = torch.nn.utils.get_total_norm([weights.grad for weights, _ in self.step_graph.gradients])
        self.optimizer.optimizer.grad_scale = (norm / self.args.max_grad_norm).clamp(min=1.0)
        return norm

    def floating_point_ops(self, inputs: Any) -> int:
        """The Trainer's estimate, with the model's weights counted once. The Trainer counts them in each step."""
        tokens = inputs["input_ids"].numel()
        if self.operations is None:
            self.operations = super().floating_point_ops(inputs) // tokens
        return self.operations * tokens

    def _check_losses(self) -> None:
        """Raise InputError if the loss of some step was not finite. Every process must call it."""
        first = self.diverged_at.clone()
        if self.args.world_size > 1:
            torch.distributed.all_reduce(first, op=torch.distributed.ReduceOp.MIN)
        if (step := int(first.item())) != NEVER:
            raise self._diverged(f"the loss of step {step:,} is not finite")

    def _diverged(self, fault: str) -> InputError:
        kept = next(filter(is_whole, checkpoints_in(Path(self.args.output_dir))), None)
        return InputError(
            f"training diverged: {fault}; lower training.learning_rate, give it more warmup, or take another precision "
            f"than fp16 ({f'kept from before: {kept}' if kept else 'no checkpoint had been saved before'})"
        )

    def evaluation_loop(self, *arguments: Any, **options: Any) -> Any:
        """The Trainer's validation, and the scores of `check`, which may measure the loss too."""
        if self.check and self.check.with_loss:
            return EvalLoopOutput(None, None, self.check(self.model), num_samples=len(self.eval_dataset))
        output = super().evaluation_loop(*arguments, **options)
        if self.check:
            output.metrics.update(self.check(self.model))
        return output

    def log(self, logs: dict[str, float], *arguments: Any, **options: Any) -> None:
        """Add a row to the history, with the loss that an undisturbed training would log."""
        if "loss" in logs:
            self._check_losses()
            logs["loss"] = self._unlogged_over_processes() / (self.state.global_step - self.logged_step)
            self.unlogged.zero_()
            self.logged_step = self.state.global_step
        super().log(logs, *arguments, **options)

    def _unlogged_over_processes(self) -> float:
        total = self.unlogged.clone()
        if self.args.world_size > 1:
            torch.distributed.all_reduce(total)
        return total.item() / self.args.world_size

    def save_unlogged(self, checkpoint: Path) -> None:
        """Write the sum of losses since the last logged step into a checkpoint. Every process must call it."""
        total = self._unlogged_over_processes()
        if self.is_world_process_zero():
            (checkpoint / UNLOGGED).write_text(json.dumps({"sum": total, "since_step": self.logged_step}))

    def load_unlogged(self, checkpoint: Path) -> None:
        """Restore the sum of losses that a checkpoint holds."""
        saved = json.loads((checkpoint / UNLOGGED).read_text())
        self.unlogged.fill_(saved["sum"])
        self.logged_step = saved["since_step"]

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        plain = lora.plain_weights(self.model) if self.args.should_save else None  # every process is here
        super()._save(output_dir, plain or state_dict)
        if plain:
            lora.save_adapters(self.model, Path(output_dir or self.args.output_dir))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if Path(resume_from_checkpoint, lora.ADAPTERS).exists():
            lora.load_adapters(self.model, Path(resume_from_checkpoint))
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _save_checkpoint(self, *arguments: Any, **options: Any) -> None:
        self._check_losses()
        finite = torch.stack([weights.isfinite().all() for weights in self.model.parameters()])
        if not finite.all().item():  # nothing good could come of such a checkpoint
            raise self._diverged(f"after step {self.state.global_step:,} some weights are not finite")
        try:
            super()._save_checkpoint(*arguments, **options)
        except Exception as error:
            lack = shortage(error)
            if lack is None:
                raise
            raise InputError(
                f"{self.args.output_dir}: {lack}; the checkpoint of step {self.state.global_step:,} is not written, "
                "training resumes at its last whole one"
            ) from error


def window_loss(start: torch.Tensor, end: torch.Tensor, tokens: torch.Tensor, positions: Any) -> torch.Tensor:
    """Cross entropy among a window's own tokens, the mean over windows and over start and end.

    `start` and `end` are logits of shape (windows, tokens), any float type. `tokens`, bool of that shape, marks a
    window's own tokens. `positions` has start_positions and end_positions, int64 (windows,), with IGNORED for a window
    that only fills a row. Returns a scalar in fp32.
    """
    losses = []
    for name, logits in zip(POSITIONS, (start, end), strict=True):
        outside = ~tokens & (positions[name] != IGNORED)[:, None]  # with no token left its gradient is NaN
        own = logits.float().masked_fill(outside, -torch.inf)
        losses.append(torch.nn.functional.cross_entropy(own, positions[name], ignore_index=IGNORED))
    return sum(losses) / 2


def soft_loss(
    start: torch.Tensor, end: torch.Tensor, tokens: torch.Tensor, targets: Any, temperature: float
) -> torch.Tensor:
    """Divergence of softened logits from a teacher's distribution, the mean over windows and over start and end.

    This is the Kullback-Leibler divergence times the square of `temperature` (Hinton, Vinyals and Dean 2015). `start`,
    `end` and `tokens` are those of `window_loss`. `targets` has start_places and end_places, int64 (windows, places),
    and start_weights and end_weights, float32 of that shape. The weights of a window sum to 1, or to 0 where it only
    fills a row. Returns a scalar in fp32.
    """
    losses = []
    for name, logits in (("start", start), ("end", end)):
        weights = targets[f"{name}_weights"]
        real = weights.sum(dim=1) > 0
        outside = ~tokens & real[:, None]
        softened = (logits.float() / temperature).masked_fill(outside, -torch.inf).log_softmax(dim=1)
        teacher = torch.zeros_like(softened).scatter_add_(1, targets[f"{name}_places"], weights)
        divergence = torch.where(teacher > 0, teacher * (teacher.clamp_min(1e-30).log() - softened), 0.0)
        losses.append(divergence.sum() / real.sum())
    return temperature**2 * sum(losses) / 2
