"""Whether the disk has room for what a run will write."""

import errno
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from qa.common.errors import InputError
from qa.common.files import read_json
from qa.common.text import counted, readable_bytes
from qa.preflight.findings import Finding, ok, problem
from qa.preflight.plan import Plan

BYTES_OF_WEIGHT = {"float16": 2, "bfloat16": 2}  # by the dtype in config.json; 4 for any other
TRAINED, CHECKPOINT = 4, 12  # bytes per parameter: fp32; fp32 and the two moments of AdamW
WINDOWS = 45  # bytes of windows per byte of a data set; measured: 25 to 45
SCRATCH = 2**20  # bytes of the file that tests whether a folder can be written to


def check_space(plan: Plan, stated: dict[str, int]) -> Iterator[Finding]:
    """Compare an estimate of what the run will write with the free space of each file system, and try to write there.

    It sees a quota only if the file system reports it as free space, or if the quota is already used up.
    """
    needs, count = _needs(plan, stated), len(plan.trainings)
    trainings = f" ({counted(count, 'training')}, up to {min(plan.at_once, count)} at once)" if count else ""
    systems: dict[int, list[str]] = {}
    for folder in needs:
        systems.setdefault(_existing(folder).stat().st_dev, []).append(folder)
    for folders in systems.values():
        needed = sum(needs[folder] for folder in folders)
        where = ", ".join(f"{folder}/" for folder in folders)
        for place in {_existing(folder): None for folder in folders}:
            if fault := _write_fault(place):
                yield problem(f"{place}: {fault}")
                break
        else:
            free = shutil.disk_usage(_existing(folders[0])).free
            text = f"{where}: {readable_bytes(free)} free, about {readable_bytes(needed)} needed{trainings}"
            if free < needed:
                yield problem(f"{text}: free some space, or keep fewer checkpoints")
            else:
                yield ok(text)


def _needs(plan: Plan, stated: dict[str, int]) -> dict[str, int]:
    """Bytes that the run will write below each folder, minus what it finds there."""
    sizes = {t.model: _parameters(t.model, stated) for t in plan.trainings}
    checkpoints = [
        (t.keep_after_success, max(0, CHECKPOINT * sizes[t.model] * (t.keep + 1) - _bytes_below(t.checkpoints)))
        for t in plan.trainings
    ]
    # checkpoints that success deletes need space only during training: at worst, the largest of them run together
    temporary = sorted((size for kept, size in checkpoints if not kept), reverse=True)[: plan.at_once]
    models = sum(TRAINED * sizes[t.model] for t in plan.trainings)
    tokenized = sum(WINDOWS * (stated[f] if f in stated else _bytes_below(f)) for f in plan.tokenized)
    needs = {
        "resources": sum(stated.values()),
        "checkpoints": sum(temporary) + sum(size for kept, size in checkpoints if kept),
        "results": models + tokenized,
    }
    return {folder: size for folder, size in needs.items() if size or folder == "results"}


def _parameters(model: str, stated: dict[str, int]) -> int:
    """A model's number of parameters, from the size of its weights. Weights on the hub count as fp32."""
    if model in stated:
        return stated[model] // 4
    folder = Path(model)
    weights = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    try:
        config = read_json(folder / "config.json")
    except InputError:
        config = {}
    return weights // BYTES_OF_WEIGHT.get(config.get("dtype") or config.get("torch_dtype"), 4)


def _bytes_below(folder: str) -> int:
    """Bytes of all files below a folder; 0 without the folder."""
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def _existing(folder: str) -> Path:
    """A folder, or its nearest parent that exists."""
    path = Path(folder).absolute()
    while not path.is_dir():
        path = path.parent
    return path


def _write_fault(folder: Path) -> str:
    """The reason why a folder cannot be written to, and what to do; "" if it can."""
    try:
        with tempfile.TemporaryFile(dir=folder) as stream:
            stream.write(bytes(SCRATCH))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return f"the disk or your quota is full ({error.strerror}): free some space or files"
        return f"cannot be written to ({error.strerror}): check who owns it"
    return ""
