# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Containers and images as the engine would show them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import (
    Container,
    EngineMount,
    Image,
    RestartPolicy,
)

LABEL = "com.docker.compose."


def a_container(**changes: Any) -> Container:
    """Return the db container of the recorded project, just as compose makes it."""
    made = Container(
        id="c" * 64,
        name="meinprject-db-1",
        image_id="sha256:" + "1" * 64,
        image_ref="postgres:14-alpine",
        status="running",
        pid=42,
        labels={
            LABEL + "project": "meinprject",
            LABEL + "service": "db",
            LABEL + "oneoff": "False",
            LABEL + "container-number": "1",
            LABEL + "config-hash": "old",
        },
        env={"PATH": "/bin", "POSTGRES_HOST_AUTH_METHOD": "trust", "ODD": "a$b s3cret-pw"},
        entrypoint=("docker-entrypoint.sh",),
        command=("postgres",),
        user="",
        mounts=(
            EngineMount("bind", "/srv/Mein Próject/postgres14", "/var/lib/postgresql/data", True),
            EngineMount("volume", "/v/pgdata/_data", "/extra", False, name="meinprject_pgdata"),
            EngineMount("volume", "/v/abc/_data", "/anonymous", True, name="a" * 64),
            EngineMount("volume", "/v/ext/_data", "/ext", True, name="real-ext"),
        ),
        tmpfs=(),
        network_mode="meinprject_default",
        restart=RestartPolicy("always"),
        stop_signal="SIGINT",
        stop_timeout=None,
        health="",
        exit_code=0,
        started_at="",
        finished_at="",
    )
    return replace(made, **changes)


def an_image(**changes: Any) -> Image:
    made = Image(
        id="sha256:" + "1" * 64,
        tags=("postgres:14-alpine",),
        digests=(),
        env={"PATH": "/bin"},
        volumes=("/var/lib/postgresql/data",),
        user="",
        stop_signal="SIGINT",
        created="2024-01-02T03:04:05Z",
        labels={},
    )
    return replace(made, **changes)


def labelled(container: Container, **labels: str) -> Container:
    """Return ``container`` with compose labels changed; underscores stand for dots and dashes as compose has them."""
    names = {"working_dir": "project.working_dir", "config_files": "project.config_files", "number": "container-number"}
    changed = {LABEL + names.get(name, name): value for name, value in labels.items()}
    return replace(container, labels={**container.labels, **changed})
