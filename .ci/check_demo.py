"""Fail unless the demo learned: F1 well above a model that never answers, and above the walkthrough's decoding."""

import json
import sys
from pathlib import Path

LEAST_GAIN = 30.0  # in points of F1, over a model that never answers

folder = Path("results/demo/seed-42/demo/validation")
best, walkthrough = (
    json.loads(Path(folder, decoding, "metrics.json").read_text(encoding="utf-8"))
    for decoding in ("n_best", "walkthrough")
)
gain = best["f1"] - 100.0 * best["NoAns_total"] / best["total"]
print(f"demo: F1 {best['f1']:.2f}, {gain:.2f} above a model that never answers, walkthrough {walkthrough['f1']:.2f}")
if gain < LEAST_GAIN or best["f1"] <= walkthrough["f1"]:
    sys.exit(f"{folder}: at least {LEAST_GAIN} above a model that never answers is due, and more than the walkthrough")
