# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is told of Postgres images and of a running cluster, on real ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import OPERATION_LABEL, ROLE_LABEL
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.candidate import ROLE, examine
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.inventory import take_inventory
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.model import (
    Extension,
    Library,
    Setting,
)
from tests.integration import postgresql_lab
from tests.integration.postgresql_lab import MAJORS, Lab
from tests.sandbox import images


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with postgresql_lab.lab(tmp_path) as made:
        yield made


def ask_module(lab: Lab, **arguments: Any) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "ansible_collections.selfhost.stateful.plugins.modules.postgresql_image_info"],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": {"docker_host": lab.host.host, **arguments}}),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_images_tell_what_they_bring(lab: Lab) -> None:
    found = {
        major: examine(lab.engine, images.ref(f"postgres:{major}"), operation=lab.operation)
        for major in ("13", "15", "17", "18")
    }
    for major, image in found.items():
        assert image.major == major
        assert image.version.startswith(f"{major}.")
        assert image.server_version_num // 10000 == int(major)
        assert image.libc == "glibc"
        assert image.loader
        assert image.icu.isdigit()
        assert image.user == (999, 999)
        assert image.library_directory.endswith(f"/{major}/lib")
        assert {"plpgsql", "hstore"} <= image.extensions.keys()
        assert image.extensions["hstore"] in image.updates["hstore"]
        assert "1.4" in image.updates["hstore"]
        assert {"pg_stat_statements", "auto_explain"} <= set(image.libraries)
        assert {"c", "posix", "en_us.utf8"} <= set(image.locales)
        assert "shared_preload_libraries" in image.parameters
    versions = [tuple(map(int, image.libc_version.split("."))) for image in found.values()]
    assert versions == sorted(versions)
    assert found["17"].data_directory == "/var/lib/postgresql/data"
    assert found["18"].data_directory == "/var/lib/postgresql/18/docker"
    assert found["18"].volumes == ("/var/lib/postgresql",)
    assert "adminpack" in found["15"].extensions
    assert "adminpack" not in found["17"].extensions
    assert "old_snapshot_threshold" in found["15"].parameters
    assert "old_snapshot_threshold" not in found["17"].parameters


def test_another_image_is_refused_and_leaves_nothing_behind(lab: Lab) -> None:
    with pytest.raises(InvalidInput, match="no Postgres image"):
        examine(lab.engine, images.ref("redis:8"), operation=lab.operation)
    assert lab.engine.containers(labels={OPERATION_LABEL: lab.operation}) == []
    with pytest.raises(InvalidInput) as caught:
        examine(lab.engine, "selfhost-sandbox/postgres:1", operation=lab.operation)
    assert caught.value.next_command == "docker pull selfhost-sandbox/postgres:1"


