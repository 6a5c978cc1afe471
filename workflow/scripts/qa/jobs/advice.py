"""What usually helps after a job failed: by its state, by its log, and where the profile sets what it requested."""

import os
import re
import sys

from qa.common.errors import InputError
from qa.common.text import readable_seconds
from qa.jobs import slurm_profile
from qa.jobs.job_records import JobRecord

MEMORY = "It ran out of memory: ask for more {mem_mb}."
MEMORY_HERE = "It ran out of memory: run fewer jobs at once, or smaller batches."
WALLTIME = "It reached its walltime: ask for more {runtime}."
NODE = "The node or the scheduler failed, not the job: give the same command again."
SAVED = "The same command continues from the last checkpoint."
# by the job's state: SLURM's word in capitals, or that of its record
HELP = {
    "OUT_OF_MEMORY": MEMORY,
    "TIMEOUT": WALLTIME,
    "DEADLINE": WALLTIME,
    "NODE_FAIL": NODE,
    "BOOT_FAIL": NODE,
    "PREEMPTED": NODE,
    "REVOKED": NODE,
    "CANCELLED": "It was cancelled, by scancel or together with Snakemake: give the same command again.",
    "interrupted": "It saved and stopped, before its walltime or on a signal: the same command continues it.",
    "stopped": "It was stopped with Ctrl-C: the same command continues it.",
    "killed": "It was killed, and the reason is not known. If memory was the reason, ask for more {mem_mb}.",
    "killed here": "It was killed, most likely for memory (see `dmesg`): run fewer jobs at once, or smaller batches.",
    "unborn": "It ended before its stage began: check modules, environment, file system and memory of that node.",
}
# by the last lines of its log; the first pattern that fits
CAUSES = (
    (
        r"CUDA out of memory|OutOfMemoryError",
        "The GPU's memory ran out: ask for a larger GPU, raise training.accumulation_steps, or lower "
        "prediction.batch_size.",
    ),
    (r"MemoryError|[Cc]annot allocate memory|bad_alloc", MEMORY),
    (
        r"No space left on device|Disk quota exceeded",
        "The disk or your quota is full: make room (old checkpoints/, resources/ of models no longer used).",
    ),
    (
        r"CUDA error|NCCL|uncorrectable ECC|CUDNN_STATUS",
        "The GPU or its driver failed: give the same command again; if it always fails on one node, exclude that node.",
    ),
    (r"ModuleNotFoundError|ImportError", "A package is missing or of another version: activate the environment again."),
    (
        r"ArrowInvalid|HeaderTooLarge|JSONDecodeError",
        "A file that it reads is broken, perhaps by a full disk or an unfinished copy: replace a file of your own; "
        "remove a file in results, resources/models or resources/datasets, and the workflow makes it again.",
    ),
    (
        r"FileNotFoundError",
        "A file is missing (clusters purge scratch): give the same command again. If it fails again, and the file was "
        "in results, resources/models or resources/datasets, remove its folder, and the workflow makes it again.",
    ),
)


def advice(rule: str, state: str, lines: list[str], record: JobRecord | None, on_slurm: bool) -> list[str]:
    """Sentences on a failed job: by its `state`, else by the last `lines` of its log; none where nothing is known."""
    text = HELP.get("killed here" if state == "killed" and not on_slurm else state)
    if text is None:
        log = "\n".join(lines)
        text = next((help_text for pattern, help_text in CAUSES if re.search(pattern, log)), None)
    if text is None:
        return []
    if text == MEMORY and not on_slurm:
        return [MEMORY_HERE]
    requests = {key: _request(rule, key, record) for key in ("mem_mb", "runtime")}
    return [text.format(**requests), *([SAVED] if text == WALLTIME and rule == "train" else [])]


def _request(rule: str, key: str, record: JobRecord | None) -> str:
    """A requested resource in words: its name, its value in the last attempt, and the place that sets it."""
    asked = record.asked if record else {}
    value = ""
    if key == "mem_mb" and asked.get("memory_mib"):
        value = f" than {asked['memory_mib']:,.0f} MiB"
    elif key == "runtime" and asked.get("seconds"):
        value = f" than {readable_seconds(asked['seconds'])}"
    return f"`{key}`{value} ({place_of_request(rule, key)})"


def place_of_request(rule: str, key: str) -> str:
    """The place that requests a rule's resource, `FILE, line N`, and where the user can set it."""
    try:
        requests = slurm_profile.read(slurm_profile.profiles_in_use(sys.argv, dict(os.environ)))
    except InputError:
        requests = {name: {} for name in slurm_profile.KEYS}
    found = requests["set-resources"].get(f"{rule}:{key}") or requests["default-resources"].get(key)
    if found and found.file == slurm_profile.OWN:
        return found.place
    yours = f"--set-resources {rule}:{key}=…, or `set-resources:` in {slurm_profile.OWN}"
    return f"{found.place}; yours: {yours}" if found else yours
