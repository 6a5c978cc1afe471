"""The device and the precision that a model computes with."""

import contextlib
import ctypes
import logging
import os
from collections.abc import Iterator
from typing import Any

import torch

from qa.common.errors import InputError, first_line

AUTOCAST = ("bf16", "fp16")
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of mallopt, from malloc.h

log = logging.getLogger(__name__)


def device() -> Any:
    """The first GPU, or the CPU where there is none. A process that torchrun started gets the GPU of its rank.

    A single process does not see the other GPUs: the Trainer would spread the batch over them and so make it larger
    than configured. Call it before anything else uses CUDA. Raises InputError where processes outnumber the GPUs.
    """
    rank = os.environ.get("LOCAL_RANK")
    if rank is None:
        os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if int(rank or 0) >= torch.cuda.device_count():
        raise InputError(
            f"training.gpus is {os.environ['LOCAL_WORLD_SIZE']}, but {torch.cuda.device_count()} can be seen here; the "
            "job must ask for as many (profiles/)"
        )
    return torch.device("cuda", int(rank or 0))


def check_precision(precision: str) -> None:
    """Raise InputError where this machine cannot compute in `precision`; the message names what it can."""
    if precision in ("tf32", "fp16") and not torch.cuda.is_available():
        raise InputError(f"precision {precision} needs a CUDA GPU and none is visible; choose fp32 or bf16")
    if precision == "tf32" and torch.cuda.get_device_capability()[0] < 8:
        raise InputError(
            f"precision tf32 needs an Ampere GPU or newer, not {torch.cuda.get_device_name()}; choose fp32"
        )
    if (
        precision == "bf16"
        and torch.cuda.is_available()
        and not torch.cuda.is_bf16_supported(including_emulation=False)
    ):
        raise InputError(f"{torch.cuda.get_device_name()} has no bf16 arithmetic; choose fp16 or fp32")


@contextlib.contextmanager
def precision_context(precision: str) -> Any:
    """Compute in `precision` inside the block: bf16 and fp16 as mixed precision by autocast, TF32 only for tf32."""
    check_precision(precision)
    before = torch.backends.fp32_precision  # not allow_tf32, the older interface: torch refuses a mix of both
    torch.backends.fp32_precision = "tf32" if precision == "tf32" else "ieee"
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
    try:
        with torch.autocast(device().type, dtype=dtype, enabled=precision in AUTOCAST):
            yield
    finally:
        torch.backends.fp32_precision = before


@contextlib.contextmanager
def repeatable(deterministic: bool) -> Iterator[None]:
    """If `deterministic`, use only algorithms inside the block that give the same bits every time.

    They are slower on a GPU. Attention needs no choice here: the backward passes of torch's flash kernel (`varlen`
    too) and of its memory-efficient kernel follow this setting, and SDPA skips cuDNN's kernel, which cannot. Call it
    before anything else uses cuBLAS. Raises InputError where an operation has no such algorithm.
    """
    if not deterministic:
        yield
        return
    before = (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled())
    cudnn = (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark)
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # else sums in matrix products depend on the order of streams
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    try:
        yield
    except RuntimeError as error:
        if "deterministic" not in str(error):
            raise
        raise InputError(
            f"deterministic: true cannot be kept with this model on this machine ({first_line(error)}); set it to false"
        ) from error
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn


def prepare_cpu(threads: int) -> None:
    """Use the job's number of CPU threads, but no more than the process has cores: more would wait for each other.

    Without a GPU, the process also keeps the memory that it frees.
    """
    torch.set_num_threads(max(1, min(threads, len(os.sched_getaffinity(0)))))
    if not torch.cuda.is_available():
        _keep_freed_memory()
        # oneDNN compiles each product for its sizes, and windows have hundreds of lengths; by default it keeps 1,024
        os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "4096")


def _keep_freed_memory() -> None:
    """Let malloc reuse the memory of large tensors. By default it returns it, and the system clears it at each use.

    That took 40 % of the time of a padded training step in fp32, and 8 % of a packed one.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc's; other C libraries do without
    if mallopt:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)


def can_compile() -> bool:
    """Whether torch.compile works on this machine's GPU. It needs Triton and a C compiler, which a node can lack."""
    try:
        values = torch.ones(64, 64, device="cuda", requires_grad=True)
        torch.compile(lambda matrix: (matrix @ matrix).relu().sum())(values).backward()
        return bool((values.grad == 128).all())
    except Exception as error:  # the compiler's errors have no public base class
        log.warning(f"torch.compile does not work here, so training is slower ({first_line(error)})")
        return False
