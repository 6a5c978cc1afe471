"""Training's memory: checkpoints under a fingerprint of all that determines the result, and a list of attempts.

The folder is not a declared output, because Snakemake deletes declared outputs before each attempt. It holds:

    {fingerprint}/checkpoint-{step}/    the Trainer's files, and `complete.json` with their checksums, written last
    {fingerprint}/attempts.json         each attempt: its start, node, first and latest step, and outcome
    {fingerprint}/best-{step}/          the weights of an epoch that was better than all before it
    {fingerprint}/result/               the finished training's files (hard links), until Snakemake has noted them
"""

import logging
import os
import platform
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from qa.common import checksums
from qa.common.errors import InputError
from qa.common.files import read_json, remove, write_json, written_aside
from qa.common.text import counted, readable_seconds
from qa.jobs import slurm

COMPLETE = "complete.json"
DEAD_AFTER = 600.0  # seconds without a sign of life after which a job counts as dead, if nobody can tell its state

log = logging.getLogger(__name__)


class TrainingMemory:
    """The checkpoints, attempts and result of one training. All that determines its result is in the `fingerprint`."""

    def __init__(self, folder: str | Path, fingerprint: str):
        self.folder, self.fingerprint = Path(folder), fingerprint
        self.checkpoints = self.folder / self.fingerprint
        self._attempts_file = self.checkpoints / "attempts.json"

    def begin(self) -> Path | None:
        """Note a new attempt. Returns the newest whole checkpoint to resume from, or None to start from the beginning.

        A checkpoint made with other settings, inputs, code, library versions or GPUs is never resumed. It stays until
        this training has succeeded, so a setting can be changed back. Raises InputError while another job works on the
        same training.
        """
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        for memory in sorted(self.folder.iterdir()):
            if memory.name != self.fingerprint:
                log.info(f"not resumed, since made by other settings, inputs, code, versions or GPUs: {memory}")
        attempts = self.attempts()
        if attempts and is_alive(attempts[-1]):
            raise InputError(
                f"{self.checkpoints}: {_who(attempts[-1])} is still training this, at step {attempts[-1]['step']:,}; "
                "wait for it, or cancel it (scancel) and start again"
            )
        for earlier in attempts:
            if earlier["outcome"] == "running":
                earlier["outcome"] = "killed"
        newest = self.newest_whole()
        step = step_of(newest) if newest else 0
        now = _now()
        attempts.append(
            {
                "started": now,
                "seen": now,
                "resumed_at_step": step,
                "step": step,
                "outcome": "running",
                "slurm_job_id": slurm.job_id(),
                "node": platform.node(),
                "pid": os.getpid(),
            }
        )
        write_json(self._attempts_file, attempts)
        if newest:
            log.info(f"attempt {len(attempts)} resumes at step {step:,} from {newest}; so far: {self.summary()}")
        return newest

    def attempts(self) -> list[dict[str, Any]]:
        """Every attempt so far, the oldest first."""
        try:
            return read_json(self._attempts_file) if self._attempts_file.exists() else []
        except InputError as error:
            raise InputError(f"{error}; if no job works on it: rm {self._attempts_file} and run again") from None

    def note(self, step: int, outcome: str = "running", **facts: str) -> None:
        """Note the latest attempt's step, outcome and further facts. A full disk does not stop the training here."""
        attempts = self.attempts()
        attempts[-1] |= {"seen": _now(), "step": step, "outcome": outcome, **facts}
        try:
            write_json(self._attempts_file, attempts)
        except OSError as error:
            log.warning(f"{self._attempts_file}: not updated ({error.strerror})")

    def summary(self) -> str:
        """The number of attempts and their time in words: `3 attempts, 5 h 3 min`."""
        attempts = self.attempts()
        return f"{counted(len(attempts), 'attempt')}, {readable_seconds(seconds_of(attempts))}"

    def newest_whole(self) -> Path | None:
        """The newest whole checkpoint. Newer ones, half-written or damaged, are removed."""
        for checkpoint in checkpoints_in(self.checkpoints):
            if not (fault := damage_of(checkpoint)):
                return checkpoint
            log.warning(f"half-written or damaged checkpoint skipped and removed: {checkpoint}: {fault}")
            remove(checkpoint)
        return None

    def keep_result(self, files: dict[str, str | Path], checkpoints: bool) -> None:
        """Keep the finished training's files by name, in case Snakemake is gone and cannot note them.

        They are hard links, so they take no space. Afterwards the checkpoints are removed, unless `checkpoints` keeps
        them.
        """
        try:
            if not self._has_result(files):
                with written_aside(self.checkpoints / "result", directory=True) as partial:
                    for name, path in files.items():
                        _link(Path(path), partial / name)
                    checksums.seal([partial])
        except OSError as error:  # no hard links here: a result that Snakemake did not note will be trained again
            log.debug(f"{self.checkpoints}: {error}")
        if checkpoints:
            return
        obsolete = (entry for entry in self.folder.iterdir() if entry != self.checkpoints)
        for entry in [*obsolete, *checkpoints_in(self.checkpoints), *self.checkpoints.glob("best-*")]:
            remove(entry)

    def _has_result(self, files: dict[str, str | Path]) -> bool:
        return all((self.checkpoints / "result" / name).exists() for name in files)

    def take_result(self, files: dict[str, str | Path]) -> bool:
        """Put the files of a finished training back in their places, if there are any. Returns whether there were."""
        result = self.checkpoints / "result"
        if not self._has_result(files):
            return False
        if fault := checksums.fault_of(result):
            log.warning(f"damaged result of a finished training skipped and removed: {result}: {fault}")
            remove(result)
            return False
        for name, path in files.items():
            with written_aside(path, directory=(result / name).is_dir()) as partial:
                _link(result / name, partial)
        log.info(f"training was finished by {_who(self.attempts()[-1])} after Snakemake had gone: its result is taken")
        return True


