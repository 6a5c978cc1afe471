"""Training's memory: checkpoints under a fingerprint of all that determines the result, and a list of attempts.

The folder is no declared output: Snakemake deletes those before each attempt.
"""

import json
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from qa.files import digest_of_json, read_json, remove, write_json

COMPLETE = "complete.json"  # written after all else of a checkpoint; a killed save lacks it

log = logging.getLogger(__name__)


class TrainingMemory:
    """The checkpoints and attempts of one training: `folder/{fingerprint}/checkpoint-{step}` and `attempts.json`."""

    def __init__(self, folder: str | Path, determinants: dict[str, Any]):
        self.folder = Path(folder)
        self.fingerprint = digest_of_json(determinants)[:16]
        self.checkpoints = self.folder / self.fingerprint

    def begin(self) -> Path | None:
        """Note a new attempt; return the newest whole checkpoint to resume from, or None to start afresh.

        Checkpoints of other settings, inputs, code or library versions are not used. They stay until this training has
        succeeded, for whoever changes a setting back.
        """
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        for other in sorted(self.folder.iterdir()):
            if other.name != self.fingerprint:
                log.info(f"not resumed, since made by other settings, inputs, code or versions: {other}")
        newest = self._newest_whole()
        step = int(newest.name.removeprefix("checkpoint-")) if newest else 0
        started = datetime.now(UTC).isoformat(timespec="seconds")
        write_json(self._attempts_file, [*self.attempts(), {"started": started, "resumed_at_step": step}])
        if newest:
            log.info(f"attempt {len(self.attempts())} resumes at step {step} from {newest}")
        return newest

    @property
    def _attempts_file(self) -> Path:
        return self.checkpoints / "attempts.json"

    def attempts(self) -> list[dict[str, Any]]:
        """Every attempt so far: when it started, and at which step."""
        return read_json(self._attempts_file) if self._attempts_file.exists() else []

    def _newest_whole(self) -> Path | None:
        found = [p for p in self.checkpoints.glob("checkpoint-*") if p.name.removeprefix("checkpoint-").isdigit()]
        for checkpoint in sorted(found, key=lambda p: int(p.name.removeprefix("checkpoint-")), reverse=True):
            if _is_whole(checkpoint):
                return checkpoint
            log.warning(f"half-written checkpoint skipped and removed: {checkpoint}")
            remove(checkpoint)
        return None

    def forget(self) -> None:
        """Remove all checkpoints: training has succeeded, and a forced rerun shall train anew."""
        remove(self.folder)


def _is_whole(checkpoint: Path) -> bool:
    marker = checkpoint / COMPLETE
    try:
        sizes = json.loads(marker.read_text())
    except (OSError, ValueError):
        return False
    return all((checkpoint / name).is_file() and (checkpoint / name).stat().st_size == sizes[name] for name in sizes)


class MarkComplete(TrainerCallback):
    """Marks a checkpoint as whole, with the sizes of its files, once the Trainer has written all of it."""

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by the Trainer after each checkpoint."""
        checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        sizes = {p.name: p.stat().st_size for p in sorted(checkpoint.iterdir()) if p.is_file() and p.name != COMPLETE}
        write_json(checkpoint / COMPLETE, sizes)
