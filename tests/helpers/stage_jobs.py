"""The object that Snakemake gives a script, as far as a stage reads it."""

from types import SimpleNamespace
from typing import Any


def job(log: Any, **parts: Any) -> SimpleNamespace:
    """A job with this log; `input`, `output`, `wildcards`, `params`, `threads` and `resources` as given, else empty."""
    nothing = {"input": [], "output": [], "wildcards": {}, "params": {}, "threads": 1, "resources": {}}
    return SimpleNamespace(log=[str(log)], **{**nothing, **parts})
