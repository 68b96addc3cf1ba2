# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An app of dokku's goes to a service of another image: nothing is lost, or everything is as it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.dokku import swapping
from tests.sandbox import images
from tests.sandbox._base import wait_for
from tests.sandbox.dokku import endpoint
from tests.sandbox.dokku.installation import Installation
from tests.sandbox.images import derived

pytestmark = pytest.mark.xdist_group("dokku-image")


@pytest.fixture(autouse=True, scope="module")
def fifteen(dokku: Installation) -> None:
    images.ensure(["postgres:15"], dokku.engine)


@pytest.fixture(autouse=True)
def nobody_writes_any_more(dokku: Installation) -> Iterator[None]:
    """Stop what a test leaves running: the workers of many tests would keep the later ones from their processors."""
    yield
    running = dokku.engine.docker("ps", "-q", "--filter", f"name={dokku.name('')}").split()
    if running:
        dokku.engine.docker("kill", *running, check=False)


def test_an_app_is_swapped_once_and_goes_back_only_when_that_loses_nothing(dokku: Installation, tmp_path: Path) -> None:
    app = swapping.of(dokku, tmp_path, "blog", "-s", "96m", "-c", "-c work_mem=7MB", "-C", "TOKEN=hush-hush")
    dokku.dokku("config:set", "--no-restart", app.app, f"DATABASE_URL={app.old.dsn()}?application_name=blog")
    app.before = dokku.config(app.app)
    foreseen = app.swap(check=True)
    assert foreseen["changed"]
    assert app.old.name in foreseen["plan_text"]
    assert not app.new.root.exists()

    swapped = app.swap(database_scheme="postgis")
    assert swapped.get("operation_state") == "done", swapped.get("msg")
    assert dokku.config(app.app)["DATABASE_URL"] == f"{app.new.dsn('postgis')}?application_name=blog"
    assert dokku.missing(app.app, app.new) == set()
    assert dokku.sql(app.new, "SHOW work_mem") == "7MB"
    assert app.new.read("ENV") == "TOKEN=hush-hush"
    assert app.new.read("SHM_SIZE") == "96m"
    assert app.old.status == "exited"
    assert swapped["verification"]["rows"] > 100
    for secret in ("hush-hush", app.old.read("PASSWORD"), app.new.read("PASSWORD")):
        assert secret not in json.dumps([swapped, app.journal()])

    again = app.swap(database_scheme="postgis")
    assert not again["changed"]
    assert again["service"] == app.new.name

    dokku.wait_writing(app.app)
    refused = app.end("rolled_back")
    assert "transactions were made" in refused["msg"]
    dokku.wait_writing(app.app)
    back = app.end("rolled_back", discard_writes=True)
    assert back["changed"], back
    assert any(copy["path"].endswith(".discarded") for copy in back["copies"])
    assert dokku.config(app.app) == app.before
    dokku.wait_writing(app.app)
    assert dokku.acknowledged(app.app)[-1].host == app.old.hostname
    assert not app.new.root.exists()


@pytest.mark.faults
def test_what_was_swapped_is_committed_and_the_old_service_is_gone(dokku: Installation, tmp_path: Path) -> None:
    app = swapping.of(dokku, tmp_path, "shop")
    dokku.dokku("postgres:backup-auth", app.old.name, "key", "secret-of-mine", "region")
    dokku.dokku("postgres:backup-schedule", app.old.name, "0 3 * * *", "bucket")
    swapped = app.swap()
    assert swapped.get("operation_state") == "done", swapped.get("msg")
    app.check_swapped()
    assert app.new.read("backup/AWS_SECRET_ACCESS_KEY") == "secret-of-mine"
    assert dokku.host.cron_file(app.new.name).exists()
    assert not dokku.host.cron_file(app.old.name).exists()
    assert "secret-of-mine" not in json.dumps([swapped, app.journal()])
    assert app.end("committed")["changed"]
    assert not app.old.root.exists()
    assert not app.end("committed")["changed"]
    assert "committed" in app.end("rolled_back")["msg"]


@pytest.mark.faults
def test_what_fails_half_way_leaves_everything_as_it_was(dokku: Installation, tmp_path: Path) -> None:
    app = swapping.of(dokku, tmp_path, "half")
    with dokku.fault("import-half-way", app.new.name):
        failed = app.swap(strategy="dump")
    assert failed["failed_step"] == "import"
    assert failed["state"].startswith("everything was undone")
    app.check_as_before()
    with dokku.fault("app-does-not-start", app.app):
        failed = app.swap()
        assert "ps:start" in failed["msg"]
        # It does not start on the old service either, and everything else is as it was; the rest is dokku's own note.
        assert dokku.config(app.app) == {**app.before, "DOKKU_APP_RESTORE": "0"}
    swapped = app.swap()
    assert swapped.get("operation_state") == "done", swapped.get("msg")
    app.check_swapped()


