# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A stand-in for Heroku's Platform and Data API, on loopback, for tests and for the public CLI.

In a test: ``with HerokuStandIn(world) as heroku: ... heroku.url``. As a program, for playbooks:
``python -m tests.sandbox.heroku --port 5080``. ``GET /_control`` tells everything, ``POST /_control``
lets time pass and breaks things::

    {"advance": 3600, "tick": 20, "set": {"never_ends": true},
     "faults": [{"method": "PATCH", "path": "/formation$", "kind": "drop_after", "times": 1}]}
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

from .heroku_world import (
    CONNECTIONS,
    GB,
    MB,
    PLANS,
    SERVICE,
    SIZES,
    App,
    Database,
    Invalid,
    NotFound,
    Timing,
    World,
    identity,
)

CONTROL = "/_control"
BEFORE, AFTER = "before", "after"
DROP = "drop"
"""What a watcher returns ``before`` a request that is never to be carried out: its client is gone by then."""
OF_PLATFORM = ("/apps", "/addons", "/addon-services", "/actions")
"""What the Platform API serves; it alone tells how many requests are left before its rate limit."""


@dataclass
class Fault:
    """What goes wrong with the next ``times`` requests that match; ``path`` is a regular expression.

    ``kind``: ``drop_before`` and ``drop_after`` end the connection before the request is carried out and
    after it; ``answer`` gives ``status`` with ``body`` and ``headers`` in place of carrying it out.
    """

    path: str
    kind: str = "answer"
    method: str = ""
    times: int = 1
    status: int = 503
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def meets(self, method: str, path: str) -> bool:
        return self.times > 0 and self.method in ("", method) and re.search(self.path, path) is not None


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    body: Any

    @property
    def changes(self) -> bool:
        return self.method != "GET" and "/actions/" not in self.path


@dataclass(frozen=True)
class Answer:
    body: Any
    status: int = 200


Watcher = Callable[[str, Request], str | None]
"""Called ``before`` and ``after`` every request was carried out, with nothing held; may return :data:`DROP` before."""


