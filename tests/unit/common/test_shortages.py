"""What the machine lacks, for real, in a stage of its own process: one sentence, exit code 1, nothing half-made."""

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import stage_jobs

from qa.common import errors

SCRIPTS, HELPERS = Path(errors.__file__).parents[2], Path(stage_jobs.__file__).parent
OWN_MOUNTS = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
MOUNTS = subprocess.run([*OWN_MOUNTS, "mount -t tmpfs none /mnt"], capture_output=True).returncode == 0
mounts = pytest.mark.skipif(not MOUNTS, reason="no mounts in a user's namespace here")

STAGE = """
import resource
from qa.jobs.stage import stage
from stage_jobs import job
from qa.common.files import write_json, written_aside
with stage("score", job("logs/score.log", output=["results/metrics.json"]), aggregates=True):
    {body}
"""
WRITES = "write_json('results/metrics.json', {'questions': list(range(100_000))})"


def run(folder: Path, body: str, mounted: str = "") -> subprocess.CompletedProcess:
    (folder / "results").mkdir(exist_ok=True)
    (folder / "stage.py").write_text(STAGE.format(body=body))
    command = [sys.executable, "stage.py"]
    if mounted:  # the files are gone with the mount, so that they are listed within
        script = f"{mounted}; {sys.executable} stage.py; code=$?; find results -mindepth 1; exit $code"
        command = [*OWN_MOUNTS, script]
    environment = {**os.environ, "PYTHONPATH": f"{SCRIPTS}:{HELPERS}"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)


def one_sentence(done: subprocess.CompletedProcess) -> str:
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 1 and len(lines) == 1 and "Traceback" not in done.stderr, done.stderr
    return re.sub(r"^[\d:]+ score: ERROR ", "", lines[0])


@mounts
def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path):
    done = run(tmp_path, WRITES, "mount -t tmpfs -o size=64k none results")
    assert one_sentence(done).startswith("No space left on device, or quota full: make room and give the same command")
    assert done.stdout == ""


@mounts
def test_a_full_disk_for_the_log_too_is_still_one_sentence(tmp_path):
    (tmp_path / "logs").mkdir()
    done = run(
        tmp_path,
        WRITES,
        "mount -t tmpfs -o size=4k none logs; head -c 4096 /dev/zero > logs/full; "
        "mount -t tmpfs -o size=64k none results",
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.count("No space left on device, or quota full") == 1 and done.stdout == ""


@mounts
def test_results_that_may_only_be_read_are_told(tmp_path):
    done = run(tmp_path, WRITES, "mount --bind results results; mount -o remount,bind,ro results")
    assert one_sentence(done).startswith("Read-only file system: mount it for writing")
    assert done.stdout == ""


def test_no_file_handles_left_are_told(tmp_path):
    body = "resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3)); " + WRITES
    assert one_sentence(run(tmp_path, body)).startswith("Too many open files: raise the limit (ulimit -n 4096)")
    assert not list((tmp_path / "results").iterdir())


def test_no_memory_left_is_told(tmp_path):
    body = "resource.setrlimit(resource.RLIMIT_AS, (10**9, 10**9)); bytearray(10**10)"
    assert one_sentence(run(tmp_path, body)).startswith("Cannot allocate memory: ask for more (mem_mb)")


def behind(error: Exception, cause: Exception, explicit: bool) -> Exception:
    try:
        try:
            raise cause
        except Exception as inner:
            raise error from (inner if explicit else None)
    except type(error) as raised:
        return raised


@pytest.mark.parametrize("explicit", [True, False])
def test_a_shortage_behind_another_error_is_found(explicit):
    error = behind(RuntimeError("writer failed"), OSError(errno.ENOSPC, "No space left on device"), explicit)
    assert "make room" in errors.shortage(error)


@pytest.mark.parametrize(
    "error",
    [ValueError("x"), FileNotFoundError(errno.ENOENT, "No such file"), KeyError("a"), OSError("could not verify page")],
)
def test_other_errors_are_no_shortage(error):
    assert errors.shortage(error) is None


def test_a_file_is_not_called_broken_where_the_machine_is_short_of_something():
    handles = OSError(errno.EMFILE, "Too many open files")
    assert errors.broken("x", "spans", handles) is handles
    told = errors.broken("x", "spans", OSError("could not verify page integrity"))
    assert isinstance(told, errors.InputError) and "rm -r x and run again" in str(told)
