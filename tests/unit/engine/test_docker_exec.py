# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a program in a container ended is known a moment after its output has ended, and is waited for."""

from __future__ import annotations

import socket
import struct
import threading
from pathlib import Path
from typing import Any

import docker
import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine import execs
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.docker import DockerEngine, EngineRefused
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.ending import OutOfTime

RUNS = {"Running": True, "ExitCode": None}


class Client:
    """Answers an exec as the engine does, with one inspection after the other and the last one for ever."""

    def __init__(self, *inspections: dict[str, Any]) -> None:
        self._inspections = list(inspections)

    def exec_create(self, *_args: Any, **_more: Any) -> dict[str, str]:
        return {"Id": "one"}

    def exec_start(self, _exec_id: str, **_more: Any) -> socket.socket:
        ours, theirs = socket.socketpair()
        said = b"en_US.utf8\n"
        theirs.sendall(struct.pack(">BxxxL", 1, len(said)) + said)
        theirs.close()
        return ours

    def exec_inspect(self, _exec_id: str) -> dict[str, Any]:
        return self._inspections.pop(0) if len(self._inspections) > 1 else self._inspections[0]


class Server:
    """Answers as the engine does, on a socket in ``directory``, and says all of an exec at once with the answer's head.

    So it looks to a client that comes to read when the program has ended.
    """

    def __init__(self, directory: Path, said: bytes) -> None:
        self.path = directory / "engine"
        self._said = said
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(self.path))
        self._listening.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            connection, _address = self._listening.accept()
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as requests:
            while line := requests.readline().decode():
                size = 0
                while (head := requests.readline()).strip():
                    name, _colon, value = head.decode().partition(":")
                    size = int(value) if name.lower() == "content-length" else size
                requests.read(size)
                if "/start" in line:
                    head = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
                    connection.sendall(head + self._said)
                    return
                body = b'{"Id": "one", "Running": false, "ExitCode": 0}'
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


@pytest.mark.parametrize("size", [6, 30_000])
def test_what_comes_with_the_head_of_the_answer_is_not_lost(tmp_path: Path, size: int) -> None:
    said = b"18.1\n" * (size // 5)
    server = Server(tmp_path, struct.pack(">BxxxL", 1, len(said)) + said)
    engine = DockerEngine(docker.APIClient(base_url=f"unix://{server.path}", version="1.41"))
    assert engine.execute("container", ("postgres", "--version")).stdout == said


def rc_of(*inspections: dict[str, Any]) -> int:
    engine = DockerEngine(Client(*inspections))  # type: ignore[arg-type]
    return engine.execute("container", ("locale", "-a")).rc


@pytest.mark.parametrize("code", [0, 3])
def test_the_end_is_waited_for(code: int) -> None:
    assert rc_of(RUNS, RUNS, {"Running": False, "ExitCode": code}) == code


def test_an_end_that_nobody_knows_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rc_of({"Running": False, "ExitCode": None}) == -1
    monkeypatch.setattr(execs, "END_AFTER_OUTPUT", 0.02)
    assert rc_of(RUNS) == -1


@pytest.mark.parametrize("says", [ConnectionError("refused"), LookupError("No such exec instance")])
def test_an_engine_that_is_started_anew_meanwhile_does_not_say_that_nothing_was_done(says: Exception) -> None:
    class StartedAnew(Client):
        def exec_inspect(self, _exec_id: str) -> dict[str, Any]:
            raise says

    engine = DockerEngine(StartedAnew())  # type: ignore[arg-type]
    with pytest.raises(EngineRefused, match="cannot be followed to its end") as caught:
        engine.stream("container", ("load",), stdout=bytes)
    assert caught.value.state == "load may have gone on without being heard"


def test_a_program_that_takes_too_long_is_told_with_what_became_of_it() -> None:
    class Silent(Client):
        theirs: socket.socket

        def exec_start(self, _exec_id: str, **_more: Any) -> socket.socket:
            ours, self.theirs = socket.socketpair()
            return ours

    client = Silent({**RUNS, "Pid": 1, "ContainerID": "c0ffee"})
    engine = DockerEngine(client)  # type: ignore[arg-type]
    with pytest.raises(OutOfTime, match=r"tail in container had not ended after 0.05 s") as caught:
        engine.stream("container", ("tail", "-f"), stdout=bytes, timeout=0.05)
    # This host's own first process is in no such container.
    assert "goes on, as process 1 " in caught.value.state
    assert client.theirs.recv(1) == b""
