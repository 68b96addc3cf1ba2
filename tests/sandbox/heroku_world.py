# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Heroku does, as a state machine with a clock that a test drives: apps, databases, maintenances, backups.

Time passes by :attr:`World.tick` seconds with every request and by :meth:`World.advance`; nothing waits
for it. What is said is what the public CLI expects.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

SERVICE = "heroku-postgresql"
PLANS = ("essential-0", "essential-1", *(f"{tier}-{n}" for tier in ("standard", "premium") for n in (0, 2, 3, 4)))
MB = 1 << 20
GB = 1 << 30
SIZES = {"0": 64 * GB, "2": 256 * GB, "3": 512 * GB, "4": 768 * GB}
CONNECTIONS = {"0": 120, "2": 400, "3": 500, "4": 500}
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def identity(*parts: str) -> str:
    """Return the same id for the same thing in every run."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "/".join(parts)))


class NotFound(Exception):
    """There is no such thing; ``resource`` is what the API calls it."""

    def __init__(self, resource: str) -> None:
        super().__init__(f"Couldn't find that {resource}.")
        self.resource = resource


class Invalid(Exception):
    """The request makes no sense now."""


@dataclass
class App:
    """One app. Dynos take a moment to come and to go."""

    name: str
    formation: dict[str, dict[str, Any]]
    maintenance: bool = False
    config: dict[str, str] = field(default_factory=dict)
    services: list[str] = field(default_factory=list)
    one_off: list[str] = field(default_factory=list)
    scaled_at: datetime | None = None
    former: dict[str, int] = field(default_factory=dict)
    never_up: bool = False
    """A crash loop: dynos that are started never come up."""


@dataclass
class Running:
    """The maintenance of a database."""

    status: str = "none"
    scheduled_for: datetime | None = None
    previously_scheduled_for: datetime | None = None
    required_by: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    reason: str = ""
    plan: str = ""
    since: datetime | None = None


@dataclass
class Database:
    """A database. ``plan`` is what was asked for last, ``serving`` what it runs on, ``served`` what it did before."""

    name: str
    app: str
    plan: str
    serving: str = ""
    served: str = ""
    size: int = 242 * MB
    tables: int = 87
    version: str = "16.4"
    connections: int = 12
    region: str = "eu"
    leader: str = ""
    behind: int = 0
    attachments: list[tuple[str, str]] = field(default_factory=list)
    maintenance: Running = field(default_factory=Running)
    coming: Running | None = None
    """The maintenance of a change that was taken down, and is not shown yet."""
    window: str = "Sundays 14:30 to 18:30 UTC"
    forkable_at: datetime | None = None
    generation: int = 1
    """Its address changes with every changeover."""

    @property
    def id(self) -> str:
        return identity("addon", self.name)

    @property
    def url(self) -> str:
        host = f"ec2-{self.generation}-{self.name}.compute.example.com"
        return f"postgres://u{self.name}:s3cret-{self.name}@{host}:5432/d{self.name}"


@dataclass
class Timing:
    """How long things take, in seconds."""

    recorded: float = 0
    """After a change of plan was taken down, until a maintenance of it is shown."""
    accepted: float = 60
    preparing: float = 3600
    running: float = 70
    forkable: float = 1800
    shown: float = 0
    """After a changeover, until the database is said to be on its new plan."""
    dynos: float = 5
    backup: float = 120


@dataclass
class World:
    """All of it, with switches for what goes wrong at Heroku; what breaks on the way is the server's."""

    now: datetime = field(default_factory=lambda: datetime.now(timezone.utc).replace(microsecond=0))  # noqa: UP017
    tick: float = 0
    key: str = "test-key"
    apps: dict[str, App] = field(default_factory=dict)
    databases: dict[str, Database] = field(default_factory=dict)
    backups: list[dict[str, Any]] = field(default_factory=list)
    timing: Timing = field(default_factory=Timing)
    never_begins: bool = False
    """A maintenance that is to be run is accepted, and stays as it is."""
    never_ends: bool = False
    falls_back: bool = False
    backup_fails: bool = False
    key_expired: bool = False

    # -- time ------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Let time pass, in steps as small as what happens in it."""
        end = self.now + timedelta(seconds=seconds)
        while self.now < end:
            self.now = min(self.now + timedelta(seconds=30), end)
            for database in self.databases.values():
                self._pass(database)

    def _after(self, moment: datetime | None, seconds: float) -> bool:
        return moment is not None and self.now >= moment + timedelta(seconds=seconds)

    def _pass(self, database: Database) -> None:
        """Let a maintenance go where time takes it."""
        coming, timing = database.coming, self.timing
        if coming is not None and self._after(coming.since, timing.recorded):
            database.maintenance, database.coming = coming, None
        one = database.maintenance
        if one.status == "pending" and one.plan and self._after(one.since, timing.accepted):
            one.status, one.since = "preparing", self.now
        elif one.status == "preparing" and self._after(one.since, timing.preparing):
            one.status, one.since = "ready", self.now
        elif one.status == "ready" and one.scheduled_for and self.now >= one.scheduled_for:
            self.begin(database)
        elif one.status == "running" and self.falls_back and self._after(one.started_at, 10):
            one.status, one.since, one.started_at = "pending", self.now + timedelta(days=1), None
        elif one.status == "running" and not self.never_ends and self._after(one.started_at, timing.running):
            self._complete(database)

    def begin(self, database: Database) -> None:
        database.maintenance.status, database.maintenance.started_at = "running", self.now

    def _complete(self, database: Database) -> None:
        one = database.maintenance
        one.status, one.completed_at = "completed", self.now
        if one.plan:
            database.served, database.serving = database.serving, one.plan
            database.generation += 1
            database.forkable_at = self.now + timedelta(seconds=self.timing.forkable)
        one.plan = ""
        for app, name in database.attachments:
            self.apps[app].config[f"{name}_URL"] = database.url

    # -- setting up ---------------------------------------------------------------

    def add_app(self, name: str, **formation: int) -> App:
        app = App(name, {kind: {"quantity": n, "size": "Standard-1X"} for kind, n in formation.items()})
        app.former = dict(formation)
        self.apps[name] = app
        return app

    def add_database(self, name: str, app: str, attachment: str, plan: str, **more: Any) -> Database:
        database = Database(name, app, plan, serving=plan, **more)
        self.databases[name] = database
        self.attach(database, app, attachment)
        return database

    def attach(self, database: Database, app: str, attachment: str) -> None:
        database.attachments.append((app, attachment))
        self.apps[app].config[f"{attachment}_URL"] = database.url

    # -- finding --------------------------------------------------------------------

    def app(self, name: str) -> App:
        for app in self.apps.values():
            if name in (app.name, identity("app", app.name)):
                return app
        raise NotFound("app")

    def database(self, name: str) -> Database:
        for database in self.databases.values():
            if name in (database.name, database.id):
                return database
        raise NotFound("add_on")

    def resolve_attachment(self, name: str, app: str | None) -> list[tuple[Database, str, str]]:
        wanted = name.upper().removesuffix("_URL")
        return [
            (database, owner, attachment)
            for database in self.databases.values()
            for owner, attachment in database.attachments
            if attachment == wanted and app in (None, "", owner, identity("app", owner))
        ]

    # -- changing ----------------------------------------------------------------------

    def change_plan(self, database: Database, plan: str) -> None:
        service, _colon, name = plan.rpartition(":")
        if service not in ("", SERVICE) or name not in PLANS:
            raise Invalid("Couldn't find either the add-on service or the add-on plan of " + plan)
        if database.serving.startswith("essential") or name.startswith("essential"):
            raise Invalid("You can't change the plan of an Essential-tier database.")
        if database.maintenance.status in ("preparing", "ready", "running"):
            raise Invalid("A maintenance of this database is in progress.")
        database.plan = name
        database.coming = Running(
            status="pending",
            scheduled_for=self.now + timedelta(days=5),
            required_by=self.now + timedelta(days=19),
            completed_at=database.maintenance.completed_at,
            reason="plan_change",
            plan=name,
            since=self.now,
        )
        self._pass(database)

    def run_maintenance(self, database: Database) -> None:
        if database.maintenance.status not in ("ready", "pending"):
            raise Invalid(f"There is no maintenance to run: it is {database.maintenance.status}.")
        if not self.never_begins:
            self.begin(database)

    def schedule(self, database: Database, weeks: int) -> None:
        one = database.maintenance
        if one.scheduled_for is None:
            raise Invalid("There is no maintenance to schedule.")
        one.previously_scheduled_for = one.scheduled_for
        one.scheduled_for += timedelta(weeks=weeks)

    def set_window(self, database: Database, day: str, at: str) -> None:
        if day.lower() not in DAYS:
            raise Invalid(f"{day} is no day of the week.")
        hour, minute = (int(part) for part in at.split(":"))
        end = f"{(hour + 4) % 24:02}:{minute:02}"
        database.window = f"{day.capitalize()}s {hour:02}:{minute:02} to {end} UTC"

    def scale(self, app: App, updates: list[dict[str, Any]]) -> None:
        unknown = [each["type"] for each in updates if each["type"] not in app.formation]
        if unknown:
            raise Invalid(f"Couldn't find that process type ({', '.join(unknown)}).")
        app.former = {kind: one["quantity"] for kind, one in app.formation.items()}
        app.scaled_at = self.now
        for each in updates:
            app.formation[each["type"]]["quantity"] = int(each["quantity"])
            if each.get("size"):
                app.formation[each["type"]]["size"] = each["size"]

    def dynos(self, app: App) -> list[tuple[str, str, str]]:
        """Return name, type and state of each dyno; those that were stopped are on their way down for a while."""
        settled = app.scaled_at is None or self._after(app.scaled_at, self.timing.dynos)
        found = [(name, name.partition(".")[0], "up") for name in app.one_off]
        for kind, one in app.formation.items():
            here, before = one["quantity"], app.former.get(kind, 0)
            for number in range(1, max(here, before if not settled else 0) + 1):
                started = number > before and app.scaled_at is not None
                up = not started or (settled and not app.never_up)
                state = "down" if number > here else "up" if up else "starting"
                found.append((f"{kind}.{number}", kind, state))
        return found

    def capture(self, database: Database) -> dict[str, Any]:
        number = len(self.backups) + 1
        _app, attachment = database.attachments[0]
        backup = {
            "uuid": identity("backup", str(number)),
            "num": number,
            "app": database.app,
            "from_name": attachment,
            "source_bytes": database.size,
            "created": self.now,
            "fails": self.backup_fails,
        }
        self.backups.append(backup)
        return backup

    # -- what a test asks for ---------------------------------------------------------------

    def plan_shown(self, database: Database) -> str:
        waits = self.timing.shown and not self._after(database.maintenance.completed_at, self.timing.shown)
        late = database.served and waits
        return database.served if late else database.serving

    def serves(self, database: Database) -> bool:
        return database.maintenance.status != "running"
