# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The sandbox's images keep to the contract of the official ones: all other tests stand on that."""

from __future__ import annotations

import gzip
import json
import os
import secrets
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox import engine as sandbox
from tests.sandbox import images, projects
from tests.sandbox._base import LABEL, wait_for

# Beside what the other tests use; and what only a changed recipe could break.
OLDER = pytest.mark.matrix
MAJORS = [*(pytest.param(major, marks=OLDER) for major in (13, 15, 18)), 17]
# What image swaps are tested with besides; musl's take minutes to compile.
VARIANTS = ("13-older", "13-newer", "15-bookworm", "15-trixie", "15-alpine", "18-alpine", "15-postgis", "17-postgis")
TAGS = [*MAJORS, *(pytest.param(tag, marks=OLDER) for tag in VARIANTS)]
PROGRAMS = ("pg_basebackup", "pg_verifybackup", "pg_ctl", "pg_upgrade", "pg_controldata", "pgbench", "pg_dump", "psql")
PASSWORD = ("-e", "POSTGRES_PASSWORD=secret")
TRUST = ("-e", "POSTGRES_HOST_AUTH_METHOD=trust")


class Boxes:
    """The containers and volumes of one test, all gone at its end."""

    def __init__(self, host: sandbox.Engine) -> None:
        self.host = host
        self._names: list[str] = []
        self._volumes: list[str] = []

    def run(self, key: str, *command: str, options: Sequence[str] = ()) -> str:
        """Start a container and return its name."""
        name = f"sfs-contract-{secrets.token_hex(4)}"
        self._names.append(name)
        self.host.docker("run", "-d", "--name", name, *options, images.ref(key, self.host), *command)
        return name

    def postgres(self, tag: int | str, *command: str, options: Sequence[str] = PASSWORD) -> str:
        """Start a server and wait for its final start: the one before listens on its socket alone."""
        name = self.run(f"postgres:{tag}", *command, options=options)
        self.await_postgres(name)
        return name

    def await_postgres(self, name: str) -> None:
        """Wait until the server answers over TCP."""

        def ready() -> bool:
            assert self.inspect(name)["State"]["Status"] != "exited", self.logs(name)
            return self.status(name, "pg_isready", "-q", "-h", "127.0.0.1") == 0

        wait_for(ready, f"{name} is ready")

    def redis(self, major: int, *command: str) -> str:
        """Start a Redis and wait until it answers."""
        name = self.run(f"redis:{major}", *command)
        wait_for(lambda: self.status(name, "redis-cli", "ping") == 0, f"{name} is ready")
        return name

    def volume(self) -> str:
        """Create a named volume."""
        name = f"sfs-contract-{secrets.token_hex(4)}"
        self._volumes.append(name)
        return self.host.docker("volume", "create", "--label", f"{LABEL}=1", name)

    def exec(self, name: str, *argv: str) -> str:
        """Run a program in a container and return what it printed."""
        return self.host.docker("exec", name, *argv)

    def status(self, name: str, *argv: str) -> int:
        """Run a program in a container and return its exit code."""
        return self._client("exec", name, *argv).returncode

    def sql(self, name: str, statement: str, *flags: str) -> str:
        """Run SQL through the socket, without a password."""
        return self.exec(name, "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", *flags, "-c", statement)

    def inspect(self, name: str) -> dict[str, Any]:
        """Return what the engine knows about a container."""
        return dict(json.loads(self.host.docker("inspect", name))[0])

    def logs(self, name: str) -> str:
        """Return all that a container printed."""
        done = self._client("logs", name)
        return done.stdout + done.stderr

    def exit_code(self, name: str) -> int:
        """Wait for a container's end."""
        return int(self.host.docker("wait", name))

    def remove(self) -> None:
        """Remove all of it."""
        for name in self._names:
            self.host.docker("rm", "-fv", name, check=False)
        for name in self._volumes:
            self.host.docker("volume", "rm", name, check=False)

    def _client(self, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.host.client, *args],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **self.host.env},
        )


@pytest.fixture
def boxes(shared_engine: sandbox.Engine) -> Iterator[Boxes]:
    """Start containers that do not outlive the test."""
    held = Boxes(shared_engine)
    try:
        yield held
    finally:
        held.remove()


def major_of(tag: int | str) -> int:
    """Return the major that a tag begins with."""
    return int(str(tag).partition("-")[0])


