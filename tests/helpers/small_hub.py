"""A small repository of a hub, and what tests of downloads ask again and again."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qa.common.errors import InputError

COMMIT, OTHER_COMMIT = "0123456789abcdef" * 2 + "01234567", "f" * 40
REPO = {"repo": "someone/tiny", "revision": COMMIT}
WEIGHTS = bytes(range(256)) * 1024  # 256 KiB: more than one read of a socket
MODEL = {
    "config.json": b'{"model_type": "roberta"}',
    "model.safetensors": WEIGHTS,
    "tokenizer.json": b'{"version": "1.0"}',
    "merges.txt": b"",
    "vocab.json": b'{"a": 0}',
}
UNWANTED = {
    "README.md": b"# tiny",
    "modeling_tiny.py": b"raise SystemExit",
    "model.fp16.safetensors": b"another precision",
    "onnx/model.onnx": b"onnx",
    "onnx/config.json": b"{}",
    "pytorch_model.bin": b"pickle",
    "training_args.bin": b"pickle",
    "tf_model.h5": b"h5",
}
QUICK = (0.01, 0.02)


def aside_of(target: Path) -> Path:
    return target.with_name(f".{target.name}.partial")


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def refusal(call, *args, **kwargs) -> str:
    """The message of the InputError that `call` raises, which is one line."""
    with pytest.raises(InputError) as caught:
        call(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message and caught.value.__suppress_context__ == (caught.value.__context__ is not None)
    return message


def in_another_process(target: Path, source=REPO, **environment: str) -> subprocess.Popen:
    code = "import json, sys; from qa.hub.download import fetch_model; "
    code += "fetch_model(json.loads(sys.argv[1]), sys.argv[2], (0.01,))"
    paths = os.pathsep.join(path for path in sys.path if path)
    return subprocess.Popen(
        [sys.executable, "-c", code, json.dumps(source), str(target)],
        env=os.environ | {"PYTHONPATH": paths} | environment,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until(condition, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "what the test waits for did not happen"
        time.sleep(0.01)
