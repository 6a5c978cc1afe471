"""The benchmarks' table and results file."""

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from measure import Stage

RESULTS = Path(__file__).parent / "results"


def write(name: str, stages: Iterable[Stage], machine: dict[str, Any], **more: Any) -> Path:
    """Write results/`name`.json: when, the machine, `more`, and under `stages` each stage's figures and ratios."""
    found = {"measured": time.strftime("%Y-%m-%d"), "machine": machine, **more}
    found["stages"] = {stage.name: stage.as_json() for stage in stages}
    RESULTS.mkdir(exist_ok=True)
    target = RESULTS / f"{name}.json"
    target.write_text(json.dumps(found, indent=2, default=float) + "\n", encoding="utf-8")
    return target


def table(stages: Iterable[Stage]) -> str:
    """A Markdown table, a line a stage; the ratios say how many times faster this workflow is."""
    lines = [
        "| stage | unit | walkthrough | run_qa style | this workflow | ratio to the walkthrough | to run_qa | floor |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for stage in stages:
        figures = [figure(value) for value in (stage.walkthrough, stage.run_qa, stage.ours)]
        ratios = [times(stage.ratio(value)) for value in (stage.walkthrough, stage.run_qa)]
        lines.append(f"| {' | '.join([stage.name, stage.unit, *figures, *ratios, figure(stage.floor)])} |")
    return "\n".join(lines)


def details(stages: Iterable[Stage]) -> str:
    """What each stage did and where its floor comes from."""
    return "\n".join(f"{stage.name}: {stage.work}. Floor: {stage.how}." for stage in stages)


def figure(value: float | None) -> str:
    """Three significant digits, thousands in full, a dash for None."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def times(ratio: float | None) -> str:
    """A ratio for people."""
    return "-" if ratio is None else f"{ratio:.1f} x" if ratio < 100 else f"{ratio:,.0f} x"