def uid_of(tag: int | str) -> str:
    """Return whom the server runs as."""
    return "70" if str(tag).endswith("-alpine") else "999"


def data_directory(major: int) -> str:
    """Return where a major keeps its data unless told otherwise."""
    return "/var/lib/postgresql/data" if major < 18 else f"/var/lib/postgresql/{major}/docker"


@pytest.mark.parametrize("tag", TAGS)
def test_the_image_declares_what_the_official_one_declares(shared_engine: sandbox.Engine, tag: int | str) -> None:
    major = major_of(tag)
    ref = images.ref(f"postgres:{tag}", shared_engine)
    config = json.loads(shared_engine.docker("image", "inspect", ref))[0]["Config"]

    assert list(config["Volumes"]) == ["/var/lib/postgresql/data" if major < 18 else "/var/lib/postgresql"]
    assert f"PGDATA={data_directory(major)}" in config["Env"]
    assert f"PG_MAJOR={major}" in config["Env"]
    assert config["StopSignal"] == "SIGINT"
    assert list(config["ExposedPorts"]) == ["5432/tcp"]
    assert config["Entrypoint"] == ["docker-entrypoint.sh"]
    assert config["Cmd"] == ["postgres"]
    assert config["Labels"][LABEL] == "1"


@pytest.fixture(scope="module", params=TAGS)
def started(
    request: pytest.FixtureRequest, shared_engine: sandbox.Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Boxes, str, int | str]]:
    """One server of each image after its first start with init files, for all tests that only look at it."""
    files = tmp_path_factory.mktemp("initdb")
    files.chmod(0o755)
    (files / "1.sql").write_text("CREATE TABLE plain (t text);")
    (files / "2.sql.gz").write_bytes(gzip.compress(b"CREATE TABLE packed (t text);"))
    # The first start must not be reachable over TCP: a waiting application would see half of the data.
    (files / "3.sh").write_text(
        'pg_isready -q -h 127.0.0.1 && tcp=open || tcp=closed\npsql -U admin shop -c "CREATE TABLE tcp_$tcp ()"\n'
    )
    env = {"POSTGRES_USER": "admin", "POSTGRES_PASSWORD": "secret", "POSTGRES_DB": "shop"}
    options = [flag for item in env.items() for flag in ("-e", "=".join(item))]
    held = Boxes(shared_engine)
    try:
        name = held.postgres(request.param, options=[*options, "-v", f"{files}:/docker-entrypoint-initdb.d:ro"])
        yield held, name, request.param
    finally:
        held.remove()


def test_a_first_start_makes_the_cluster_and_a_later_one_keeps_it(started: tuple[Boxes, str, int | str]) -> None:
    boxes, name, tag = started
    major = major_of(tag)
    query = ("psql", "-XAtq", "-U", "admin", "shop", "-c")

    tables = boxes.exec(name, *query, "SELECT relname FROM pg_stat_user_tables ORDER BY 1").split()
    assert tables == ["packed", "plain", "tcp_closed"]
    assert boxes.exec(name, *query, "SELECT rolname FROM pg_roles WHERE oid = 10") == "admin"
    assert boxes.exec(name, *query, "SHOW data_directory") == data_directory(major)
    assert boxes.exec(name, *query, "SHOW unix_socket_directories") == "/var/run/postgresql"
    assert boxes.exec(name, *query, "SHOW data_checksums") == ("on" if major >= 18 else "off")
    assert boxes.exec(name, *query, "SHOW server_version_num")[:2] == str(major)
    assert boxes.exec(name, "stat", "-c", "%u %a", data_directory(major)) == f"{uid_of(tag)} 700"
    assert boxes.exec(name, "stat", "-c", "%u:%g", "/proc/1") == f"{uid_of(tag)}:{uid_of(tag)}"
    assert boxes.exec(name, "stat", "-c", "%U %a", "/var/run/postgresql/") == "postgres 3775"

    boxes.host.docker("restart", name)
    boxes.await_postgres(name)
    assert boxes.exec(name, *query, "SELECT count(*) FROM pg_stat_user_tables") == "3"
    assert boxes.logs(name).count("running /docker-entrypoint-initdb.d/1.sql") == 1