@pytest.mark.faults
def test_an_app_that_writes_and_does_not_answer_stays_where_its_data_is(dokku: Installation, tmp_path: Path) -> None:
    app = swapping.of(dokku, tmp_path, "mute")
    with dokku.fault("app-does-not-answer", app.app):
        failed = app.swap()
        assert "transactions were made" in failed["msg"]
        assert "does not answer" in failed["msg"]
    dokku.wait_writing(app.app)
    assert dokku.missing(app.app, app.new) == set()
    dokku.dokku("ps:restart", app.app)
    swapped = app.swap()
    assert swapped.get("operation_state") == "done", swapped.get("msg")
    app.check_swapped()


@pytest.mark.faults
def test_what_stands_in_the_way_is_said_and_nothing_is_touched(dokku: Installation, tmp_path: Path) -> None:
    app = swapping.of(dokku, tmp_path, "plan")
    assert "is not on this engine" in app.swap(version="99")["msg"]
    assert "already" in app.swap(version="15")["plan_text"] or not app.swap(version="15")["changed"]
    dokku.dokku("postgres:create", app.new.name, "-I", "17")
    assert "There is a service" in app.swap()["msg"]
    dokku.sql(app.old, "CREATE ROLE reader")
    assert "reader" in app.swap(name=dokku.name("another"), strategy="dump")["msg"]
    dokku.sql(app.old, "DROP ROLE reader; CREATE DATABASE beside")
    assert "beside" in app.swap(name=dokku.name("another"), strategy="dump")["msg"]
    dokku.sql(app.old, "DROP DATABASE beside")
    # By hand, to the end but for the old one.
    dokku.dokku("postgres:import", app.new.name, input=dokku.dokku("postgres:export", app.old.name).raw)
    dokku.dokku("postgres:link", app.new.name, app.app, "-n")
    dokku.dokku("postgres:promote", app.new.name, app.app)
    dokku.dokku("maintenance:enable", app.app, check=False)
    unchanged = app.swap()
    assert not unchanged["changed"]
    assert "is shown" in json.dumps(unchanged["warnings"])


@pytest.mark.faults
@pytest.mark.skipif(not endpoint.available(), reason="needs moto[server] and boto3")
def test_an_empty_backup_stops_it_before_anything_does(dokku: Installation, tmp_path: Path) -> None:
    app = swapping.of(dokku, tmp_path, "safe")
    with endpoint.Endpoint() as s3:
        s3.make_bucket("bucket")
        dokku.dokku("postgres:backup-auth", app.old.name, *s3.auth)
        with dokku.fault("backup-empty", app.old.name):
            failed = app.swap(bucket="bucket")
        assert "is empty" in failed["msg"]
        app.check_as_before()
        swapped = app.swap(bucket="bucket")
        assert swapped["verification"]["backup"]["dump_bytes"] > 1000
        assert any(app.new.name in key for key in s3.objects("bucket"))
    app.check_swapped()


MADE, LAST = "make the new service", "unlink and stop the old service"
OF_EVERY_WAY = ("shut the writers out", "link and promote the new service", "let the app in", "take the page away")
OF_A_DUMP = (MADE, "export", "import", *OF_EVERY_WAY, "carry the backups over", LAST)
COPY = "copy dokku.postgres.{0}:/var/lib/postgresql/data"
OF_FILES = (
    MADE, "export, to keep", "set the new service's own cluster aside", "make the new cluster of dokku.postgres.{0}",
    "prepare the copy of dokku.postgres.{0}:/var/lib/postgresql/data", "look again", "hold restarts", "stop the stores",
    COPY, "upgrade dokku.postgres.{0}:/var/lib/postgresql/data", "serve the data by the new service",
    "compare dokku.postgres.{0}", "give the data the new service's names", *OF_EVERY_WAY,
    "discard the copy of dokku.postgres.{0}:/var/lib/postgresql/data", LAST,
)  # fmt: skip
KILLS = [("dump", step) for step in OF_A_DUMP] + [("physical", step) for step in OF_FILES]


def named(kill: tuple[str, str]) -> str:
    strategy, step = kill
    return f"{strategy[0]}{(OF_A_DUMP if strategy == 'dump' else OF_FILES).index(step)}"


