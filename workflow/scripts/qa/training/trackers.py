"""Reports of training to TensorBoard and Weights & Biases. Neither uses the network."""

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

from qa.common.errors import InputError

LOGS = Path("logs")


def missing(report_to: Sequence[str]) -> list[str]:
    """A sentence for each tracker of `report_to` whose package is not installed."""
    return [
        f"report_to: {name} needs the Python package {name}, which is not installed here: "
        f"pip install {name}, or leave {name} out"
        for name in report_to
        if importlib.util.find_spec(name) is None
    ]


def prepare(report_to: Sequence[str], run: str, variant: str) -> None:
    """Set the environment variables by which the trackers write to `logs/{tracker}/{run}/{variant}`.

    Workers that torchrun starts inherit them. wandb stays offline, because compute nodes have no network. Raises
    InputError if a package is missing.
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
