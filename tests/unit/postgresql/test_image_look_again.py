# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a plan that is hours old is asked before its downtime, and what is done with what changed meanwhile."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import SWITCH, Plan, Step
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image import (
    bench,
    configuration,
    look_again,
    planner,
    unchanged,
    way_back,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.configuration import LeftOut
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.hooks import RunHooks
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.model import (
    CandidateImage,
    Extension,
    ImageRequest,
    Sides,
    Subject,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.rebuild import Rebuild, Upgrade
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.unchanged import (
    CompareService,
    RememberService,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.model import Tablespace
from ansible_collections.selfhost.stateful.plugins.module_utils._storage import by_compose, report
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import BIND, POSTGRESQL, Request
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.steps.dependents import StopDependents
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import Location, Transfer
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World
from tests.unit.postgresql.subjects import CLUSTER, IMAGE, INVENTORY, SUBJECT, UPGRADED
from tests.unit.storage.projects import NAME, Small, bind, small

DATA = "/var/lib/postgresql/data"
TEXT = "services:\n  db:\n    image: postgres:15\n  web:\n    image: app:1\n    depends_on: [db]\n"


class Store:
    """Hands out a session that nobody asks anything."""

    def session(self, engine: Any, container: Any) -> Store:
        return self

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_error: object) -> None:
        return None


class Prepared:
    """A service that was prepared to be upgraded by a standby, and its one dependent."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (root / "app").mkdir()
        self.project: Small = small(root / "app", TEXT, images={"postgres:15": (), "app:1": ()})
        monkeypatch.setattr(by_compose, "observe_project", lambda engine, compose, services: self.project.project)
        self.db = self.project.add("db", "postgres:15", [bind(root / "app/postgres", DATA)])
        self.web = self.project.add("web", "app:1")
        for container in (self.db, self.web):
            self.project.engine.start(container)
        self.subject: Subject = SUBJECT
        monkeypatch.setattr(look_again, "observe_subject", lambda engine, session: self.subject)
        self.examined_for: list[str] = []
        monkeypatch.setattr(look_again, "examine", self.examine)
        monkeypatch.setattr(look_again, "foreign_options", lambda session, cluster: ["n_fast"])
        monkeypatch.setattr(look_again, "named_files", lambda session: {"tls/server.key": "plain"})
        monkeypatch.setattr(look_again, "postgresql_store", lambda world: Store())
        self.transfer = Transfer(
            service="db", target=DATA, origin=Location(BIND, str(root / "app/postgres")),
            goal=Location(BIND, str(root / "app/postgres17")), strategy="pg_upgrade", store=POSTGRESQL, facts={},
            staging="", retained="", image_id="sha256:1", containers=(self.db,), running=True,
        )  # fmt: skip
        request = ImageRequest(Request(NAME, str(root / "app"), ()), "db", "postgres:17")
        proving = Step("stop_stores", "prove", SWITCH, {"transfers": [self.transfer.as_dict()]}, proves=True)
        plan = Plan(planner.goal_of(request, UPGRADED.id), (proving,), facts={"dependents": ["auto"]})
        self.operation = OperationStore(str(root / "operations")).begin(plan)

    def examine(self, _engine: Any, _image: str, *, user: str) -> CandidateImage:
        self.examined_for.append(user)
        return UPGRADED

    @property
    def context(self) -> Context[World]:
        return Context(self.project.world, self.operation)

    def step(self, **more: Any) -> Step:
        args = {
            "transfer": self.transfer.as_dict(),
            "sides": Sides(IMAGE, UPGRADED).as_dict(),
            "strategy": "pg_upgrade",
            "copied_by": "replica",
            "refresh": {"order_changed": "", "updates": []},
            "applications": [self.web],
            "superuser": "boss",
            **more,
        }
        return Step("look_again", planner.LOOK, SWITCH, args)

    def look(self, **more: Any) -> Any:
        return look_again.LookAgain().apply(self.step(**more), self.context)


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prepared:
    return Prepared(tmp_path, monkeypatch)


def test_what_is_as_it_was_goes_on_with_the_facts_of_now(prepared: Prepared) -> None:
    evidence = prepared.look()
    assert evidence["cluster"]["system_identifier"] == CLUSTER.system_identifier
    assert evidence["foreign_options"] == ["n_fast"]


def test_the_image_is_looked_at_as_of_the_user_that_the_service_has(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The owner of the files is that one, not the image's own: also for the way back to the former image."""
    held = prepared.project.engine.held
    held[prepared.db] = replace(held[prepared.db], user="70:70")
    prepared.look()
    monkeypatch.setattr(way_back, "examine", prepared.examine)
    monkeypatch.setattr(way_back, "observe_subject", lambda engine, session: prepared.subject)
    monkeypatch.setattr(way_back, "postgresql_store", lambda world: Store())
    way_back._against_the_former(prepared.project.world, held[prepared.db], "sha256:1")
    assert prepared.examined_for == ["70:70", "70:70"]


def test_a_dependent_that_was_made_anew_would_not_be_stopped(prepared: Prepared) -> None:
    prepared.project.engine.remove_container(prepared.web, force=True)
    other = prepared.project.add("web", "app:1")
    assert prepared.look()  # it does not run
    prepared.project.engine.start(other)
    with pytest.raises(StatefulError, match="app-web-") as told:
        prepared.look()
    assert "plans anew" in told.value.next_command


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"unlogged_tables": 1}, "1 unlogged tables now"),
        ({"tablespaces": (Tablespace(1, "fast", "/ssd"),)}, r"has tablespaces: fast \(/ssd\)"),
        ({"superuser": "admin"}, "superuser is admin"),
        ({"prepared_transactions": 1}, "prepared transactions are open"),
    ],
)
def test_what_the_cluster_has_since_is_told(prepared: Prepared, changed: dict[str, Any], told: str) -> None:
    prepared.subject = replace(SUBJECT, cluster=replace(CLUSTER, **changed))
    with pytest.raises(StatefulError, match=told):
        prepared.look()


