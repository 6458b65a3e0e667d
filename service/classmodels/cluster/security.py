"""What in a pod template violates the restricted Pod Security Standard, told before a cluster refuses its pods.

https://kubernetes.io/docs/concepts/security/pod-security-standards: restricted is all of baseline and more. What
Windows pods are let off is not: a worker runs on Linux.
"""

from collections.abc import Iterator
from typing import Any

VOLUMES = (
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
)
SYSCTLS = (
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
)
SELINUX_TYPES = ("", "container_t", "container_init_t", "container_kvm_t", "container_engine_t")
SECCOMP = ("RuntimeDefault", "Localhost")
APPARMOR = "container.apparmor.security.beta.kubernetes.io/"
"""An annotation of this prefix is how a container's AppArmor profile was named before 1.30."""


def violations(pod_template: dict[str, Any]) -> list[str]:
    """Every violation: the field, what was found and what is expected. None: the pods are let in."""
    metadata, spec = pod_template.get("metadata") or {}, pod_template.get("spec") or {}
    pod = spec.get("securityContext") or {}
    found = [*_pod(metadata, spec), *_context(pod, "spec.securityContext")]
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for index, container in enumerate(spec.get(kind) or []):
            at = f"spec.{kind}.{container.get('name', index)}"
            found += _container(container, at)
            found += _inherited(container.get("securityContext") or {}, pod, f"{at}.securityContext")
    return found


def _pod(metadata: dict[str, Any], spec: dict[str, Any]) -> Iterator[str]:
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            yield f"spec.{field}: found true, expected false"
    if (spec.get("securityContext") or {}).get("runAsNonRoot") is False:
        yield "spec.securityContext.runAsNonRoot: found false, expected true"
    for volume in spec.get("volumes") or []:
        for kind in set(volume) - {"name", *VOLUMES}:
            yield f"spec.volumes.{volume.get('name')}: found {kind}, expected one of {', '.join(VOLUMES)}"
    for name, profile in (metadata.get("annotations") or {}).items():
        if (
            name.startswith(APPARMOR)
            and profile not in ("", "runtime/default")
            and not profile.startswith("localhost/")
        ):
            yield f"metadata.annotations.{name}: found {profile!r}, expected runtime/default or localhost/..."


def _container(container: dict[str, Any], at: str) -> Iterator[str]:
    context = container.get("securityContext") or {}
    yield from _context(context, f"{at}.securityContext")
    if context.get("privileged"):
        yield f"{at}.securityContext.privileged: found true, expected false"
    if context.get("allowPrivilegeEscalation") is not False:
        yield f"{at}.securityContext.allowPrivilegeEscalation: expected false"
    capabilities = context.get("capabilities") or {}
    if "ALL" not in (capabilities.get("drop") or []):
        yield f"{at}.securityContext.capabilities.drop: expected ALL among them"
    for name in capabilities.get("add") or []:
        if name != "NET_BIND_SERVICE":
            yield f"{at}.securityContext.capabilities.add: found {name}, expected at most NET_BIND_SERVICE"
    if context.get("procMount") not in (None, "Default"):
        yield f"{at}.securityContext.procMount: found {context['procMount']}, expected Default"
    for port in container.get("ports") or []:
        if port.get("hostPort"):
            yield f"{at}.ports: found hostPort {port['hostPort']}, expected none"
    yield from _hosts(container, at)


def _hosts(container: dict[str, Any], at: str) -> Iterator[str]:
    """Probes and hooks that name a host would have the node itself ask there."""
    lifecycle = container.get("lifecycle") or {}
    acts = {name: container.get(name) for name in ("livenessProbe", "readinessProbe", "startupProbe")}
    acts |= {f"lifecycle.{name}": lifecycle.get(name) for name in ("postStart", "preStop")}
    for name, act in acts.items():
        for kind in ("httpGet", "tcpSocket"):
            if ((act or {}).get(kind) or {}).get("host"):
                yield f"{at}.{name}.{kind}.host: found {act[kind]['host']!r}, expected none"  # type: ignore[index]


def _context(context: dict[str, Any], at: str) -> Iterator[str]:
    """What a pod's and a container's security context have in common, and must not say."""
    if context.get("runAsUser") == 0:
        yield f"{at}.runAsUser: found 0, expected any other user, or none"
    if (context.get("windowsOptions") or {}).get("hostProcess"):
        yield f"{at}.windowsOptions.hostProcess: found true, expected false"
    profile = context.get("seccompProfile") or {}
    if profile and profile.get("type") not in SECCOMP:
        yield f"{at}.seccompProfile.type: found {profile.get('type')}, expected {' or '.join(SECCOMP)}"
    armor = context.get("appArmorProfile") or {}
    if armor and armor.get("type") not in SECCOMP:
        yield f"{at}.appArmorProfile.type: found {armor.get('type')}, expected {' or '.join(SECCOMP)}"
    selinux = context.get("seLinuxOptions") or {}
    if selinux.get("type", "") not in SELINUX_TYPES:
        yield f"{at}.seLinuxOptions.type: found {selinux['type']}, expected one of {', '.join(SELINUX_TYPES[1:])}"
    for field in ("user", "role"):
        if selinux.get(field):
            yield f"{at}.seLinuxOptions.{field}: found {selinux[field]}, expected none"
    for sysctl in context.get("sysctls") or []:
        if sysctl.get("name") not in SYSCTLS:
            yield f"{at}.sysctls: found {sysctl.get('name')}, expected one of {', '.join(SYSCTLS)}"


def _inherited(context: dict[str, Any], pod: dict[str, Any], at: str) -> Iterator[str]:
    """What a container must say where its pod does not, and must not take back where it does."""
    own, said = context.get("runAsNonRoot"), pod.get("runAsNonRoot")
    if own is False or (own is None and said is None):
        yield f"{at}.runAsNonRoot: expected true, here or in spec.securityContext"
    if not (context.get("seccompProfile") or pod.get("seccompProfile")):
        yield f"{at}.seccompProfile.type: expected {' or '.join(SECCOMP)}, here or in spec.securityContext"
