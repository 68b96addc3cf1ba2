# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Engines that data cannot be moved under, each with its reason."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.kind import unsupported
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import EngineInfo
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._storage import arguments

SOCKET = "unix:///var/run/docker.sock"
USUAL = EngineInfo(
    version="28.0.1",
    name="server",
    root_dir="/var/lib/docker",
    operating_system="Debian GNU/Linux 13 (trixie)",
    security_options=("name=apparmor", "name=seccomp,profile=builtin", "name=cgroupns"),
    product="Engine, containerd, runc, docker-init",
    storage_driver="overlay2",
)


def reasons(*, docker_host: str = SOCKET, here: bool = True, **changes: Any) -> list[str]:
    return unsupported(replace(USUAL, **changes), docker_host=docker_host, root_dir_here=here)


def test_the_usual_engine_has_nothing_against_it() -> None:
    assert reasons() == []
    assert reasons(docker_host="unix:///run/other/docker.sock") == []


@pytest.mark.parametrize(
    "changes, named",
    [
        ({"product": "Podman Engine, Conmon, OCI Runtime (crun)"}, "podman"),
        ({"security_options": ("name=seccomp,profile=builtin", "name=rootless")}, "rootless"),
        ({"security_options": ("name=userns",)}, "userns-remap"),
        ({"operating_system": "Docker Desktop", "here": False}, "Docker Desktop"),
        ({"root_dir": "/var/snap/docker/common/var-lib-docker"}, "snap"),
        ({"here": False}, "does not exist here"),
        # A directory of that name exists on most machines that have an engine of their own, too.
        ({"docker_host": "tcp://10.0.0.5:2376"}, "tcp://10.0.0.5:2376"),
        ({"docker_host": "ssh://root@server"}, "ssh://root@server"),
        ({"docker_host": "tcp://127.0.0.1:2375"}, "own host"),
    ],
)
def test_each_unusual_engine_is_told_in_one_sentence(changes: dict[str, Any], named: str) -> None:
    (sentence,) = reasons(**changes)
    assert named in sentence
    assert sentence.endswith(".")


class Engine:
    def info(self) -> EngineInfo:
        return replace(USUAL, security_options=("name=rootless",))


def test_no_world_is_opened_on_an_unusual_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything asks where data is: the answer would be that there is none."""
    monkeypatch.setattr(arguments, "connect", lambda way: Engine())
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    given = dict.fromkeys(("tls", "validate_certs", "ca_path", "client_cert", "client_key", "tls_hostname"), "")
    with pytest.raises(StatefulError, match="rootless"):
        arguments.connect_world({**given, "docker_host": SOCKET, "timeout": 5}, {})
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(StatefulError, match="become: true"):
        arguments.connect_world({**given, "docker_host": SOCKET, "timeout": 5}, {})
