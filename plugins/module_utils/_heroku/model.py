# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Heroku says of apps, databases, plans and maintenances. Pure data, and what is read from it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.addresses import Address, address_of

SERVICE = "heroku-postgresql"
GB = 1 << 30
TB = 1 << 40

NONE, PENDING, PREPARING, READY, RUNNING, COMPLETED = "none", "pending", "preparing", "ready", "running", "completed"
AHEAD = frozenset({PENDING, PREPARING, READY})
"""A maintenance that is still to run."""
AT_REST = frozenset({NONE, COMPLETED})
STATUSES = AHEAD | AT_REST | {RUNNING}

_SIZES = {1: 64 * GB, 2: 256 * GB, 3: 512 * GB, 4: 768 * GB, 5: TB, 6: 3 * TB // 2, 7: 2 * TB, 8: 3 * TB, 9: 4 * TB}
_UNITS = {"b": 1, "bytes": 1, "kb": 1 << 10, "mb": 1 << 20, "gb": GB, "tb": TB}
_SIZE = re.compile(r"([\d.,]+)\s*(bytes|[kmgt]?b)\b", re.IGNORECASE)
_TIERED = re.compile(r"(standard|premium|private|shield)-(\d)$")
_WITHOUT_MAINTENANCE = re.compile(r"(essential|mini|basic|dev)\b")


def plain_plan(name: str) -> str:
    """Return a plan as ``standard-2``, however it is written (``heroku-postgresql:standard-2``, ``Standard 2``)."""
    return re.sub(r"[\s_]+", "-", name.strip().lower().rpartition(":")[2])


def is_essential(plan: str) -> bool:
    """Tell whether a plan belongs to a tier without maintenances and followers."""
    return _WITHOUT_MAINTENANCE.match(plain_plan(plan)) is not None


def size_of_plan(plan: str) -> int:
    """Return how many bytes a plan holds, as Heroku's table of plans has it; 0 where it is not known here."""
    found = _TIERED.match(plain_plan(plan))
    return _SIZES.get(max(int(found.group(2)), 1), 0) if found else 0


def connections_of_plan(plan: str) -> int:
    """Return how many connections a plan allows; 0 where it is not known here."""
    found = _TIERED.match(plain_plan(plan))
    if not found:
        return 0
    return {0: 120, 1: 120, 2: 400}.get(int(found.group(2)), 500)


def bytes_of(text: str) -> int:
    """Return the first size in a text (``242 MB``, ``9.3 GB / 64 GB``) in bytes; 0 where there is none."""
    found = _SIZE.search(text)
    return int(float(found.group(1).replace(",", "")) * _UNITS[found.group(2).lower()]) if found else 0


def moment(text: str | None) -> datetime | None:
    """Return a moment that the API wrote, in UTC; None where there is none."""
    if not text:
        return None
    try:
        read = datetime.fromisoformat(text.strip().replace("Z", "+00:00").replace(" +0000", "+00:00"))
    except ValueError:
        return None
    return read if read.tzinfo else read.replace(tzinfo=timezone.utc)


@dataclass(frozen=True)
class Attachment:
    """Where an app sees a database: the name, and the config vars that hold its address."""

    app: str
    name: str
    config_vars: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return {"app": self.app, "name": self.name, "config_vars": list(self.config_vars)}


@dataclass(frozen=True)
class Addon:
    """A database as the Platform API knows it; ``plan`` is the one that was asked for last, ``app`` its owner."""

    id: str
    name: str
    plan: str
    app: str
    state: str = ""

    @property
    def is_postgres(self) -> bool:
        return self.plan.startswith(f"{SERVICE}:")


@dataclass(frozen=True)
class Maintenance:
    """The newest maintenance of a database; moments as the API writes them."""

    status: str = NONE
    scheduled_for: str = ""
    required_by: str = ""
    started_at: str = ""
    completed_at: str = ""
    duration_seconds: float = 0.0
    reason: str = ""
    method: str = ""
    window: str = ""

    @property
    def at_rest(self) -> bool:
        return self.status in AT_REST

    @property
    def is_known(self) -> bool:
        return self.status in STATUSES

    def seconds(self) -> float:
        """Return how long it took, in Heroku's own word or from its two moments."""
        began, ended = moment(self.started_at), moment(self.completed_at)
        if self.duration_seconds or began is None or ended is None:
            return self.duration_seconds
        return max((ended - began).total_seconds(), 0.0)

    def required_within(self, now: datetime, days: float) -> bool:
        last = moment(self.required_by)
        return last is not None and self.status in AHEAD and last - now <= timedelta(days=days)

    def as_dict(self) -> dict[str, Any]:
        shown = {key: getattr(self, key) for key in self.__dataclass_fields__}
        return {**shown, "duration_seconds": self.seconds()}


def maintenance_from(raw: Mapping[str, Any]) -> Maintenance:
    addon = raw.get("addon") or {}
    return Maintenance(
        status=str(raw.get("status") or NONE).lower(),
        scheduled_for=raw.get("scheduled_for") or "",
        required_by=raw.get("required_by") or "",
        started_at=raw.get("started_at") or "",
        completed_at=raw.get("completed_at") or "",
        duration_seconds=float(raw.get("duration_seconds") or 0),
        reason=raw.get("reason") or "",
        method=raw.get("method") or "",
        window=raw.get("window") or addon.get("window") or "",
    )


@dataclass(frozen=True)
class Service:
    """A database as the Data API knows it; ``plan`` is the one that it runs on."""

    plan: str
    status: str
    version: str
    size_bytes: int
    size_limit_bytes: int
    tables: int
    connections: int
    connection_limit: int
    region: str
    fork_follow: str
    behind_by: int | None
    maintenance: str
    window: str
    continuous_protection: str
    address: Address | None = field(default=None, repr=False)
    follows: Address | None = field(default=None, repr=False)
    followed_by: tuple[Address, ...] = field(default=(), repr=False)

    @property
    def available(self) -> bool:
        return self.status.lower().startswith("available")

    @property
    def can_be_followed(self) -> bool:
        return self.fork_follow.lower().startswith("available")


def service_from(raw: Mapping[str, Any]) -> Service:
    """Read ``GET /client/v11/databases/ID``: what ``pg:info`` prints is in ``info``, as names and texts."""
    info = {str(each.get("name")): [str(v) for v in each.get("values") or ()] for each in raw.get("info") or ()}

    def text(name: str) -> str:
        return ", ".join(info.get(name, ()))

    plan = raw.get("plan")
    named = plan.get("name") if isinstance(plan, Mapping) else plan
    shown = plain_plan(text("Plan") or str(named or ""))
    size, connections = text("Data Size"), text("Connections")
    used, _slash, most = connections.partition("/")
    behind = re.search(r"\d+", text("Behind By").replace(",", ""))
    return Service(
        plan=shown,
        status=text("Status"),
        version=text("PG Version") or str(raw.get("postgres_version") or ""),
        size_bytes=int(raw.get("num_bytes") or 0) or bytes_of(size),
        size_limit_bytes=bytes_of(size.partition("/")[2]) or size_of_plan(shown),
        tables=int(raw.get("num_tables") or _number(text("Tables"))),
        connections=_number(used),
        connection_limit=_number(most) or connections_of_plan(shown),
        region=text("Region"),
        fork_follow=text("Fork/Follow"),
        behind_by=int(behind.group()) if behind else None,
        maintenance=text("Maintenance"),
        window=text("Maintenance window"),
        continuous_protection=text("Continuous Protection"),
        address=address_of(raw.get("resource_url")),
        follows=address_of(raw.get("following") or next(iter(info.get("Following", ())), None)),
        followed_by=tuple(found for url in info.get("Followers", ()) if (found := address_of(url))),
    )


def _number(text: str) -> int:
    found = re.search(r"\d+", text.replace(",", ""))
    return int(found.group()) if found else 0


@dataclass(frozen=True)
class Process:
    """How many dynos of which size one process type runs."""

    quantity: int
    size: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {"quantity": self.quantity, "size": self.size}


Formation = Mapping[str, Process]

RELEASE = "release"
"""The process type that runs before every release, on whatever the formation says."""


def formation_from(raw: Sequence[Mapping[str, Any]]) -> dict[str, Process]:
    return {str(each["type"]): Process(int(each["quantity"]), str(each.get("size") or "")) for each in raw}


def formation_of(journaled: Mapping[str, Mapping[str, Any]]) -> dict[str, Process]:
    return {name: Process(int(each["quantity"]), str(each.get("size") or "")) for name, each in journaled.items()}


def formation_as_dict(formation: Formation) -> dict[str, dict[str, Any]]:
    return {name: formation[name].as_dict() for name in sorted(formation)}


def running(formation: Formation) -> dict[str, Process]:
    """Return the types that run dynos."""
    return {name: each for name, each in formation.items() if each.quantity > 0}


def told(formation: Formation) -> str:
    """Return a formation as ``ps:scale`` writes it."""
    return " ".join(f"{name}={formation[name].quantity}" for name in sorted(formation)) or "no process types"


@dataclass(frozen=True)
class Database:
    """One database of an app, from both APIs. The names of leader and followers are empty where no app shows them."""

    addon: Addon
    service: Service
    maintenance: Maintenance
    attachments: tuple[Attachment, ...] = ()
    leader: str | None = None
    followers: tuple[str, ...] = ()

    @property
    def serves(self) -> bool:
        """Whether applications can work on it now."""
        return self.service.available and self.maintenance.status != RUNNING

    @property
    def apps(self) -> tuple[str, ...]:
        return tuple(sorted({each.app for each in self.attachments}))

    def as_dict(self) -> dict[str, Any]:
        service = self.service
        return {
            "name": self.addon.name,
            "id": self.addon.id,
            "app": self.addon.app,
            "attachments": [each.as_dict() for each in self.attachments],
            "apps": list(self.apps),
            "plan": service.plan,
            "requested_plan": plain_plan(self.addon.plan),
            "status": service.status,
            "available": self.serves,
            "version": service.version,
            "size_bytes": service.size_bytes,
            "size_limit_bytes": service.size_limit_bytes,
            "tables": service.tables,
            "connections": service.connections,
            "connection_limit": service.connection_limit,
            "region": service.region,
            "followers": list(self.followers),
            "following": self.leader,
            "behind_by": service.behind_by,
            "fork_follow": service.fork_follow,
            "continuous_protection": service.continuous_protection,
            "window": service.window,
            "maintenance": self.maintenance.as_dict(),
        }
