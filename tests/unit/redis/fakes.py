# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A Redis container that answers as ``redis-cli --no-raw`` does."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import (
    Container,
    ExecResult,
    RestartPolicy,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.facts import RedisFacts, facts_from
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.startup import Startup
from tests.unit.redis.recorded import INFO

NOAUTH = "(error) NOAUTH Authentication required."


def a_container(**changes: Any) -> Container:
    made = Container(
        id="r" * 64,
        name="app-redis-1",
        image_id="sha256:1",
        image_ref="redis:7",
        status="running",
        pid=7,
        labels={},
        env={},
        entrypoint=("docker-entrypoint.sh",),
        command=("redis-server",),
        user="",
        mounts=(),
        tmpfs=(),
        network_mode="x",
        restart=RestartPolicy(),
        stop_signal="SIGTERM",
        stop_timeout=None,
        health="",
        exit_code=0,
        started_at="",
        finished_at="",
    )
    return replace(made, **changes)


def facts(info: Mapping[str, str] | None = None, startup: Startup | None = None, **settings: str) -> RedisFacts:
    """Return the recorded server's facts with fields of INFO and settings (dashes as underscores) changed."""
    text = INFO
    for name, value in (info or {}).items():
        lines = [line for line in text.splitlines() if not line.startswith(f"{name}:")]
        text = "\n".join([*lines, f"{name}:{value}"])
    config = {"dir": "/data", "dbfilename": "dump.rdb", "save": "3600 1 300 100 60 10000", **settings}
    replies = {name.replace("_", "-"): (name, value) for name, value in config.items()}
    return facts_from(text, (), replies, startup or Startup())


@dataclass
class FakeEngine:
    """One container with one server; ``replies`` are texts by command line, spaces between bare words."""

    replies: dict[str, str] = field(default_factory=dict)
    password: str = ""
    files: dict[str, str] = field(default_factory=dict)
    clients: tuple[str, ...] = ("redis-cli",)
    unreachable: str = ""
    current: Container | None = field(default_factory=a_container)
    asked: list[str] = field(default_factory=list)
    argvs: list[tuple[str, ...]] = field(default_factory=list)

    def container(self, _container_id: str) -> Container | None:
        return self.current

    def logs(self, _container_id: str, *, tail: int = 50) -> str:
        return f"the last {tail} lines"

    def execute(
        self,
        _container_id: str,
        argv: tuple[str, ...],
        *,
        environment: Mapping[str, str] | None = None,
        user: str = "",
        stdin: bytes | None = None,
    ) -> ExecResult:
        assert not environment
        assert user == ""
        self.argvs.append(argv)
        if argv[0] == "cat":
            text = self.files.get(argv[1])
            return ExecResult(argv, 0 if text is not None else 1, (text or "").encode(), b"")
        if argv[0] not in self.clients:
            return ExecResult(argv, 127, b'exec failed: "x": executable file not found in $PATH', b"")
        if self.unreachable:
            return ExecResult(argv, 0, b"", self.unreachable.encode())
        assert stdin is not None
        output, open_door = "", not self.password
        for line in stdin.decode().splitlines():
            words = shlex.split(line)
            if words[0] == "AUTH":
                open_door = open_door or words[1] == self.password
                output += "OK\n" if words[1] == self.password else "(error) WRONGPASS invalid\n"
            elif not open_door:
                output += NOAUTH + "\n"
            elif words[0] == "ECHO":
                output += f'"{words[1]}"\n'
            else:
                self.asked.append(" ".join(words))
                output += self.reply(words) + "\n"
        return ExecResult(argv, 0, output.encode(), b"")

    def reply(self, words: list[str]) -> str:
        if words == ["PING"]:
            return self.replies.get("PING", "PONG")
        return self.replies.get(" ".join(words), "(error) ERR unknown command")
