# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Docker engine through the Docker SDK for Python."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._engine import execs
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.commands import logs_of
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.creation import create
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.frames import BrokenOff
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.inspected import (
    container_from,
    image_from,
    volume_from,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import (
    Container,
    EngineInfo,
    ExecResult,
    Helper,
    Image,
    RestartPolicy,
    Successor,
    Volume,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import AGAIN, StatefulError, shell

try:
    import docker
    import docker.errors
    import docker.tls
    import docker.types
    import requests.exceptions

    DOCKER_IMPORT_ERROR: ImportError | None = None
except ImportError as missing:  # pragma: no cover - met by re-executing in the virtual environment
    DOCKER_IMPORT_ERROR = missing


class EngineUnreachable(StatefulError):
    """The engine does not answer, or does not let us in."""


class EngineRefused(StatefulError):
    """The engine answered, and the answer is no."""


@dataclass(frozen=True)
class Connection:
    """How the engine is reached; the options are named as in community.docker."""

    docker_host: str = ""
    tls: bool = False
    validate_certs: bool = False
    ca_path: str = ""
    client_cert: str = ""
    client_key: str = ""
    tls_hostname: str = ""
    timeout: int = 120


DEFAULT_HOST = "unix:///var/run/docker.sock"
ENDINGS, ENDING = 3, 10
"""How often, and for how many seconds, a container is waited for that ends while it is changed."""
ENDED_MEANWHILE = ("cannot update a stopped container", "container not running")
"""In the words of containerd, and of runc where it comes to that."""


def connect(connection: Connection) -> DockerEngine:
    """Open a connection and prove that it answers; raises :class:`EngineUnreachable`."""
    host = connection.docker_host or DEFAULT_HOST
    tls: Any = False
    if connection.tls or connection.validate_certs:
        pair = (connection.client_cert, connection.client_key) if connection.client_cert else None
        tls = docker.tls.TLSConfig(
            client_cert=pair,
            ca_cert=connection.ca_path or None,
            verify=connection.validate_certs,
        )
    try:
        client = docker.APIClient(base_url=host, version="auto", timeout=connection.timeout, tls=tls)
    except (docker.errors.DockerException, requests.exceptions.RequestException, OSError) as error:
        raise _unreachable(host, str(error)) from error
    return DockerEngine(client)


def _unreachable(host: str, detail: str) -> EngineUnreachable:
    if "ermission denied" in detail:
        return EngineUnreachable(
            f"The Docker engine at {host} refuses this user (permission denied): run the task with become: true.",
            next_command=f"set become: true and {AGAIN}",
        )
    if "No such file" in detail or "refused" in detail:
        return EngineUnreachable(
            f"No Docker engine answers at {host}: is it installed and started?",
            next_command="systemctl start docker" if host == DEFAULT_HOST else shell("docker", "--host", host, "info"),
        )
    return EngineUnreachable(
        f"The Docker engine at {host} could not be reached: {detail}",
        next_command=shell("docker", "--host", host, "info"),
    )


class DockerEngine:
    """Meets ``api.Engine`` with the SDK's low-level client, one API call a question."""

    def __init__(self, client: docker.APIClient) -> None:
        self._client = client

    # -- questions ---------------------------------------------------------

    def info(self) -> EngineInfo:
        raw = self._client.info()
        version = self._client.version()
        components = ", ".join(c.get("Name", "") for c in version.get("Components") or [])
        return EngineInfo(
            version=raw.get("ServerVersion", ""),
            name=raw.get("Name", ""),
            root_dir=raw.get("DockerRootDir", ""),
            operating_system=raw.get("OperatingSystem", ""),
            security_options=tuple(raw.get("SecurityOptions") or ()),
            product=components or (version.get("Platform") or {}).get("Name", ""),
            storage_driver=raw.get("Driver", ""),
        )

    def containers(self, *, labels: Mapping[str, str] | None = None, volume: str = "") -> list[Container]:
        filters: dict[str, Any] = {}
        if labels:
            filters["label"] = [f"{key}={value}" if value else key for key, value in labels.items()]
        if volume:
            filters["volume"] = [volume]
        found = self._client.containers(all=True, filters=filters)
        inspected = (self.container(entry["Id"]) for entry in found)
        return [container for container in inspected if container is not None]

    def container(self, container_id: str) -> Container | None:
        try:
            return container_from(self._client.inspect_container(container_id))
        except docker.errors.NotFound:
            return None
        except docker.errors.APIError as error:
            # No name, but how the ids of several begin.
            if "multiple IDs found" in str(error):
                return None
            raise

    def image(self, reference: str) -> Image | None:
        try:
            return image_from(self._client.inspect_image(reference))  # type: ignore[no-untyped-call]
        except docker.errors.NotFound:
            return None

    def volume(self, name: str) -> Volume | None:
        try:
            return volume_from(self._client.inspect_volume(name))
        except docker.errors.NotFound:
            return None

    def volumes(self) -> list[Volume]:
        return [volume_from(raw) for raw in self._client.volumes().get("Volumes") or []]

    def volumes_in_use(self) -> frozenset[str]:
        mounts = (mount for entry in self._client.containers(all=True) for mount in entry.get("Mounts") or [])
        return frozenset(mount.get("Name", "") for mount in mounts if mount.get("Type") == "volume")

    def logs(self, container_id: str, *, tail: int = 50) -> str:
        raw: bytes = self._client.logs(container_id, stdout=True, stderr=True, tail=tail)
        return raw.decode("utf-8", "replace")

    # -- verbs -------------------------------------------------------------

    def stop(self, container_id: str, *, signal: str, timeout: float, kill: bool = False) -> Container:
        # The stop API would SIGKILL at the end of its grace; a database that is
        # still writing its checkpoint is never killed by us.
        try:
            self._client.kill(container_id, signal=signal)
        except docker.errors.APIError as error:
            if error.status_code not in (404, 409):
                raise _refused("stop", container_id, error) from error
        deadline = time.monotonic() + timeout
        container = self.container(container_id)
        while container is not None and container.running and time.monotonic() < deadline:
            try:
                self._client.wait(container_id, timeout=max(1, math.ceil(deadline - time.monotonic())))
            except (requests.exceptions.RequestException, docker.errors.APIError):
                pass  # the deadline passed or the container went: the inspection below tells which
            container = self.container(container_id)
        if container is None:
            raise EngineRefused(
                f"The container {container_id[:12]} disappeared while it was being stopped.",
                next_command="docker ps -a",
            )
        if container.running and kill:
            return self.stop(container_id, signal="SIGKILL", timeout=timeout)
        if container.running:
            raise EngineRefused(
                f"The container {container.name} still runs {timeout:.0f} s after {signal}; it was not killed.",
                next_command=logs_of(container.name),
            )
        return container

    def start(self, container_id: str) -> None:
        self._verb("start", container_id, lambda: self._client.start(container_id))

    def set_restart_policy(self, container_id: str, policy: RestartPolicy) -> None:
        wanted: Any = {"Name": policy.name or "no"}
        if policy.name == "on-failure":
            wanted["MaximumRetryCount"] = policy.maximum_retries
        for attempt in range(ENDINGS):
            try:
                self._client.update_container(container_id, restart_policy=wanted)
                return
            except docker.errors.APIError as error:
                if not any(words in str(error) for words in ENDED_MEANWHILE) or attempt == ENDINGS - 1:
                    raise _refused("set the restart policy of", container_id, error) from error
            except requests.exceptions.RequestException as error:
                raise _broken_off("set the restart policy of", container_id, error) from error
            # It ended while the engine was at it, and nothing was changed: once the engine knows, it can be.
            with contextlib.suppress(requests.exceptions.RequestException, docker.errors.APIError):
                self._client.wait(container_id, timeout=ENDING)

    def rename(self, container_id: str, name: str) -> None:
        self._verb("rename", container_id, lambda: self._client.rename(container_id, name))

    def remove_container(self, container_id: str, *, force: bool = False) -> None:
        try:
            self._client.remove_container(container_id, v=False, force=force)
        except docker.errors.NotFound:
            return
        except docker.errors.APIError as error:
            if error.status_code != 409 or "already in progress" not in str(error):
                raise _refused("remove", container_id, error) from error

    def create_volume(self, name: str, *, labels: Mapping[str, str]) -> Volume:
        return volume_from(self._client.create_volume(name=name, labels=dict(labels)))

    def remove_volume(self, name: str) -> None:
        try:
            self._client.remove_volume(name)
        except docker.errors.NotFound:
            return
        except docker.errors.APIError as error:
            raise _refused("remove the volume", name, error) from error

    def tag(self, image_id: str, repository: str, tag: str) -> None:
        self._verb("tag", image_id, lambda: self._client.tag(image_id, repository, tag))

    def untag(self, reference: str) -> None:
        try:
            self._client.remove_image(reference, noprune=True)
        except docker.errors.NotFound:
            return
        except docker.errors.APIError as error:
            raise _refused("untag", reference, error) from error

    def execute(
        self,
        container_id: str,
        argv: tuple[str, ...],
        *,
        environment: Mapping[str, str] | None = None,
        user: str = "",
        stdin: bytes | None = None,
    ) -> ExecResult:
        for attempt in range(1, execs.STARTS + 1):
            out = bytearray()
            given = iter((stdin,)) if stdin is not None else None
            ended = self.stream(container_id, argv, stdout=out.extend, stdin=given, environment=environment, user=user)
            if attempt == execs.STARTS or not execs.never_ran(ended.rc, bytes(out) + ended.stderr):
                break
        return replace(ended, stdout=bytes(out))

    def stream(
        self,
        container_id: str,
        argv: tuple[str, ...],
        *,
        stdout: Callable[[bytes], object],
        stdin: Iterator[bytes] | None = None,
        environment: Mapping[str, str] | None = None,
        user: str = "",
        timeout: float = 0,
        much: bool = False,
    ) -> ExecResult:
        try:
            return execs.run(
                self._client, container_id, argv, stdout=stdout, stdin=stdin, environment=environment or {}, user=user,
                timeout=timeout, much=much,
            )  # fmt: skip
        except BrokenOff as error:
            raise EngineRefused(
                f"{argv[0]} in {container_id[:12]} cannot be followed to its end: {error}.",
                state=f"{argv[0]} may have gone on without being heard",
                next_command=logs_of(container_id[:12]),
            ) from error
        except docker.errors.APIError as error:
            raise _refused(f"run {argv[0]} in", container_id, error) from error
        except requests.exceptions.RequestException as error:
            raise _broken_off(f"run {argv[0]} in", container_id, error) from error

    def create_helper(self, helper: Helper, *, start: bool = True) -> str:
        image = self.image(helper.image_id)
        host_config = self._client.create_host_config(
            mounts=[
                docker.types.Mount(bind.target, bind.source, type="bind", read_only=bind.read_only)
                for bind in helper.binds
            ]
            + [
                docker.types.Mount(f"/kept/{name}", name, type="volume", read_only=True, no_copy=True)
                for name in helper.volumes
            ],
            network_mode=helper.network_mode,
            shm_size=helper.shm_bytes,
            tmpfs=dict.fromkeys((*helper.tmpfs, *_uncovered_volumes(helper, image)), ""),
        )
        try:
            made = self._client.create_container(
                helper.image_id,
                entrypoint=[helper.argv[0]],
                command=list(helper.argv[1:]),
                user=helper.user or None,
                environment=dict(helper.environment),
                labels=helper.labels_on(image),
                stop_signal=helper.stop_signal,
                working_dir=helper.working_dir or None,
                host_config=host_config,
                healthcheck={"test": ["NONE"]},
            )
            if start:
                self._client.start(made["Id"])
        except docker.errors.APIError as error:
            raise _refused("start a helper from", helper.image_id, error) from error
        return str(made["Id"])

    def create_successor(self, container_id: str, successor: Successor) -> str:
        try:
            return create(self._client, container_id, successor)
        except docker.errors.APIError as error:
            raise _refused("make a successor of", container_id, error) from error

    def wait(self, container_id: str, *, timeout: float) -> int:
        try:
            return int(self._client.wait(container_id, timeout=math.ceil(timeout))["StatusCode"])
        except requests.exceptions.RequestException as error:
            raise EngineRefused(
                f"The helper {container_id[:12]} has not ended within {timeout:.0f} s.",
                next_command=logs_of(container_id[:12]),
            ) from error

    def archive(self, container_id: str, path: str) -> Iterator[bytes]:
        try:
            chunks, _stat = self._client.get_archive(container_id, path, chunk_size=1 << 20)
        except docker.errors.APIError as error:
            raise _refused(f"read {path} of", container_id, error) from error
        yield from chunks

    def put_archive(self, container_id: str, path: str, chunks: Iterator[bytes]) -> None:
        self._verb(f"write {path} of", container_id, lambda: self._client.put_archive(container_id, path, chunks))

    def _verb(self, verb: str, what: str, call: Any) -> None:
        try:
            call()
        except docker.errors.APIError as error:
            raise _refused(verb, what, error) from error
        except requests.exceptions.RequestException as error:
            raise _broken_off(verb, what, error) from error


def _uncovered_volumes(helper: Helper, image: Image | None) -> list[str]:
    """Return the image's declared volumes that nothing covers: the engine would make a volume for each.

    Such a volume would outlive the helper, which is removed without its volumes like any container of ours.
    """
    covered = {path.rstrip("/") for path in (*helper.tmpfs, *(bind.target for bind in helper.binds))}
    return [path for path in (image.volumes if image else ()) if path.rstrip("/") not in covered]


def _broken_off(verb: str, what: str, error: Exception) -> EngineUnreachable:
    return EngineUnreachable(
        f"The engine broke off while asked to {verb} {what[:19]}: {error}", next_command="docker info"
    )


def _refused(verb: str, what: str, error: Exception) -> EngineRefused:
    explanation = getattr(error, "explanation", None) or str(error)
    if isinstance(explanation, bytes):
        explanation = explanation.decode("utf-8", "replace")
    return EngineRefused(
        f"The engine could not {verb} {what[:19]}: {explanation}", next_command="journalctl -u docker -n 50 --no-pager"
    )
