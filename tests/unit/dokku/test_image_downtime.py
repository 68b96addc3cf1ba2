# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a swap asks of the app before it goes on or back."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._dokku import parsing, services
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.arguments import Reached
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.cli import Answer, Call, Dokku
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image import (
    beside,
    content,
    downtime,
    let_in,
    planner,
    quiet,
    way_back,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.journey import Swap
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.model import MODULE, Request
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.processes import (
    status_of,
    with_another_address,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.world import (
    RAN,
    World,
    has_gone_over,
    ran,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.model import App, Service, dsn_of
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import Blocker, StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context, Undecided
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import SWITCH, Goal, Plan, Step
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.model import (
    Database,
    Fingerprint,
    Role,
    Table,
)


def world_of(engine: Any = None, **answers: str) -> World:
    """Return a world whose dokku answers a subcommand, named with ``_`` for what a name may not have."""

    def run(call: Call) -> Answer:
        key = call.argv[1].replace(":", "_").replace("-", "_")
        return Answer(0, answers.get(key, ""), "")

    return World(Reached(Dokku(runner=run), cast(Any, engine)))


def variables(service: str) -> str:
    return json.dumps({"DATABASE_URL": f"postgres://postgres:a@dokku-postgres-{service}:5432/x"} if service else {})


@pytest.mark.parametrize("there, gone", [("new", True), ("old", False)])
def test_an_app_is_on_one_of_two_services(there: str, gone: bool) -> None:
    assert has_gone_over(world_of(config_export=variables(there)), "blog", "old", "new") is gone


@pytest.mark.parametrize("there", ["third", ""])
def test_an_app_that_was_moved_on_is_not_taken_back(there: str) -> None:
    with pytest.raises(Undecided, match="was moved on since"):
        has_gone_over(world_of(config_export=variables(there)), "blog", "old", "new")


def test_who_wrote_before_the_app_was_let_in_by_us_is_asked_for_too() -> None:
    assert let_in.LetIn().others_bring_about


@pytest.mark.parametrize("noted, ran_before", [({}, False), ({RAN: {"running": True}}, True), ({RAN: {}}, False)])
def test_what_was_not_stopped_is_not_started(noted: dict[str, Any], ran_before: bool) -> None:
    assert ran(Context(world_of(), cast(Any, None), evidence=noted)) is ran_before


def test_a_step_that_was_refused_before_it_touched_anything_has_nothing_to_undo() -> None:
    step = Step("dokku_quiet", "shut the writers out", SWITCH, {"app": "blog", "old": "old", "new": "new"})
    assert quiet.Quiet().undo(step, Context(world_of(), cast(Any, None))) == {}


OLD = Service(
    "old", "postgres:15", "sha256:15", "running", ("blog",), "/srv/old", "cid",
    dsn=dsn_of("postgres://postgres:a@dokku-postgres-old:5432/x"),
)  # fmt: skip
SHUT = Step("dokku_quiet", planner.QUIET, SWITCH, {
    "app": "blog", "old": "old", "new": "new", "page": True, "variables": ["DATABASE_URL"],
    "databases": {"DATABASE_URL": "x"}, "image_id": OLD.image_id, "read_only": True,
})  # fmt: skip


@pytest.mark.parametrize(
    "since, others, values, words",
    [
        ({}, (), variables("old"), ""),
        ({"image_id": "sha256:15-rebuilt"}, (), variables("old"), "runs postgres:15"),
        ({"exposed": "5432->10001"}, (), variables("old"), "exposed on ports"),
        ({"encrypted": True}, (), variables("old"), "are encrypted"),
        ({"schedule_unread": True}, (), variables("old"), "a schedule that cannot be read"),
        ({}, ("the app shop is linked to it",), variables("old"), "the app shop"),
        ({}, (), variables("third"), "does not point at old any more"),
        (
            {},
            (),
            variables("old").replace("{", '{"REPORTS_URL": "postgres://x:a@dokku-postgres-old/x", '),
            "REPORTS_URL",
        ),
        (
            {},
            (),
            variables("old").replace("{", '{"READER_URL": "postgres://reader:b@dokku-postgres-old/x", '),
            "READER_URL of blog names old by another login",
        ),
        ({}, (), variables("old").replace("5432/x", "5432/y"), "DATABASE_URL names y now"),
        ({}, (), variables("old"), "the roles later"),
    ],
)
def test_what_has_changed_since_it_was_planned_is_found_before_anything_stops(
    since: dict[str, Any], others: tuple[str, ...], values: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    touched: list[str] = []
    monkeypatch.setattr(World, "service", lambda _self, _name: OLD)
    monkeypatch.setattr(quiet.survey, "with_schedule", lambda _dokku, found: replace(found, **since))
    monkeypatch.setattr(quiet.services, "others_of", lambda *_args: list(others))
    monkeypatch.setattr(quiet.survey, "services", lambda *_args: [OLD])
    left = "the roles later" if words == "the roles later" else ""
    monkeypatch.setattr(quiet.Quiet, "_not_exported", lambda *_args: left)
    monkeypatch.setattr(quiet.maintenance, "set_enabled", lambda *_args: touched.append("page"))
    for name in ("stop_app", "set_read_only", "end_sessions"):
        monkeypatch.setattr(quiet, name, lambda *_args, _name=name, **_options: touched.append(_name))
    context = Context(world_of(config_export=values), cast(Any, None), evidence={RAN: {"running": True}})
    if words:
        with pytest.raises(StatefulError, match="not as it was when this was planned") as raised:
            quiet.Quiet().apply(SHUT, context)
        assert words in raised.value.msg
        assert touched == []
    else:
        quiet.Quiet().apply(SHUT, context)
        assert touched == ["page", "stop_app", "set_read_only", "end_sessions"]


@pytest.mark.parametrize(
    "names, lacks, words",
    [
        (["beside"], (), ""),
        ([], (), ""),
        (["beside", "later"], (), "leave behind what it has since: the databases later"),
        (["beside"], (Blocker("The image lacks postgis."),), "The image lacks postgis"),
    ],
)
def test_what_a_dump_would_leave_behind_is_asked_again(
    names: list[str], lacks: tuple[Blocker, ...], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody made another database between prepare and switch."""
    asked: list[tuple[str, Any]] = []

    def rows(query: str, params: Any = ()) -> list[tuple[Any, ...]]:
        asked.append((query, params))
        return [(name,) for name in names] if query == beside.OTHER_DATABASES else []

    monkeypatch.setattr(World, "service", lambda _self, _name: OLD)
    monkeypatch.setattr(World, "session", lambda *_args: nullcontext(SimpleNamespace(rows=rows)))
    monkeypatch.setattr(beside, "lacks_of", lambda *_args: lacks)
    planned = {"beside": {"the databases": ["beside"]}, "to": "sha256:17"}
    assert words in quiet.Quiet._not_exported(world_of(), "old", planned)
    assert bool(quiet.Quiet._not_exported(world_of(), "old", planned)) is bool(words)
    assert (beside.OTHER_DATABASES, ("x",)) in asked
    assert quiet.Quiet._not_exported(world_of(), "old", None) == ""


def test_each_variable_keeps_its_database_there_and_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue has a database of its own beside the service's."""
    dsns = {
        "old": "postgres://postgres:a@dokku-postgres-old:5432/blog",
        "new": "postgres://postgres:b@dokku-postgres-new:5432/blog2",
    }
    links: dict[str, tuple[str, ...]] = {"old": ("blog",), "new": ()}
    there = {"DATABASE_URL": f"{dsns['old']}?pool=5", "QUEUE_URL": f"{dsns['old']}_queue"}
    before = dict(there)

    def of(name: str) -> Service:
        return replace(OLD, name=name, dsn=dsn_of(dsns[name]), links=links[name])

    def seen() -> App:
        return App("blog", parsing.addresses(there), "")

    def unlink(_dokku: Any, app: App, service: Service) -> None:
        links[service.name] = ()
        for name in app.pointing_at(service):
            del there[name]

    monkeypatch.setattr(World, "service", lambda _self, name: of(name))
    monkeypatch.setattr(downtime.survey, "app", lambda *_args: seen())
    monkeypatch.setattr(downtime.survey, "links", lambda _dokku, name: links[name])
    monkeypatch.setattr(downtime.survey, "exists", lambda *_args: True)
    monkeypatch.setattr(downtime.links, "set_values", lambda _dokku, _app, values: there.update(values))
    monkeypatch.setattr(downtime.links, "unlink", unlink)
    monkeypatch.setattr(downtime.links, "carry_out", lambda *_args: None)

    def run(call: Call) -> Answer:
        if call.argv[1] == "postgres:link":
            links[call.argv[2]] = ("blog",)
        return Answer(0, "", "")

    world = World(Reached(Dokku(runner=run), cast(Any, None)))
    names = {name: {"scheme": "postgres", "database": dsn.database, "query": dsn.query}
             for name, dsn in seen().addresses.items()}  # fmt: skip
    args = {"app": "blog", "old": "old", "new": "new", "addresses": names, "colours": {}, "scheme": None,
            "former_scheme": ""}  # fmt: skip
    step, context = Step("dokku_repoint", planner.REPOINT, SWITCH, args), Context(world, cast(Any, None))
    downtime.Repoint().apply(step, context)
    assert there == {
        "DATABASE_URL": f"{dsns['new']}?pool=5",
        "QUEUE_URL": "postgres://postgres:b@dokku-postgres-new:5432/blog_queue",
    }
    downtime.Repoint().undo(step, context)
    assert there == before


@pytest.mark.parametrize(
    "login, strange, uses",
    [
        ("postgres:a@dokku-postgres-a-b:5432/other", False, True),
        ("dokku-postgres-a-b/x", False, True),
        ("reader:a@dokku-postgres-a-b/x", True, True),
        # Left over from a service that had the name before: the user has another password, and only one.
        ("postgres:b@dokku-postgres-a-b/x", True, False),
        # Of another service, whose host name is the same.
        ("postgres:c@dokku-postgres-a-b/x", False, False),
        ("reader:b@dokku-postgres-third/x", False, False),
    ],
)
def test_a_variable_by_another_user_uses_the_service_too(
    login: str, strange: bool, uses: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = replace(OLD, name="a-b", dsn=dsn_of("postgres://postgres:a@dokku-postgres-a-b:5432/x"), links=())
    other = replace(one, name="a_b", dsn=dsn_of("postgres://postgres:c@dokku-postgres-a-b:5432/x"))
    monkeypatch.setattr(services.survey, "services", lambda *_args: [one, other])
    app = App("shop", parsing.addresses({"READER_URL": f"postgres://{login}"}), "")
    reached = world_of().reached
    assert services.strangers_of(reached, app, one) == ("READER_URL",) * strange
    monkeypatch.setattr(services.survey, "names_of_apps", lambda _dokku: ["shop"])
    monkeypatch.setattr(services.survey, "app", lambda *_args: app)
    assert services.users_of(reached, one) == ["READER_URL of the app shop points at it"] * uses


class Redirecting(BaseHTTPRequestHandler):
    """Sends everybody to where nobody answers, as an app does that wants TLS."""

    def do_GET(self) -> None:
        self.send_response(301)
        self.send_header("Location", "http://127.0.0.1:1/")
        self.end_headers()

    def log_message(self, *_args: object) -> None:
        return None


@pytest.fixture
def redirecting() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Redirecting) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_a_redirect_is_an_answer_and_is_not_followed(redirecting: int) -> None:
    container = SimpleNamespace(addresses=("127.0.0.1",), env={"PORT": str(redirecting)})
    assert status_of(cast(Any, container), "/") == 301


def test_processes_that_were_begun_with_the_old_address_are_told() -> None:
    addresses = {"a": "postgres://u:p@dokku-postgres-old:5432/x", "b": "postgres://u:p@dokku-postgres-new:5432/x"}
    found = [SimpleNamespace(name=name, running=True, env={"DATABASE_URL": dsn}) for name, dsn in addresses.items()]
    found += [SimpleNamespace(name="c", running=True, env={}), SimpleNamespace(name="d", running=False, env={})]
    engine = SimpleNamespace(containers=lambda labels: found)
    assert with_another_address(world_of(engine), "blog", "new") == ["a"]


@pytest.mark.parametrize("version, image_id", [("17", "sha256:then"), ("18", "sha256:now")])
def test_a_tag_that_has_moved_means_for_an_open_swap_what_it_meant(tmp_path: Path, version: str, image_id: str) -> None:
    operations = OperationStore(str(tmp_path))
    summary = {"to": {"image": "postgres:17"}}
    operations.begin(Plan(Goal(MODULE, "blog", {"image_id": "sha256:then"}), (), summary=summary))
    engine = SimpleNamespace(image=lambda _reference: SimpleNamespace(id="sha256:now"))
    swap = Swap(Request("blog", "postgres", version), operations, lambda: world_of(engine), (), "")
    if image_id == "sha256:now":
        with pytest.raises(StatefulError, match="has to end before another"):
            swap._look()
    else:
        assert swap._look()[1].image_id == image_id


def of_cluster(roles: str = "postgres", **databases: int) -> Fingerprint:
    """Return a cluster with one table in each database, of so many rows."""
    held = {name: Database(tables={"public.t": Table(rows, True)}) for name, rows in databases.items()}
    return Fingerprint(170000, "", held, roles={name: Role() for name in roles.split()})


@pytest.mark.parametrize(
    "after, databases, roles",
    [
        (of_cluster(new=3, postgres=0), [], []),
        (of_cluster(new=4, postgres=0), ["new"], []),
        (of_cluster(new=3, postgres=1), ["postgres"], []),
        # What only the old one has was left behind, by the leave of an admin, and is not lost by going back to it.
        (of_cluster(new=3), [], []),
        (of_cluster(new=3, later=0), ["later"], []),
        (of_cluster(new=3, roles="postgres later"), [], ["later"]),
    ],
)
def test_going_back_loses_nothing_only_where_the_old_service_has_all_of_the_new_one(
    after: Fingerprint, databases: list[str], roles: list[str]
) -> None:
    before = of_cluster(old=3, postgres=0, roles="postgres reader")
    assert content.beyond(before, after, {"old": "new"}) == (databases, roles)


def test_what_would_be_lost_is_told() -> None:
    assert way_back.Lost(("shop", "beside"), ("later",)).told() == "databases shop, beside; role later"