@pytest.mark.matrix
@pytest.mark.parametrize("major", MAJORS)
def test_a_cluster_tells_what_another_image_has_to_bring(lab: Lab, major: str) -> None:
    number = int(major)
    container = lab.start(major, "-c", "work_mem=8MB", "-c", "archive_command=secret-of-archive")
    with lab.session(container) as connection:
        connection.run("CREATE EXTENSION hstore VERSION '1.4' SCHEMA public")
        connection.run("CREATE FUNCTION public.own() RETURNS trigger LANGUAGE c AS '$libdir/lo', 'lo_manage'")
        connection.run("ALTER SYSTEM SET statement_timeout = '77s'")
        connection.run("SELECT pg_reload_conf()")
        connection.run("CREATE ROLE app LOGIN")
        connection.run("ALTER ROLE app SET app.jwt_secret = 'secret-of-role'")
        connection.run("SET password_encryption = 'md5'")
        connection.run("CREATE ROLE old LOGIN PASSWORD 'secret-of-old'")
        connection.run("CREATE DATABASE plain TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
        connection.run("ALTER DATABASE plain SET work_mem = '9MB'")
        with connection.sibling("template1") as there:
            there.run("CREATE EXTENSION pg_trgm SCHEMA public")
        with connection.sibling("plain") as there:
            there.run(
                'CREATE TABLE public.t (id int PRIMARY KEY, plain text UNIQUE, code text COLLATE "C" UNIQUE,'
                ' german text COLLATE "en_US.utf8", hashed text)'
            )
            there.run("CREATE INDEX ON public.t (german)")
            there.run("CREATE INDEX ON public.t USING hash (hashed)")
            there.run('CREATE TABLE public.i (x text COLLATE "und-x-icu" UNIQUE)')
        connection.run("CREATE TABLE public.t (x text PRIMARY KEY, y text)")
        connection.run("CREATE INDEX ON public.t (lower(y))")
        connection.run("CREATE TABLE public.p (x text) PARTITION BY RANGE (x)")

        found = take_inventory(connection, lab.observe(container))

    assert Extension("postgres", "hstore", "1.4") in found.extensions
    assert Library("postgres", "hstore", "hstore") in found.libraries
    assert Library("postgres", "lo") in found.libraries
    assert {e.database for e in found.extensions if e.name == "pg_trgm"} == {"template1"}
    assert {e.database for e in found.extensions if e.name == "plpgsql"} == {"postgres", "template1", "plain"}
    assert found.text_indexes == 4  # two in postgres; the German and the ICU one in plain
    assert found.text_index_bytes == 4 * 8192
    assert found.text_partitions == 1
    own = {c.database: c for c in found.collations if c.name == "default"}
    assert own.keys() == {"postgres", "template1"}
    assert (own["postgres"].provider, own["postgres"].locale) == ("c", "en_US.utf8")
    assert bool(own["postgres"].actual) == (number >= 15)
    assert own["postgres"].recorded == own["postgres"].actual
    named = {c.name: c for c in found.collations if c.name != "default"}
    assert named.keys() == {"en_US.utf8", "und-x-icu"}
    assert named["und-x-icu"].provider == "i"
    assert named["und-x-icu"].locale == "und"
    assert named["und-x-icu"].recorded == named["und-x-icu"].actual != ""
    assert found.md5_roles == ("old",)
    assert found.auth_methods[0] == "trust"
    assert found.password_encryption == ("md5" if number < 14 else "scram-sha-256")

    settings = {(s.name, s.source): s for s in found.settings}
    assert settings["work_mem", "command line"] == Setting("work_mem", "8192", "command line")
    assert settings["archive_command", "command line"].value == ""
    # Our own session has another one.
    assert settings["statement_timeout", "configuration file"].place.endswith("/postgresql.auto.conf:3")
    assert settings["work_mem", "database"].place == "database plain"
    assert settings["app.jwt_secret", "user"] == Setting("app.jwt_secret", "", "user", "role app")
    assert not settings["max_connections", "configuration file"].differs
    assert "secret-of" not in repr(found)

    told = ask_module(lab, container=container.name)
    assert told["changed"] is False
    assert told["image_now"]["id"] == container.image_id
    assert told["image_now"]["reference"] == images.ref(f"postgres:{major}")
    assert "candidate" not in told
    databases = {database["name"]: database for database in told["cluster"]["databases"]}
    assert databases["postgres"]["extensions"]["hstore"] == "1.4"
    assert "max_connections" not in {setting["name"] for setting in told["cluster"]["settings"]}

    other = "18" if number < 18 else "17"
    told = ask_module(lab, container=container.name, image=images.ref(f"postgres:{other}"))
    assert told["blockers"] == [], told
    assert told["candidate"]["major"] == other
    ways = {way["strategy"]: way for way in told["strategies"]}
    assert {name for name, way in ways.items() if way["possible"]} == (
        {"pg_upgrade", "dump"} if number < 18 else {"dump"}
    )
    assert ways["dump"]["downtime_seconds"] > 0
    assert {"database": "postgres", "name": "hstore", "version": "1.4"} in told["updates"]
    assert "glibc changes" in told["reindex"]
    assert "Roles with an md5 password (old)" in json.dumps(told["warnings"])
    assert "secret-of" not in json.dumps(told)

    told = ask_module(lab, container=container.name, image=images.ref(f"postgres:{major}"))
    assert told["same_image"]
    assert not any(way["possible"] for way in told["strategies"])

    told = ask_module(lab, container=container.name, image="selfhost-sandbox/postgres:1")
    assert told["failed"]
    assert told["next_command"] == "docker pull selfhost-sandbox/postgres:1"

    after = lab.engine.container(container.id)
    assert after is not None
    assert after.started_at == container.started_at
    assert lab.engine.containers(labels={OPERATION_LABEL: "image-info", ROLE_LABEL: ROLE}) == []
