"""Each stage against the public recipes, on this machine's CPU: `make bench`. Needs no network and no GPU."""

import importlib
import logging
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow" / "scripts"))

import speed_tables
from measure import Stage, machine, model_folder

MODULES = ("tokenizing_bench", "training_bench", "decoding_bench", "scoring_bench", "startup_bench")
OF_A_MODEL = ("tokenizing_bench", "training_bench")  # those that take the model's folder


def measured(module: str, *arguments: Any) -> list[Stage]:
    """The stages of one of the benchmark's modules."""
    logging.basicConfig(level=logging.WARNING)
    return importlib.import_module(module).stages(*arguments)


def main() -> None:
    """Run every stage's benchmark, each in a process of its own as in the workflow, print the table and write it."""
    model, before = model_folder(), machine()
    started, stages = time.monotonic(), []
    for module in MODULES:
        arguments = [model] if module in OF_A_MODEL else []
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            stages += process.submit(measured, module, *arguments).result()
        print(f"{time.monotonic() - started:.0f} s: {', '.join(stage.name for stage in stages)} done", flush=True)
    print(f"\n{speed_tables.table(stages)}\n\n{speed_tables.details(stages)}")
    print(f"written: {speed_tables.write('cpu', stages, before)}; {time.monotonic() - started:.0f} s in all")


if __name__ == "__main__":
    main()
