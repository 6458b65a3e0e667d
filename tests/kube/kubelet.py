"""Runs a stand-in cluster's pods as real processes on this machine: its workers work, and what they print are its logs.

One thread does what the Job controller, the scheduler and the kubelets would: it starts pods, and takes note of how
their processes end. These are forked by a server that has imported all that they need: a fresh interpreter would take
seconds.
"""

import multiprocessing
import os
import sys
import threading
from multiprocessing.process import BaseProcess
from pathlib import Path

from kube.controller import Controller, index_of
from kube.rules import Object

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["boto3", "classmodels.worker"])


class Kubelet:
    """Works from `start` to `stop`. The volumes of a pod are folders below `folder`."""

    def __init__(self, controller: Controller, folder: Path, **environment: str) -> None:
        self.controller, self.api, self.folder, self.environment = controller, controller.api, folder, environment
        self.running: dict[str, BaseProcess] = {}
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
            process.join()
        if self.broken is not None:
            raise self.broken

    def interrupt(self, pod: str) -> None:
        """SIGTERM, as to a pod that is to be gone."""
        self.running[pod].terminate()

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
        elif (code := process.exitcode) is not None:
            self._readers[name].join()
            del self.running[name]
            if code == 0:
                self.controller.succeed(pod)
            else:
                self.controller.fail(pod, code if code > 0 else 128 - code)

    def _begin(self, pod: Object) -> BaseProcess:
        name = pod["metadata"]["name"]
        [container] = pod["spec"]["containers"]
        volumes = {mount["mountPath"]: self._volume(pod, mount["name"]) for mount in container["volumeMounts"]}
        job = "/etc/classmodels"
        arguments = [one.replace(job, str(volumes[job])) for one in container["command"][1:]]
        environment = environment_of(pod) | {"PATH": os.environ["PATH"]} | self.environment
        environment |= {"TMPDIR": str(volumes["/tmp"]), "HOME": str(volumes["/tmp"])}
        said = self.folder / name / "stdout"
        os.mkfifo(said)
        process = PROCESSES.Process(target=_contained, args=(arguments, environment, str(said)), daemon=True)
        process.start()

        def read() -> None:
            with said.open() as lines:
                for line in lines:
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


def _contained(arguments: list[str], environment: dict[str, str], said: str) -> None:
    """A container's only process: the console script, whose output goes to the pipe `said`."""
    output = os.open(said, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(output, stream.fileno())
    os.close(output)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["classmodels", *arguments]
    from classmodels.cli.entry import main

    main()


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