def test_an_unlogged_table_is_no_matter_where_files_are_copied(prepared: Prepared) -> None:
    prepared.subject = replace(SUBJECT, cluster=replace(CLUSTER, unlogged_tables=1))
    assert prepared.look(copied_by="copy")


def test_tablespaces_are_in_no_copy_that_is_served(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look_again, "examine", lambda *_args, **_options: replace(IMAGE, id="sha256:rebuilt"))
    prepared.subject = replace(SUBJECT, cluster=replace(CLUSTER, tablespaces=(Tablespace(1, "fast", "/ssd"),)))
    assert prepared.look(strategy="swap", copied_by="")
    with pytest.raises(StatefulError, match="has tablespaces now"):
        prepared.look(strategy="swap", copied_by="replica")


def test_extensions_and_an_order_that_were_not_planned_are_told(prepared: Prepared) -> None:
    planned = {"order_changed": "", "updates": [asdict(Extension("app", "hstore", "1.4"))]}
    with pytest.raises(StatefulError, match="to be updated are others: none"):
        prepared.look(refresh=planned)
    prepared.subject = replace(
        SUBJECT, inventory=replace(INVENTORY, extensions=(*INVENTORY.extensions, Extension("app", "postgis", "3")))
    )
    with pytest.raises(StatefulError, match="lacks the extension postgis"):
        prepared.look()
    prepared.subject = replace(SUBJECT, image=replace(IMAGE, libc_version="2.31"))
    with pytest.raises(StatefulError, match="order of its text changes"):
        prepared.look()


