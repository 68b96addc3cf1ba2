# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Another Postgres for any project, as an admin gets there: looked at, prepared, switched, and taken back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.storage.lab import remove
from tests.sandbox.engine import Engine
from tests.sandbox.projects import simple_project

from .admin import Admin

QUICKLY = ("--skip-tags", "requirements")
ROWS = 300


@pytest.mark.faults
def test_any_project_gets_another_major_and_its_old_one_back(tmp_path: Path, shared_engine: Engine) -> None:
    lines = ("  POSTGRES_INITDB_ARGS: --no-sync",)
    project = simple_project(tmp_path / "forum", redis=None, bind_mounts=True, db_lines=lines, engine=shared_engine)
    admin = Admin(project, tmp_path)
    admin.variables = {
        "postgresql_image_project_src": str(project.directory),
        "postgresql_image_image": "selfhost-sandbox/postgres:18",
        # No registry has it.
        "postgresql_image_pull": "false",
        "postgresql_image_docker_host": shared_engine.host,
        "postgresql_image_operations_dir": str(admin.operations),
        "operation_operations_dir": str(admin.operations),
        "operation_docker_host": shared_engine.host,
        "operation_project": project.name,
    }
    old, new = str(project.directory / "postgres"), str(project.directory / "postgres18")

    def rows() -> int:
        project.wait_ready()
        return int(project.sql("SELECT count(*) FROM posts"))

    try:
        project.up()
        project.sql(f"CREATE TABLE posts AS SELECT generate_series(1, {ROWS}) AS id")
        containers = admin.containers()

        looked = admin.play("upgrade_compose_postgres", "--check", "--diff", *QUICKLY).ok()
        assert "pg_upgrade" in looked.said()
        assert "+    image: selfhost-sandbox/postgres:18" in looked.log
        assert not admin.operations.exists()
        admin.play("upgrade_compose_postgres", "--tags", "prepare", *QUICKLY).ok()
        assert admin.containers() == containers
        assert admin.sources("postgres") == [("bind", old)]

        switched = admin.play("upgrade_compose_postgres", "--tags", "switch", *QUICKLY).ok()
        assert "17" in switched.said()
        assert admin.sources("postgres") == [("bind", new)]
        assert project.sql("SHOW server_version_num").startswith("18")
        assert rows() == ROWS
        serving = admin.containers()
        again = admin.play("upgrade_compose_postgres", *QUICKLY).ok()
        assert admin.containers() == serving
        assert [result["changed"] for result in again.ran("postgresql_image")][-1] is False

        # What was written since is asked about, and goes only when somebody says so.
        project.sql("INSERT INTO posts VALUES (0)")
        refused = admin.play("operation_rollback", *QUICKLY).failed()
        assert "transaction" in refused.said()
        assert rows() == ROWS + 1
        admin.play("operation_rollback", *QUICKLY, operation_discard_writes="true").ok()
        assert admin.sources("postgres") == [("bind", old)]
        assert project.sql("SHOW server_version_num").startswith("17")
        assert rows() == ROWS
        project.compose("up", "-d", "--force-recreate")
        assert rows() == ROWS
    finally:
        remove(project)
