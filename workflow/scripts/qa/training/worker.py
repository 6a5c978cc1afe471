"""One of the processes of a training on several GPUs: `torchrun … -m qa.training.worker PLAN.json`."""

import logging
import os
import sys
from pathlib import Path

from qa.common.errors import InputError, Interrupted
from qa.common.files import write_json
from qa.jobs.interruption import Requests, signals_handled
from qa.training import manifest
from qa.training.checkpoints import TrainingMemory
from qa.training.distributed import WorkerPlan
from qa.training.fit import fit
from qa.training.spec import Attempt


def main(plan_file: str) -> int:
    """Do this process's share of a training and write its outcome for `distributed.launch`."""
    first = os.environ["RANK"] == "0"
    logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.WARNING)
    logging.getLogger("qa").setLevel(logging.INFO if first else logging.WARNING)
    plan = WorkerPlan.read(plan_file)
    memory = TrainingMemory(plan.folder, plan.fingerprint)
    resume = Path(plan.resume) if plan.resume else None
    master = plan.master if plan.spec.options.nodes == 1 else None  # a worker on another node cannot see it
    requests = Requests(master, Path(plan.stop))
    try:
        with signals_handled(requests.note):
            fit(Attempt(plan.spec, memory, resume, requests))
    except Exception as error:
        known = isinstance(error, InputError | Interrupted)
        name, message = type(error).__name__, str(error)
        write_json(plan.outcome, {"error": name, "message": message if known else f"{name}: {message}"})
        if known:
            return 1
        raise
    if first:
        write_json(plan.outcome, manifest.peak_memory())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