def test_the_rules_that_the_command_line_names_are_known_as_such() -> None:
    class Session:
        def rows(self, query: str) -> list[tuple[str, str]]:
            assert all(f"'{name}'" in query for name in ("hba_file", "ident_file", "ssl_key_file"))
            return [("hba_file", "/data/rules/hba.conf"), ("ssl_key_file", "server.key")]

    session: Any = Session()
    assert look_again.named_files(session) == {"/data/rules/hba.conf": "rules", "server.key": "plain"}


def test_nobody_is_asked_once_it_is_stopped(prepared: Prepared) -> None:
    handler = look_again.LookAgain()
    assert handler.is_done(prepared.step(), prepared.context) is None
    prepared.project.engine.stop(prepared.db, signal="SIGTERM", timeout=1)
    assert handler.is_done(prepared.step(), prepared.context) == {}


@pytest.mark.parametrize("strategy", ["pg_upgrade", "swap"])
def test_one_that_was_made_anew_of_another_image_is_not_taken_for_stopped(prepared: Prepared, strategy: str) -> None:
    """Somebody pulled a floating tag between prepare and switch."""
    project, ids = prepared.project, {}
    for name in ("postgres:16", "postgres:17"):
        project.engine.add_image(name)
    for name in ("postgres:15", "postgres:16", "postgres:17"):
        found = project.engine.image(name)
        assert found is not None
        ids[name] = found.id
    origin = replace(prepared.transfer.origin, image=ids["postgres:15"])
    stays = strategy == "swap"
    goal = replace(origin if stays else prepared.transfer.goal, image=ids["postgres:17"])
    transfer = replace(prepared.transfer, origin=origin, goal=goal, strategy=strategy, image_id=ids["postgres:15"])
    handler, step = look_again.LookAgain(), prepared.step(transfer=transfer.as_dict(), strategy=strategy)

    def made_anew(image: str, place: str) -> None:
        for container in project.world.containers_of("db"):
            project.engine.remove_container(container.id, force=True)
        project.engine.start(project.add("db", image, [bind(Path(place), DATA)]))

    made_anew("postgres:16", origin.path)
    assert handler.is_done(step, prepared.context) is None
    with pytest.raises(StatefulError, match=r"was recreated.*postgres:16") as told:
        handler.apply(step, prepared.context)
    assert "plans anew" in told.value.next_command
    made_anew("postgres:17", goal.path)
    context = prepared.context
    if stays:
        assert handler.is_done(step, context) is None
        with pytest.raises(StatefulError, match="already runs the other image"):
            handler.apply(step, context)
    context.evidence[planner.STOP] = {}
    assert handler.is_done(step, context) == {}


