"""The container image, built from the Dockerfile's own stages and used as a cluster uses it.

Where buildah and mmdebstrap are installed: on a Debian root file system as BASE, for no registry is needed then. The
image's programs run by chroot, as a user that is not root, on a root that is mounted read-only.

    pytest -m image tests/image
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from classmodels.cluster.inputs import upload
from classmodels.cluster.render import render
from classmodels.job.check import load_job
from classmodels.job.plan import expand_plan
from classmodels.results.progress import Silent
from classmodels.store import open_store
from seaweed import WRITER, SeaweedFS

ROOT = Path(__file__).parents[2]
BASE = "localhost/debian-python"
IMAGE = "localhost/classmodels:check"
COMPILERS = ("cc", "c++", "gcc", "g++", "clang", "clang++", "nvcc", "ninja", "cicc", "ld", "as", "make")
ARCHITECTURES = ["sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"]
OF_THE_POD = {
    "metadata.name": "the-pod",
    "metadata.labels['batch.kubernetes.io/job-name']": "the-job",
    "metadata.labels['batch.kubernetes.io/controller-uid']": "the-uid",
}
READ_ONLY = """\
set -eu
root=$1 user=$2 outside=$3 inside=$4; shift 4
mkdir -p "$root/$inside"
mount --bind "$root" "$root"
mount -o remount,ro,bind "$root"
mount -t tmpfs tmpfs "$root/tmp"
mkdir -p "$root/$inside"
mount --bind "$outside" "$root/$inside"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
exec chroot --userspec="$user" "$root" "$@"
"""


def missing() -> str | None:
    """Why the image cannot be built here."""
    for tool in ("buildah", "mmdebstrap", "unshare"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed: apt-get install buildah mmdebstrap"
    return None if os.geteuid() == 0 else "mounting a root file system needs root"


pytestmark = [pytest.mark.image, pytest.mark.skipif(missing() is not None, reason=missing() or "")]


@pytest.fixture(scope="session")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """`builder("buildah", ...)` runs a command with a container storage of its own, which is removed in the end."""
    folder = tmp_path_factory.mktemp("containers")
    storage = {"driver": "vfs", "graphroot": str(folder / "graph"), "runroot": str(folder / "run")}
    lines = [f'{key} = "{value}"' for key, value in storage.items()]
    (folder / "storage.conf").write_text("\n".join(["[storage]", *lines]) + "\n")
    environment = os.environ | {
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        "BUILDAH_ISOLATION": "chroot",
        "ENGINE": "buildah",
    }

    def run(*command: str | Path) -> str:
        ended = subprocess.run([*map(str, command)], env=environment, capture_output=True, text=True, cwd=ROOT)
        assert ended.returncode == 0, f"{command}\n{ended.stdout[-4000:]}\n{ended.stderr[-4000:]}"
        return ended.stdout.strip()

    yield run
    shutil.rmtree(folder)  # vfs mounts nothing


def pip_of_this_machine(folder: Path) -> list[str]:
    """The builder's flags by which pip in the build finds packages where pip finds them here."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    settings = dict(re.findall(r"^(?:global|:env:)\.(\S+)='(.*)'$", listed.stdout, re.MULTILINE))
    (folder / "pip.conf").write_text("[global]\n" + "".join(f"{key} = {value}\n" for key, value in settings.items()))
    words = " ".join(settings.values()).split()
    # The pages of an index point to files beside their folder.
    places = [str(Path(word.removeprefix("file://")).parent) for word in words if word.startswith("file://")]
    places += [word for word in words if word.startswith("/")]
    volumes = [f"--volume={place}:{place}:ro" for place in places if Path(place).exists()]
    return [f"--secret=id=pip.conf,src={folder / 'pip.conf'}", *volumes]