def test_local_connections_are_trusted_and_others_need_the_password(started: tuple[Boxes, str, int | str]) -> None:
    boxes, name, tag = started
    major = major_of(tag)
    address = boxes.inspect(name)["NetworkSettings"]["IPAddress"]
    query = ("psql", "-XAtqw", "-U", "admin", "shop", "-c", "SELECT 1")

    last_rule = boxes.exec(name, "tail", "-n", "1", f"{data_directory(major)}/pg_hba.conf").split()
    assert last_rule == ["host", "all", "all", "all", "md5" if major <= 13 else "scram-sha-256"]
    assert boxes.exec(name, *query) == "1"
    assert boxes.exec(name, *query, "-h", "127.0.0.1") == "1"
    assert boxes.status(name, *query, "-h", address) == 2
    assert boxes.status(name, "env", "PGPASSWORD=wrong", *query, "-h", address) == 2
    assert boxes.exec(name, "env", "PGPASSWORD=secret", *query, "-h", address) == "1"


def test_the_programs_and_the_extensions_are_there(started: tuple[Boxes, str, int | str]) -> None:
    boxes, name, tag = started
    major = major_of(tag)
    query = ("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "admin", "shop", "-c")

    for program in PROGRAMS:
        # psql and pg_dump are wrappers that pick the installed major, as in the official image.
        assert f" {major}." in boxes.exec(name, program, "--version"), program
    boxes.exec(name, *query, "CREATE EXTENSION pg_stat_statements")
    boxes.exec(name, *query, "CREATE EXTENSION pg_trgm")
    assert boxes.exec(name, *query, "SELECT datcollate FROM pg_database WHERE datname = 'shop'") == "en_US.utf8"


@pytest.mark.parametrize("tag", [*MAJORS, pytest.param("15-alpine", marks=OLDER)])
def test_the_stop_signal_shuts_down_cleanly_under_a_connected_client(boxes: Boxes, tag: int | str) -> None:
    data = boxes.volume()
    mount = ("-v", f"{data}:{'/var/lib/postgresql/data' if major_of(tag) < 18 else '/var/lib/postgresql'}")
    name = boxes.postgres(tag, options=[*PASSWORD, *mount])
    boxes.host.docker("exec", "-d", name, "psql", "-U", "postgres", "-c", "SELECT pg_sleep(600)")
    sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)'"
    wait_for(lambda: boxes.sql(name, sleeping) == "1", "the client is connected")

    boxes.host.docker("stop", "-t", "60", name)

    state = boxes.inspect(name)["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 0)
    look = boxes.run(f"postgres:{tag}", "pg_controldata", options=mount)
    assert boxes.exit_code(look) == 0
    assert "Database cluster state:               shut down\n" in boxes.logs(look)


def collation_version(boxes: Boxes, name: str) -> str:
    """Return the version of the libc that orders text by locale; musl tells none."""
    listed = "SELECT pg_collation_actual_version(oid) FROM pg_collation WHERE collname = 'en_US.utf8'"
    return boxes.sql(name, listed)


@OLDER
def test_a_newer_minor_of_one_major_orders_text_alike(boxes: Boxes) -> None:
    older, newer = boxes.postgres("13-older"), boxes.postgres("13-newer")

    # After 13.16 the foreign keys of partitioned tables want a look.
    assert int(boxes.sql(older, "SHOW server_version_num")) <= 130016
    assert int(boxes.sql(newer, "SHOW server_version_num")) > 130016
    assert collation_version(boxes, older) == collation_version(boxes, newer)


@OLDER
def test_one_major_is_there_on_an_older_and_a_newer_glibc(boxes: Boxes) -> None:
    mount = ("-v", f"{boxes.volume()}:/var/lib/postgresql/data")
    older = boxes.postgres("15-bookworm", options=[*PASSWORD, *mount])
    recorded = boxes.sql(older, "SELECT datcollversion FROM pg_database WHERE datname = 'postgres'")
    assert recorded == collation_version(boxes, older) == "2.36"
    boxes.host.docker("stop", older)

    newer = boxes.postgres("15-trixie", options=[*PASSWORD, *mount])

    assert collation_version(boxes, newer) == "2.41"
    assert boxes.sql(newer, "ALTER DATABASE postgres REFRESH COLLATION VERSION") == ""
    assert boxes.sql(newer, "SELECT datcollversion FROM pg_database WHERE datname = 'postgres'") == "2.41"


@OLDER
@pytest.mark.parametrize("major", (15, 18))
def test_an_alpine_orders_text_by_bytes_and_knows_no_collation_versions(boxes: Boxes, major: int) -> None:
    words = "SELECT string_agg(w, ' ' ORDER BY w) FROM (VALUES ('a'), ('B'), ('ä'), ('c')) v(w)"
    alpine, debian = boxes.postgres(f"{major}-alpine"), boxes.postgres(major)

    assert boxes.sql(alpine, words) == "B a c ä"
    assert boxes.sql(debian, words) == "a ä B c"
    assert boxes.sql(alpine, "SELECT datcollversion IS NULL FROM pg_database WHERE datname = 'postgres'") == "t"
    assert boxes.exec(alpine, "ls", "/lib").count("ld-musl-") == 1
    assert int(boxes.sql(alpine, "SHOW server_version_num")) // 10000 == major


@OLDER
def test_an_alpine_takes_a_password_from_a_file_and_its_arguments(boxes: Boxes, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("from a file\n")
    secret = ("-e", "POSTGRES_PASSWORD_FILE=/run/secrets/password", "-v", f"{tmp_path}:/run/secrets:ro")
    name = boxes.postgres("15-alpine", "-c", "max_connections=33", "-c", "cluster_name=a b", options=secret)
    address = boxes.inspect(name)["NetworkSettings"]["IPAddress"]

    assert boxes.sql(name, "SHOW max_connections") == "33"
    assert boxes.sql(name, "SHOW cluster_name") == "a b"
    query = ("psql", "-XAtqw", "-h", address, "-U", "postgres", "-c", "SELECT 1")
    assert boxes.exec(name, "env", "PGPASSWORD=from a file", *query) == "1"
    assert boxes.status(name, "env", "PGPASSWORD=wrong", *query) == 2


@OLDER
@pytest.mark.parametrize("major", (15, 17))
def test_postgis_is_in_the_new_database_and_in_a_template(boxes: Boxes, major: int) -> None:
    name = boxes.postgres(f"{major}-postgis")

    for database in ("postgres", "template_postgis"):
        listed = boxes.sql(name, "SELECT extname FROM pg_extension ORDER BY 1", database).split()
        assert listed == ["fuzzystrmatch", "plpgsql", "postgis", "postgis_tiger_geocoder", "postgis_topology"]
    assert boxes.sql(name, "SELECT datistemplate FROM pg_database WHERE datname = 'template_postgis'") == "t"
    assert boxes.sql(name, "SELECT ST_AsText(ST_Transform(ST_SetSRID(ST_Point(0, 0), 4326), 3857))") == "POINT(0 0)"


def test_a_new_database_without_a_password_is_refused(boxes: Boxes) -> None:
    name = boxes.run("postgres:17")

    assert boxes.exit_code(name) == 1
    assert "POSTGRES_PASSWORD" in boxes.logs(name)


@OLDER
def test_the_remaining_settings_of_the_first_start(boxes: Boxes, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("from a file\n")
    name = boxes.postgres(
        17,
        "-c",
        "max_connections=33",
        options=[
            *("-e", "POSTGRES_PASSWORD_FILE=/run/secrets/password", "-v", f"{tmp_path}:/run/secrets:ro"),
            *("-e", "POSTGRES_INITDB_ARGS=--data-checksums --wal-segsize=4"),
            *("-e", "POSTGRES_INITDB_WALDIR=/var/lib/wal"),
        ],
    )
    address = boxes.inspect(name)["NetworkSettings"]["IPAddress"]

    assert boxes.sql(name, "SHOW data_checksums") == "on"
    assert boxes.sql(name, "SHOW wal_segment_size") == "4MB"
    assert boxes.sql(name, "SHOW max_connections") == "33"
    assert boxes.exec(name, "readlink", "/var/lib/postgresql/data/pg_wal") == "/var/lib/wal"
    with_password = ("env", "PGPASSWORD=from a file", "psql", "-XAtqw", "-h", address, "-U", "postgres")
    assert boxes.exec(name, *with_password, "-c", "SELECT 1") == "1"


@pytest.mark.matrix
def test_trust_lets_everybody_in_without_a_password(boxes: Boxes) -> None:
    name = boxes.postgres(17, options=TRUST)
    address = boxes.inspect(name)["NetworkSettings"]["IPAddress"]

    assert boxes.sql(name, "SELECT 1", "-w", "-h", address) == "1"


@OLDER
def test_it_runs_as_another_user_too(boxes: Boxes) -> None:
    name = boxes.postgres(17, options=[*TRUST, "--user", "999:999"])

    assert boxes.sql(name, "SELECT 1") == "1"


@OLDER
def test_data_of_another_major_is_refused(boxes: Boxes) -> None:
    mount = ("-v", f"{boxes.volume()}:/var/lib/postgresql/data")
    boxes.host.docker("stop", boxes.postgres(15, options=[*PASSWORD, *mount]))

    newer = boxes.run("postgres:17", options=[*PASSWORD, *mount])

    assert boxes.exit_code(newer) == 1
    assert "database files are incompatible with server" in boxes.logs(newer)


@pytest.mark.matrix
@pytest.mark.parametrize(
    "older,newer",
    [
        pytest.param(17, 18, id="with data of 17"),
        pytest.param(None, 18, id="empty"),
        pytest.param("15-alpine", "18-alpine", id="alpine with data of 15", marks=OLDER),
        pytest.param(None, "18-alpine", id="alpine, empty", marks=OLDER),
    ],
)
def test_18_refuses_a_mount_of_the_older_layout(boxes: Boxes, older: int | str | None, newer: int | str) -> None:
    mount = ("-v", f"{boxes.volume()}:/var/lib/postgresql/data")
    if older is not None:
        boxes.host.docker("stop", boxes.postgres(older, options=[*PASSWORD, *mount]))

    refused = boxes.run(f"postgres:{newer}", options=[*PASSWORD, *mount])

    assert boxes.exit_code(refused) == 1
    assert "in 18+" in boxes.logs(refused)


@pytest.mark.parametrize("major", (7, 8))
def test_redis_keeps_its_contract(boxes: Boxes, major: int) -> None:
    name = boxes.redis(major)
    other = boxes.redis(major, "--appendonly", "yes")
    config = boxes.inspect(name)["Config"]
    address = boxes.inspect(name)["NetworkSettings"]["IPAddress"]

    assert list(config["Volumes"]) == ["/data"]
    assert config["WorkingDir"] == "/data"
    assert list(config["ExposedPorts"]) == ["6379/tcp"]
    assert boxes.exec(name, "stat", "-c", "%u", "/proc/1", "/data").split() == ["999", "999"]
    assert boxes.exec(other, "redis-cli", "-h", address, "set", "key", "value") == "OK"
    assert boxes.exec(other, "redis-cli", "config", "get", "appendonly").split() == ["appendonly", "yes"]
    # Without a configuration file the built-in save points hold, and a stop writes the snapshot.
    boxes.host.docker("restart", name)
    wait_for(lambda: boxes.status(name, "redis-cli", "ping") == 0, f"{name} is ready")
    assert boxes.exec(name, "redis-cli", "get", "key") == "value"


@pytest.mark.matrix
def test_the_mastodon_stand_in_does_real_work(shared_engine: sandbox.Engine, tmp_path: Path) -> None:
    images.ensure(["postgres:17", "redis:8", "mastodon-base:latest"], shared_engine)
    with projects.mastodon_project(tmp_path / "märchen box", era="v4.3", engine=shared_engine) as project:
        assert project.count_rows("schema_migrations") == 3
        assert project.web_status("/health") == 200
        before = project.count_rows("statuses")
        assert project.web_status("/", data=b"a status") == 200
        assert project.count_rows("statuses") == before + 1
        jobs, keys = project.count_rows("jobs"), project.count_keys()
        wait_for(lambda: project.count_rows("jobs") > jobs and project.count_keys() > keys, "sidekiq goes on")
        assert "CREATE" not in project.compose("run", "--rm", "web", "bundle", "exec", "rails", "db:migrate")
        project.compose("stop", "redis")
        assert project.web_status("/") == 500
        assert project.web_status("/health") == 200
        assert {mount["Type"] for mount in project.mounts("postgres")} == {"volume"}
        assert "2 assets written" in project.compose("run", "--rm", "web", "rails", "assets:precompile")
        name = project.name
    left = shared_engine.docker("ps", "-aq", "--filter", f"label=com.docker.compose.project={name}")
    assert left == ""
