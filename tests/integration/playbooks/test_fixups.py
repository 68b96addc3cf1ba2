# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the role ``postgresql_image`` puts right beside the image: every database, and what new ones are made of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.storage.lab import remove
from tests.sandbox import images
from tests.sandbox.engine import Engine
from tests.sandbox.projects import simple_project

from .admin import Admin

RESTRICTED = (
    "SELECT count(*) FROM pg_class WHERE relname IN ('pg_stats_ext', 'pg_stats_ext_exprs')"
    " AND pg_get_viewdef(oid) LIKE '%pg_has_role(c.relowner%'"
)


@pytest.fixture
def admin(tmp_path: Path, shared_engine: Engine) -> Iterator[Admin]:
    image = images.ref("postgres:16-older", shared_engine)
    project = simple_project(tmp_path / "forum", postgres="16-older", redis=None, engine=shared_engine)
    made = Admin(project, tmp_path)
    made.variables = {
        "postgresql_image_project_src": str(project.directory),
        "postgresql_image_image": image,
        "postgresql_image_pull": False,
        "postgresql_image_docker_host": shared_engine.host,
        "postgresql_image_compose_program": [str(made.compose)],
        "postgresql_image_operations_dir": str(made.operations),
        "postgresql_image_fixups": True,
        # The old server has the programs of a newer one beside it, which do not read its WAL.
        "postgresql_image_backup": "logical",
    }
    try:
        project.up().wait_ready()
        project.sql("CREATE DATABASE forum")
        yield made
    finally:
        remove(project)


@pytest.mark.faults
def test_every_database_and_what_new_ones_are_made_of(admin: Admin) -> None:
    project = admin.project

    def asked(database: str, statement: str) -> str:
        return project.compose(
            "exec", "-T", "db", "psql", "-XAtqU", "postgres", "-d", database, "-c", statement
        ).strip()  # fmt: skip

    assert asked("forum", RESTRICTED) == "0"
    play = admin.play("upgrade_compose_postgres", "--skip-tags", "requirements").ok()
    assert play.ran("postgresql_image")[-1]["changed"] is False
    project.sql("CREATE DATABASE plain TEMPLATE template0")
    project.sql("CREATE DATABASE usual")
    assert {name: asked(name, RESTRICTED) for name in ("postgres", "forum", "plain", "usual")} == dict.fromkeys(
        ("postgres", "forum", "plain", "usual"), "2"
    )
    assert asked("postgres", "SELECT datallowconn FROM pg_database WHERE datname = 'template0'") == "f"
    # No ledger in what others are made of.
    assert asked("usual", "SELECT to_regnamespace('selfhost_stateful') IS NULL") == "t"

    for name in ("plain", "usual"):  # that are new, and would be noted
        project.sql(f"DROP DATABASE {name}")
    again = admin.play("upgrade_compose_postgres", "--skip-tags", "requirements").ok()
    assert not any(result.get("changed") for result in again.ran("postgresql_migrations"))
