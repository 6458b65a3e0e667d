"""One namespace of a cluster, reached with the official client: objects go in and come out as plain dicts.

Plain, because `objects.py` makes such, and because what a newer server adds should not trip an older client. Every
request has a time limit; `answers.py` puts what fails into words. `kubernetes`, an extra, is imported when it is used.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from typing import Any, TypeVar

from classmodels.cluster.answers import FAILURES, Act, cluster_error, plain, unreadable
from classmodels.errors import ClusterError

CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 20.0
TAIL_TIMEOUT = 5.0
PAUSES = (0.5, 2.0)
"""Seconds before what failed in passing is tried again, once the server has been reached."""
LONGEST_PAUSE = 10.0
PAGE = 500
SILENCE = 60.0
"""Seconds after which a followed log that says nothing is asked for again: a connection may be gone unnoticed."""

_RESOURCES = {
    "ConfigMap": ("CoreV1Api", "config_map", "configmaps"),
    "Event": ("CoreV1Api", "event", "events"),
    "Job": ("BatchV1Api", "job", "jobs.batch"),
    "Pod": ("CoreV1Api", "pod", "pods"),
}

T = TypeVar("T")
Object = dict[str, Any]
Objects = list[Object]


class Cluster:
    """`namespace` of the cluster at `server`. Every method raises ClusterError.

    place: the options by which another command finds the same. warnings: what the server has warned of, such as pods
    that it would not let in.
    """

    def __init__(self, api: Any, namespace: str, context: str, place: Sequence[str] = ()) -> None:
        self._api = api
        self.server: str = api.configuration.host
        self.namespace, self.context, self.place = namespace, context, place
        self.warnings: list[str] = []
        self._reached = False

    def get(self, kind: str, name: str) -> Object | None:
        """The object, or None where there is none of that name."""
        try:
            return self._object("get", "read", kind, name)
        except ClusterError as error:
            if error.status == 404 and error.reason == "NotFound":
                return None
            raise

    def list(self, kind: str, labels: Mapping[str, str] | str = "", fields: str = "") -> Objects:
        """All objects of a kind that have these labels: a mapping, or a selector such as `a=b,c`."""
        selector = labels if isinstance(labels, str) else ",".join(f"{key}={value}" for key, value in labels.items())
        arguments = (
            {"limit": PAGE}
            | ({"label_selector": selector} if selector else {})
            | ({"field_selector": fields} if fields else {})
        )
        return self._pages(lambda more: self._object("list", "list", kind, "", **arguments, **more))

    def list_custom(self, group: str, version: str, plural: str) -> Objects:
        """All objects of a custom resource."""
        from kubernetes.client import CustomObjectsApi

        act = self._act("list", f"{plural}.{group}", "")
        call = CustomObjectsApi(self._api).list_namespaced_custom_object
        return self._pages(
            lambda more: self._json(
                act, lambda: call(group, version, self.namespace, plural, limit=PAGE, **more, **_RAW)
            )
        )

    def create(self, obj: Object, *, dry_run: bool = False) -> Object:
        """Create `obj`; the server refuses fields that it does not know, instead of dropping them.

        dry_run: the server does all but keep it.
        """
        from kubernetes.client import CoreV1Api, CustomObjectsApi

        options = _RAW | {"field_validation": "Strict"} | ({"dry_run": "All"} if dry_run else {})
        resource = _RESOURCES[obj["kind"]][2]
        act = self._act("create", resource, obj["metadata"]["name"])
        if obj["kind"] == "ConfigMap":
            return self._json(
                act, lambda: CoreV1Api(self._api).create_namespaced_config_map(self.namespace, obj, **options)
            )
        # As if it were a custom resource: the client checks its own models, which may be older than the server.
        plural, _, group = resource.partition(".")
        call = CustomObjectsApi(self._api).create_namespaced_custom_object
        return self._json(act, lambda: call(group, "v1", self.namespace, plural, obj, **options))

    def patch(self, kind: str, name: str, change: Object) -> Object:
        """Merge `change` into an object, strategically: items of a list that has keys go beside those there."""
        return self._object("patch", "patch", kind, name, body=change)

    def delete(self, kind: str, name: str, uid: str) -> bool:
        """Delete the object of that name and uid, and in the background what it owns; whether it was still there."""
        options = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        try:
            self._object("delete", "delete", kind, name, body=options)
        except ClusterError as error:
            # A conflict: another object has that name by now.
            if error.status == 404 or error.status == 409:
                return False
            raise
        return True

    def log(self, pod: str, *, container: str, since: int | None = None, tail: int | None = None) -> str:
        """What a container has printed; nothing where it has not begun, or the pod is gone.

        tail: only so many lines, and only one try: these are read again soon, and a node that is down takes its time.
        """
        options = {"since_seconds": since, "tail_lines": tail}
        try:
            if tail is None:
                answer = self._log(pod, container, options, READ_TIMEOUT, PAUSES)
            else:
                answer = self._log(pod, container, options, TAIL_TIMEOUT, ())
            with closing(answer):
                return bytes(answer.data).decode(errors="replace")
        except ClusterError as error:
            if error.status in (400, 404):
                return ""
            raise
        except FAILURES as error:
            raise cluster_error(error, self._act("get", "pods/log", pod)) from None

    def follow_log(self, pod: str, *, container: str, since: int | None = None) -> Iterator[str]:
        """Line by line as a container prints them, until it ends; each begins with its time, as the node has it.

        Ends too where the connection breaks off, or nothing is said for a while.
        """
        options = {"since_seconds": since, "follow": True, "timestamps": True}
        rest = b""
        with closing(self._log(pod, container, options, SILENCE, PAUSES)) as answer, suppress(*FAILURES):
            for chunk in answer.stream():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield line.decode(errors="replace")
        if rest:
            yield rest.decode(errors="replace")

    def _log(
        self, pod: str, container: str, options: Mapping[str, Any], patience: float, pauses: Sequence[float]
    ) -> Any:
        from kubernetes.client import CoreV1Api

        call = CoreV1Api(self._api).read_namespaced_pod_log
        given = {key: value for key, value in options.items() if value is not None}
        raw = {"_preload_content": False, "_request_timeout": (CONNECT_TIMEOUT, patience)}
        act = self._act("get", "pods/log", pod)
        return self._patiently(act, lambda: call(pod, self.namespace, container=container, **given, **raw), pauses)

    def _object(self, verb: str, method: str, kind: str, name: str, **arguments: Any) -> Object:
        from kubernetes import client

        api, noun, resource = _RESOURCES[kind]
        call = getattr(getattr(client, api)(self._api), f"{method}_namespaced_{noun}")
        named = [] if method in ("list", "create") else [name]
        act = self._act(verb, resource, name)
        return self._json(act, lambda: call(*named, self.namespace, **arguments, **_RAW))

    def _pages(self, ask: Callable[[Mapping[str, Any]], Object]) -> Objects:
        """All items, page by page; from the beginning where the server has forgotten how far we were."""
        for attempt in range(3):
            found: Objects = []
            more: dict[str, Any] = {}
            try:
                while True:
                    page = ask(more)
                    found += page.get("items") or []
                    token = (page.get("metadata") or {}).get("continue")
                    if not token:
                        return found
                    more = {"_continue": token}
            except ClusterError as error:
                if error.status != 410 or attempt == 2:
                    raise
        raise AssertionError

    def _json(self, act: Act, ask: Callable[[], Any]) -> Object:
        def read() -> Object:
            answer = ask()
            with closing(answer):
                for said in answer.headers.getlist("Warning"):
                    # 299 - "text"
                    self._warn(plain(said.partition('"')[2].rpartition('"')[0].replace('\\"', '"')))
                data = answer.data
            try:
                value = json.loads(data)
            except ValueError:
                raise unreadable(act, answer.status) from None
            if not isinstance(value, dict):
                raise unreadable(act, answer.status)
            return value

        return self._patiently(act, read)

    def _warn(self, text: str) -> None:
        if text and text not in self.warnings:
            self.warnings.append(text)

    def _patiently(self, act: Act, ask: Callable[[], T], pauses: Sequence[float] | None = None) -> T:
        from kubernetes.client.exceptions import ApiException

        for pause in (*(PAUSES if pauses is None else pauses), None):
            try:
                answer = ask()
                self._reached = True
                return answer
            except (ApiException, *FAILURES) as error:
                told = cluster_error(error, act)
            # Who has named a server that is not there wants to know at once.
            if not told.passing or pause is None or not (self._reached or told.status):
                raise told
            time.sleep(min(max(pause, told.retry_after), LONGEST_PAUSE))
        raise AssertionError

    def _act(self, verb: str, resource: str, name: str) -> Act:
        return Act(verb, resource, name, self.namespace, self.server, self.context)


_RAW = {"_preload_content": False, "_request_timeout": (CONNECT_TIMEOUT, READ_TIMEOUT)}
