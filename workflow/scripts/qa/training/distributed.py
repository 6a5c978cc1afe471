"""Training in several processes, one a GPU: started by torchrun, averaged by the Trainer's DDP."""

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from typing import Any

from qa.common import errors
from qa.common.files import read_json, remove, write_json
from qa.jobs import slurm
from qa.jobs.interruption import SIGNALS, Requests
from qa.training.checkpoints import TrainingMemory

LIBRARY = Path(__file__).parents[2]
LAST_LINES = 30  # of torchrun and all workers, told when nobody else says what went wrong
PAUSE = 2.0  # seconds until workers are told what was asked of this process

log = logging.getLogger(__name__)


def launch(work: dict[str, Any], memory: TrainingMemory, resume: Path | None, requests: Requests) -> dict[str, float]:
    """Run `qa.training.worker` in `gpus` processes on each of `nodes` nodes; return the first one's peak memory (GiB).

    `work` holds the parts of a `training.Task` that JSON can. Signals noted in `requests` are passed on. What a worker
    raised is raised here: InputError, Interrupted, else RuntimeError.
    """
    plan, outcome = memory.checkpoints / "plan.json", memory.checkpoints / "outcome.json"
    stop = memory.checkpoints / "stop"  # a file, since signals to torchrun or srun do not reach the workers
    for file in (outcome, stop):
        remove(file)
    checkpoint = None if resume is None else str(resume)
    own = {"folder": str(memory.folder), "fingerprint": memory.fingerprint, "resume": checkpoint, "master": os.getpid()}
    write_json(plan, {**work, **own, "outcome": str(outcome), "stop": str(stop)})
    code, last_lines = _run(_command(work["running"], plan), requests, stop)
    told = read_json(outcome) if outcome.exists() else {}
    for file in (plan, outcome, stop):
        remove(file)
    if "error" in told:
        raise getattr(errors, told["error"], RuntimeError)(told["message"])
    if code:
        said = "".join(f"\n  {line}" for line in last_lines)
        raise RuntimeError(f"torchrun ended with code {code} and no worker said why; the last lines of it all:{said}")
    return told


def _command(running: dict[str, Any], plan: Path) -> list[str]:
    torchrun = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={running['gpus']}"]
    nodes = running["nodes"]
    if nodes == 1:
        return [*torchrun, "--standalone", "-m", "qa.training.worker", str(plan)]
    # A step over all nodes of the job, beside the one that this process is; the first node is where the others meet.
    srun = ["srun", "--overlap", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1"]
    srun += [f"--cpus-per-task={running['threads']}", f"--gpus-per-node={running['gpus']}"]
    here = slurm.address_of(os.environ.get("SLURMD_NODENAME", socket.gethostname()))
    meeting = [f"--nnodes={nodes}", "--rdzv-backend=c10d", f"--rdzv-endpoint={here}:{_port()}"]
    return [*srun, *torchrun, *meeting, f"--rdzv-id={slurm.job_id()}", "-m", "qa.training.worker", str(plan)]


def _port() -> int:
    """A port for the processes to meet at: of the job's own, so that two jobs on one node do not meet."""
    return 20_000 + int(slurm.job_id() or os.getpid()) % 10_000


def _run(command: list[str], requests: Requests, told: Path) -> tuple[int, list[str]]:
    """Run the command, pass on what is requested, and return its exit code and last lines."""
    path = os.pathsep.join([str(LIBRARY), *filter(None, [os.environ.get("PYTHONPATH")])])
    before = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}  # inherited; workers note them
    try:
        process = subprocess.Popen(
            command,
            # torchrun would kill its workers 30 seconds after SIGTERM, too few to save a large model: it ignores it
            env={**os.environ, "PYTHONPATH": path, "TORCHELASTIC_SIGNALS_TO_HANDLE": "SIGINT"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
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
                    told.write_text(requests.received)
    finally:
        if process.poll() is None:
            process.kill()  # its workers stop when they see that their master has gone


def _relay(lines: Any, last_lines: deque[str]) -> None:
    for line in lines:
        log.info(line.rstrip())
        last_lines.append(line.rstrip())
