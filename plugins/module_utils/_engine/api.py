# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The seam to a Docker engine: what the collection asks of it, and nothing more.

``Engine`` is the contract. ``docker.DockerEngine`` meets it with the Docker SDK;
the tests meet it in memory and run one contract suite over both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

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


class Engine(Protocol):
    """Questions change nothing; verbs change one thing each and return when it is so."""

    def info(self) -> EngineInfo: ...

    def containers(self, *, labels: Mapping[str, str] | None = None, volume: str = "") -> list[Container]:
        """Return all containers, stopped ones too, that carry all ``labels`` and mount ``volume``."""

    def container(self, container_id: str) -> Container | None: ...

    def image(self, reference: str) -> Image | None: ...

    def volume(self, name: str) -> Volume | None: ...

    def volumes(self) -> list[Volume]: ...

    def volumes_in_use(self) -> frozenset[str]:
        """Return the names of the volumes that any container, also a stopped one, refers to."""

    def stop(self, container_id: str, *, signal: str, timeout: float, kill: bool = False) -> Container:
        """Send ``signal`` and wait; a container that still runs after ``timeout`` seconds is an error.

        Only with ``kill`` is it killed then: never for anything that has data.
        """

    def start(self, container_id: str) -> None: ...

    def set_restart_policy(self, container_id: str, policy: RestartPolicy) -> None: ...

    def rename(self, container_id: str, name: str) -> None: ...

    def remove_container(self, container_id: str, *, force: bool = False) -> None:
        """Remove the container and never its volumes; one that is gone already is no error."""

    def create_volume(self, name: str, *, labels: Mapping[str, str]) -> Volume: ...

    def remove_volume(self, name: str) -> None: ...

    def tag(self, image_id: str, repository: str, tag: str) -> None: ...

    def untag(self, reference: str) -> None: ...

    def execute(
        self,
        container_id: str,
        argv: tuple[str, ...],
        *,
        environment: Mapping[str, str] | None = None,
        user: str = "",
        stdin: bytes | None = None,
    ) -> ExecResult: ...

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
        """Run ``argv`` as :meth:`execute` does, its input and its output piece by piece, whatever their size.

        What ``stdin`` or ``stdout`` raises is raised, once the program has been ended for it, and as
        :class:`ending.Unheard` where it goes on. ``timeout`` is how many seconds it may take in all, 0 as many as it
        likes; after them it is ended, and :class:`ending.OutOfTime` raised. Either may call in another thread. The
        result holds no output, and of the errors the end. ``much``: that the output may be so large that a faster way
        than through the engine is worth its while, where there is one.
        """

    def create_helper(self, helper: Helper, *, start: bool = True) -> str:
        """Create (and start) a labelled helper container and return its id.

        Volumes that its image declares are memory, so that it leaves none behind.
        """

    def create_successor(self, container_id: str, successor: Successor) -> str:
        """Create a container as ``container_id`` was created, without starting it, and return its id.

        Killed in between, it may be there and lack some of its networks: it is removed then, and made again.
        """

    def wait(self, container_id: str, *, timeout: float) -> int:
        """Wait until the container has ended and return its exit code."""

    def logs(self, container_id: str, *, tail: int = 50) -> str: ...

    def archive(self, container_id: str, path: str) -> Iterator[bytes]:
        """Stream a tar of ``path`` out of a container, also of a stopped one."""

    def put_archive(self, container_id: str, path: str, chunks: Iterator[bytes]) -> None:
        """Unpack a tar stream at ``path`` in a container, also in one that never ran."""
