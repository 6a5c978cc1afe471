"""Provenance: what made a model, for its manifest.json."""

import importlib.metadata
import os
import platform
import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from qa.common import installation
from qa.common.files import sha256_of_file, sha256_of_folder
from qa.jobs.slurm import ask

PACKAGES = ("snakemake", "transformers", "datasets", "torch", "accelerate", "tokenizers", "safetensors", "numpy")
VARYING = ("state.json", "source.json")  # a random fingerprint; the time and place of a download


def versions(more: Sequence[str] = ()) -> dict[str, str | None]:
    """Versions of Python, of PACKAGES and of `more`, on which a result can depend; None for what is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in (*PACKAGES, *more):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def code_state(project: Path | None = None) -> dict[str, Any]:
    """Git commit of the library's clone (or of `project`), and whether tracked files differ from it.

    For an installed library, the commit that pip installed. Both are None where git or pip recorded nothing.
    """
    project = project or installation.clone()
    if project is None:
        return {"git_commit": installation.installed_commit(), "git_dirty": None}
    git = ("git", "-C", str(project))
    commit = ask(*git, "rev-parse", "HEAD")
    changes = ask(*git, "status", "--porcelain", "--untracked-files=no") if commit else None
    return {"git_commit": commit and commit.strip(), "git_dirty": None if changes is None else bool(changes)}


def machine() -> dict[str, Any]:
    """The node, SLURM job, CPU threads and GPU of this process."""
    gpu: dict[str, Any] = {"gpu": None, "driver": None, "cuda": None}
    if torch.cuda.is_available():
        driver = (ask("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader") or "").split()
        gpu = {
            "gpu": torch.cuda.get_device_name(0),
            "driver": driver[0] if driver else None,
            "cuda": torch.version.cuda,
        }
    return {
        "node": platform.node(),
        "slurm_job_id": os.environ.get("SLURM_JOB_ID"),
        "platform": platform.platform(),
        "cpu_threads": torch.get_num_threads(),
        **gpu,
    }


def device(processes: int) -> str:
    """What a training computes on, in words; each of its processes has a GPU of its own, if there is any."""
    if torch.cuda.is_available():
        return f"{processes} × {torch.cuda.get_device_name(0)}"
    return f"{torch.get_num_threads()} CPU threads"


def peak_memory() -> dict[str, float]:
    """Peak memory of this process in GiB: resident, and allocated on the GPU (0 without a GPU)."""
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB
    gpu = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0
    return {"peak_memory_gib": round(resident, 3), "peak_gpu_memory_gib": round(gpu, 3)}


def input_hashes(paths: dict[str, Any]) -> dict[str, Any]:
    """SHA-256 of each input by its name: of a file, of each file of a folder, or of each path of a list.

    Files whose name is in VARYING are left out: they hold no data, and differ between two preparations of the same.
    """
    hashes: dict[str, Any] = {}
    for name, path in paths.items():
        if isinstance(path, list):
            hashes[name] = input_hashes({str(entry): entry for entry in path})
        elif Path(path).is_dir():
            hashes[name] = {f: h for f, h in sha256_of_folder(path).items() if Path(f).name not in VARYING}
        else:
            hashes[name] = sha256_of_file(path)
    return hashes
