# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A copy of one path on its own: where it may go, what it leaves behind, and who is stopped for it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import EngineMount, Helper
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._storage import short_stop
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.backup import (
    PlannedBackup,
    TakenBackup,
    Wanted,
    carry_out,
    plan_backup,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import settle
from tests.support.memory_engine import Program
from tests.support.site import Site, a_site

pytestmark = pytest.mark.usefixtures("swift")


@pytest.fixture(name="site")
def site_with_files(tmp_path: Path) -> Site:
    site = a_site(tmp_path, "services:\n  web:\n    image: app:1\n    volumes:\n      - ./system:/system\n")
    (site.directory / "system").mkdir()
    (site.directory / "system" / "photo").write_text("bytes")
    return site.up()


def raising(error: BaseException) -> Callable[..., None]:
    """Return what fails with ``error`` in the place of anything."""

    def fail(*_args: Any, **_more: Any) -> None:
        raise error

    return fail


def planned(site: Site, dest: str, **more: Any) -> PlannedBackup:
    return plan_backup(site.world, Wanted("web", "/system", dest, **more))


def take(site: Site, operations: OperationStore, dest: str | Path, **more: Any) -> TakenBackup:
    return carry_out(site.world, operations, Wanted("web", "/system", str(dest), **more))


@pytest.mark.parametrize("dest", ["system", "system/copies/today", "", "link/today", "system/../system/x"])
def test_a_copy_cannot_lie_in_or_above_what_it_copies(site: Site, dest: str) -> None:
    (site.directory / "link").symlink_to("system")
    with pytest.raises(InvalidInput, match="overlaps") as caught:
        planned(site, os.path.join(site.directory, dest))
    assert "dest" in caught.value.msg
    assert os.listdir(site.directory / "system") == ["photo"]


def test_what_is_no_directory_is_refused_before_anything_is_copied(tmp_path: Path) -> None:
    site = a_site(tmp_path, "services:\n  web:\n    image: app:1\n    volumes: ['./my.conf:/system', './gone:/gone']\n")
    site.up()
    (site.directory / "my.conf").rmdir()
    (site.directory / "my.conf").write_text("x")
    (site.directory / "gone").rmdir()
    for path, telling in (("/system", "is one file"), ("/gone", "not there"), ("/memory", "in memory")):
        container = site.container("web")
        site.engine.held[container.id] = replace(container, tmpfs=("/memory",))
        with pytest.raises(InvalidInput, match=telling):
            plan_backup(site.world, Wanted("web", path, str(tmp_path / "copy")))


def test_a_copy_beside_what_it_copies(site: Site) -> None:
    assert planned(site, str(site.directory / "system-copy")).needed


@pytest.fixture(name="operations")
def operations_of_this_test(tmp_path: Path) -> OperationStore:
    return OperationStore(str(tmp_path / "operations"))


def test_a_copy_is_made_once(site: Site, operations: OperationStore, tmp_path: Path) -> None:
    dest = tmp_path / "backups" / "today"
    taken = take(site, operations, dest)
    assert taken.copy is not None
    assert taken.copy.path == str(dest)
    assert (dest / "photo").read_text() == "bytes"
    assert os.listdir(tmp_path / "backups") == ["today"]
    assert take(site, operations, dest).copy is None


def test_an_attempt_that_failed_leaves_nothing_that_the_next_one_does_not_use(
    site: Site, operations: OperationStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dest = str(tmp_path / "backups" / "today")
    with monkeypatch.context() as patched:
        patched.setattr(settle, "settle", raising(StatefulError("no space")))
        for _attempt in range(2):
            with pytest.raises(StatefulError, match="no space"):
                take(site, operations, dest)
    plan = planned(site, dest)
    assert sorted(os.listdir(tmp_path / "backups")) == sorted(
        [os.path.basename(plan.staging), os.path.basename(plan.staging) + ".sqlite"]
    )
    helper = site.engine.create_helper(Helper(plan.operation, "basebackup", site.container("web").image_id, ("x",)))
    take(site, operations, dest)
    assert os.listdir(tmp_path / "backups") == ["today"]
    assert site.engine.container(helper) is None


def test_a_copy_that_lost_its_record_is_made_anew(site: Site, operations: OperationStore, tmp_path: Path) -> None:
    dest = str(tmp_path / "backups" / "today")
    staging = Path(planned(site, dest).staging)
    staging.mkdir(parents=True)
    (staging / "half").write_text("torn")
    take(site, operations, dest)
    assert os.listdir(dest) == ["photo"]


def test_a_copy_waits_for_whoever_works_on_the_project(site: Site, operations: OperationStore, tmp_path: Path) -> None:
    with operations.locked(site.project.name, wait=True):
        waiting = threading.Thread(target=take, args=(site, operations, tmp_path / "today"))
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
        assert not (tmp_path / "today").exists()
    waiting.join()
    assert (tmp_path / "today" / "photo").exists()


# -- with a short stop ---------------------------------------------------------


TWO = (
    "services:\n  web:\n    image: app:1\n    restart: always\n    volumes: ['./system:/system']\n"
    "  jobs:\n    image: app:1\n    restart: unless-stopped\n    volumes: ['./system/photos:/photos']\n"
    "  db:\n    image: store:1\n"
)


@pytest.fixture(name="two")
def two_writers(tmp_path: Path) -> Site:
    site = a_site(tmp_path, TWO)
    (site.directory / "system" / "photos").mkdir(parents=True)
    (site.directory / "system" / "photos" / "one").write_text("bytes")
    return site.up()


def running(site: Site) -> Mapping[str, tuple[bool, str]]:
    return {name: (c.running, c.restart.name) for name in ("web", "jobs", "db") for c in site.world.containers_of(name)}


UP = {"web": (True, "always"), "jobs": (True, "unless-stopped"), "db": (True, "no")}


def test_whoever_writes_stops_for_what_changed_since(
    two: Site, operations: OperationStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    real = settle.settle

    def settling(*args: Any, **more: Any) -> Any:
        seen.append(running(two))
        return real(*args, **more)

    monkeypatch.setattr(settle, "settle", settling)
    taken = take(two, operations, tmp_path / "today", allow_stop=True)
    assert seen == [{"web": (False, "no"), "jobs": (False, "no"), "db": (True, "no")}]
    assert running(two) == UP
    assert (tmp_path / "today" / "photos" / "one").read_text() == "bytes"
    assert taken.copy is not None
    assert "stopped for it: site-web-1, site-jobs-1" in taken.copy.proof
    assert taken.downtime_seconds > 0


def test_without_leave_nobody_stops(two: Site, operations: OperationStore, tmp_path: Path) -> None:
    assert planned(two, str(tmp_path / "today")).stops == ()
    assert take(two, operations, tmp_path / "today").downtime_seconds == 0


def test_started_again_after_a_failure(
    two: Site, operations: OperationStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle, "settle", raising(StatefulError("no space")))
    with pytest.raises(StatefulError, match="no space"):
        take(two, operations, tmp_path / "today", allow_stop=True)
    assert running(two) == UP


def test_one_that_will_not_stop_goes_on(two: Site, operations: OperationStore, tmp_path: Path) -> None:
    two.engine.programs = {("serve",): Program(ends_on={})}
    two.stop_timeout = 0.01
    with pytest.raises(StatefulError, match="still runs"):
        take(two, operations, tmp_path / "today", allow_stop=True)
    assert running(two) == UP


def test_the_next_run_starts_what_a_killed_one_stopped(
    two: Site, operations: OperationStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as dying:
        dying.setattr(settle, "settle", raising(KeyboardInterrupt()))
        dying.setattr(short_stop, "start_again", lambda _world, _notes: [])
        with pytest.raises(KeyboardInterrupt):
            take(two, operations, tmp_path / "today", allow_stop=True)
    assert running(two) == {"web": (False, "no"), "jobs": (False, "no"), "db": (True, "no")}
    assert set(take(two, operations, tmp_path / "other").started_again) == {"site-web-1", "site-jobs-1"}
    assert running(two) == UP


def test_a_writer_of_another_project_is_not_stopped(two: Site, tmp_path: Path) -> None:
    mounts = [EngineMount("bind", str(two.directory / "system"), "/x", True)]
    two.engine.start(
        two.engine.create_container("stranger", two.engine.images[next(iter(two.engine.images))], mounts=mounts)
    )
    with pytest.raises(InvalidInput, match="stranger"):
        planned(two, str(tmp_path / "today"), allow_stop=True)
