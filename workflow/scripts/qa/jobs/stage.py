"""How a stage runs: log to file and terminal, a user's mistake in one line, the network only where it is allowed."""

import importlib
import logging
import os
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from qa.common.errors import InputError, Interrupted, shortage, some

log = logging.getLogger("qa")


@contextmanager
def stage(
    name: str,
    log_file: str | Path,
    job: dict[str, Any] | None = None,
    network: bool = False,
    given: Iterable[str] = (),
    made: Iterable[str] = (),
) -> Iterator[None]:
    """Run a stage's work within the block, its log in `log_file` and on stderr.

    Of a `job` (its wildcards, threads and resources, see jobs.recorded) a record is kept. Without `network` the Hugging
    Face libraries are told to stay offline. The files `given` must be as they were sealed, and those `made` are sealed
    (see checksums). An InputError or Interrupted ends the process with exit code 1 and its message, and so does what
    the machine is short of; any other exception likewise, with its traceback in the log.
    """
    if not network:
        os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
    # bars, of transformers too, which asks the hub's library: a log has lines
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
    _log_to(name, log_file)
    try:
        # imported by name, so that what merely watches a job is no part of its code's digest and reruns nothing
        record = (
            nullcontext()
            if job is None
            else importlib.import_module("qa.jobs.job_records").recorded(name, log_file, job)
        )
        seals = importlib.import_module("qa.common.checksums")
        with record:
            seals.check(given)
            seals.forget(made)
            yield
            seals.seal(made)
    except InputError as error:
        log.error(f"{error}")
        sys.exit(1)
    except Interrupted as error:
        log.warning(f"{error}")
        sys.exit(1)
    except Exception as error:
        if told := shortage(error):
            log.error(f"{told}; not made: {some(made) or 'what it was to make'}")
        else:
            log.error(f"{type(error).__name__}: {error} (traceback in {log_file})")
            with suppress(OSError), open(log_file, "a", encoding="utf-8") as stream:
                traceback.print_exc(file=stream)
        sys.exit(1)


def _log_to(name: str, log_file: str | Path) -> None:
    root = logging.getLogger()
    root.handlers.clear()
    root.setLevel(logging.WARNING)
    log.setLevel(logging.INFO)
    shape = logging.Formatter(f"%(asctime)s {name}: %(levelname)s %(message)s", "%H:%M:%S")
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    failure = None
    try:
        Path(log_file).parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(log_file, mode="w", encoding="utf-8"))
    except OSError as error:
        failure = error
    for handler in handlers:
        handler.setFormatter(shape)
        root.addHandler(handler)
    if failure:
        log.warning(f"no log file: {failure}")
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a log on a full disk is no reason for a traceback at each line
