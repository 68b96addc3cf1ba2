# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stand-ins for the engine: only what the tests of this folder ask of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import (
    Container,
    ExecResult,
    Image,
    RestartPolicy,
)

BLANK = Container(
    id="c0ffee" * 8,
    name="app-db-1",
    image_id="sha256:1",
    image_ref="postgres:15",
    status="running",
    pid=1,
    labels={},
    env={},
    entrypoint=("docker-entrypoint.sh",),
    command=("postgres",),
    user="",
    mounts=(),
    tmpfs=(),
    network_mode="bridge",
    restart=RestartPolicy(),
    stop_signal="SIGINT",
    stop_timeout=None,
    health="",
    exit_code=0,
    started_at="2026-01-01T00:00:00Z",
    finished_at="",
)


def a_container(**changes: Any) -> Container:
    return replace(BLANK, **changes)


@dataclass
class Asked:
    """One exec that reached the engine."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    user: str
    stdin: bytes


@dataclass
class FakeEngine:
    """Answers with what it was given and remembers what was asked."""

    answer: Callable[[Asked], ExecResult] = lambda asked: ExecResult(asked.argv, 0, b"", b"")
    inspections: list[Container | None] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    log: str = "FATAL:  something\n"

    def execute(
        self,
        container_id: str,
        argv: tuple[str, ...],
        *,
        environment: Mapping[str, str] | None = None,
        user: str = "",
        stdin: bytes | None = None,
    ) -> ExecResult:
        self.asked.append(Asked(argv, environment or {}, user, stdin or b""))
        return self.answer(self.asked[-1])

    def container(self, container_id: str) -> Container | None:
        return self.inspections.pop(0) if len(self.inspections) > 1 else self.inspections[0]

    def containers(self, *, labels: Mapping[str, str] | None = None, volume: str = "") -> list[Container]:
        return []

    def image(self, reference: str) -> Image | None:
        return None

    def logs(self, container_id: str, *, tail: int = 50) -> str:
        return self.log

    def remove_container(self, container_id: str, *, force: bool = False) -> None:
        self.removed.append(container_id)


@dataclass
class FakeClock:
    """Time that passes only by pausing."""

    now: float = 100.0
    pauses: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds
