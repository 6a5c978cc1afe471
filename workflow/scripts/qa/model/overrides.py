"""`overrides`: new values for keys of a model's own configuration, refused if they cannot have the effect meant.

`python -m qa.model.overrides FOLDER JSON` checks an object of keys and values, and prints what is wrong.
"""

import json
import sys
from pathlib import Path
from typing import Any

from qa.common.errors import InputError, first_line, shortage
from qa.common.text import did_you_mean

# a start and an end for each token, from weights in fp32, of an encoder of the type that its files have
FIXED = ("num_labels", "id2label", "label2id", "dtype", "torch_dtype", "return_dict", "is_decoder", "model_type")


def read_config(folder: str | Path) -> Any:
    """The configuration of the model in a folder, without remote code. Raises InputError if it cannot be used."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # of many kinds, for a file that holds anything
        if shortage(error):
            raise
        raise InputError(f"{folder}: its config.json cannot be used ({first_line(error)})") from None


def override(config: Any, folder: str | Path, overrides: dict[str, Any]) -> None:
    """Set new values in a model's configuration.

    Raises InputError with a line for each key that it does not have or that must keep the workflow's value, and for
    each value that it refuses.
    """
    where, lines = f"models.{Path(folder).name}.overrides", []
    for key, value in overrides.items():
        if key in FIXED:
            lines.append(f"{where}: the workflow itself sets {key}; leave it out")
        elif not hasattr(config, key):
            lines.append(f"{where}: {type(config).__name__} has no {key}{did_you_mean(key, config.to_dict())}")
        else:
            try:
                setattr(config, key, value)
            except Exception as error:  # of many kinds
                lines.append(f"{where}.{key}: {first_line(error.__cause__ or error)}")
    if lines:
        raise InputError("\n".join(lines))


if __name__ == "__main__":
    try:
        override(read_config(sys.argv[1]), sys.argv[1], json.loads(sys.argv[2]))
    except InputError as error:
        print(error)