@pytest.mark.faults
@pytest.mark.parametrize("what", ["intent", "evidence"])
@pytest.mark.parametrize("kill", KILLS, ids=named)
def test_killed_at_a_step_the_next_run_ends_it(
    dokku: Installation, tmp_path: Path, kill: tuple[str, str], what: str
) -> None:
    strategy, step = kill
    if (step, what) == (LAST, "evidence"):
        pytest.skip("after the last step there is nothing to kill")
    app = swapping.of(dokku, tmp_path, f"k{named(kill)}{what[0]}")
    app.killed(step.format(app.old.name), what, strategy=strategy)
    swapped = app.swap(strategy=strategy)
    assert swapped.get("operation_state") == "done", swapped.get("msg")
    app.check_swapped()


@pytest.mark.faults
@pytest.mark.parametrize("kill", [kill for kill in KILLS if kill[1] not in (*OF_EVERY_WAY[2:], LAST)], ids=named)
def test_killed_at_a_step_it_can_be_rolled_back(dokku: Installation, tmp_path: Path, kill: tuple[str, str]) -> None:
    strategy, step = kill
    if step == "carry the backups over" or step.startswith("discard"):
        pytest.skip("once the app writes to the new service, nothing of that is lost unasked")
    app = swapping.of(dokku, tmp_path, f"r{named(kill)}")
    app.killed(step.format(app.old.name), "intent", strategy=strategy)
    assert app.end("rolled_back")["changed"]
    wait_for(lambda: not app.shown, "the page is gone")
    app.check_as_before()


@pytest.mark.faults
def test_the_whole_cluster_comes_along_where_its_files_go(dokku: Installation, tmp_path: Path) -> None:
    app = swapping.of(dokku, tmp_path, "whole")
    for statement in ("CREATE ROLE reader", "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader",
                      "CREATE DATABASE beside", "ALTER SYSTEM SET work_mem = '9MB'"):  # fmt: skip
        dokku.sql(app.old, statement)
    beside = f"{app.old.dsn().rpartition('/')[0]}/beside"
    dokku.dokku("config:set", "--no-restart", app.app, f"QUEUE_URL={beside}?pool=5")
    assert "reader" in app.swap(strategy="dump")["msg"]
    swapped = app.swap(strategy="physical")
    assert swapped.get("operation_state") == "done", swapped.get("msg")
    app.check_swapped()
    assert dokku.sql(app.new, "SELECT count(*) FROM pg_roles WHERE rolname = 'reader'") == "1"
    assert dokku.sql(app.new, "SELECT count(*) FROM pg_database WHERE datname = 'beside'") == "1"
    assert dokku.config(app.app)["QUEUE_URL"] == f"{app.new.dsn().rpartition('/')[0]}/beside?pool=5"
    assert dokku.sql(app.new, "SHOW work_mem") == "9MB"
    assert dokku.sql(app.new, "SHOW ssl") == "on"
    for name in ("server.crt", "server.key"):
        assert (app.new.root / "data" / name).read_bytes() != (app.old.root / "data" / name).read_bytes()
    assert sorted(path.name for path in app.new.root.glob("*data*")) == ["data"]
    # Roles and sequences of a cluster that stood still are those of before, so that this loses nothing.
    assert "transactions were made" in app.end("rolled_back")["msg"]

    dokku.sql(app.new, "CREATE TABLE later AS SELECT 'written beside' AS what", database="beside")
    back = app.end("rolled_back", discard_writes=True)
    assert back.get("changed"), back["msg"]
    assert dokku.config(app.app)["QUEUE_URL"] == f"{beside}?pool=5"
    (beside,) = [copy["path"] for copy in back["copies"] if copy["path"].endswith(".discarded.beside")]
    assert Path(beside).stat().st_mode & 0o777 == 0o600
    told = ("run", "--rm", "-v", f"{beside}:/archive:ro", "--entrypoint", "pg_restore", "selfhost-sandbox/postgres:17")
    assert "\nwritten beside\n" in dokku.engine.docker(*told, "-f", "-", "/archive")
    dokku.wait_writing(app.app)
    assert dokku.acknowledged(app.app)[-1].host == app.old.hostname


