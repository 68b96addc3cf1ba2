# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The sandbox's dokku behaves as the real one was seen to, traps included: tests of swaps stand on that."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox import engine as sandbox
from tests.sandbox import images
from tests.sandbox._base import IMAGE_PREFIX, wait_for
from tests.sandbox.dokku import endpoint, installation
from tests.sandbox.dokku.front import fetch
from tests.sandbox.dokku.installation import Installation
from tests.sandbox.dokku.service import Service

# They share one dokku, whose services take seconds to make. The usual run asks what tells most.
pytestmark = [pytest.mark.xdist_group("sandbox-dokku"), pytest.mark.faults]

Linked = tuple[str, Service]


@pytest.fixture(scope="module")
def dokku(shared_engine: sandbox.Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Return a dokku that is gone afterwards."""
    with installation.make(tmp_path_factory.mktemp("dokku"), engine=shared_engine) as made:
        yield made


@pytest.fixture(scope="module")
def linked(dokku: Installation) -> Linked:
    """Return an app whose worker writes all the time, and its service."""
    return dokku.create_linked("app", rows=2000)


@pytest.fixture(scope="module")
def eighteen(dokku: Installation) -> Iterator[Service]:
    """Return a service with every setting, of a tag of its own."""
    tag = f"{IMAGE_PREFIX}/postgres:{dokku.name('tag')}"
    dokku.engine.docker("tag", images.ref("postgres:18", dokku.engine), tag)
    dokku.dokku("network:create", dokku.name("net"))
    try:
        yield dokku.create_service(
            "set", "-c", "-c work_mem=7MB", "-C", "ONE=1;TWO=2", "-i", f"{IMAGE_PREFIX}/postgres",
            "-I", dokku.name("tag"), "-m", "512", "-N", dokku.name("net"), "-p", "secret", "-r", "unused", "-s", "96m",
        )  # fmt: skip
    finally:
        dokku.engine.docker("rmi", tag, check=False)


@pytest.fixture(scope="module")
def other(dokku: Installation) -> Service:
    """Return a service like the app's, with the table that its worker writes to."""
    service = dokku.create_service("other")
    dokku.seed(service, 1)
    return service


@pytest.fixture(scope="module")
def copy(dokku: Installation, eighteen: Service) -> Service:
    """Return a clone of the service with every setting."""
    dokku.sql(eighteen, "CREATE TABLE here (id int); INSERT INTO here VALUES (1)")
    target = dokku.service(dokku.name("copy"))
    dokku.dokku("postgres:clone", eighteen.name, target.name)
    return target


@pytest.fixture(scope="module")
def fifteen(dokku: Installation) -> Service:
    """Return a service of an older major than the plugin's default."""
    images.ensure(["postgres:15"], dokku.engine)
    service = dokku.create_service("fifteen", "-I", "15", "-c", "-c work_mem=7MB", "-C", "ONE=1")
    dokku.seed(service, 10)
    return service


def inspected(dokku: Installation, container: str) -> dict[str, Any]:
    """Return what the engine says of a container."""
    found = dokku.host.docker.inspect(container)
    assert found is not None, container
    return found


def info(dokku: Installation, service: Service, flag: str) -> str:
    """Return the bare line that ``info`` prints for a flag."""
    out = dokku.dokku("postgres:info", service.name, flag).out
    assert out.endswith("\n")
    assert out.count("\n") == 1
    return out.removesuffix("\n")


def refused(dokku: Installation, *args: str, code: int = 1) -> str:
    """Return what a call that must fail says on stderr."""
    done = dokku.dokku(*args, check=False)
    assert done.code == code, (args, done)
    return done.err


def test_versions_are_told(dokku: Installation) -> None:
    assert re.fullmatch(r"dokku version 0\.38\.\d+\n", dokku.dokku("version").out)
    plugins = dokku.dokku("plugin:list").out
    assert re.search(r"^  postgres +1\.48\.0 enabled    dokku postgres service plugin$", plugins, re.MULTILINE)
    assert re.search(r"^  maintenance +0\.\d+\.\d+ enabled ", plugins, re.MULTILINE)
    assert "is not a dokku command" in refused(dokku, "postgres:nonsense")


def test_create_takes_every_setting(dokku: Installation, eighteen: Service) -> None:
    container = inspected(dokku, eighteen.container)
    assert container["HostConfig"]["Memory"] == 512 * 2**20
    assert container["HostConfig"]["ShmSize"] == 96 * 2**20
    assert {"ONE=1", "TWO=2", "POSTGRES_PASSWORD=secret"} <= set(container["Config"]["Env"])
    assert container["Config"]["Cmd"] == ["-c", "work_mem=7MB"]
    assert list(container["NetworkSettings"]["Networks"]) == [dokku.name("net")]
    assert eighteen.hostname in container["NetworkSettings"]["Networks"][dokku.name("net")]["Aliases"]
    assert dokku.sql(eighteen, "SHOW work_mem") == "7MB"
    assert info(dokku, eighteen, "--initial-network") == dokku.name("net")


def test_from_18_on_the_data_is_mounted_one_level_higher(
    dokku: Installation, eighteen: Service, linked: Linked
) -> None:
    def mounts(service: Service) -> dict[str, str]:
        return {mount["Source"]: mount["Destination"] for mount in inspected(dokku, service.container)["Mounts"]}

    assert mounts(eighteen) == {str(eighteen.data): "/var/lib/postgresql"}
    assert (eighteen.data / "18/docker/PG_VERSION").read_text() == "18\n"
    assert mounts(linked[1]) == {str(linked[1].data): "/var/lib/postgresql/data"}
    assert (linked[1].data / "PG_VERSION").read_text() == "17\n"


def test_tls_is_on_with_a_certificate_inside_the_data_directory(
    dokku: Installation, eighteen: Service, linked: Linked
) -> None:
    for service, place in ((linked[1], ""), (eighteen, "18/docker")):
        assert (service.data / place / "server.crt").read_text().startswith("-----BEGIN CERTIFICATE-----")
        assert (service.data / place / "server.key").stat().st_mode & 0o777 == 0o600
        assert dokku.sql(service, "SHOW ssl") == "on"


def test_info_prints_one_bare_line(dokku: Installation, linked: Linked) -> None:
    app, service = linked
    root = dokku.host.root / "var/lib/dokku/services/postgres" / service.name
    assert info(dokku, service, "--version") == f"{IMAGE_PREFIX}/postgres:17"
    assert info(dokku, service, "--status") == "running"
    assert info(dokku, service, "--links").split() == [app]
    assert info(dokku, service, "--data-dir") == str(root / "data")
    assert info(dokku, service, "--service-root") == str(root)
    assert info(dokku, service, "--id") == inspected(dokku, f"dokku.postgres.{service.name}")["Id"]
    host = f"dokku-postgres-{service.name}"
    assert re.fullmatch(
        rf"postgres://postgres:[0-9a-f]{{32}}@{host}:5432/{service.name.replace('-', '_')}",
        info(dokku, service, "--dsn"),
    )
    assert "Invalid flag passed" in refused(dokku, "postgres:info", service.name, "--nonsense")


def test_exists_and_linked_answer_by_exit_code(dokku: Installation, linked: Linked, eighteen: Service) -> None:
    app, service = linked
    dokku.dokku("postgres:exists", service.name)
    refused(dokku, "postgres:exists", dokku.name("none"))
    dokku.dokku("postgres:linked", service.name, app)
    refused(dokku, "postgres:linked", eighteen.name, app)
    assert service.name in dokku.dokku("postgres:list").out.splitlines()
    assert dokku.dokku("postgres:links", service.name).out.split() == [app]
    assert dokku.dokku("postgres:app-links", app).out.split() == [service.name]
    refused(dokku, "apps:exists", dokku.name("none"), code=20)
    assert "does not exist" in refused(dokku, "postgres:info", dokku.name("none"), "--status")


def test_names_have_no_dots(dokku: Installation) -> None:
    assert "Valid characters" in refused(dokku, "postgres:create", dokku.name("v1.2"))
    assert not dokku.service(dokku.name("v1.2")).root.exists()


def test_an_image_that_is_not_there_is_not_used(dokku: Installation) -> None:
    service = dokku.service(dokku.name("none"))
    assert "postgres:99 pull failed" in refused(dokku, "postgres:create", service.name, "-I", "99")
    assert not service.root.exists()


def test_the_app_answers_and_its_worker_notes_what_is_written(dokku: Installation, linked: Linked) -> None:
    app, service = linked
    assert dokku.web_status(app) == 200
    assert dokku.web_status(app, "/health") == 200
    dokku.wait_writing(app)
    before = {written.id for written in dokku.acknowledged(app)}
    assert {written.host for written in dokku.acknowledged(app)} == {service.hostname}
    assert not dokku.missing(app, service) & before
    dokku.sql(service, f"DELETE FROM worker_rows WHERE id = {min(before)}")
    assert min(before) in dokku.missing(app, service)
    dokku.sql(service, f"INSERT INTO worker_rows (id) VALUES ({min(before)})")


def test_maintenance_sets_a_flag_fails_and_stops_no_worker(dokku: Installation, linked: Linked) -> None:
    app, _service = linked
    url = dokku.front(app)
    assert fetch(url)[0] == 200
    refused(dokku, "maintenance:enable", app)
    assert json.loads(dokku.dokku("maintenance:report", app, "--format", "json").out)["enabled"] == "true"
    assert fetch(url)[0] == 503
    dokku.wait_writing(app)
    dokku.dokku("maintenance:disable", app)
    assert json.loads(dokku.dokku("maintenance:report", app, "--format", "json").out)["enabled"] == "false"
    assert fetch(url)[0] == 200
    assert "Deprecated" in refused(dokku, "maintenance:on", app)
    assert "Deprecated" in dokku.dokku("maintenance:off", app).err


def test_an_old_maintenance_plugin_has_other_subcommands(shared_engine: sandbox.Engine, tmp_path: Path) -> None:
    with installation.make(tmp_path, engine=shared_engine, nginx="works", versions={"maintenance": "0.3.0"}) as old:
        old.dokku("apps:create", old.name("app"))
        assert "is not a dokku command" in refused(old, "maintenance:enable", old.name("app"))
        assert "is not a dokku command" in refused(old, "maintenance:report", old.name("app"))
        assert old.dokku("maintenance:on", old.name("app")).err == ""


def test_a_limit_of_connections_does_not_shut_the_app_out(dokku: Installation, linked: Linked) -> None:
    app, service = linked
    dokku.sql(
        service,
        f"ALTER DATABASE {service.database} CONNECTION LIMIT 0;"
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname IS NOT NULL;",
    )
    try:
        # It logs in as a superuser, whom no limit holds.
        dokku.wait_writing(app)
    finally:
        dokku.sql(service, f"ALTER DATABASE {service.database} CONNECTION LIMIT -1")


def test_stopped_processes_write_nothing_and_start_in_their_number(dokku: Installation, linked: Linked) -> None:
    app, service = linked
    dokku.dokku("ps:stop", app)
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    assert dokku.sql(service, sessions) == "0"
    assert dokku.dokku("ps:report", app, "--running").out == "false\n"
    # A change of variables does not start what was stopped by hand.
    dokku.dokku("config:set", app, "OTHER=1")
    assert dokku.dokku("ps:report", app, "--running").out == "false\n"
    assert {"web:  1", "worker: 1"} <= set(dokku.dokku("ps:scale", app).out.splitlines())
    dokku.dokku("ps:start", app)
    report = json.loads(dokku.dokku("ps:report", app, "--format", "json").out)
    assert (report["running"], report["processes"]) == ("true", "2")
    assert report["status-worker-1"].startswith("running (CID: ")
    assert inspected(dokku, f"{app}.worker.1")["Id"] == dokku.containers(app)["worker.1"]


def test_variables_are_told_in_several_formats(dokku: Installation, linked: Linked) -> None:
    app, _service = linked
    dokku.dokku("config:set", "--no-restart", "--encoded", app, "QUOTED=aXQncyAiaXQi")
    assert dokku.dokku("config:get", app, "QUOTED").out == 'it\'s "it"\n'
    assert dokku.config(app)["QUOTED"] == 'it\'s "it"'
    assert "export QUOTED='it'\\''s \"it\"'" in dokku.dokku("config:export", app).out.splitlines()
    assert {"DATABASE_URL", "QUOTED"} <= set(dokku.dokku("config:keys", app).out.splitlines())
    dokku.dokku("config:unset", "--no-restart", app, "QUOTED")
    assert dokku.dokku("config:get", app, "QUOTED", check=False).code == 1


def test_an_app_that_does_not_start_leaves_the_old_one_and_is_no_failure(dokku: Installation, linked: Linked) -> None:
    app, _service = linked
    before = dokku.containers(app)
    with dokku.fault("app-does-not-start", app):
        done = dokku.dokku("config:set", app, "BROKEN=1")
        assert "Failure while restarting app" in done.err
        assert dokku.containers(app) == before
        assert dokku.web_status(app) == 200
        refused(dokku, "ps:restart", app)
    with dokku.fault("app-does-not-answer", app):
        dokku.dokku("ps:restart", app)
        assert dokku.containers(app) != before
        assert dokku.web_status(app) == 500
    with dokku.fault("late-retirement", app):
        broken = dokku.containers(app)
        dokku.dokku("ps:restart", app)
        assert {dokku.host.docker.state(container) for container in broken.values()} == {"running"}
        assert dokku.web_status(app) == 200
        dokku.dokku("ps:retire")
        assert {dokku.host.docker.state(container) for container in broken.values()} == {""}


def test_links_are_not_idempotent_and_restart_the_app(dokku: Installation, linked: Linked, other: Service) -> None:
    app, service = linked
    seen = [set(dokku.containers(app).values())]

    def restarted() -> bool:
        seen.append(set(dokku.containers(app).values()))
        return len(seen[-1]) == 2 and not seen[-1] & seen[-2]

    assert "Already linked as DATABASE_URL" in refused(dokku, "postgres:link", service.name, app)
    dokku.dokku("postgres:link", other.name, app)
    assert restarted()
    assert dokku.config(app)["DOKKU_POSTGRES_AQUA_URL"] == other.dsn()
    option = f"--link {other.container}:{other.hostname}"
    assert option in dokku.dokku("docker-options:report", app, "--docker-options-deploy").out
    assert "Already linked as DOKKU_POSTGRES_AQUA_URL" in refused(dokku, "postgres:link", other.name, app)
    assert "Cannot delete linked service" in refused(dokku, "postgres:destroy", other.name, "-f")
    dokku.dokku("postgres:promote", other.name, app)
    assert restarted()
    values = dokku.config(app)
    assert values["DATABASE_URL"] == values["DOKKU_POSTGRES_AQUA_URL"] == other.dsn()
    assert values["DOKKU_POSTGRES_BLACK_URL"] == service.dsn()
    assert "already promoted" in refused(dokku, "postgres:promote", other.name, app)
    dokku.wait_writing(app)
    assert dokku.acknowledged(app)[-1].host == other.hostname
    dokku.dokku("ps:stop", app)
    dokku.dokku("postgres:promote", service.name, app)
    assert dokku.dokku("ps:report", app, "--running").out == "false\n"
    dokku.dokku("ps:start", app)
    assert restarted()
    dokku.dokku("postgres:unlink", other.name, app)
    assert restarted()
    assert other.dsn() not in dokku.config(app).values()
    assert option not in dokku.dokku("docker-options:report", app, "--docker-options-deploy").out
    assert "Not linked" in refused(dokku, "postgres:unlink", other.name, app)
    assert "Not linked" in refused(dokku, "postgres:promote", other.name, app)


def test_a_service_of_another_network_keeps_the_app_from_starting(
    dokku: Installation, linked: Linked, eighteen: Service
) -> None:
    app, _service = linked
    before = dokku.containers(app)
    assert "Failure while restarting app" in dokku.dokku("postgres:link", eighteen.name, app).err
    assert dokku.containers(app) == before
    dokku.dokku("postgres:unlink", eighteen.name, app, "-n")


def test_a_variable_of_another_scheme_stays_behind(dokku: Installation, linked: Linked, other: Service) -> None:
    app, service = linked
    before = dokku.containers(app)
    dokku.dokku("postgres:link", other.name, app, "-n", "-a", "geo", "-q", "pool=5")
    assert dokku.config(app)["GEO_URL"] == f"{other.dsn()}?pool=5"
    dokku.dokku("config:set", "--no-restart", app, "POSTGRES_DATABASE_SCHEME=postgis")
    refused(dokku, "postgres:linked", other.name, app)
    assert "Not linked" in refused(dokku, "postgres:unlink", other.name, app)
    # The link itself is gone: only the host's name tells where the variable points.
    assert info(dokku, other, "--links") == "-"
    assert f"@{other.hostname}:" in dokku.config(app)["GEO_URL"]
    dokku.dokku("config:unset", "--no-restart", app, "GEO_URL")
    dokku.dokku("postgres:link", other.name, app, "-n")
    assert dokku.config(app)["DOKKU_POSTGRES_AQUA_URL"] == other.dsn("postgis")
    dokku.dokku("postgres:unlink", other.name, app, "-n")
    assert "DOKKU_POSTGRES_AQUA_URL" not in dokku.config(app)
    dokku.dokku("config:unset", "--no-restart", app, "POSTGRES_DATABASE_SCHEME")
    dokku.dokku("postgres:linked", service.name, app)
    # Nothing was started anew.
    assert dokku.containers(app) == before


def test_a_dump_is_one_database_without_roles_and_grants(dokku: Installation, linked: Linked, other: Service) -> None:
    _app, service = linked
    dokku.sql(
        service, "CREATE ROLE reader; GRANT SELECT ON sandbox_rows TO reader; ALTER TABLE sandbox_rows OWNER TO reader"
    )
    dokku.sql(service, "CREATE DATABASE beside")
    dump = dokku.dokku("postgres:export", service.name).raw
    assert dump.startswith(b"PGDMP")
    dokku.dokku("postgres:import", other.name, input=dump)
    assert dokku.count(other) == 2000
    assert dokku.sql(other, "SELECT tableowner FROM pg_tables WHERE tablename = 'sandbox_rows'") == "postgres"
    assert dokku.sql(other, "SELECT count(*) FROM pg_roles WHERE rolname = 'reader'") == "0"
    assert dokku.sql(other, "SELECT relacl IS NULL FROM pg_class WHERE relname = 'sandbox_rows'") == "t"
    assert dokku.sql(other, "SELECT count(*) FROM pg_database WHERE datname = 'beside'") == "0"
    # What is there is replaced.
    dokku.sql(other, "INSERT INTO sandbox_rows (note) VALUES ('one more')")
    dokku.dokku("postgres:import", other.name, input=dump)
    assert dokku.count(other) == 2000
    assert dokku.dokku("postgres:import", other.name, input=b"nonsense", check=False).code == 1


def test_an_import_can_fail_half_way(dokku: Installation, linked: Linked, other: Service) -> None:
    dump = dokku.dokku("postgres:export", linked[1].name).raw
    with dokku.fault("import-half-way", other.name):
        done = dokku.dokku("postgres:import", other.name, input=dump, check=False)
    assert done.code == 1
    assert "end of file" in done.err
    assert dokku.count(other) == 0


def test_commands_run_in_the_container(dokku: Installation, linked: Linked) -> None:
    _app, service = linked
    assert dokku.dokku("postgres:enter", service.name, "cat", "/etc/hostname").out.strip() == service.container
    assert dokku.dokku("postgres:enter", service.name, "sh", "-c", "exit 7", check=False).code == 7
    assert (
        dokku.dokku("postgres:connect", service.name, input=b"\\pset tuples_only\nSELECT 40 + 2;").out.split()[-1]
        == "42"
    )
    assert dokku.dokku("postgres:connect", service.name, input=b"SELEC 1;", check=False).code == 3
    assert "database system is ready" in dokku.dokku("postgres:logs", service.name).out


def test_an_exposed_port_needs_an_image_that_only_a_registry_has(dokku: Installation, other: Service) -> None:
    refused(dokku, "postgres:expose", other.name, "5432", code=125)
    assert info(dokku, other, "--exposed-ports").strip() == "5432->5432"
    dokku.dokku("postgres:unexpose", other.name)
    assert info(dokku, other, "--exposed-ports") == "-"


def test_a_clone_hides_a_failed_restore(dokku: Installation, linked: Linked) -> None:
    images.ensure(["postgres:13"], dokku.engine)
    _app, service = linked
    target = dokku.service(dokku.name("thirteen"))
    done = dokku.dokku("postgres:clone", service.name, target.name, "-I", "13")
    assert done.out.endswith("=====> Done\n")
    assert info(dokku, target, "--version") == f"{IMAGE_PREFIX}/postgres:13"
    assert dokku.sql(target, "SELECT count(*) FROM pg_stat_user_tables") == "0"
    dokku.dokku("postgres:destroy", target.name, "--force")


def test_a_clone_copies_but_does_not_carry_the_network(dokku: Installation, eighteen: Service, copy: Service) -> None:
    assert info(dokku, copy, "--version") == info(dokku, eighteen, "--version")
    assert dokku.count(copy, "here") == 1
    assert info(dokku, copy, "--initial-network") == ""
    assert list(inspected(dokku, copy.container)["NetworkSettings"]["Networks"]) == ["bridge"]
    assert "already exists" in refused(dokku, "postgres:clone", eighteen.name, copy.name)


def test_destroy_without_its_helper_image_leaves_the_directory(dokku: Installation, copy: Service) -> None:
    target = copy
    # Without -f and a terminal nobody can confirm.
    refused(dokku, "postgres:destroy", target.name)
    assert target.running
    with dokku.fault("busybox-missing"):
        assert "busybox" in refused(dokku, "postgres:destroy", target.name, "--force", code=125)
        assert dokku.host.docker.state(target.container) == ""
        assert target.data.is_dir()
        assert info(dokku, target, "--status") == "missing"
        assert info(dokku, target, "--version") == ""
        dokku.dokku("postgres:exists", target.name)
        dokku.dokku("postgres:destroy", target.name, "--force")
    refused(dokku, "postgres:exists", target.name)
    assert not target.root.exists()


def test_upgrade_across_majors_only_swaps_the_image(dokku: Installation, fifteen: Service) -> None:
    service = fifteen
    assert dokku.sql(service, "SHOW work_mem") == "7MB"
    for flag in ("-m", "-p", "-r"):
        assert "illegal option" in refused(dokku, "postgres:upgrade", service.name, flag, "1")
    dokku.dokku("postgres:upgrade", service.name, "-I", "17", check=False)
    assert info(dokku, service, "--version") == f"{IMAGE_PREFIX}/postgres:17"
    wait_for(lambda: info(dokku, service, "--status") == "restarting", "17 on the data of 15 starts again and again")
    dokku.dokku("postgres:upgrade", service.name, "-I", "15")
    assert info(dokku, service, "--status") == "running"
    assert dokku.count(service) == 10
    # What is not passed again is reset.
    assert dokku.sql(service, "SHOW work_mem") == "4MB"
    assert "ONE=1" not in inspected(dokku, service.container)["Config"]["Env"]


def test_start_after_stop_believes_the_default_image(dokku: Installation, fifteen: Service) -> None:
    service = fifteen
    dokku.dokku("postgres:pause", service.name)
    assert info(dokku, service, "--status") == "exited"
    dokku.dokku("postgres:start", service.name)
    assert info(dokku, service, "--status") == "running"
    dokku.dokku("postgres:stop", service.name)
    assert info(dokku, service, "--status") == "missing"
    with dokku.fault("default-image-missing"):
        done = dokku.dokku("postgres:start", service.name)
    assert f"Missing image {IMAGE_PREFIX}/postgres:15" in done.out
    assert info(dokku, service, "--status") == "missing"
    missing = dokku.dokku("postgres:start", service.name, env={"POSTGRES_IMAGE_VERSION": "99"})
    assert "Missing image" in missing.out
    dokku.dokku("postgres:start", service.name)
    wait_for(lambda: info(dokku, service, "--status") == "running", "the container was made anew")
    assert dokku.count(service) == 10
    assert "already started" in dokku.dokku("postgres:start", service.name).err


def test_an_images_id_tells_and_not_its_tag(dokku: Installation, eighteen: Service) -> None:
    tag = info(dokku, eighteen, "--version")
    before = inspected(dokku, eighteen.container)
    dokku.engine.docker("tag", f"{IMAGE_PREFIX}/postgres:17", tag)
    assert info(dokku, eighteen, "--version") == tag
    done = dokku.dokku("postgres:upgrade", eighteen.name, "-I", tag.rpartition(":")[2])
    assert f"already running {tag}" in done.out
    assert inspected(dokku, eighteen.container)["Id"] == before["Id"]
    assert before["Image"] != dokku.engine.docker("image", "inspect", "-f", "{{.Id}}", tag)


def test_backups_have_a_login_and_a_schedule(dokku: Installation, linked: Linked) -> None:
    service = linked[1]
    assert "Missing AWS_ACCESS_KEY_ID file" in refused(dokku, "postgres:backup", service.name, "bucket")
    dokku.dokku("postgres:backup-auth", service.name, "key", "secret", "region")
    assert (service.root / "backup/AWS_DEFAULT_REGION").read_text() == "region\n"
    again = refused(dokku, "postgres:backup-auth", service.name, "key", "secret")
    assert re.search(r"mkdir: .*File exists", again)
    dokku.dokku("postgres:backup-deauth", service.name)
    assert not (service.root / "backup").exists()
    refused(dokku, "postgres:backup-schedule-cat", service.name)
    dokku.dokku("postgres:backup-schedule", service.name, "0 3 * * *", "bucket")
    line = dokku.dokku("postgres:backup-schedule-cat", service.name).out
    assert line.split() == [
        *["0", "3", "*", "*", "*"],
        "dokku",
        str(dokku.program),
        "postgres:backup",
        service.name,
        "bucket",
    ]
    cron = dokku.host.root / f"etc/cron.d/dokku-postgres-{service.name}"
    assert cron.read_text().strip() == line.strip()
    dokku.dokku("postgres:backup-unschedule", service.name)
    assert not cron.exists()
    refused(dokku, "postgres:backup-set-encryption", service.name, "passphrase")


@pytest.mark.skipif(not endpoint.available(), reason="needs moto[server] and boto3")
def test_a_backup_is_an_object_and_an_empty_one_a_success(dokku: Installation, linked: Linked) -> None:
    service = linked[1]
    with endpoint.Endpoint() as s3:
        s3.make_bucket("bucket")
        dokku.dokku("postgres:backup-auth", service.name, *s3.auth)
        done = dokku.dokku("postgres:backup", service.name, "bucket")
        assert done.out.endswith(f"The backup for postgres-{service.name} finished successfully.\n")
        ((key, size),) = s3.objects("bucket").items()
        assert re.fullmatch(rf"postgres-{service.name}-\d{{4}}(-\d\d){{5}}\.tgz", key)
        assert size > 1000
        with tarfile.open(fileobj=io.BytesIO(s3.read("bucket", key))) as archive:
            dump = archive.extractfile("backup/export")
            assert dump is not None
            assert dump.read(5) == b"PGDMP"
        with dokku.fault("backup-empty", service.name):
            wait_for(lambda: dokku.dokku("postgres:backup", service.name, "bucket").code == 0, "another second")
        assert 0 in s3.objects("bucket").values()
        refused(dokku, "postgres:backup", service.name, "no-such-bucket")
    refused(dokku, "postgres:backup", service.name, "bucket")
    dokku.dokku("postgres:backup-deauth", service.name)


def test_the_program_runs_from_elsewhere(dokku: Installation, tmp_path: Path) -> None:
    dokku.export_program(tmp_path / "host", python=sys.executable)
    done = subprocess.run([tmp_path / "host/bin/dokku", "postgres:list"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, " !     There are no Postgres services\n")
    assert "/tests/" not in (tmp_path / "host/bin/dokku").read_text().replace(sys.executable, "")


def test_nothing_is_left_after_a_failure(shared_engine: sandbox.Engine, tmp_path: Path) -> None:
    def fail(made: Installation) -> None:
        with made:
            made.dokku("network:create", made.name("net"))
            shared_engine.docker("create", "--label", made.host.label, images.ref("postgres:17", shared_engine))
            raise ZeroDivisionError

    made = installation.make(tmp_path, engine=shared_engine)
    with pytest.raises(ZeroDivisionError):
        fail(made)
    label = f"label={made.host.label}"
    assert shared_engine.docker("ps", "-aq", "--filter", label) == ""
    assert shared_engine.docker("network", "ls", "-q", "--filter", label) == ""
    assert not made.directory.exists()
