# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compose projects to move the data of: Mastodon as its eras laid it out, and a plain pair of stores."""

from __future__ import annotations

import os
import re
import secrets
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from ._base import IMAGE_PREFIX, PROJECT_PREFIX, SandboxError, run
from .engine import Engine, up
from .project import Project

__all__ = ["Era", "Project", "mastodon_project", "simple_project"]

Era = Literal["v1.4", "v2.6", "v4.3"]
TEMPLATES = Path(__file__).parent / "templates"
# Where each era's file keeps the stores, once it does.
STORES = {"v1.4": "postgres", "v2.6": "postgres", "v4.3": "postgres14"}
MASTODON_UID = 991


def mastodon_project(
    directory: Path,
    *,
    era: Era = "v1.4",
    persisted: bool = False,
    postgres: str = "17",
    redis: str = "8",
    git: bool = False,
    name: str | None = None,
    engine: Engine | None = None,
    compose: Sequence[str] | None = None,
) -> Project:
    """Lay out a Mastodon checkout as of ``era``; its data is ephemeral unless ``persisted``."""
    engine = engine or up()
    name = name_project(directory, name)
    image = f"{IMAGE_PREFIX}/mastodon-{name}"
    web_port, streaming_port = free_ports(2)
    text = (TEMPLATES / f"mastodon-{era}.yml.in").read_text()
    for word, value in {
        "POSTGRES": f"{IMAGE_PREFIX}/postgres:{postgres}",
        "REDIS": f"{IMAGE_PREFIX}/redis:{redis}",
        "MASTODON": image,
        "WEB_PORT": str(web_port),
        "STREAMING_PORT": str(streaming_port),
    }.items():
        text = text.replace(f"@{word}@", value)
    text = _persist(text) if persisted else _unpersist(text)
    (directory / "docker-compose.yml").write_text(text)
    (directory / ".env.production").write_text(
        "# Service dependencies\nREDIS_HOST=redis\nREDIS_PORT=6379\n"
        "DB_HOST=db\nDB_USER=postgres\nDB_NAME=postgres\nDB_PASS=\nDB_PORT=5432\n\n"
        "# Federation\nLOCAL_DOMAIN=example.com\nLOCAL_HTTPS=true\n\n"
        "# Application secrets\nSECRET_KEY_BASE=only-for-the-sandbox\nOTP_SECRET=only-for-the-sandbox\n"
    )
    (directory / "Dockerfile").write_text(
        f"FROM {IMAGE_PREFIX}/mastodon-base\n\nCOPY --chown=mastodon:mastodon . /mastodon\n"
    )
    (directory / ".dockerignore").write_text(
        ".bundle\n.env\n.env.*\n.git\npublic/system\npublic/assets\npublic/packs\nnode_modules\ntmp\npostgres\nredis\n"
    )
    (directory / "Gemfile").write_text("# A checkout has many files; one stands for them here.\n")
    for folder in ("assets", "packs", "system"):
        path = directory / "public" / folder
        path.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            os.chown(path, MASTODON_UID, MASTODON_UID)
    if git:
        _initialise_git(directory)
    return Project(
        directory, name, engine, compose_command(engine, compose), {"postgres": "db", "redis": "redis"}, web_port, image
    )


