"""Reports of training to TensorBoard and Weights & Biases, beside training.csv; neither uses the network."""

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

from qa.common.errors import InputError

LOGS = Path("logs")
PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb"}  # by what report_to calls them


def missing(report_to: Sequence[str]) -> list[str]:
    """What of `report_to` cannot be, in a sentence each: its package is not installed."""
    return [
        f"report_to: {name} needs the Python package {PACKAGES[name]}, which is not installed here: "
        f"pip install {PACKAGES[name]}, or leave {name} out"
        for name in report_to
        if importlib.util.find_spec(PACKAGES[name]) is None
    ]


def prepare(report_to: Sequence[str], run: str, variant: str) -> None:
    """Tell the Trainer's reporters, by the environment, where to write: `logs/{reporter}/{run}/{variant}`.

    Workers that torchrun starts inherit it. wandb stays offline, as compute nodes are. Raises InputError for a package
    that is missing.
    """
    if faults := missing(report_to):
        raise InputError("; ".join(faults))
    if "tensorboard" in report_to:
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(LOGS / "tensorboard" / run / variant)
    if "wandb" in report_to:
        folder = LOGS / "wandb" / run / variant
        folder.mkdir(parents=True, exist_ok=True)
        own = {"WANDB_MODE": "offline", "WANDB_DIR": str(folder), "WANDB_NAME": f"{run} {variant}"}
        os.environ.update({**own, "WANDB_RUN_GROUP": run, "WANDB_DISABLE_CODE": "true", "WANDB_DISABLE_GIT": "true"})
        os.environ["WANDB_LOG_MODEL"], os.environ["WANDB_WATCH"] = "false", "false"