@pytest.fixture(scope="session")
def image(builder: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The image's configuration, once it is built."""
    folder = tmp_path_factory.mktemp("image")
    packages = "--include=python3,python3-venv,ca-certificates"
    builder("mmdebstrap", "--quiet", "--variant=minbase", packages, "bookworm", folder / "root.tar")
    container = builder("buildah", "from", "scratch")
    builder("buildah", "add", "--quiet", container, folder / "root.tar", "/")
    builder("buildah", "commit", "--quiet", "--rm", container, BASE)
    (folder / "root.tar").unlink()
    builder("bash", "tools/image.sh", IMAGE, "--build-arg", f"BASE={BASE}", *pip_of_this_machine(folder))
    inspected: dict[str, Any] = json.loads(builder("buildah", "inspect", "--type", "image", IMAGE))["OCIv1"]
    return inspected


@dataclass(frozen=True)
class Container:
    """The image's root file system, and what its programs are told."""

    root: Path
    environment: list[str]

    def run(
        self,
        *command: str,
        user: str = "65532:65532",
        outside: Path = ROOT / "jobs",
        inside: str = "/tmp/job",
        environment: Mapping[str, str] = {},
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in it: read-only but for an empty /tmp, with the folder `outside` as `inside`."""
        told = [*self.environment, *(f"{name}={value}" for name, value in environment.items())]
        all_ = ["env", "--ignore-environment", "--chdir=/tmp", *told, *command]
        script = ["unshare", "--mount", "sh", "-c", READ_ONLY, "sh", str(self.root), user, str(outside), inside, *all_]
        return subprocess.run(script, capture_output=True, text=True)


@pytest.fixture(scope="session")
def container(builder: Callable[..., str], image: dict[str, Any]) -> Container:
    made = builder("buildah", "from", IMAGE)
    return Container(Path(builder("buildah", "mount", made)), image["config"]["Env"])


def test_it_is_the_command_as_a_user_that_is_not_root(image: dict[str, Any]) -> None:
    config = image["config"]
    assert config["Entrypoint"] == ["classmodels"]
    user, _, group = config["User"].partition(":")
    assert int(user) > 0
    assert int(group) > 0
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert re.fullmatch(r"\d+\.\d+\.\d+", config["Labels"]["org.opencontainers.image.version"])


def test_nothing_of_how_packages_were_found_is_left_in_it(image: dict[str, Any], container: Container) -> None:
    assert "pip.conf" not in json.dumps(image["history"])
    assert not (container.root / "etc" / "pip.conf").exists()
    assert not any((container.root / "root").glob(".cache/*"))


def test_there_is_no_compiler_in_it(container: Container) -> None:
    found = [
        path for folder in ("usr", "opt") for path in (container.root / folder).rglob("bin/*") if path.name in COMPILERS
    ]
    assert found == []
    assert not list((container.root / "opt").rglob("nvcc*"))


def test_what_would_need_a_compiler_is_off_and_says_so(container: Container) -> None:
    compiled = "import torch; print(torch.compile(lambda x: torch.sin(x) + 1)(torch.zeros(2)).tolist())"
    ended = container.run("python", "-c", compiled)
    assert (ended.returncode, ended.stdout) == (0, "[1.0, 1.0]\n"), ended.stderr
    about = json.loads(container.run("classmodels", "info", "--json").stdout)
    assert about["user code"] == {"torch.compile": "off: TORCHDYNAMO_DISABLE is set"}


def test_the_extension_was_built_for_every_gpu_without_one(container: Container) -> None:
    ended = container.run("classmodels", "info", "--json")
    assert ended.returncode == 0, ended.stderr
    about = json.loads(ended.stdout)
    assert about["backends"]["cpp"] == "available"
    assert about["extension"]["cuda"].split(", ")[1:] == ARCHITECTURES


def test_all_users_run_a_job_on_a_root_they_cannot_write_to(container: Container, write_job, tmp_path: Path) -> None:
    job = write_job(tmp_path, output="./out")
    tmp_path.chmod(0o755)
    for user in ("65532:65532", "12345:0", "1000740000:1000740000"):
        script = "touch /opt/x 2>/dev/null && exit 9; classmodels run job/job.yaml --json && classmodels verify out >&2"
        ended = container.run("sh", "-c", script, user=user, outside=job.parent)
        assert ended.returncode == 0, ended.stderr
        report = json.loads(ended.stdout)
        assert (report["done"], report["failed"]) == (2, [])


def test_the_example_networks_are_in_it(container: Container) -> None:
    ended = container.run("classmodels", "validate", "job/figure-1.yaml")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "12 units" in ended.stdout


def test_pods_as_rendered_do_a_whole_run(
    container: Container, write_job, bucket_uri: str, seaweed: SeaweedFS, tmp_path: Path
) -> None:
    """The Job's own command, environment and mounts, for each completion index; results and inputs in a bucket."""
    job = write_job(tmp_path / "job", output=bucket_uri, cluster={"gpu": {"count": 0}, "shards": 2})
    plan = expand_plan(load_job(job))
    rendered = render(plan, bucket_uri)
    store = open_store(bucket_uri)
    upload(rendered.packed, store, plan.run12, Silent())
    mounted = tmp_path / "config"
    mounted.mkdir()
    for name, text in rendered.objects.config_map["data"].items():
        (mounted / name).write_text(text)
    spec = rendered.objects.job["spec"]
    (worker,) = spec["template"]["spec"]["containers"]
    (place,) = [mount["mountPath"] for mount in worker["volumeMounts"] if mount["name"] == "job"]
    told = {
        one["name"]: one.get("value") or OF_THE_POD[one["valueFrom"]["fieldRef"]["fieldPath"]] for one in worker["env"]
    }
    told |= WRITER.environment | {"AWS_ENDPOINT_URL_S3": seaweed.endpoint, "AWS_REGION": "us-east-1"}
    for index in range(spec["completions"]):
        environment = told | {"JOB_COMPLETION_INDEX": str(index)}
        ended = container.run(*worker["command"], outside=mounted, inside=place, environment=environment)
        assert ended.returncode == 0, ended.stdout + ended.stderr
    listed = [entry.key for entry in store.entries("")]
    assert len([key for key in listed if key.endswith(".png") and key.startswith("units/")]) == 2
    assert f"galleries/tiny/{plan.run12}/index.html" in listed
    assert [key for key in listed if key.startswith(f"runs/{plan.run12}/logs/the-job@the-uid/0.the-pod")]


def test_it_can_submit(container: Container) -> None:
    output = ("--output", "s3://bucket/prefix")
    ended = container.run("classmodels", "render", "job/figure-1.yaml", *output)
    assert ended.returncode == 0, ended.stderr
    assert container.run("python", "-c", "import kubernetes").returncode == 0
