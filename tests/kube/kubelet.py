"""Runs a stand-in cluster's pods as real processes on this machine: its workers work, and what they print are its logs.

One thread does what the Job controller, the scheduler and the kubelets would: it starts pods, and takes note of how
their processes end.
"""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from kube.controller import Controller, index_of
from kube.rules import Object

SERVICE = Path(__file__).parents[2] / "service"


class Kubelet:
    """Works from `start` to `stop`. The volumes of a pod are folders below `folder`."""

    def __init__(self, controller: Controller, folder: Path, **environment: str) -> None:
        self.controller, self.api, self.folder, self.environment = controller, controller.api, folder, environment
        self.running: dict[str, subprocess.Popen[str]] = {}
        self._readers: dict[str, threading.Thread] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self.broken: BaseException | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End what still runs; raises what has gone wrong here."""
        self._stopping.set()
        self._thread.join()
        for process in self.running.values():
            process.kill()
            process.wait()
        if self.broken is not None:
            raise self.broken

    def interrupt(self, pod: str) -> None:
        """SIGTERM, as to a pod that is to be gone."""
        self.running[pod].send_signal(signal.SIGTERM)

    def _work(self) -> None:
        try:
            while not self._stopping.wait(0.1):
                self.controller.sync()
                for job in self.api.all("Job"):
                    for pod in self.controller.live(job):
                        self._tend(pod)
        except BaseException as error:
            self.broken = error
            self.api.objects.clear()  # so that nobody waits for what will not come

    def _tend(self, pod: Object) -> None:
        name = pod["metadata"]["name"]
        process = self.running.get(name)
        if process is None:
            self.controller.run(pod)
            self.running[name] = self._begin(pod)
        elif process.poll() is not None:
            self._readers[name].join()
            del self.running[name]
            if process.returncode == 0:
                self.controller.succeed(pod)
            else:
                self.controller.fail(pod, process.returncode if process.returncode > 0 else 128 - process.returncode)

    def _begin(self, pod: Object) -> "subprocess.Popen[str]":
        name = pod["metadata"]["name"]
        [container] = pod["spec"]["containers"]
        volumes = {mount["mountPath"]: self._volume(pod, mount["name"]) for mount in container["volumeMounts"]}
        job = "/etc/classmodels"
        arguments = [one.replace(job, str(volumes[job])) for one in container["command"][1:]]
        process = subprocess.Popen(
            [sys.executable, "-m", "classmodels.cli", *arguments],
            env=environment_of(pod)
            | {"PATH": os.environ["PATH"], "PYTHONPATH": str(SERVICE)}
            | self.environment
            | {"TMPDIR": str(volumes["/tmp"]), "HOME": str(volumes["/tmp"])},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

        def read() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                self.controller.say(pod, line.rstrip("\n"))

        self._readers[name] = threading.Thread(target=read, daemon=True)
        self._readers[name].start()
        return process

    def _volume(self, pod: Object, name: str) -> Path:
        """A folder with what the volume holds."""
        volume = next(one for one in pod["spec"]["volumes"] if one["name"] == name)
        folder = self.folder / pod["metadata"]["name"] / name
        folder.mkdir(parents=True)
        if "configMap" in volume:
            config_map = self.api.get("ConfigMap", volume["configMap"]["name"])
            assert config_map is not None, "a pod cannot begin before its ConfigMap is there"
            for key, value in config_map["data"].items():
                (folder / key).write_text(value)
        return folder


def environment_of(pod: Object) -> dict[str, str]:
    """What its container is told by the pod itself, but for the places that it has on this machine."""
    meta, [container] = pod["metadata"], pod["spec"]["containers"]
    fields = {"metadata.name": meta["name"]}
    fields |= {f"metadata.labels['{label}']": value for label, value in meta["labels"].items()}
    found = {"JOB_COMPLETION_INDEX": str(index_of(pod))}
    for one in container["env"]:
        if one["name"] not in ("HOME", "TMPDIR", "XDG_CACHE_HOME"):
            found[one["name"]] = one.get("value") or fields[one["valueFrom"]["fieldRef"]["fieldPath"]]
    return found
