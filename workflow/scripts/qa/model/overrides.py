"""`overrides`: new values for keys of a model's own configuration, refused if its class has no such key.

`python -m qa.model.overrides FOLDER KEYS...` checks keys and prints what is wrong.
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from qa.common.errors import InputError, first_line, shortage
from qa.common.text import did_you_mean


def read_config(folder: str | Path) -> Any:
    """The configuration of the model in a folder, without remote code. Raises InputError if it cannot be used."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # of many kinds, for a file that holds anything
        if shortage(error):
            raise
        raise InputError(f"{folder}: its config.json cannot be used ({first_line(error)})") from None


def check(config: Any, folder: str | Path, keys: Iterable[str]) -> None:
    """Raise InputError with a line for each key that a model's configuration does not have."""
    lines = []
    for key in keys:
        if not hasattr(config, key):
            hint = did_you_mean(key, config.to_dict())
            lines.append(f"models.{Path(folder).name}.overrides: {type(config).__name__} has no {key}{hint}")
    if lines:
        raise InputError("\n".join(lines))


if __name__ == "__main__":
    try:
        check(read_config(sys.argv[1]), sys.argv[1], sys.argv[2:])
    except InputError as error:
        print(error)
