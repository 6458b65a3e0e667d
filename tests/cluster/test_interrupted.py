"""Ctrl-C in a command on a cluster, as the console script: the exit code, the sentence, and no keys left behind."""

import base64
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from kube.api import StandIn
from kube.rules import Object
from web import CERTIFICATE


def test_ctrl_c_leaves_no_keys_behind(api: StandIn, submitted: Callable[..., Object], tmp_path: Path) -> None:
    """The client writes a kube config's keys into temporary files."""
    name = submitted()["metadata"]["name"]
    secure = StandIn(tls=True)
    secure.objects = api.objects
    data = base64.b64encode(CERTIFICATE.read_bytes()).decode()
    config = yaml.safe_load(secure.kube_config(**{"certificate-authority-data": data}))
    config["users"][0]["user"] |= {"client-certificate-data": data, "client-key-data": data}
    (tmp_path / "kube.yaml").write_text(yaml.safe_dump(config))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "classmodels.cli", "status", "--watch"],
        env=dict(os.environ) | {"TMPDIR": str(scratch), "PYTHONPATH": str(Path(__file__).parents[2] / "service")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert "pending" in process.stdout.readline()
        assert list(scratch.iterdir())
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
        secure.stop()
    assert process.returncode == 130
    assert f"the run goes on: classmodels status {name} --watch" in said
    assert not list(scratch.iterdir())
