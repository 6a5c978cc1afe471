"""What a training step costs the processor beside the two passes. On a fast GPU with small batches, this is the step.

`make bench-host` needs no GPU and half a minute. The model has RoBERTa-base's layers with weights of a few numbers, and
the passes do nothing. `plain` is the Trainer's own step, `ours` that of WindowTrainer with its CUDA graph. Both take
turns on one thread.
"""

import statistics
import tempfile
import time
from typing import Any
from unittest import mock

import torch
from transformers import PrinterCallback, RobertaConfig, RobertaForQuestionAnswering, Trainer, TrainingArguments

from measure import machine
from qa.fused import step
from qa.training.trainer import WindowTrainer

STEPS, FIRST = 250, 50  # the first steps allocate the optimizer's state
BATCH, TOKENS = 16, 16 * 192
TINY = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "vocab_size": 100}


class Clock:
    """Takes the processor time of the steps after the first ones, in milliseconds a step."""

    def __init__(self) -> None:
        self.calls, self.began, self.taken = 0, 0.0, 0.0

    def tick(self) -> None:
        """Called once in each step."""
        self.calls += 1
        if self.calls == FIRST:
            self.began = time.process_time()
        if self.calls == STEPS:
            self.taken = 1000 * (time.process_time() - self.began) / (STEPS - FIRST)


class Batches(list):
    """Places of windows, a list a batch."""

    def set_epoch(self, epoch: int) -> None:
        """All epochs are the same."""


def measured(ours: bool) -> float:
    """Milliseconds of processor time a step."""
    model, clock = RobertaForQuestionAnswering(RobertaConfig(**TINY)), Clock()
    gradients = [(weights, torch.full_like(weights, 1e-3)) for weights in model.parameters()]
    batch = {"input_ids": torch.ones(1, TOKENS, dtype=torch.int64), "start_positions": torch.zeros(BATCH)}

    class Plain(Trainer):
        def training_step(self, model: Any, inputs: Any, *_: Any, **__: Any) -> torch.Tensor:
            clock.tick()
            model.train()
            self._prepare_inputs(inputs)
            for weights, gradient in gradients:
                weights.grad = gradient
            return torch.tensor(1.0)

    def capture(graph: step.StepGraph, batch: step.Batch) -> None:
        graph.shapes, graph.loss, graph.gradients = step._shapes(batch), torch.tensor(1.0), gradients
        graph.inputs = {name: values.clone() for name, values in batch.items()}
        graph.graph = mock.Mock(replay=clock.tick)

    with tempfile.TemporaryDirectory() as folder, mock.patch.object(step.StepGraph, "_capture", capture):
        options = {"model": model, "train_dataset": [batch] * STEPS, "data_collator": lambda rows: rows[0]}
        options["args"] = TrainingArguments(
            folder,
            max_steps=STEPS,
            per_device_train_batch_size=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            remove_unused_columns=False,
            logging_nan_inf_filter=False,
        )
        if ours:
            order = Batches([number] for number in range(STEPS))
            trainer = WindowTrainer(**options, batches=order, padding_counts=False, in_graph=True)
        else:
            trainer = Plain(**options)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return clock.taken


def main() -> None:
    """Print the medians of five turns."""
    torch.set_num_threads(1)
    taken: dict[str, list[float]] = {"plain": [], "ours": []}
    for _ in range(5):
        for name, times in taken.items():
            times.append(measured(name == "ours"))
    plain, ours = (statistics.median(times) for times in taken.values())
    print(f"processor time of a step beside the passes, on {machine()['processor']}")
    print(f"the Trainer: {plain:.2f} ms; ours: {ours:.2f} ms ({plain / ours:.2f} times less)")


if __name__ == "__main__":
    main()