def simple_project(
    directory: Path,
    *,
    postgres: str | None = "17",
    redis: str | None = "8",
    postgres_user: str = "postgres",
    named_volumes: bool = False,
    bind_mounts: bool = False,
    replicas: int = 1,
    restart: str = "always",
    db_lines: Sequence[str] = (),
    db_volumes: Sequence[str] = (),
    redis_lines: Sequence[str] = (),
    name: str | None = None,
    engine: Engine | None = None,
    compose: Sequence[str] | None = None,
) -> Project:
    """Lay out ``db`` and ``redis`` alone; ``replicas`` of redis; extra lines go into a service as they are.

    ``db_lines`` continue the environment of ``db``, and ``db_volumes`` are mounted beside its data.
    """
    engine = engine or up()
    name = name_project(directory, name)
    lines, services, top = ["services:"], {}, []
    login = [f"  POSTGRES_USER: {postgres_user}", "  POSTGRES_DB: postgres"] if postgres_user != "postgres" else []
    major = int(postgres.partition("-")[0]) if postgres is not None else 0
    data = "/var/lib/postgresql" if major >= 18 else "/var/lib/postgresql/data"
    stores = (
        ("db", "postgres", postgres, data, ["environment:", "  POSTGRES_HOST_AUTH_METHOD: trust", *login, *db_lines]),
        ("redis", "redis", redis, "/data", [*([f"scale: {replicas}"] if replicas > 1 else []), *redis_lines]),
    )
    for service, kind, tag, target, more in stores:
        if tag is None:
            continue
        services[kind] = service
        body = [f"image: {IMAGE_PREFIX}/{kind}:{tag}", f"restart: {restart}", *more]
        volumes = list(db_volumes) if service == "db" else []
        if named_volumes or bind_mounts:
            source = f"{service}-data" if named_volumes else f"./{kind}"
            volumes.insert(0, f"{source}:{target}")
            top += [f"  {source}:"] if named_volumes else []
        body += ["volumes:", *(f"  - {volume}" for volume in volumes)] if volumes else []
        lines += [f"  {service}:", *(f"    {line}" for line in body)]
    if top:
        lines += ["volumes:", *top]
    (directory / "docker-compose.yml").write_text("\n".join(lines) + "\n")
    return Project(directory, name, engine, compose_command(engine, compose), services, postgres_user=postgres_user)


def compose_command(engine: Engine, compose: Sequence[str] | None) -> tuple[str, ...]:
    """Return the words that compose is called with: those given, else the engine's client's."""
    return tuple(compose) if compose is not None else (engine.client, "compose")


def name_project(directory: Path, name: str | None) -> str:
    """Settle the project's name: given, the folder's where that is ours already, else a new one put into ``.env``."""
    directory.mkdir(parents=True, exist_ok=True)
    settings = directory / ".env"
    if name is None and settings.exists():
        found = re.search(r"^COMPOSE_PROJECT_NAME=(\S+)$", settings.read_text(), re.MULTILINE)
        if found:
            return found[1]
    if name is None and re.fullmatch(rf"{PROJECT_PREFIX}[a-z0-9_-]+", directory.name):
        return directory.name
    name = name or f"{PROJECT_PREFIX}{secrets.token_hex(4)}"
    if not name.startswith(PROJECT_PREFIX):
        raise SandboxError(f"the name of a sandbox project starts with {PROJECT_PREFIX}, not {name}")
    settings.write_text(f"COMPOSE_PROJECT_NAME={name}\n")
    return name


def _persist(text: str) -> str:
    return re.sub(r"^### Uncomment.*\n#(    volumes:\n)#(.*\n)", r"\1\2", text, flags=re.MULTILINE)


def _unpersist(text: str) -> str:
    """Take the stores' own mounts out of a file whose era has them, as an admin without them would run it."""
    return re.sub(r"^    volumes:\n      - \./(?:postgres\w*|redis):.*\n", "", text, flags=re.MULTILINE)


def free_ports(count: int) -> list[int]:
    """Return ports that are free now; they are held together until all are known, so that they differ."""
    sockets = [socket.socket() for _number in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _initialise_git(directory: Path) -> None:
    (directory / ".gitignore").write_text(".env\n.env.production\npublic/assets\npublic/packs\npublic/system\n")
    git = ["git", "-c", "user.name=sandbox", "-c", "user.email=sandbox@example.com", "-C", str(directory)]
    run([*git, "init", "-q"])
    run([*git, "add", "-A"])
    run([*git, "commit", "-q", "-m", "A checkout"])