@pytest.mark.faults
def test_another_build_of_one_major_version_serves_a_copy_of_the_files(dokku: Installation, tmp_path: Path) -> None:
    app = swapping.of(dokku, tmp_path, "again")
    with derived("postgres:15", dokku.engine, tmp_path / "build") as reference:
        repository, _colon, tag = reference.rpartition(":")
        asked: dict[str, Any] = {"image": repository, "version": tag}
        assert not app.swap(version="15")["changed"]
        swapped = app.swap(strategy="physical", **asked)
        assert swapped.get("operation_state") == "done", swapped.get("msg")
        app.check_swapped()
        assert not app.swap(**asked)["changed"]
        assert app.end("rolled_back", discard_writes=True)["changed"]
        assert dokku.config(app.app) == app.before
        dokku.wait_writing(app.app)
        assert dokku.acknowledged(app.app)[-1].host == app.old.hostname
        assert not app.new.root.exists()


@pytest.mark.faults
def test_the_way_back_is_to_the_very_image_although_its_container_is_gone_and_its_tag_another_build(
    dokku: Installation, tmp_path: Path
) -> None:
    docker = dokku.engine.docker
    with derived("postgres:15", dokku.engine, tmp_path / "build") as reference:
        repository, _colon, tag = reference.rpartition(":")
        app = swapping.of(dokku, tmp_path, "stay", "-i", repository, "-I", tag)
        ran = docker("inspect", "-f", "{{.Image}}", app.old.container)
        swapped = app.swap()
        assert swapped.get("operation_state") == "done", swapped.get("msg")
        # dokku's own way to stop a service removes its container; then a newer build gets the tag.
        dokku.dokku("postgres:stop", app.old.name)
        assert app.old.status == "missing"
        images.build_on("postgres:15", dokku.engine, tmp_path / "newer", reference, "LABEL build=newer")
        newer = docker("image", "inspect", "-f", "{{.Id}}", reference)
        assert newer != ran
        back = app.end("rolled_back", discard_writes=True)
        assert back.get("changed"), back["msg"]
        assert docker("inspect", "-f", "{{.Image}}", app.old.container) == ran
        assert docker("inspect", "-f", "{{.HostConfig.RestartPolicy.Name}}", app.old.container) == "always"
        assert docker("image", "inspect", "-f", "{{.Id}}", reference) == newer
        dokku.wait_writing(app.app)
        assert dokku.acknowledged(app.app)[-1].host == app.old.hostname


@pytest.mark.faults
def test_what_an_admin_let_write_before_we_did_is_not_thrown_away(dokku: Installation, tmp_path: Path) -> None:
    app = swapping.of(dokku, tmp_path, "early")
    app.killed("link and promote the new service", "evidence")
    dokku.dokku("ps:start", app.app)
    dokku.wait_writing(app.app)
    assert dokku.acknowledged(app.app)[-1].host == app.new.hostname
    assert "transactions were made" in app.end("rolled_back")["msg"]
    dokku.wait_writing(app.app)
    assert dokku.missing(app.app, app.new) == set()
    swapped = app.swap()
    assert swapped.get("operation_state") == "done", swapped.get("msg")
    app.check_swapped()


@pytest.mark.faults
def test_what_was_written_to_the_old_service_after_its_files_went_is_taken_along_by_the_next_run(
    dokku: Installation, tmp_path: Path
) -> None:
    app = swapping.of(dokku, tmp_path, "woken")
    app.killed("link and promote the new service", "evidence", strategy="physical")
    dokku.engine.docker("start", app.old.container)
    ready = ("exec", app.old.container, "pg_isready", "-U", "postgres")
    wait_for(lambda: "accepting" in dokku.engine.docker(*ready, check=False), "the old server answers")
    dokku.sql(app.old, "CREATE TABLE since AS SELECT 1 AS one")
    swapped = app.swap(strategy="physical")
    assert swapped.get("operation_state") == "done", swapped.get("msg")
    assert "was started after its data was taken" in json.dumps(swapped["warnings"])
    assert dokku.count(app.new, "since") == 1
    app.check_swapped()


@pytest.mark.faults
def test_an_app_that_was_moved_on_does_not_go_back_and_its_swap_can_be_committed(
    dokku: Installation, tmp_path: Path
) -> None:
    app = swapping.of(dokku, tmp_path, "moved")
    swapped = app.swap()
    assert swapped.get("operation_state") == "done", swapped.get("msg")
    third = dokku.service(f"{app.app}-third")
    dokku.dokku("postgres:create", third.name, "-I", "17")
    dokku.dokku("postgres:link", third.name, app.app)
    dokku.dokku("postgres:promote", third.name, app.app)
    assert "was moved on since" in app.end("rolled_back", discard_writes=True)["msg"]
    assert dokku.config(app.app)["DATABASE_URL"] == third.dsn()
    assert app.new.root.exists()
    assert app.end("committed")["changed"]
    assert not app.old.root.exists()


