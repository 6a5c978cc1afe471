"""How a process that computes on the CPU uses threads and memory."""

import ctypes
import os
import subprocess
import sys

import pytest
import torch

from qa.model import devices

PAGES = """
import resource, sys, numpy
from qa.model import devices
if "prepared" in sys.argv:
    devices.prepare_cpu(1)

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    numpy.ones(2**26, numpy.uint8)  # 64 MiB, freed at once
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(pages(), pages())
"""


def pages_of_two_blocks(*arguments):
    """Pages that the system hands out, and clears, for a block of 64 MiB and for a second one after it."""
    alone = os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", PAGES, *arguments]
    found = subprocess.run(command, env=alone, capture_output=True, text=True, check=True).stdout
    return [int(count) for count in found.split()]


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="not glibc's malloc")
def test_without_a_gpu_a_freed_block_is_used_again():
    first, second = pages_of_two_blocks("prepared")
    assert first > 10 and second < first / 10
    _, second = pages_of_two_blocks()
    assert second > 10  # the system's own way


def test_threads_are_at_most_the_cores_of_the_process(monkeypatch):
    monkeypatch.setattr(devices, "_keep_freed_memory", lambda: None)
    before = torch.get_num_threads()
    cores = len(os.sched_getaffinity(0))
    try:
        for asked, expected in ((0, 1), (1, 1), (cores + 5, cores)):
            devices.prepare_cpu(asked)
            assert torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(before)
