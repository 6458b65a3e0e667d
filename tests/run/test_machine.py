"""What the machine's memory does while units ascend."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource
import torch
from classmodels.run.machine import memory_kept

PIECES, SIZE = 8, 48 << 20

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        pieces = [torch.zeros(SIZE // 4) for _ in range(PIECES)]
        del pieces
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

faults()
outside, empty = faults(), resident()
with memory_kept():
    faults()
    inside, full = faults(), resident()
print(outside, inside, full - empty, resident() - empty)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_pages_of_large_tensors_are_used_again_within_and_given_back_after() -> None:
    found = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True).stdout
    outside, inside, held, left = map(int, found.split())
    assert inside < outside / 10
    assert held > 300 << 20
    assert left < 50 << 20