def test_a_configuration_that_was_changed_since_is_carried_anew(
    tmp_path: Path, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = tmp_path / "app/postgres"
    origin.mkdir(exist_ok=True)
    (origin / "postgresql.auto.conf").write_text("work_mem = '7MB'\n")
    known = {"carried": configuration.digests_of(str(origin))}
    carried: list[str] = []

    def carry(_bench: Any, _cluster: Any, source: str, _version: int, _named: Any) -> list[LeftOut]:
        carried.append(source)
        return [LeftOut("jit_x", "postgresql.auto.conf", 1)]

    monkeypatch.setattr(bench, "carry_configuration", carry)
    of_upgrade: Rebuild = Upgrade()
    seen = look_again.Seen(CLUSTER, [], {})
    assert of_upgrade._carry_what_changed(prepared.transfer, None, seen, known, 170002) == {}  # type: ignore[arg-type]
    (origin / "postgresql.auto.conf").write_text("work_mem = '8MB'\n")
    evidence = of_upgrade._carry_what_changed(prepared.transfer, None, seen, known, 170002)  # type: ignore[arg-type]
    assert carried == [str(origin)]
    assert evidence["left_out"] == ["jit_x (postgresql.auto.conf, line 1)"]


def test_once_proved_nothing_is_compared_or_run_again_and_nobody_stopped(prepared: Prepared) -> None:
    """Killed in its last steps, and the store down since: a table that the application dropped is no loss."""
    stop = Step("stop_dependents", "stop", SWITCH, {"order": [[prepared.web]]})
    comparing = Step("compare_service", "compare", SWITCH, {"transfer": prepared.transfer.as_dict()})
    hooks = Step("image_hooks", "post", SWITCH, {"transfer": prepared.transfer.as_dict(), "hooks": []})
    context = prepared.context
    context.evidence.update({step.name: {"at": 0.0} for step in (comparing, hooks)})
    prepared.project.engine.stop(prepared.db, signal="SIGTERM", timeout=1)
    asked = [(StopDependents(), stop), (CompareService(), comparing), (RunHooks(), hooks)]
    assert [handler.is_done(step, context) for handler, step in asked] == [None, None, None]
    prepared.operation.journal.evidence("prove", {})
    assert all(handler.is_done(step, context) is not None for handler, step in asked)
    # Whoever went back by hand has written there since.
    prepared.project.engine.start(prepared.db)
    assert StopDependents().is_done(stop, context) is None


def test_what_others_changed_after_the_comparison_is_compared_no_more(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server was started anew before the proof: our migrations have dropped a table by then, or applications."""
    one = {"transfer": prepared.transfer.as_dict()}
    args = {**one, "applications": [], "contents": True, "remembered_by": "remember", "identified_by": "upgrade"}
    comparing = Step("compare_service", "compare", SWITCH, args)
    before, after = (Step("image_hooks", name, SWITCH, {**one, "old_server": old}) for name, old in
                     (("pre", True), ("post", False)))  # fmt: skip
    object.__setattr__(prepared.operation.plan, "steps", (before, comparing, after))
    monkeypatch.setattr(Transfer, "facts_at_goal", lambda self, identity: None)
    monkeypatch.setattr(unchanged, "postgresql_store", lambda world: Store())
    monkeypatch.setattr(unchanged, "take", lambda session, rows: None)
    monkeypatch.setattr(unchanged.model, "from_dict", lambda raw: None)
    Path(prepared.operation.directory, f"{prepared.transfer.label}.fingerprint.json").write_text("{}")
    asked: list[str] = []

    def lacks(*_given: Any) -> None:
        asked.append("compared")
        raise StatefulError("The service lacks what it had before")

    monkeypatch.setattr(unchanged, "refuse_losses", lacks)

    def compared(*, known: bool) -> bool:
        stores: Any = {POSTGRESQL: SimpleNamespace(wait_ready=lambda *_given: None)}
        context = Context(replace(prepared.project.world, stores=stores), prepared.operation)
        context.evidence["remember"] = {"noted": True, "logins": []}
        context.evidence["upgrade"] = {"identities": {prepared.transfer.name: {}}}
        if known:
            context.evidence["compare"] = {"logins_proved": [], "at": 0.0}
        try:
            found = CompareService().apply(comparing, context)
        except StatefulError:
            return True
        assert found["at"] > 0
        assert bool(found.get("warnings")) != known
        return False

    journal = prepared.operation.journal
    journal.intent("pre")
    assert compared(known=True)
    journal.intent("post")
    assert not compared(known=True)
    journal.undo_refused("The new location has taken writes already")
    assert not compared(known=False)
    journal.failure("compare", "The service lacks what it had before")
    assert compared(known=False)
    assert len(asked) == 2


def test_where_no_login_is_found_that_is_told(prepared: Prepared) -> None:
    remembering = Step("remember_service", "remember", SWITCH, {"applications": [prepared.web]})
    (told,) = RememberService._unproved(remembering, prepared.transfer, [])
    assert "pooler" in told
    assert RememberService._unproved(remembering, prepared.transfer, ["web as app"]) == []
    alone = Step("remember_service", "remember", SWITCH, {"applications": []})
    assert RememberService._unproved(alone, prepared.transfer, []) == []
    prepared.operation.journal.evidence("remember", {"warnings": [told]})
    assert report.fewer_warnings(prepared.operation.history()) == [told]
