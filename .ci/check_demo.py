"""Fail unless the demo learned: F1 well above a model that never answers, and a high F1 of answerable questions."""

import json
import sys
from pathlib import Path

LEAST_GAIN, LEAST_ANSWERABLE = 15.0, 40.0

path = Path("results/demo/seed-42/demo/validation/n_best/metrics.json")
scores = json.loads(path.read_text(encoding="utf-8"))
never = 100.0 * scores["NoAns_total"] / scores["total"]  # F1 of a model that never answers
gain = scores["f1"] - never
print(
    f"demo: F1 {scores['f1']:.2f}, {gain:.2f} above a model that never answers; answerable F1 {scores['HasAns_f1']:.2f}"
)
if gain < LEAST_GAIN or scores["HasAns_f1"] < LEAST_ANSWERABLE:
    sys.exit(
        f"{path}: at least {LEAST_GAIN} above a model that never answers and {LEAST_ANSWERABLE} answerable are due"
    )