@pytest.mark.faults
def test_what_has_changed_since_it_was_prepared_is_planned_anew_and_told(dokku: Installation, tmp_path: Path) -> None:
    app = swapping.of(dokku, tmp_path, "later")
    prepared = app.swap(stop_before="switch")
    dokku.dokku("config:set", "--no-restart", app.app, f"REPORTS_URL={app.old.dsn()}")
    swapped = app.swap()
    assert swapped.get("operation_state") == "done", swapped.get("msg")
    assert swapped["operation"] != prepared["operation"]
    told = [said for warning in swapped["warnings"] if prepared["operation"] in (said := json.dumps(warning))]
    assert len(told) == 1
    assert "not as it was when this was planned" in told[0]
    assert "REPORTS_URL" in told[0]
    assert dokku.config(app.app)["REPORTS_URL"] == app.new.dsn()
    app.check_swapped()


@pytest.mark.faults
def test_another_image_of_the_old_service_since_it_was_prepared_is_found_before_anything_stops(
    dokku: Installation, tmp_path: Path
) -> None:
    app = swapping.of(dokku, tmp_path, "since")
    prepared = app.swap(stop_before="switch")
    with derived("postgres:15", dokku.engine, tmp_path / "build") as reference:
        repository, _colon, tag = reference.rpartition(":")
        dokku.dokku("postgres:upgrade", app.old.name, "-i", repository, "-I", tag)
        dokku.wait_writing(app.app)
        swapped = app.swap()
        assert swapped.get("operation_state") == "done", swapped.get("msg")
        told = [said for warning in swapped["warnings"] if prepared["operation"] in (said := json.dumps(warning))]
        assert "is not what this was planned for any more" in told[0]
        assert reference in told[0]
        assert swapped["plan"]["from"]["image"] == reference
        app.check_swapped()


@pytest.mark.faults
def test_what_the_cluster_has_since_it_was_prepared_comes_along(dokku: Installation, tmp_path: Path) -> None:
    """A standby has unlogged tables, and has them empty."""
    app = swapping.of(dokku, tmp_path, "unlogged")
    app.swap(stop_before="switch", strategy="physical")
    dokku.sql(app.old, "CREATE UNLOGGED TABLE fleeting AS SELECT generate_series(1, 10)")
    swapped = app.swap(strategy="physical")
    assert swapped.get("operation_state") == "done", swapped.get("msg")
    assert dokku.count(app.new, "fleeting") == 10
    app.check_swapped()


@pytest.mark.faults
def test_what_a_dump_would_leave_behind_since_it_was_prepared_is_found_before_anything_stops(
    dokku: Installation, tmp_path: Path
) -> None:
    app = swapping.of(dokku, tmp_path, "left")
    app.swap(stop_before="switch", strategy="dump")
    dokku.sql(app.old, "CREATE DATABASE beside")
    refused = app.swap(strategy="dump")
    assert "leave behind what it has since: the databases beside" in refused["msg"]
    assert "set accept_losses" in refused["msg"]
    app.check_as_before()


@pytest.mark.faults
def test_a_service_that_another_app_uses_by_now_is_taken_from_nobody(dokku: Installation, tmp_path: Path) -> None:
    app = swapping.of(dokku, tmp_path, "shared")
    swapped = app.swap(strategy="physical")
    assert swapped.get("operation_state") == "done", swapped.get("msg")
    other = dokku.create_app("guest", worker=0, link=app.new)
    refused = app.end("rolled_back", discard_writes=True)
    assert f"the app {other} is linked to it" in refused["msg"]
    dokku.wait_writing(app.app)
    assert dokku.missing(app.app, app.new) == set()
    assert dokku.web_status(other) == 200


@pytest.mark.faults
def test_an_app_that_was_stopped_at_the_swap_and_started_since_runs_once_it_is_back(
    dokku: Installation, tmp_path: Path
) -> None:
    app = swapping.of(dokku, tmp_path, "idle")
    dokku.dokku("ps:stop", app.app)
    swapped = app.swap()
    assert swapped.get("operation_state") == "done", swapped.get("msg")
    dokku.dokku("ps:start", app.app)
    dokku.wait_writing(app.app)
    assert app.end("rolled_back", discard_writes=True)["changed"]
    dokku.wait_writing(app.app)
    assert dokku.acknowledged(app.app)[-1].host == app.old.hostname
