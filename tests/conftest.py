"""For all tests: workers share the cores, no test depends on speed or luck, `--without-torch` skips torch."""

import importlib.machinery
import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# the same examples each time; `make test-fuzz` draws new ones
settings.register_profile("same", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("same")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by torch when it is imported, in the tests' processes too
if not list(Path("/dev").glob("nvidia[0-9]*")):
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read by Triton when it is imported: kernels run on the CPU


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--without-torch", action="store_true", help="skip every test that would import torch")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--without-torch"):
        sys.meta_path.insert(0, _WithoutTorch())


class _WithoutTorch:
    """Finds torch, since libraries ask whether it is there, but skips the file or the test that imports it."""

    def find_spec(self, name, path=None, target=None):
        if name != "torch":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None:
            spec.loader = self
        return spec

    def create_module(self, spec):
        raise pytest.skip.Exception("imports torch", allow_module_level=True)

    def exec_module(self, module):
        """Never reached."""