def forget_results(folder: str | Path) -> None:
    """Remove the kept results in a training's folder `checkpoints/{run}/{variant}`, once Snakemake has noted them.

    A forced rerun then trains again.
    """
    folder = Path(folder)
    for result in folder.glob("*/result"):
        remove(result)
        if not checkpoints_in(result.parent):
            remove(result.parent)
        for parent in (folder, *folder.parents[:2]):
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()


def checkpoints_in(folder: Path) -> list[Path]:
    """The checkpoints of a folder, the newest first; none if there is no such folder."""
    found = [p for p in folder.glob("checkpoint-*") if p.name.removeprefix("checkpoint-").isdigit()]
    return sorted(found, key=step_of, reverse=True)


def step_of(checkpoint: Path) -> int:
    """The optimizer step after which a checkpoint was saved, from its name."""
    return int(checkpoint.name.removeprefix("checkpoint-"))


def mark_complete(checkpoint: Path, keep: int) -> None:
    """Mark a checkpoint as whole, with its files' checksums. Afterwards remove all but the `keep` newest."""
    write_json(checkpoint / COMPLETE, checksums.sums(checkpoint, without=[COMPLETE]))
    for old in checkpoints_in(checkpoint.parent)[keep:]:
        remove(old)


def is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint is marked as complete and its files have their sizes. Reads no file's content."""
    return not damage_of(checkpoint, sizes_only=True)


def damage_of(checkpoint: Path, sizes_only: bool = False) -> str:
    """How a checkpoint differs from what was saved; "" if it does not. Reads all of it, unless `sizes_only`."""
    if not (checkpoint / COMPLETE).exists():
        return f"it has no {COMPLETE}"
    try:
        return checksums.difference(checkpoint, read_json(checkpoint / COMPLETE), sizes_only)
    except InputError as error:
        return str(error)


def check_whole(checkpoint: str | Path) -> None:
    """Raise InputError if a checkpoint differs from what was saved."""
    if fault := damage_of(Path(checkpoint)):
        raise InputError(f"{checkpoint}: {fault}; to take the previous one: rm -r {checkpoint} and run again")


def latest_of(run: str, variant: str, root: str | Path = "checkpoints") -> str:
    """The checkpoint of a variant that was saved last, under any fingerprint.

    `seed-{n}-latest` means the variant `seed-{n}`. Raises InputError if there is no whole checkpoint.
    """
    folder = Path(root) / run / variant.removesuffix("-latest")
    whole = ([c for c in checkpoints_in(training) if is_whole(c)] for training in sorted(folder.glob("*/")))
    found = [checkpoints[0] for checkpoints in whole if checkpoints]  # by step: time stamps may be coarse
    if not found:
        raise InputError(
            f"{folder}: no whole checkpoint there; training has not saved one yet (checkpoints.every_steps), or has "
            "finished and removed them (its model is in results/)"
        )
    return str(max(found, key=lambda checkpoint: (checkpoint / COMPLETE).stat().st_mtime_ns))


def is_alive(attempt: dict[str, Any]) -> bool:
    """Whether an attempt's job is still at work, by SLURM, the process table or the attempt's last sign of life."""
    if attempt["outcome"] != "running":
        return False
    here = attempt["node"] == platform.node()
    if attempt["slurm_job_id"]:
        if attempt["slurm_job_id"] == slurm.job_id():
            return False  # this job itself, requeued
        state = slurm.state_of(attempt["slurm_job_id"])
        if state is not None:
            return state in slurm.ALIVE
    elif here:
        return attempt["pid"] != os.getpid() and _trains(attempt["pid"])
    # a sign of life far in the future comes from a wrong clock, and must not make anybody wait until then
    return abs(time.time() - datetime.fromisoformat(attempt["seen"]).timestamp()) < DEAD_AFTER


def seconds_of(attempts: list[dict[str, Any]]) -> float:
    """Seconds of all attempts, each until its last sign of life. An attempt counts 0 if the clock was set back."""
    spans = ((datetime.fromisoformat(a["started"]), datetime.fromisoformat(a["seen"])) for a in attempts)
    return sum(max(0.0, (seen - started).total_seconds()) for started, seen in spans)


def _trains(process: int) -> bool:
    try:
        return b"train" in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False


def _who(attempt: dict[str, Any]) -> str:
    job = f"SLURM job {attempt['slurm_job_id']}" if attempt["slurm_job_id"] else f"process {attempt['pid']}"
    return f"{job} on {attempt['node']}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _link(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, copy_function=os.link, dirs_exist_ok=True)
    else:
        os.link(source, target)
