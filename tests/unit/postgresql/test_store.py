# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a container is a Postgres, where its data is, and that the files are those of the server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import paths, store_backup, transport
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import store as subject
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import REPLICA
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.store import BackupRequest
from tests.unit.postgresql.control_file import IDENTIFIER, make_cluster
from tests.unit.postgresql.fakes import FakeEngine, a_container
from tests.unit.postgresql.test_decisions import CLUSTER

USUAL = "/var/lib/postgresql/data"


class Place:
    """A container's root in a directory; ``answer`` is what its server says of its data directory, None for none."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.answer: str | None = None
        self.programs = frozenset({"postgres"})
        monkeypatch.setattr(subject.PostgresqlStore, "session", self.session)
        monkeypatch.setattr(subject, "programs_in", lambda _container: self.programs)
        monkeypatch.setattr(paths, "root_of", lambda _container: str(root))

    @contextlib.contextmanager
    def session(self, *_args: Any) -> Iterator[Any]:
        if self.answer is None:
            raise StatefulError("No session with the server")
        yield SimpleNamespace(scalar=lambda _query: self.answer, holds_transactions=True)

    def cluster(self, path: str, *, runs: bool = False, identifier: int = IDENTIFIER) -> str:
        made = make_cluster(self.root / path.lstrip("/"), identifier=identifier)
        if runs:
            (made / "postmaster.pid").write_text(f"1\n{path}\n0\n5432\n/run\n\n\nready\n")
        return str(made)

    def recognised(self, container: Container) -> str:
        return subject.PostgresqlStore(subject.Login()).recognises(
            FakeEngine(),  # type: ignore[arg-type]
            container,
            lambda path: str(self.root / path.lstrip("/")),
        )


@pytest.fixture(name="place")
def root_of_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path, monkeypatch)


def running(**changes: Any) -> Container:
    return a_container(**{"status": "running", "pid": 42, "image_ref": "postgres:17", **changes})


def test_a_server_knows_better_than_what_lies_at_the_usual_place(place: Place) -> None:
    place.cluster(USUAL)
    place.cluster("/srv/pg", runs=True)
    place.answer = "/srv/pg"
    assert place.recognised(running(env={"PGDATA": USUAL})) == "/srv/pg"


def test_a_server_elsewhere_that_a_client_reaches_is_not_here(place: Place) -> None:
    place.answer = USUAL
    place.programs = frozenset({"crond"})
    assert place.recognised(running(image_ref="prodrigestivill/postgres-backup-local")) == ""


@pytest.mark.parametrize("image", ["prometheuscommunity/postgres-exporter", "postgrest/postgrest"])
def test_what_is_only_called_so_is_no_store(place: Place, image: str) -> None:
    place.programs = frozenset({"postgres_export", "sh"})
    assert place.recognised(running(image_ref=image)) == ""


def test_a_server_that_does_not_answer_is_no_plain_files(place: Place) -> None:
    with pytest.raises(StatefulError, match="No session"):
        place.recognised(running())
    place.programs = frozenset()
    with pytest.raises(StatefulError, match="No session"):
        place.recognised(running(status="restarting", pid=0))


def test_a_stopped_server_is_known_by_its_files(place: Place) -> None:
    place.cluster(USUAL)
    assert place.recognised(running(status="exited", pid=0)) == USUAL
    assert place.recognised(running(status="exited", pid=0, image_ref="nginx", env={})) == ""


def test_files_of_another_cluster_are_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    host_path = place.cluster(USUAL, identifier=1)
    place.answer = "/srv/pg"
    cluster = SimpleNamespace(system_identifier=2, data_directory="/srv/pg", superuser="postgres")
    monkeypatch.setattr(subject, "observe_cluster", lambda _session: cluster)
    store = subject.PostgresqlStore(subject.Login())
    with pytest.raises(StatefulError, match="its data is elsewhere") as caught:
        store.observe(FakeEngine(), running(), USUAL, host_path)  # type: ignore[arg-type]
    assert "/srv/pg" in caught.value.msg


def observed(place: Place, monkeypatch: pytest.MonkeyPatch, *, holds_transactions: bool) -> Any:
    host_path = place.cluster(USUAL, identifier=CLUSTER.system_identifier)

    @contextlib.contextmanager
    def session(*_args: Any) -> Iterator[Any]:
        yield SimpleNamespace(holds_transactions=holds_transactions)

    monkeypatch.setattr(subject.PostgresqlStore, "session", session)
    monkeypatch.setattr(subject, "observe_cluster", lambda _session: CLUSTER)
    store = subject.PostgresqlStore(subject.Login())
    return store.observe(FakeEngine(), running(), USUAL, host_path)  # type: ignore[arg-type]


def test_psql_does_where_the_driver_is_missing_and_what_it_cannot_do_is_said(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "driver_missing", lambda: "No module named 'psycopg'")
    facts = observed(place, monkeypatch, holds_transactions=False)
    assert facts.blockers == ()
    (warning,) = facts.warnings
    assert "psql" in warning
    assert "host_requirements" in warning
    assert "psql" in facts.against[REPLICA]
    assert len(facts.details["logical_backup"]) == 1


def test_nothing_is_said_of_a_driver_that_is_there(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = observed(place, monkeypatch, holds_transactions=True)
    assert facts.warnings == ()
    assert facts.against == {}
    assert facts.details["logical_backup"] == []


def test_a_backup_that_could_not_be_proved_is_not_taken(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(transport, "driver_missing", lambda: "No module named 'psycopg'")
    facts = observed(place, monkeypatch, holds_transactions=False)
    monkeypatch.setattr(
        subject.PostgresqlStore, "session", lambda *_args: contextlib.nullcontext(SimpleNamespace(login=None))
    )
    monkeypatch.setattr(store_backup, "observe_cluster", lambda _session: CLUSTER)
    request = BackupRequest("app-1", "db", str(place.root), str(tmp_path / "backups" / "db"), "logical")
    store = subject.PostgresqlStore(subject.Login())
    with pytest.raises(StatefulError, match="could not be proved") as caught:
        store.backup(FakeEngine(), running(), facts, request, lambda done, total: None)  # type: ignore[arg-type]
    assert "host_requirements" in caught.value.next_command


@pytest.mark.parametrize("mode", ["auto", "physical"])
def test_rules_that_let_nobody_replicate_leave_a_dump(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: str
) -> None:
    def refuse(*_asked: object, **_more: object) -> None:
        raise store_backup.routes.NoRoute("no pg_hba.conf entry for replication connection")

    dumped = {"moment": "2026-01-01T00:00:00.000+00:00", "bytes": 7}
    monkeypatch.setattr(store_backup.routes, "find_route", refuse)
    monkeypatch.setattr(store_backup, "observe_cluster", lambda _session: CLUSTER)
    monkeypatch.setattr(store_backup.impediments, "to_physical_backup", lambda cluster, container: [])
    monkeypatch.setattr(store_backup.impediments, "to_logical_backup", lambda cluster: [])
    monkeypatch.setattr(store_backup.logical_backup, "take_proved", lambda *_asked, **_more: dumped)
    request = BackupRequest("app-1", "db", str(place.root), str(tmp_path / "backups" / "db"), mode)
    asked = (FakeEngine(), running(), SimpleNamespace(login=None), request, lambda done, total: None)
    if mode == "physical":
        with pytest.raises(StatefulError, match="no pg_hba"):
            store_backup.take(*asked)  # type: ignore[arg-type]
        return
    assert store_backup.take(*asked).proof == "restored into a scratch container and counted"  # type: ignore[arg-type]
