"""From ptxas' log (-Xptxas -v) to a C++ string literal of JSON: what every kernel takes on every architecture.

python3 resources.py LOG...: registers, and the bytes of stack, spills and shared memory, of each kernel.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

ENTRY = re.compile(r"Compiling entry function '(\S+)' for '(\w+)'")
MEMORY = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers(?:.*?(\d+) bytes smem)?")


def kernels(log: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for line in log.splitlines():
        if match := ENTRY.search(line):
            found.append({"kernel": match[1], "architecture": match[2]})
        elif match := MEMORY.search(line):
            found[-1] |= {"stack": int(match[1]), "spill_stores": int(match[2]), "spill_loads": int(match[3])}
        elif match := USED.search(line):
            found[-1] |= {"registers": int(match[1]), "shared": int(match[2] or 0)}
    return found


def readable(entries: list[dict[str, object]]) -> None:
    """Replace the mangled names, where there is a tool that knows them."""
    if entries and shutil.which("c++filt"):
        names = "\n".join(str(entry["kernel"]) for entry in entries)
        plain = subprocess.run(["c++filt"], input=names, capture_output=True, text=True, check=True).stdout.splitlines()
        for entry, name in zip(entries, plain, strict=True):
            entry["kernel"] = re.sub(r"\(anonymous namespace\)::|classmodels::|^void |\([^()]*\)$", "", name)


if __name__ == "__main__":
    every = [entry for path in sys.argv[1:] for entry in kernels(Path(path).read_text())]
    readable(every)
    # A literal has a limited length; adjacent ones are joined.
    for entry in every:
        print(json.dumps(("[" if entry is every[0] else ",") + json.dumps(entry)))
    print('"]"' if every else '"[]"')