class HerokuStandIn:
    """The server; ``world`` is what it serves, ``requests`` what it was asked, ``done`` what of that it carried out."""

    def __init__(self, world: World, *, port: int = 0, watch: Watcher | None = None) -> None:
        self.world = world
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.done: list[Request] = []
        self.watch = watch
        self.lock = threading.RLock()
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.stand_in = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> HerokuStandIn:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def serve_forever(self) -> None:
        self._server.serve_forever()

    def break_next(self, path: str, kind: str = "answer", **more: Any) -> None:
        self.faults.append(Fault(path, kind, **more))

    def changes(self) -> list[Request]:
        """Return what was asked to be changed."""
        return [each for each in self.requests if each.changes]

    def changed(self) -> list[Request]:
        """Return what was changed: asked for, and carried out."""
        return [each for each in self.done if each.changes]

    def control(self, body: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            for name, value in body.get("set", {}).items():
                setattr(self.world, name, value)
            self.world.tick = float(body.get("tick", self.world.tick))
            self.faults += [Fault(**each) for each in body.get("faults", ())]
            self.world.advance(float(body.get("advance", 0)))
            return self.told()

    def told(self) -> dict[str, Any]:
        with self.lock:
            raw = asdict(self.world)
            raw["requests"] = [f"{each.method} {each.path}" for each in self.requests]
            told: dict[str, Any] = json.loads(json.dumps(raw, default=str))
            return told


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    stand_in: HerokuStandIn

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is gone is what tests want."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: what was asked is in ``requests``."""

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PATCH = do_GET

    def _serve(self) -> None:
        stand_in = self.server.stand_in
        path = unquote(urlsplit(self.path).path)
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = json.loads(raw) if raw.strip() else {}
        if path == CONTROL:
            self._answer(Answer(stand_in.control(body) if self.command == "POST" else stand_in.told()))
            return
        request = Request(self.command, path, body)
        fault = self._meet(stand_in, request)
        if fault is not None and fault.kind == "drop_before":
            self._drop()
            return
        if fault is not None and fault.kind == "answer":
            self._write(fault.status, fault.body.encode(), fault.headers)
            return
        if stand_in.watch and stand_in.watch(BEFORE, request) == DROP:
            self._drop()
            return
        with stand_in.lock:
            stand_in.world.advance(stand_in.world.tick)
            answer = self._carried_out(stand_in.world, request)
            if answer.status < HTTPStatus.BAD_REQUEST:
                stand_in.done.append(request)
        if stand_in.watch:
            stand_in.watch(AFTER, request)
        if fault is not None:
            self._drop()
            return
        self._answer(answer)

    def _meet(self, stand_in: HerokuStandIn, request: Request) -> Fault | None:
        with stand_in.lock:
            stand_in.requests.append(request)
            fault = next((each for each in stand_in.faults if each.meets(request.method, request.path)), None)
            if fault is not None:
                fault.times -= 1
            return fault

    def _carried_out(self, world: World, request: Request) -> Answer:
        if self.headers.get("Authorization") != f"Bearer {world.key}" or world.key_expired:
            return Answer({"id": "unauthorized", "message": "Invalid credentials provided."}, 401)
        try:
            return carry_out(world, request)
        except NotFound as error:
            said = {"id": "not_found", "resource": error.resource, "message": str(error)}
            return Answer(said, 404)
        except Invalid as error:
            return Answer({"id": "invalid_params", "message": str(error)}, 422)

    def _answer(self, answer: Answer) -> None:
        self._write(answer.status, json.dumps(answer.body).encode(), {})

    def _write(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        left = {"Ratelimit-Remaining": "4500"} if self.path.startswith(OF_PLATFORM) else {}
        said = {"Content-Type": "application/json", **left, **headers}
        for name, value in said.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _drop(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


# -- the requests ------------------------------------------------------------------------------


def carry_out(world: World, request: Request) -> Answer:
    """Answer one request; raises NotFound and Invalid."""
    place = request.path.strip("/").split("/")
    for (method, pattern), handler in ROUTES.items():
        words = pattern.split("/")
        if method == request.method and len(words) == len(place):
            given = [part for part, word in zip(place, words, strict=True) if word == "*"]
            if all(word in ("*", part) for part, word in zip(place, words, strict=True)):
                return Answer(handler(world, request.body, *given))
    raise NotFound("resource")


def _app(world: World, body: Any, name: str) -> Any:
    return app_as_json(world.app(name))


def _patch_app(world: World, body: Any, name: str) -> Any:
    app = world.app(name)
    app.maintenance = bool(body.get("maintenance", app.maintenance))
    return app_as_json(app)


def _formation(world: World, body: Any, name: str) -> Any:
    app = world.app(name)
    return [
        {"id": identity("formation", app.name, kind), "type": kind, "app": {"name": app.name}, **one}
        for kind, one in app.formation.items()
    ]


def _scale(world: World, body: Any, name: str) -> Any:
    world.scale(world.app(name), body["updates"])
    return _formation(world, body, name)


def _dynos(world: World, body: Any, name: str) -> Any:
    return [{"name": dyno, "type": kind, "state": state} for dyno, kind, state in world.dynos(world.app(name))]


def _config(world: World, body: Any, name: str) -> Any:
    return dict(world.app(name).config)


def _addons(world: World, body: Any, name: str) -> Any:
    app = world.app(name)
    mine = [addon_as_json(each) for each in world.databases.values() if each.app == app.name]
    return mine + [{"name": each, "addon_service": {"name": each}} for each in app.services]


def _attachments(world: World, body: Any, name: str) -> Any:
    app = world.app(name)
    return [
        attachment_as_json(database, owner, attachment)
        for database in world.databases.values()
        for owner, attachment in database.attachments
        if owner == app.name
    ]


def _attachments_of(world: World, body: Any, name: str) -> Any:
    database = world.database(name)
    return [attachment_as_json(database, owner, attachment) for owner, attachment in database.attachments]


def _addon(world: World, body: Any, name: str) -> Any:
    return addon_as_json(world.database(name))


def _resolve_attachment(world: World, body: Any) -> Any:
    if body.get("app"):
        world.app(body["app"])
    found = world.resolve_attachment(body["addon_attachment"], body.get("app"))
    if not found:
        raise NotFound("add_on attachment")
    return [attachment_as_json(*each) for each in found]


def _resolve_addon(world: World, body: Any) -> Any:
    name, app = body["addon"], body.get("app")
    by_attachment = [each[0] for each in world.resolve_attachment(name, app)]
    if name == SERVICE:
        return [addon_as_json(each) for each in world.databases.values() if each.app == app]
    found = by_attachment[0] if by_attachment else world.database(name)
    if app and world.app(app).name not in (found.app, *(owner for owner, _attachment in found.attachments)):
        raise NotFound("add_on")
    return [addon_as_json(found)]


def _plans(world: World, body: Any, service: str) -> Any:
    return [{"name": f"{SERVICE}:{plan}", "price": {"cents": 100 * n}} for n, plan in enumerate(PLANS)]


def _change_plan(world: World, body: Any, app: str, name: str) -> Any:
    world.app(app)
    database = world.database(name)
    world.change_plan(database, body["plan"]["name"])
    return {**addon_as_json(database), "provision_message": "The change is being prepared."}


def _database(world: World, body: Any, name: str) -> Any:
    return database_as_json(world, world.database(name))


def _wait_status(world: World, body: Any, name: str) -> Any:
    waiting = not world.serves(world.database(name))
    return {"waiting?": waiting, "message": "preparing" if waiting else "available"}


def _maintenance(world: World, body: Any, name: str) -> Any:
    return maintenance_as_json(world.database(name))


def _run(world: World, body: Any, name: str) -> Any:
    world.run_maintenance(world.database(name))
    return {"message": "Maintenance has been triggered."}


def _schedule(world: World, body: Any, name: str) -> Any:
    database = world.database(name)
    world.schedule(database, int(body["delay_weeks"]))
    return maintenance_as_json(database)


def _window(world: World, body: Any, name: str) -> Any:
    database = world.database(name)
    world.set_window(database, body["day_of_week"], body["time_of_day"])
    return {"window": database.window}


def _capture(world: World, body: Any, name: str) -> Any:
    database = world.database(name)
    if not world.serves(database):
        raise Invalid("The database is not available.")
    return transfer_as_json(world, world.capture(database))


def _transfers(world: World, body: Any, name: str) -> Any:
    app = world.app(name)
    return [transfer_as_json(world, each) for each in world.backups if each["app"] == app.name]


def _transfer(world: World, body: Any, name: str, wanted: str) -> Any:
    app = world.app(name)
    found = [each for each in world.backups if wanted in (each["uuid"], str(each["num"])) and each["app"] == app.name]
    if not found:
        raise NotFound("transfer")
    return transfer_as_json(world, found[0])


ROUTES: dict[tuple[str, str], Callable[..., Any]] = {
    ("GET", "apps/*"): _app,
    ("PATCH", "apps/*"): _patch_app,
    ("GET", "apps/*/formation"): _formation,
    ("PATCH", "apps/*/formation"): _scale,
    ("GET", "apps/*/dynos"): _dynos,
    ("GET", "apps/*/config-vars"): _config,
    ("GET", "apps/*/addons"): _addons,
    ("GET", "apps/*/addon-attachments"): _attachments,
    ("PATCH", "apps/*/addons/*"): _change_plan,
    ("GET", "addons/*"): _addon,
    ("GET", "addons/*/addon-attachments"): _attachments_of,
    ("GET", "addon-services/*/plans"): _plans,
    ("POST", "actions/addon-attachments/resolve"): _resolve_attachment,
    ("POST", "actions/addons/resolve"): _resolve_addon,
    ("GET", "client/v11/databases/*"): _database,
    ("GET", "client/v11/databases/*/wait_status"): _wait_status,
    ("POST", "client/v11/databases/*/backups"): _capture,
    ("GET", "client/v11/apps/*/transfers"): _transfers,
    ("GET", "client/v11/apps/*/transfers/*"): _transfer,
    ("GET", "data/maintenances/v1/*"): _maintenance,
    ("POST", "data/maintenances/v1/*/run"): _run,
    ("POST", "data/maintenances/v1/*/schedule"): _schedule,
    ("POST", "data/maintenances/v1/*/window"): _window,
}


# -- as the APIs write it ---------------------------------------------------------------------------


def app_as_json(app: App) -> dict[str, Any]:
    return {"id": identity("app", app.name), "name": app.name, "maintenance": app.maintenance, "space": None}


def addon_as_json(database: Database) -> dict[str, Any]:
    return {
        "id": database.id,
        "name": database.name,
        "app": {"id": identity("app", database.app), "name": database.app},
        "plan": {"name": f"{SERVICE}:{database.plan}", "price": {"cents": 5000, "unit": "month"}},
        "addon_service": {"name": SERVICE},
        "state": "provisioned",
    }


def attachment_as_json(database: Database, app: str, name: str) -> dict[str, Any]:
    return {
        "id": identity("attachment", app, name),
        "name": name,
        "app": {"id": identity("app", app), "name": app},
        "addon": addon_as_json(database),
        "config_vars": [f"{name}_URL"],
        "namespace": None,
    }


def database_as_json(world: World, database: Database) -> dict[str, Any]:
    plan = world.plan_shown(database)
    level = plan.rpartition("-")[2]
    followers = [each for each in world.databases.values() if each.leader == database.name]
    leader = world.databases.get(database.leader)
    forkable = database.forkable_at is None or world.now >= database.forkable_at
    at = {"ready": "ready", "preparing": "preparing"}.get(database.maintenance.status, "not required")
    size = f"{database.size / GB:.2f} GB" if database.size >= GB else f"{database.size // MB} MB"
    info: list[tuple[str, list[str], bool]] = [
        ("Plan", [plan.replace("-", " ").title()], False),
        ("Status", ["Available" if world.serves(database) else "Unavailable"], False),
        ("Data Size", [f"{size} / {SIZES.get(level, GB) // GB} GB (In compliance)"], False),
        ("Tables", [str(database.tables)], False),
        ("PG Version", [database.version], False),
        ("Connections", [f"{database.connections}/{CONNECTIONS.get(level, 20)}"], False),
        ("Continuous Protection", ["Off" if plan.startswith("essential") else "On"], False),
        ("Fork/Follow", ["Available" if forkable else "Temporarily Unavailable"], False),
        ("Followers", [each.url for each in followers], True),
        ("Following", [leader.url] if leader else [], True),
        ("Behind By", [f"{database.behind} commits"] if leader else [], False),
        ("Region", [database.region], False),
        ("Maintenance", [at], False),
        ("Maintenance window", [database.window], False),
    ]
    return {
        "addon_id": database.id,
        "name": database.name,
        "plan": {"id": 1, "name": plan},
        "num_bytes": database.size,
        "num_tables": database.tables,
        "resource_url": database.url,
        "following": leader.url if leader else None,
        "info": [{"name": name, "values": values, "resolve_db_name": named} for name, values, named in info],
    }


def maintenance_as_json(database: Database) -> dict[str, Any]:
    one = database.maintenance
    ended = one.completed_at if one.status == "completed" else None
    seconds = int((ended - one.started_at).total_seconds()) if ended and one.started_at else None
    return {
        "addon": {
            "attachments": [name for _app_, name in database.attachments],
            "kind": SERVICE,
            "name": database.name,
            "plan": database.plan,
            "uuid": database.id,
            "window": database.window,
        },
        "app": {"name": database.app, "uuid": identity("app", database.app)},
        "status": one.status,
        "method": "changeover",
        "reason": one.reason,
        "scheduled_for": _text(one.scheduled_for),
        "previously_scheduled_for": _text(one.previously_scheduled_for),
        "required_by": _text(one.required_by),
        "started_at": _text(one.started_at),
        "completed_at": _text(one.completed_at),
        "duration_seconds": None if seconds is None else str(seconds),
        "window": database.window,
        "server_created_at": "2026-01-01T00:00:00Z",
    }


def transfer_as_json(world: World, backup: dict[str, Any]) -> dict[str, Any]:
    over = (world.now - backup["created"]).total_seconds() >= world.timing.backup
    return {
        "uuid": backup["uuid"],
        "num": backup["num"],
        "from_name": backup["from_name"],
        "from_type": "pg_dump",
        "to_type": "gof3r",
        "created_at": _text(backup["created"]),
        "started_at": _text(backup["created"]),
        "finished_at": _text(world.now) if over else None,
        "succeeded": over and not backup["fails"],
        "source_bytes": backup["source_bytes"],
        "processed_bytes": backup["source_bytes"] if over else 0,
        "warnings": 0,
        "logs": [{"created_at": _text(world.now), "message": "pg_dump: error: could not read"}] if over else [],
    }


def _text(moment: datetime | None) -> str | None:
    return moment.isoformat().replace("+00:00", "Z") if moment else None


def example_world() -> World:
    """Return an app with a database on standard-0, a follower of it, and a staging app."""
    world = World(tick=20, timing=Timing(preparing=200, forkable=100))
    shop = world.add_app("shop", web=2, worker=1, cron=0)
    shop.services.append("scheduler")
    leader = world.add_database("postgresql-leader-1", "shop", "DATABASE", "standard-0")
    world.attach(leader, "shop", "HEROKU_POSTGRESQL_GOLD")
    world.add_database("postgresql-follower-1", "shop", "HEROKU_POSTGRESQL_GRAY", "standard-0", leader=leader.name)
    world.add_app("shop-staging", web=1)
    world.add_database("postgresql-staging-1", "shop-staging", "DATABASE", "standard-0")
    return world


def main() -> None:
    """Serve the example until the end of the process."""
    parser = argparse.ArgumentParser(prog="python -m tests.sandbox.heroku", description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    stand_in = HerokuStandIn(example_world(), port=parser.parse_args().port)
    print(stand_in.url, flush=True)
    stand_in.serve_forever()


if __name__ == "__main__":
    main()
