# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The public CLI of Heroku against the stand-in: what it prints and asks for is what the stand-in was made by.

Run by ``make heroku-cli``. It is installed from npm into ``build/heroku-cli`` the first time.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sandbox.heroku import HerokuStandIn, example_world
from tests.tools import tree

PACKAGE = "heroku@11"
PLACE = tree.BUILD / "heroku-cli"


@pytest.fixture(scope="session")
def program() -> Path:
    """Return the CLI, installed where it is not yet."""
    found = PLACE / "node_modules/.bin/heroku"
    if not found.exists():
        npm = shutil.which("npm")
        if not npm:
            pytest.skip("there is no npm on this machine")
        PLACE.mkdir(parents=True, exist_ok=True)
        argv = [npm, "install", "--no-fund", "--no-audit", "--prefix", str(PLACE), PACKAGE]
        subprocess.run(argv, check=True, cwd=PLACE, timeout=600)
    return found


@pytest.fixture
def stand_in() -> Iterator[HerokuStandIn]:
    """Yield the example, whose time passes only when it is told to."""
    world = example_world()
    world.tick = 0
    with HerokuStandIn(world) as made:
        yield made


def heroku(program: Path, stand_in: HerokuStandIn, home: Path, *words: str) -> str:
    """Return what the CLI prints; it must end well."""
    env = {
        **os.environ,
        "HOME": str(home),
        "HEROKU_HOST": stand_in.url,
        # A host name only: the port is that of the other.
        "HEROKU_DATA_HOST": "127.0.0.1",
        "HEROKU_API_KEY": stand_in.world.key,
        "DISABLE_TELEMETRY": "true",
        "HEROKU_SKIP_NEW_VERSION_CHECK": "1",
        "TERM": "dumb",
    }
    done = subprocess.run(
        [str(program), *words], env=env, cwd=home, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_way_by_hand(program: Path, stand_in: HerokuStandIn, tmp_path: Path) -> None:
    def typed(*words: str) -> str:
        return heroku(program, stand_in, tmp_path, *words)

    world, app = stand_in.world, stand_in.world.apps["shop"]
    leader = world.databases["postgresql-leader-1"]
    said = typed("pg:info", "--app", "shop")
    assert "Standard 0" in said
    assert "postgresql-leader-1" in said
    typed("addons:upgrade", "postgresql-leader-1", "heroku-postgresql:standard-2")
    assert leader.plan == "standard-2"
    world.advance(4000)
    assert json.loads(typed("data:maintenances:info", "postgresql-leader-1", "--json"))["status"] == "ready"
    typed("maintenance:on", "--app", "shop")
    assert app.maintenance
    typed("ps:scale", "web=0", "worker=0", "--app", "shop")
    assert {one["quantity"] for one in app.formation.values()} == {0}
    typed("data:maintenances:run", "postgresql-leader-1")
    assert leader.maintenance.status == "running"
    world.advance(100)
    assert json.loads(typed("data:maintenances:info", "postgresql-leader-1", "--json"))["status"] == "completed"
    assert "Standard 2" in typed("pg:info", "DATABASE", "--app", "shop")
    typed("ps:scale", "web=2", "worker=1", "--app", "shop")
    typed("maintenance:off", "--app", "shop")
    assert not app.maintenance
