"""The fastest training step on one GPU: hand-written kernels in the encoder, and both passes in one CUDA graph."""

from collections.abc import Callable
from typing import Any

import torch

from qa.common.errors import InputError, first_line
from qa.fused import encoder
from qa.model import devices, packing

TOLERANCE = 0.02  # of the norm of logits and of gradients: on an H100, rounding to bf16 in another order is 0.005
HALF = {"bf16": torch.bfloat16, "fp32": torch.float32}
WARM_UPS = 3  # passes before a capture: libraries allocate and choose in the first ones

Batch = dict[str, Any]


def prepare(model: Any, precision: str = "bf16") -> str:
    """Let a model that computes packed rows train by the kernels. Returns "", or why it cannot; it is then unchanged.

    A trial decides: logits and gradients of three windows must be those of the model without the kernels. `precision`
    is bf16, or fp32 for Triton's interpreter, which has no products in bf16.
    """
    was_training = model.training
    model.eval()  # without dropout
    try:
        expected = _trial(model, precision)
        if fault := encoder.fuse(model, HALF[precision]):
            return fault
        with encoder.trial(model):
            found = _trial(model, precision)
        model.train()
        _trial(model, precision)  # the kernels with dropout are others; they must run
    except Exception as error:  # Triton's errors have no public base class
        encoder.undo(model)
        return f"their trial failed ({type(error).__name__}: {first_line(error)})"
    finally:
        model.train(was_training)
        model.zero_grad()
    apart = [((one - other).norm() / one.norm()).item() for one, other in zip(expected, found, strict=True)]
    if not max(apart) < TOLERANCE:
        encoder.undo(model)
        return f"they give other logits or gradients (by {max(apart):.1%})"
    return ""


def _trial(model: Any, precision: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits, and the gradients of all weights, of a few windows."""
    model.zero_grad()
    batch = packing.probe_batch(model)
    with devices.precision_context(precision):
        start, end, tokens = packing.window_logits(model(**packing.model_inputs(batch)), batch)
    logits = torch.stack([start[tokens], end[tokens]]).float()
    logits.square().sum().backward()
    gradients = [weights.grad.flatten() for weights in model.parameters() if weights.grad is not None]
    return logits.detach(), torch.cat(gradients)


class StepGraph:
    """The forward pass, the loss and the backward pass as one CUDA graph, for batches of one shape.

    The first batch is captured. Dropout differs from step to step, because a graph advances the random state.
    """

    def __init__(self, loss_of: Callable[[Batch], torch.Tensor], model: Any):
        self.loss_of = loss_of
        self.weights = [weights for weights in model.parameters() if weights.requires_grad]
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, batch: Batch) -> torch.Tensor | None:
        """Leave a batch's gradients in the weights; its loss. None for a batch of another shape than the first.

        Collators of fixed shapes make no such batch; a graph would compute nonsense of it.
        """
        if self.graph is None:
            self._capture(batch)
        elif _shapes(batch) != self.shapes:
            return None
        for name, values in self.inputs.items():
            values.copy_(batch[name], non_blocking=True)
        self.graph.replay()
        for weights, gradient in self.gradients:  # the Trainer has taken them off
            weights.grad = gradient
        return self.loss.clone()

    def _capture(self, batch: Batch) -> None:
        """Raises InputError if the step cannot be captured; torch cannot go on in this process then."""
        self.shapes = _shapes(batch)
        self.inputs = {name: values.clone() for name, values in batch.items() if isinstance(values, torch.Tensor)}
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side), torch.random.fork_rng([torch.cuda.current_device()]):
            for _ in range(WARM_UPS):
                self._passes({**batch, **self.inputs})
        torch.cuda.current_stream().wait_stream(side)
        self.zero_grad()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self.loss = self._passes({**batch, **self.inputs})
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise InputError(
                f"training.compile: a step cannot be captured as a CUDA graph ({first_line(error)}); set it to kernels"
            ) from error
        self.gradients = [(weights, weights.grad) for weights in self.weights if weights.grad is not None]
        self.graph = graph

    def zero_grad(self) -> None:
        """Take the gradients off the weights. The model's own `zero_grad` walks all modules in each step."""
        for weights in self.weights:
            weights.grad = None

    def _passes(self, batch: Batch) -> torch.Tensor:
        self.zero_grad()
        loss = self.loss_of(batch)
        loss.backward()
        return loss.detach()


def _shapes(batch: Batch) -> dict[str, Any]:
    """Shapes of a batch's tensors, and its numbers: what a graph holds for good."""
    return {name: values.shape if isinstance(values, torch.Tensor) else values for name, values in batch.items()}
