"""Which changes of the training step pay on this GPU: `make bench-gpu-changes`, within ten minutes of one CUDA GPU.

The workflow's own stages run with one switch changed at a time. Writes results/gpu_changes.json as it goes, so that a
lease that ends early leaves what was measured.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch

import bench_gpu
from measure import machine
from qa.fused import step
from qa.model import joined_products
from speed_tables import RESULTS
from training_bench import Own, windows_of

MINUTES = 9.5
TRAININGS = (  # in order of interest: name, batch, `compile`, and the switches
    ("fused", 96, "graphs", {}),
    ("compiled", 96, "graphs", {"fused": False}),
    ("deterministic", 96, "graphs", {"deterministic": True}),
    ("fused", 16, "graphs", {}),
    ("compiled", 16, "graphs", {"fused": False}),
    ("kernels", 96, "kernels", {}),
    ("not compiled", 96, "none", {}),
)
# without flashdeberta both are padded; `computed` says so
OF_DEBERTA = (("DeBERTa, by flashdeberta", Own(16)), ("DeBERTa, padded", Own(16, padding="longest", compile="kernels")))


@contextmanager
def switched(fused: bool = True, joined: bool = True) -> Iterator[None]:
    """Whether training has fused kernels, and whether prediction computes queries, keys and values in one product."""
    prepare = step.prepare if fused else lambda model: "switched off"
    join = joined_products.join if joined else lambda model: None
    with mock.patch.object(step, "prepare", prepare), mock.patch.object(joined_products, "join", join):
        yield


def measure(bench: bench_gpu.Bench, batches: dict[int, int], left: Any, write: Any) -> None:
    """Every training and prediction that there is time for. `seconds` includes the start and the compilation."""
    separate = ("projections separate", {"joined": False})
    for what, switches in (("as it is", {}), separate, ("as it is", {}), separate):  # by turns: the first one warms up
        with switched(**switches):
            bench.own_predict(batches[96])
        write({"change": what, **switches, **bench.lines[-1]})
    for what, batch, way, switches in TRAININGS:
        own = Own(batches[batch], compile=way, deterministic=switches.get("deterministic", False))
        train(bench, what, own, switches, left, write)


def train(bench: bench_gpu.Bench, what: str, own: Own, switches: dict[str, bool], left: Any, write: Any) -> None:
    """One training, if there is time for it."""
    if left() < 60:
        print(f"left out, no time: {what}, batch {own.batch}", flush=True)
        return
    before = time.monotonic()
    with switched(fused=switches.get("fused", True)):
        try:
            bench.own_train(own)
            outcome = bench.lines[-1]
        except Exception as error:  # a switch that fails is an outcome too
            outcome = {"failed": f"{type(error).__name__}: {error}"[:300]}
            print(f"{what}, batch {own.batch}: {outcome['failed']}", flush=True)
    write({"change": what, **switches, **outcome, "seconds": time.monotonic() - before})


def main() -> int:
    """`--cpu` goes through all of it with tiny models; it writes to `--out` only."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS / "gpu_changes.json")
    options = parser.parse_args()
    cpu, began = options.cpu, time.monotonic()
    if not cpu and not torch.cuda.is_available():
        print("it needs a CUDA GPU and none is visible", file=sys.stderr)
        return 1
    found: dict[str, Any] = {"measured": time.strftime("%Y-%m-%d"), "machine": machine(), "changes": []}

    def write(change: dict[str, Any] | None = None) -> None:
        found["changes"] += [change] if change else []
        options.out.write_text(json.dumps(found, indent=2, default=float) + "\n", encoding="utf-8")

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found["gpu"] = None if cpu else torch.cuda.get_device_name()
        write()
        model = bench_gpu.roberta(folder / "model", **(bench_gpu.SMALL if cpu else {}))
        windows = windows_of(folder, model, *((10, 100) if cpu else (2_400, 24_000)))
        bench = bench_gpu.Bench(model, windows, *((2, 2, (2, 1)) if cpu else (120, 30, (2, 1))))
        found["bf16_matmul_tflops"] = bench.rate / 1e12
        batches = {96: 8, 16: 4} if cpu else {96: 96, 16: 16}
        left = lambda: MINUTES * 60 - (time.monotonic() - began)  # noqa: E731
        measure(bench, batches, left, write)
        bench.model = bench_gpu.deberta(folder / "deberta", model, **(bench_gpu.SMALL if cpu else {}))
        for what, own in OF_DEBERTA:
            train(bench, what, own, {}, left, write)
    print(f"written: {options.out}; {time.monotonic() - began:.0f} s in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
