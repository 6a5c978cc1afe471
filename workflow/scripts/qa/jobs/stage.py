"""How a stage runs: its log, its record, its seals, and one line for a mistake that the user can correct."""

import importlib
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from qa.common.errors import InputError, Interrupted, shortage, some

log = logging.getLogger("qa")


@contextmanager
def stage(name: str, snakemake: Any, network: bool = False, aggregates: bool = False) -> Iterator[tuple[Any, Any, Any]]:
    """Run a stage's work within the block; yield the job's inputs, outputs and params.

    `snakemake` is the object that Snakemake gives a script. The log goes to its log file and to stderr. A record of the
    job is kept (see qa.jobs.job_records). Inputs are compared with their seals before the work, outputs are sealed
    after it (see qa.common.checksums). Without `network` the Hugging Face libraries stay offline. A stage that
    `aggregates` the records of all jobs keeps none of its own, and opens none of its inputs.

    An InputError, an Interrupted or Ctrl-C ends the process with exit code 1 and one message, and so does a machine
    that is short of disk or memory. Any other exception does too, with its traceback in the log.
    """
    if not network:
        os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
    # before torch loads: threads that spin while they wait slow down all other programs on their cores
    if "SLURM_JOB_ID" not in os.environ:  # a job of SLURM has its cores to itself
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # transformers asks the hub's library whether to show bars; a log has lines
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
    log_file, outputs = snakemake.log[0], snakemake.output
    _log_to(name, log_file)
    try:
        # imported by name: what merely watches a job is no part of the code digest, so its changes rerun nothing
        checksums = importlib.import_module("qa.common.checksums")
        records = importlib.import_module("qa.jobs.job_records")
        with nullcontext() if aggregates else records.recorded(name, log_file, _job(snakemake)):
            checksums.check([] if aggregates else snakemake.input)
            checksums.forget(outputs)
            yield snakemake.input, outputs, snakemake.params
            checksums.seal(outputs)
    except InputError as error:
        log.error(f"{error}")
        sys.exit(1)
    except Interrupted as error:
        log.warning(f"{error}")
        sys.exit(1)
    except KeyboardInterrupt:
        log.warning("stopped by Ctrl-C; what it was making is not kept")
        sys.exit(1)
    except Exception as error:
        if message := shortage(error):
            log.error(f"{message}; not made: {some(outputs) or 'what it was to make'}")
        else:
            log.error(f"{type(error).__name__}: {error} (traceback in {log_file})")
            with suppress(OSError), open(log_file, "a", encoding="utf-8") as stream:
                traceback.print_exc(file=stream)
        sys.exit(1)


def _job(snakemake: Any) -> dict[str, Any]:
    """What a job's record is made of: wildcards, params, threads and resources."""
    wildcards, params = {**snakemake.wildcards}, {**snakemake.params}
    return {"wildcards": wildcards, "params": params, "threads": snakemake.threads, **snakemake.resources}


def _log_to(name: str, log_file: str | Path) -> None:
    root = logging.getLogger()
    root.handlers.clear()
    root.setLevel(logging.WARNING)
    log.setLevel(logging.INFO)
    line = logging.Formatter(f"%(asctime)s {name}: %(levelname)s %(message)s", "%H:%M:%S")
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    failure = None
    try:
        Path(log_file).parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(log_file, mode="w", encoding="utf-8"))
    except OSError as error:
        failure = error
    for handler in handlers:
        handler.setFormatter(line)
        root.addHandler(handler)
    if failure:
        log.warning(f"no log file: {failure}")
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # on a full disk, each log line would print a traceback
