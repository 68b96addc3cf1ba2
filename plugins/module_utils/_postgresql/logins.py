# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The logins by which applications reach a server, as their containers' environments tell them.

They are tried from inside the server's container by the name and over the network that the applications
use, so that the server's own rules for those decide. Passwords are read where they stand each time, and
handed to nobody but the client program.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import routes

SCHEMES = ("postgres", "postgresql", "postgis")
USER = ("USER", "USERNAME")
PASSWORD = ("PASSWORD", "PASS")
DATABASE = ("NAME", "DATABASE", "DB", "DBNAME")
PORT = ("PORT",)
DEFAULT_PORT = "5432"
_PAIR = re.compile(r"(\w+)\s*=\s*('(?:[^'\\]|\\.)*'|[^\s']+)")


@dataclass(frozen=True)
class AppLogin:
    """Who logs in, where to, and whose environment says so."""

    service: str
    host: str
    port: str
    user: str
    database: str
    password: str = field(default="", repr=False, compare=False)

    def __str__(self) -> str:
        return f"{self.service} as {self.user} to {self.database} at {self.host}:{self.port}"


def logins_of(applications: Iterable[Container], server: Container) -> list[AppLogin]:
    """Return the logins to ``server`` that the environments name, each once, in a stable order."""
    names = {server.service, server.name, server.short_id, *server.aliases} - {""}
    found = {
        login
        for application in applications
        for form in (_urls, _pairs, _families)
        for login in form(application.service or application.name, application.env)
        if login.host in names and login.user
    }
    return sorted(found, key=str)


def _urls(service: str, env: Mapping[str, str]) -> Iterator[AppLogin]:
    for value in env.values():
        scheme, separator, _rest = value.partition("://")
        if not separator or scheme.partition("+")[0] not in SCHEMES:
            continue
        try:
            url = urlsplit(value)
            port = str(url.port or DEFAULT_PORT)
        except ValueError:
            continue
        user, password = unquote(url.username or ""), unquote(url.password or "")
        yield AppLogin(service, url.hostname or "", port, user, unquote(url.path.strip("/")) or user, password)


def _pairs(service: str, env: Mapping[str, str]) -> Iterator[AppLogin]:
    """Yield what stands as ``host=… user=…``, in the words of libpq."""
    for value in env.values():
        said = {name.lower(): _bare(word) for name, word in _PAIR.findall(value)}
        if "host" in said and "user" in said:
            yield AppLogin(
                service,
                said["host"],
                said.get("port", DEFAULT_PORT),
                said["user"],
                said.get("dbname", said["user"]),
                said.get("password", ""),
            )


def _families(service: str, env: Mapping[str, str]) -> Iterator[AppLogin]:
    """Yield what stands in variables that begin alike: ``DB_HOST``, ``DB_USER``, ``DB_PASS``."""
    for name, value in env.items():
        if not name.endswith("HOST"):
            continue
        prefix, (host, _colon, port) = name[: -len("HOST")], value.partition(":")
        user = _first(env, prefix, USER)
        yield AppLogin(
            service,
            host,
            port or _first(env, prefix, PORT) or DEFAULT_PORT,
            user,
            _first(env, prefix, DATABASE) or user,
            _first(env, prefix, PASSWORD),
        )


def _first(env: Mapping[str, str], prefix: str, words: Iterable[str]) -> str:
    return next((env[prefix + word] for word in words if env.get(prefix + word)), "")


def _bare(word: str) -> str:
    return re.sub(r"\\(.)", r"\1", word[1:-1]) if word.startswith("'") else word


def refusal(engine: Engine, server: Container, login: AppLogin) -> str:
    """Return why the server does not let a login in, in its own words; empty where it does."""
    conninfo = {"dbname": login.database, "host": login.host, "port": login.port, "user": login.user}
    return routes.refusal(engine, server, conninfo, password=login.password)
