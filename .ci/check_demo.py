"""Fails unless the demo learned: F1 well above answering nothing, and answerable F1 of its own."""

import json
import sys
from pathlib import Path

LEAST_ABOVE_SILENCE, LEAST_ANSWERABLE = 15.0, 40.0

path = Path("results/demo/seed-42/demo/validation/n_best/metrics.json")
scores = json.loads(path.read_text(encoding="utf-8"))
silence = 100.0 * scores["NoAns_total"] / scores["total"]  # F1 of answering nothing
above = scores["f1"] - silence
print(f"demo: F1 {scores['f1']:.2f}, {above:.2f} above answering nothing; answerable F1 {scores['HasAns_f1']:.2f}")
if above < LEAST_ABOVE_SILENCE or scores["HasAns_f1"] < LEAST_ANSWERABLE:
    sys.exit(
        f"{path}: at least {LEAST_ABOVE_SILENCE} above answering nothing and {LEAST_ANSWERABLE} answerable are due"
    )
