# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Services, apps, and which variable of which app points at which service. Pure data."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

PRIMARY = "DATABASE_URL"
SCHEME = "POSTGRES_DATABASE_SCHEME"
"""The variable of an app by which the plugin makes the scheme of the addresses that it gives it."""
DEFAULT_SCHEME = "postgres"
HOST_PREFIX = "dokku-postgres-"
COLOUR = re.compile(r"DOKKU_POSTGRES_[A-Z]+_URL")
"""What the plugin calls a variable that nobody gave a name."""
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_DSN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?:(?P<user>[^:@/]*)(?::(?P<password>[^@/]*))?@)?(?P<host>[^:/?@]+)"
    r"(?::(?P<port>\d+))?/(?P<database>[^?]*)(?:\?(?P<query>.*))?"
)

RUNNING, MISSING = "running", "missing"
NETWORKS = ("initial_network", "post_create_network", "post_start_network")


@dataclass(frozen=True)
class Dsn:
    """The address of a database; its text holds the password and stays in memory."""

    scheme: str
    user: str
    password: str = field(repr=False)
    host: str
    port: int
    database: str
    query: str = ""

    def text(self) -> str:
        query = f"?{self.query}" if self.query else ""
        return f"{self.scheme}://{self.user}:{self.password}@{self.host}:{self.port}/{self.database}{query}"


def dsn_of(text: str) -> Dsn | None:
    """Return the address that ``text`` is; None for anything else."""
    found = _DSN.fullmatch(text.strip())
    if found is None:
        return None
    return Dsn(
        scheme=found["scheme"],
        user=found["user"] or "",
        password=found["password"] or "",
        host=found["host"],
        port=int(found["port"] or 5432),
        database=found["database"],
        query=found["query"] or "",
    )


def host_of(service: str) -> str:
    """Return the name by which apps reach a service."""
    return HOST_PREFIX + re.sub(r"[._]", "-", service)


def databases_named_for(service: str) -> frozenset[str]:
    """Return the names of which the plugin gives one to the database of a service; which, its version decides."""
    return frozenset((service, re.sub(r"[.-]", "_", service)))


def container_of(service: str) -> str:
    return f"dokku.postgres.{service}"


def is_legal(name: str) -> bool:
    """Tell whether the plugin takes a name for a service; dots, for one, it does not."""
    return _NAME.fullmatch(name) is not None


@dataclass(frozen=True)
class Settings:
    """What a service was made with beside its image; empty is the plugin's default. ``custom_env`` may hold secrets."""

    memory: str = ""
    shm_size: str = ""
    config_options: str = ""
    custom_env: Mapping[str, str] = field(default_factory=dict, repr=False)
    initial_network: str = ""
    post_create_network: str = ""
    post_start_network: str = ""

    def with_given(self, given: Mapping[str, Any]) -> Settings:
        """Return these settings with those in place of them that are given, which None is not."""
        return replace(self, **{name: value for name, value in given.items() if value is not None})

    def as_dict(self) -> dict[str, Any]:
        """Return the settings without the values of the environment."""
        shown = {name: getattr(self, name) for name in ("memory", "shm_size", "config_options", *NETWORKS)}
        return {**shown, "custom_env": sorted(self.custom_env)}


def differing(wanted: Mapping[str, Any], there: Settings) -> tuple[str, ...]:
    """Return the names of the settings that are given, and are others there."""
    return tuple(sorted(name for name, value in wanted.items() if value is not None and value != getattr(there, name)))


@dataclass(frozen=True)
class Schedule:
    """When a service is backed up, and into which bucket."""

    cron: str
    bucket: str
    use_iam: bool = False

    def as_dict(self) -> dict[str, Any]:
        return {"cron": self.cron, "bucket": self.bucket, "use_iam": self.use_iam}


@dataclass(frozen=True)
class Service:
    """A service as it is. ``status`` is the engine's word for its container, ``missing`` without one."""

    name: str
    image: str
    image_id: str
    status: str
    links: tuple[str, ...]
    root: str
    container_id: str
    dsn: Dsn | None = None
    data: str = ""
    settings: Settings = Settings()
    schedule: Schedule | None = None
    schedule_unread: bool = False
    """Whether it is backed up by a schedule that cannot be read, which is not the same as none."""
    authenticated: bool = False
    encrypted: bool = False
    """Whether its backups are encrypted, by a key that the plugin keeps with the service."""
    networks_known: bool = True
    """Whether this version of the plugin knows networks at all."""
    exposed: str = ""
    """The ports of the host by which anybody reaches it, in the plugin's words; empty where it tells none."""

    @property
    def host(self) -> str:
        return host_of(self.name)

    @property
    def container(self) -> str:
        return container_of(self.name)

    @property
    def database(self) -> str:
        return self.dsn.database if self.dsn else ""

    @property
    def version(self) -> str:
        return self.image.rpartition(":")[2] if ":" in self.image.rpartition("/")[2] else ""


@dataclass(frozen=True)
class App:
    """An app as far as databases go. ``addresses`` are its variables that point at services of the plugin, by name."""

    name: str
    addresses: Mapping[str, Dsn]
    scheme: str
    options: tuple[str, ...] = ()
    """The names of the containers that ``--link`` options of the app name."""

    def pointing_at(self, service: Service) -> tuple[str, ...]:
        """Return the variables that point at a service, of whatever scheme they are."""
        return tuple(sorted(name for name, dsn in self.addresses.items() if points_at(dsn, service)))

    @property
    def primary(self) -> Dsn | None:
        return self.addresses.get(PRIMARY)


def points_at(dsn: Dsn, service: Service) -> bool:
    """Tell whether an address is a service's: by its host name, which a scheme does not change.

    ``a_b`` and ``a-b`` have one host name, and it is the password that tells them apart.
    """
    if dsn.host != service.host:
        return False
    return service.dsn is None or not dsn.password or dsn.password == service.dsn.password


def service_at(dsn: Dsn, services: Iterable[Service]) -> Service | None:
    """Return the service that an address points at; None where there is none any more."""
    return next((service for service in services if points_at(dsn, service)), None)


@dataclass(frozen=True)
class Pointer:
    """A variable of an app and the service it points at; ``stale`` where that is not linked, or not there at all."""

    app: str
    variable: str
    service: str
    scheme: str
    stale: bool

    def as_dict(self) -> dict[str, Any]:
        return {
            "variable": self.variable,
            "service": self.service,
            "scheme": self.scheme,
            "primary": self.variable == PRIMARY,
            "stale": self.stale,
        }


def pointers_of(app: App, services: Iterable[Service]) -> list[Pointer]:
    """Return what an app's variables point at, in their order."""
    known = list(services)
    found = []
    for variable, dsn in sorted(app.addresses.items()):
        service = service_at(dsn, known)
        name = service.name if service else dsn.host[len(HOST_PREFIX) :]
        stale = service is None or app.name not in service.links
        found.append(Pointer(app.name, variable, name, dsn.scheme, stale))
    return found


def leftover_options(app: App, services: Iterable[Service]) -> list[str]:
    """Return the containers that an app is still made to reach, of services that it is not linked to."""
    linked = {service.container for service in services if app.name in service.links}
    return sorted(set(app.options) - linked)
