"""Training in several processes, one a GPU: started by torchrun, averaged by the Trainer's DDP."""

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qa.common import errors, installation
from qa.common.files import read_json, remove, write_json
from qa.jobs import slurm
from qa.jobs.interruption import Requests, signals_handled
from qa.training.spec import Attempt, RuntimeOptions, TrainingSpec

LAST_LINES = 30  # of torchrun and its workers, for the error message where no worker gives a reason
PAUSE = 2.0  # seconds until a signal to this process is passed on to the workers

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WorkerPlan:
    """What the workers of a training need to know, in a JSON file."""

    spec: TrainingSpec
    folder: str  # of the training's memory
    fingerprint: str
    resume: str | None  # checkpoint to go on from
    master: int  # number of the process that started torchrun
    outcome: str  # file for the first worker's peak memory, or for what a worker raised
    stop: str  # file that names the signal to stop; signals to torchrun or srun do not reach the workers

    @classmethod
    def read(cls, file: str | Path) -> "WorkerPlan":
        """The plan that `launch` wrote."""
        values = read_json(file)
        return cls(**{**values, "spec": TrainingSpec.of_json(values["spec"])})


def launch(attempt: Attempt) -> dict[str, float]:
    """Run `qa.training.worker` in `gpus` processes on each of `nodes` nodes; return the first one's peak memory (GiB).

    Signals that `attempt.requests` notes are passed on. Raises what a worker raised: InputError, Interrupted, else
    RuntimeError.
    """
    memory = attempt.memory
    plan_file, outcome, stop = (memory.checkpoints / name for name in ("plan.json", "outcome.json", "stop"))
    for file in (outcome, stop):
        remove(file)
    resume = None if attempt.resume is None else str(attempt.resume)
    paths = {"outcome": str(outcome), "stop": str(stop)}
    plan = WorkerPlan(attempt.spec, str(memory.folder), memory.fingerprint, resume, os.getpid(), **paths)
    write_json(plan_file, asdict(plan))
    code, last_lines = _run(_command(attempt.spec.options, plan_file), attempt.requests, stop)
    result = read_json(outcome) if outcome.exists() else {}
    for file in (plan_file, outcome, stop):
        remove(file)
    if "error" in result:
        raise getattr(errors, result["error"], RuntimeError)(result["message"])
    if code:
        output = "".join(f"\n  {line}" for line in last_lines)
        raise RuntimeError(f"torchrun ended with code {code} and no worker gave a reason; its last lines:{output}")
    return result


def _command(options: RuntimeOptions, plan_file: Path) -> list[str]:
    torchrun = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={options.gpus}"]
    worker = ["-m", "qa.training.worker", str(plan_file)]
    nodes = options.nodes
    if nodes == 1:
        return [*torchrun, "--standalone", *worker]
    # A step over all nodes of the job, beside the one that this process is; the workers meet on the first node.
    srun = ["srun", "--overlap", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1"]
    srun += [f"--cpus-per-task={options.threads}", f"--gpus-per-node={options.gpus}"]
    here = slurm.address_of(os.environ.get("SLURMD_NODENAME", socket.gethostname()))
    port = 20_000 + int(slurm.job_id() or os.getpid()) % 10_000  # each job's own: two on one node must not meet
    meeting = [f"--nnodes={nodes}", "--rdzv-backend=c10d", f"--rdzv-endpoint={here}:{port}"]
    return [*srun, *torchrun, *meeting, f"--rdzv-id={slurm.job_id()}", *worker]


def _run(command: list[str], requests: Requests, stop: Path) -> tuple[int, list[str]]:
    """Run the command, write a signal's name to the file `stop`, and return the exit code and the last lines."""
    installation.lead_python_path()  # for the workers
    with signals_handled(signal.SIG_IGN):  # torchrun inherits this; its workers set handlers of their own
        process = subprocess.Popen(
            command,
            # torchrun would kill its workers 30 seconds after a signal, too few to save a large model: it ignores them
            env={**os.environ, "TORCHELASTIC_SIGNALS_TO_HANDLE": "SIGQUIT"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    last_lines: deque[str] = deque(maxlen=LAST_LINES)
    relay = threading.Thread(target=_relay, args=(process.stdout, last_lines), daemon=True)
    relay.start()
    try:
        while True:
            try:
                code = process.wait(PAUSE)
                relay.join()
                return code, list(last_lines)
            except subprocess.TimeoutExpired:
                if requests.received:
                    stop.write_text(requests.received)
    finally:
        if process.poll() is None:
            process.kill()  # its workers stop when they see that their master has gone


def _relay(lines: Any, last_lines: deque[str]) -> None:
    for line in lines:
        log.info(line.rstrip())
        last_lines.append(line.rstrip())
