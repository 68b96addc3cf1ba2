# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An engine in memory, whose volumes and layers are real directories.

It behaves as the real one does where that matters to data: what comes back when
the engine restarts, what a missing directory becomes when a container starts,
and that a program may take a signal and go on. ``engine_contract`` runs over both.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import posixpath
import shutil
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Optional

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.docker import EngineRefused
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import (
    Bind,
    Container,
    EngineInfo,
    EngineMount,
    ExecResult,
    Helper,
    Image,
    RestartPolicy,
    Successor,
    Volume,
)

NEVER = "0001-01-01T00:00:00Z"


@dataclass(frozen=True)
class Program:
    """How a first process behaves: the exit code by signal, or at once where ``ends_with`` is a number; its output."""

    ends_on: Mapping[str, int] = field(default_factory=lambda: {"SIGTERM": 0, "SIGINT": 0, "SIGQUIT": 0})
    ends_with: int | None = None
    says: str = ""


Command = Callable[[Container, Sequence[str], Mapping[str, str], str, Optional[bytes]], ExecResult]
Hook = Callable[[Container], None]


def nothing(container: Container) -> None:
    """Do nothing when a container starts or ends."""


@dataclass
class MemoryEngine:
    """Meets ``_engine.api.Engine``. ``root`` is the engine's own directory.

    ``programs`` by argv; ``command`` answers ``execute``; ``started`` and ``ended`` are told
    of every container that starts or ends, however that comes, the latter also of a crash;
    ``before`` is told the name of every verb before anything of it is done, ``after`` when it is.
    """

    root: Path
    programs: Mapping[tuple[str, ...], Program] = field(default_factory=dict)
    command: Command | None = None
    started: Hook = nothing
    ended: Hook = nothing
    before: Callable[[str], None] = lambda verb: None
    after: Callable[[str], None] = lambda verb: None
    held: dict[str, Container] = field(default_factory=dict)
    images: dict[str, Image] = field(default_factory=dict)
    known: dict[str, Volume] = field(default_factory=dict)
    by_hand: set[str] = field(default_factory=set)
    """Containers that were stopped by request and not by their own end."""
    refuses: set[tuple[str, ...]] = field(default_factory=set)
    """Commands, with their arguments, that no image has a program for."""
    output: dict[str, str] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    # -- what a test sets up ----------------------------------------------

    def add_image(self, name: str, *, volumes: Sequence[str] = (), stop_signal: str = "SIGTERM") -> Image:
        number = next(self.numbers)
        image = Image(
            id=f"sha256:{number:064x}",
            tags=(name,),
            digests=(),
            env={},
            volumes=tuple(volumes),
            user="",
            stop_signal=stop_signal,
            created=_now(),
            labels={},
        )
        # A tag means one image at a time.
        for other in self.images.values():
            if name in other.tags:
                self.images[other.id] = replace(other, tags=tuple(tag for tag in other.tags if tag != name))
        self.images[image.id] = image
        return image

    def create_container(
        self,
        name: str,
        image: Image,
        *,
        mounts: Sequence[EngineMount] = (),
        labels: Mapping[str, str] | None = None,
        command: Sequence[str] = ("serve",),
        restart: RestartPolicy | None = None,
        tmpfs: Sequence[str] = (),
    ) -> str:
        """Create as compose does: what the image declares and nothing covers becomes an anonymous volume."""
        self._free_name(name)
        covered = {mount.destination for mount in mounts} | set(tmpfs)
        made = [self.anonymous_mount(path) for path in image.volumes if path not in covered]
        container_id = f"{next(self.numbers):064x}"
        layer = self.root / "layers" / container_id
        layer.mkdir(parents=True)
        self.held[container_id] = Container(
            id=container_id,
            name=name,
            image_id=image.id,
            image_ref=image.tags[0] if image.tags else image.id,
            status="created",
            pid=0,
            labels={**image.labels, **(labels or {})},
            env={},
            entrypoint=(),
            command=tuple(command),
            user=image.user,
            mounts=(*mounts, *made),
            tmpfs=tuple(tmpfs),
            network_mode="default",
            restart=restart or RestartPolicy("no"),
            stop_signal=image.stop_signal,
            stop_timeout=None,
            health="",
            exit_code=0,
            started_at=NEVER,
            finished_at=NEVER,
            layers={"UpperDir": str(layer)},
        )
        return container_id

    def anonymous_mount(self, path: str) -> EngineMount:
        volume = self.create_volume(os.urandom(32).hex(), labels={"com.docker.volume.anonymous": ""})
        return EngineMount("volume", volume.mountpoint, path, True, volume.name, "local")

    def volume_mount(self, name: str, path: str) -> EngineMount:
        if name not in self.known:
            self.create_volume(name, labels={})
        return EngineMount("volume", self.known[name].mountpoint, path, True, name, "local")

    def host_path(self, container_id: str, path: str) -> str:
        """Return where a container's path lies on the host."""
        container = self.held[container_id]
        mount = container.mount_at(path)
        if mount is None:
            return os.path.join(container.layers["UpperDir"], path.lstrip("/"))
        return os.path.normpath(os.path.join(mount.source, os.path.relpath(path, mount.destination)))

    def drop(self, container_id: str) -> None:
        """Forget a container; its layer goes with it, its volumes stay."""
        container = self.held.pop(container_id)
        shutil.rmtree(container.layers["UpperDir"], ignore_errors=True)

    def crash(self, container_id: str) -> None:
        """End a container as SIGKILL does; its restart policy answers to that, as to any end of its own."""
        self._end(container_id, 137)
        self._policy(container_id)

    def restart(self) -> None:
        """Restart the engine: everything dies at once, and what its policy says comes back.

        A container that was stopped by hand comes back too under ``always``, and so does one
        that was created and never started; under ``unless-stopped`` neither does.
        """
        running = [container.id for container in self.held.values() if container.running]
        for container_id in running:
            self._end(container_id, 137)
        for container in list(self.held.values()):
            policy = container.restart.name
            comes_back = policy == "always" or (policy in ("unless-stopped", "on-failure") and container.id in running)
            if comes_back:
                with contextlib.suppress(EngineRefused):  # it only writes it to its log
                    self._run(container.id)

    def prune(self, *, keeping: Sequence[str] = ()) -> None:
        """Remove what ``docker system prune --volumes`` and ``volume prune --all`` do; ``keeping`` names services."""
        for container in list(self.held.values()):
            if not container.running and container.service not in keeping:
                self.drop(container.id)
        for name in set(self.known) - self.volumes_in_use():
            shutil.rmtree(self.root / "volumes" / name, ignore_errors=True)
            del self.known[name]

    # -- questions --------------------------------------------------------

    def info(self) -> EngineInfo:
        return EngineInfo("28.0.0", "memory", str(self.root), "Linux", (), "Engine", "overlay2")

    def containers(self, *, labels: Mapping[str, str] | None = None, volume: str = "") -> list[Container]:
        return [
            container
            for container in self.held.values()
            if all(
                key in container.labels and value in ("", container.labels[key])
                for key, value in (labels or {}).items()
            )
            and (not volume or any(mount.name == volume for mount in container.mounts))
        ]

    def container(self, container_id: str) -> Container | None:
        found = self.held.get(container_id)
        return found or next((c for c in self.held.values() if c.name == container_id), None)

    def image(self, reference: str) -> Image | None:
        if reference in self.images:
            return self.images[reference]
        wanted = {reference, f"{reference}:latest"}
        return next((image for image in self.images.values() if wanted & set(image.tags)), None)

    def volume(self, name: str) -> Volume | None:
        return self.known.get(name)

    def volumes(self) -> list[Volume]:
        return list(self.known.values())

    def volumes_in_use(self) -> frozenset[str]:
        return frozenset(mount.name for c in self.held.values() for mount in c.mounts if mount.type == "volume")

    def logs(self, container_id: str, *, tail: int = 50) -> str:
        return "".join(self.output.get(container_id, "").splitlines(keepends=True)[-tail:])

    # -- verbs ------------------------------------------------------------

    def stop(self, container_id: str, *, signal: str, timeout: float, kill: bool = False) -> Container:
        self.before("stop")
        container = self._existing(container_id)
        if container.running:
            program = self._program(container)
            if signal == "SIGKILL":
                self._end(container.id, 137)
            elif signal in program.ends_on:
                self._end(container.id, program.ends_on[signal])
            elif kill:
                self._end(container.id, 137)
            else:
                raise EngineRefused(
                    f"The container {container.name} still runs {timeout:.0f} s after {signal}; it was not killed."
                )
            if signal == container.stop_signal:
                self.by_hand.add(container.id)
            else:
                self._policy(container.id)  # not the stop signal of its own: the engine takes it for an end
                if self.held[container.id].running:
                    raise EngineRefused(f"The container {container.name} still runs after {signal}: it came back.")
        self.after("stop")
        return self.held[container.id]

    def start(self, container_id: str) -> None:
        self.before("start")
        container = self._existing(container_id)
        if not container.running:
            self.by_hand.discard(container.id)
            self._run(container.id)
        self.after("start")

    def set_restart_policy(self, container_id: str, policy: RestartPolicy) -> None:
        self.before("set_restart_policy")
        container = self._existing(container_id)
        kept = policy if policy.name == "on-failure" else RestartPolicy(policy.name or "no")
        self.held[container.id] = replace(container, restart=kept)
        self.after("set_restart_policy")

    def rename(self, container_id: str, name: str) -> None:
        self.before("rename")
        container = self._existing(container_id)
        self._free_name(name)
        self.held[container.id] = replace(container, name=name)
        self.after("rename")

    def remove_container(self, container_id: str, *, force: bool = False) -> None:
        self.before("remove_container")
        container = self.container(container_id)
        if container is not None:
            if container.running and not force:
                raise EngineRefused(f"The engine could not remove {container.name}: it is running.")
            if container.running:
                self._end(container.id, 137)
            self.drop(container.id)
        self.after("remove_container")

    def create_volume(self, name: str, *, labels: Mapping[str, str]) -> Volume:
        self.before("create_volume")
        if name not in self.known:
            mountpoint = self.root / "volumes" / name / "_data"
            mountpoint.mkdir(parents=True, exist_ok=True)
            self.known[name] = Volume(name, "local", str(mountpoint), {}, dict(labels), _now())
        self.after("create_volume")
        return self.known[name]

    def remove_volume(self, name: str) -> None:
        self.before("remove_volume")
        if name in self.known:
            if name in self.volumes_in_use():
                raise EngineRefused(f"The engine could not remove the volume {name}: it is in use.")
            shutil.rmtree(self.root / "volumes" / name, ignore_errors=True)
            del self.known[name]
        self.after("remove_volume")

    def tag(self, image_id: str, repository: str, tag: str) -> None:
        image = self._image(image_id)
        name = f"{repository}:{tag}"
        for other in self.images.values():
            if name in other.tags:
                self.images[other.id] = replace(other, tags=tuple(t for t in other.tags if t != name))
        image = self._image(image_id)
        self.images[image.id] = replace(image, tags=(*image.tags, name))

    def untag(self, reference: str) -> None:
        image = self.image(reference)
        if image is not None and reference in image.tags:
            self.images[image.id] = replace(image, tags=tuple(tag for tag in image.tags if tag != reference))

    def execute(
        self,
        container_id: str,
        argv: tuple[str, ...],
        *,
        environment: Mapping[str, str] | None = None,
        user: str = "",
        stdin: bytes | None = None,
    ) -> ExecResult:
        container = self._existing(container_id)
        if not container.running:
            raise EngineRefused(f"The engine could not run {argv[0]} in {container.name}: it is not running.")
        if self.command is None:
            raise AssertionError(f"no command was given to answer {argv}")
        return self.command(container, argv, environment or {}, user, stdin)

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
        given = b"".join(stdin) if stdin is not None else None
        answer = self.execute(container_id, argv, environment=environment, user=user, stdin=given)
        if answer.stdout:
            stdout(answer.stdout)
        return replace(answer, stdout=b"")

    def create_helper(self, helper: Helper, *, start: bool = True) -> str:
        self.before("create_helper")
        image = self._image(helper.image_id)
        mounts = [_bind_mount(bind) for bind in helper.binds]
        mounts += [replace(self.volume_mount(name, f"/kept/{name}"), rw=False) for name in helper.volumes]
        container_id = self.create_container(
            f"helper-{next(self.numbers)}",
            image,
            mounts=mounts,
            labels=helper.labels_on(image),
            command=helper.argv,
            tmpfs=helper.tmpfs,
        )
        made = self.held[container_id]
        self.held[container_id] = replace(
            made,
            entrypoint=helper.argv[:1],
            command=helper.argv[1:],
            env=dict(helper.environment),
            user=helper.user,
            network_mode=helper.network_mode,
            stop_signal=helper.stop_signal,
        )
        if start:
            self._run(container_id)
        self.after("create_helper")
        return container_id

    def create_successor(self, container_id: str, successor: Successor) -> str:
        """Create as the real one does: every mount that stays by its name, and no policy."""
        self.before("create_successor")
        like, image = self._existing(container_id), self._image(successor.image)
        bind = successor.bind
        mounts = [mount for mount in like.mounts if bind is None or mount.destination != successor.replaces]
        if bind is not None:
            mounts.append(EngineMount("bind", bind.source, bind.target, not bind.read_only))
        labels = {**like.labels, **successor.labels}
        made = self.create_container(
            successor.name, image, mounts=mounts, labels=labels, command=like.command, tmpfs=like.tmpfs
        )
        self.after("create_successor")
        return made

    def wait(self, container_id: str, *, timeout: float) -> int:
        container = self._existing(container_id)
        if container.running:
            raise EngineRefused(f"The helper {container.short_id} has not ended within {timeout:.0f} s.")
        return container.exit_code

    def archive(self, container_id: str, path: str) -> Iterator[bytes]:
        container = self._existing(container_id)
        place = self.host_path(container.id, path)
        if not os.path.lexists(place):
            raise EngineRefused(f"The engine could not read {path} of {container.name}: there is no such path.")
        buffer = io.BytesIO()
        with tarfile.open(mode="w", fileobj=buffer) as tar:
            tar.add(place, arcname=posixpath.basename(path.rstrip("/")))
        yield buffer.getvalue()

    def put_archive(self, container_id: str, path: str, chunks: Iterator[bytes]) -> None:
        self.before("put_archive")
        container = self._existing(container_id)
        place = self.host_path(container.id, path)
        if container.mount_at(path) is not None or path == "/":
            os.makedirs(place, exist_ok=True)
        if not os.path.isdir(place):
            raise EngineRefused(f"The engine could not write {path} of {container.name}: there is no such directory.")
        content = io.BytesIO(b"".join(chunks))
        with tarfile.open(fileobj=content) as tar:
            for member in tar:
                tar.extract(member, place, filter="tar")
                self.before("put_archive")  # a stream may break off between any two files
        self.after("put_archive")

    # -- inside -----------------------------------------------------------

    def _existing(self, container_id: str) -> Container:
        found = self.container(container_id)
        if found is None:
            raise EngineRefused(f"The engine has no container {container_id[:12]}.")
        return found

    def _image(self, image_id: str) -> Image:
        found = self.image(image_id)
        if found is None:
            raise EngineRefused(f"The engine has no image {image_id[:19]}.")
        return found

    def _free_name(self, name: str) -> None:
        if any(container.name == name for container in self.held.values()):
            raise EngineRefused(f"The name {name} is in use by another container.")

    def _program(self, container: Container) -> Program:
        return self.programs.get((*container.entrypoint, *container.command), Program())

    def _run(self, container_id: str) -> None:
        container = self.held[container_id]
        if (*container.entrypoint, *container.command) in self.refuses:
            raise EngineRefused(f"The engine could not start {container.name}: executable file not found in $PATH.")
        for mount in container.mounts:
            if mount.type == "volume" and not os.path.isdir(mount.source):
                raise EngineRefused(f"The engine could not start {container.name}: lstat {mount.source}: no such file.")
            if os.path.isfile(mount.source):
                raise EngineRefused(f"The engine could not start {container.name}: mount {mount.source}: a file.")
            # The source of a bind mount is made, and empty.
            os.makedirs(mount.source, exist_ok=True)
        self.held[container_id] = replace(container, status="running", pid=next(self.numbers), started_at=_now())
        program = self._program(self.held[container_id])
        self.output[container_id] = self.output.get(container_id, "") + program.says
        self.started(self.held[container_id])
        if program.ends_with is not None:
            self._end(container_id, program.ends_with)

    def _end(self, container_id: str, code: int) -> None:
        container = self.held[container_id]
        self.held[container_id] = replace(container, status="exited", pid=0, exit_code=code, finished_at=_now())
        self.ended(self.held[container_id])

    def _policy(self, container_id: str) -> None:
        """Do what the restart policy says of a container that ended by itself."""
        container = self.held[container_id]
        if container.restart.name in ("always", "unless-stopped") or (
            container.restart.name == "on-failure" and container.exit_code
        ):
            self._run(container_id)


def _bind_mount(bind: Bind) -> EngineMount:
    if not os.path.exists(bind.source):
        raise EngineRefused(f"The engine could not start a helper: {bind.source} does not exist.")
    return EngineMount("bind", bind.source, bind.target, not bind.read_only)


def _now() -> str:
    now = time.time_ns()
    moment = datetime.fromtimestamp(now // 1_000_000_000, timezone.utc)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{now % 1_000_000_000:09d}Z"
