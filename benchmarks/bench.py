"""Each stage against the public recipes, on this machine's CPU: `make bench`. Needs no network and no GPU."""

import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow" / "scripts"))

import report
from measure import Stage, machine, model_folder


def main() -> None:
    """Run every stage's benchmark, print the table and write it to results/."""
    import decoding_bench
    import scoring_bench
    import startup_bench
    import tokenizing_bench
    import training_bench

    logging.basicConfig(level=logging.WARNING)
    model, before = model_folder(), machine()
    contestants: list[Callable[[], list[Stage]]] = [
        lambda: tokenizing_bench.stages(model),
        lambda: training_bench.stages(model),
        decoding_bench.stages,
        scoring_bench.stages,
        startup_bench.stages,
    ]
    started, stages = time.monotonic(), []
    for each in contestants:
        stages += each()
        print(f"{time.monotonic() - started:.0f} s: {', '.join(stage.name for stage in stages)} done", flush=True)
    print(f"\n{report.table(stages)}\n\n{report.details(stages)}")
    print(f"written: {report.write('cpu', stages, before)}; {time.monotonic() - started:.0f} s in all")


if __name__ == "__main__":
    main()
