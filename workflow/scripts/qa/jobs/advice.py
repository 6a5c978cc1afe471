"""What usually helps after a job failed: by its state, by its log, and where the profile sets what it requested."""

import itertools
import os
import re
import sys
from pathlib import Path

import yaml

from qa.common.text import readable_seconds
from qa.jobs.job_records import JobRecord

MEMORY = "It ran out of memory: ask for more {mem_mb}."
MEMORY_HERE = "It ran out of memory: run fewer jobs at once, or smaller batches."
WALLTIME = "It reached its walltime: ask for more {runtime}."
NODE = "Not the job's fault, it was the node's or the scheduler's: give the same command again."
SAVED = "What was saved stays: the same command goes on from the last checkpoint."
# by the job's state: SLURM's word in capitals, or that of its record
HELP = {
    "OUT_OF_MEMORY": MEMORY,
    "TIMEOUT": WALLTIME,
    "DEADLINE": WALLTIME,
    "NODE_FAIL": NODE,
    "BOOT_FAIL": NODE,
    "PREEMPTED": NODE,
    "REVOKED": NODE,
    "CANCELLED": "It was cancelled, by scancel or with Snakemake itself: give the same command again.",
    "interrupted": "It stopped itself before its walltime, or when told to, and saved: the same command goes on.",
    "stopped": "It was stopped with Ctrl-C: the same command goes on.",
    "killed": "It was killed, and nobody knows how any more; if it was for memory: ask for more {mem_mb}.",
    "killed here": "It was killed, most likely for memory (`dmesg` tells): run fewer jobs at once, or smaller batches.",
    "unborn": "It ended before its stage began: modules, virtual environment, file system or memory of that node.",
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
        "The GPU or its driver failed: give the same command again, and if it fails on one node only, leave that out.",
    ),
    (r"ModuleNotFoundError|ImportError", "A package is missing or of another version: activate the environment again."),
    (
        r"ArrowInvalid|HeaderTooLarge|JSONDecodeError",
        "A file that it reads is broken, after a full disk or a half-made copy: remove it, it is made again.",
    ),
    (
        r"FileNotFoundError",
        "A file has gone (clusters purge scratch): give the same command again; if it fails again, remove the folder "
        "that the file was in, it is made again.",
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
    return f"`{key}`{value} ({place_of_request(profile_in_use(), rule, key)})"


def profile_in_use() -> Path | None:
    """The file of the profile of this Snakemake: by its command line, else by SNAKEMAKE_PROFILE; None without one."""
    parts = [part for argument in sys.argv for part in argument.split("=", 1)]
    named = [value for option, value in itertools.pairwise(parts) if option == "--profile"]
    name = named[-1] if named else os.environ.get("SNAKEMAKE_PROFILE", "")
    files = (Path(name) / "config.yaml", Path(name))
    return next((file for file in files if name and file.is_file()), None)


def place_of_request(profile: Path | None, rule: str, key: str) -> str:
    """The line that sets a rule's resource (`FILE, line N`); the place where a user can set it if none does.

    The file `site.yaml` beside the profile wins over the profile.
    """
    if profile is None:
        return f"--set-resources {rule}:{key}=…"
    site = profile.with_name("site.yaml")
    for keys in ([rule, key], ["jobs", key]):
        if line := _line_of(site, keys):
            return f"{site}, line {line}"
    for keys in (["set-resources", rule, key], ["default-resources", key]):
        if line := _line_of(profile, keys):
            not_to_edit = site.name in profile.read_text(encoding="utf-8")
            return f"{profile}, line {line}" + (f", or rather `{rule}:` in {site}" if not_to_edit else "")
    return f"{profile}: set-resources: {rule}: {key}"


def _line_of(file: Path, keys: list[str]) -> int | None:
    """Line (from 1) of a nested key of a YAML file; None where the file or the key is missing."""
    try:
        node = yaml.compose(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return None
    line = None
    for key in keys:
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        found = next(((name, value) for name, value in pairs if name.value == key), None)
        if found is None:
            return None
        line, node = found[0].start_mark.line + 1, found[1]
    return line
