# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a container is a Redis, or only called so."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._redis import store as subject
from tests.unit.redis.fakes import FakeEngine, a_container


def recognised(**changes: Any) -> str:
    engine = FakeEngine(clients=())
    container = a_container(status="running", pid=42, **changes)
    return subject.RedisStore().recognises(engine, container, lambda path: "/nowhere")  # type: ignore[arg-type]


@pytest.mark.parametrize("image", ["oliver006/redis_exporter", "redis/redisinsight", "x/redis-commander:latest"])
def test_what_is_only_called_so_is_no_store(image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "programs_in", lambda _container: frozenset({"redis_exporter", "node"}))
    assert recognised(image_ref=image) == ""


@pytest.mark.parametrize("program", ["redis-server", "valkey-server", "keydb-server"])
def test_a_server_that_cannot_be_asked_is_no_plain_files(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "programs_in", lambda _container: frozenset({"tini", program}))
    with pytest.raises(StatefulError):
        recognised(image_ref="redis:7")


@pytest.mark.parametrize("program", ["redis-server", "valkey-server", "keydb-server"])
def test_the_server_itself_gets_the_stop_signal(program: str, tmp_path: Path) -> None:
    place = tmp_path / program
    shutil.copy(shutil.which("cat") or "", place)
    with subprocess.Popen([place], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        # It has its name only some time after it was started.
        running.stdin.write(b"there\n")
        running.stdin.flush()
        assert running.stdout.readline() == b"there\n"
        assert subject._is_server(running.pid)
        running.stdin.close()
        running.wait()
    assert not subject._is_server(running.pid)
