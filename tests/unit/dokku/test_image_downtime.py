# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a swap asks of the app before it goes on or back."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.arguments import Reached
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.cli import Answer, Call, Dokku
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image import (
    content,
    finish,
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
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.model import Service, dsn_of
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
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
    "app": "blog", "old": "old", "new": "new", "page": True, "variables": ["DATABASE_URL"], "image_id": OLD.image_id,
    "read_only": True,
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
    ],
)
def test_what_has_changed_since_it_was_planned_is_found_before_anything_stops(
    since: dict[str, Any], others: tuple[str, ...], values: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    touched: list[str] = []
    monkeypatch.setattr(World, "service", lambda _self, _name: OLD)
    monkeypatch.setattr(quiet.survey, "with_schedule", lambda _dokku, found: replace(found, **since))
    monkeypatch.setattr(quiet.services, "others_of", lambda *_args: list(others))
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


@pytest.mark.parametrize("step", [finish.CarryBackups(), finish.Retire()])
def test_a_refused_way_back_does_again_what_was_undone(step: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(type(step), "apply", lambda _self, _step, _context: done.append("applied") or {})
    step.let_go(Step("kind", "name", SWITCH, {}), Context(world_of(), cast(Any, None)))
    assert done == ["applied"]


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
