# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a move ends that was done a day ago: rolled back with all that was written since, or committed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.sandbox.loopfs import loopfs
from tests.sandbox.prober import Prober

from .lab import Lab, laid_out, wait_until

WAYS = [pytest.param("rename", marks=pytest.mark.faults), "auto"]


def volumes_of(lab: Lab) -> dict[str, str]:
    """Return the volume that each store's data is in, by service; empty for a bind mount."""
    return {
        name: next((mount.get("Name", "") for mount in inspected["Mounts"]), "")
        for name, inspected in lab.inspected().items()
        if name in lab.sources
    }


def assert_users_commands_find_the_data(lab: Lab) -> None:
    for arguments in (("up", "-d"), ("up", "-d", "--force-recreate")):
        lab.project.compose(*arguments)
        lab.project.wait_ready()
        lab.assert_seed()


def assert_rolled_back(lab: Lab, probe: Prober, origins: dict[str, str], text: str) -> None:
    """Assert that the services run on their volumes again, with every write that was acknowledged anywhere."""
    lab.assert_nothing_lost(probe)
    assert volumes_of(lab) == origins
    assert (lab.project.directory / "docker-compose.yml").read_text() == text
    lab.assert_as_before()
    lab.assert_tidy()


def assert_a_changed_line_is_told_of_first(lab: Lab, before: str) -> None:
    """Assert that a roll back says so before anything stops where somebody has changed a line of ours since."""
    file = lab.project.directory / "docker-compose.yml"
    ours = file.read_text()
    line = next(each for each in ours.splitlines() if each not in before.splitlines() and "/postgres" in each)
    file.write_text(ours.replace(line, f"{line} # mine"))
    running = lab.project.container("db")
    assert str(file) in lab.end("rolled_back").refusal()
    assert lab.states() == ["done"]
    assert lab.project.container("db") == running
    file.write_text(ours)


@pytest.mark.parametrize("way", WAYS)
def test_a_day_of_writes_comes_along_and_a_second_move_is_committed(tmp_path: Path, way: str) -> None:
    """One file system, and two: there by a rename, or by standby and copy; back; there again; committed."""
    with loopfs("ext4", 1024) as disk:
        elsewhere = {"db": disk / "postgres", "redis": disk / "redis"} if way == "auto" else None
        with laid_out(tmp_path, sources=elsewhere, options={"strategy": way}, dependent=True) as lab:
            text, origins = (lab.project.directory / "docker-compose.yml").read_text(), volumes_of(lab)
            with lab.prober() as probe:
                moved = lab.run().ok()["operation"]
                day = probe.acknowledged_count
                wait_until(lambda: probe.acknowledged_count > day + 50, "a day passes")
                planned = lab.end("rolled_back", check=True).ok()
                assert planned["changed"] is True
                assert lab.states() == ["done"], "check mode changed something"
                assert_a_changed_line_is_told_of_first(lab, text)
                back = lab.end("rolled_back").ok()
                assert (back["operation"], back["changed"]) == (moved, True)
                assert back["downtime_seconds"] > 0
                assert_rolled_back(lab, probe, origins, text)
            assert lab.end("rolled_back", id=moved).ok()["changed"] is False
            assert_users_commands_find_the_data(lab)
            assert volumes_of(lab) == origins
            if way == "auto":
                # The bind mounts' directories are kept as they were at the way back, until that is committed.
                assert "state: committed" in lab.run().refusal(), "the way to free it is named"
                assert {Path(copy["path"]) for copy in lab.end("committed").ok()["removed"]} == set(
                    lab.sources.values()
                )
            with lab.prober() as probe:
                again = lab.run().ok()["operation"]
                assert again != moved
                lab.assert_moved(probe)
            assert_committed(lab, again)


def assert_committed(lab: Lab, operation: str) -> None:
    """Commit, and assert that what was retained is gone and nothing else is."""
    kept = [Path(copy["path"]) for copy in lab.run().ok()["copies"] if copy["role"] == "original"]
    refused = lab.end("committed", id=operation, min_age_days=1).refusal()
    assert "min_age_days" in refused
    assert all(path.exists() for path in kept), "a refused commit removed something"
    ended = lab.end("committed", id=operation).ok()
    assert {copy["path"] for copy in ended["removed"]} == {str(path) for path in kept}
    assert not any(path.exists() and any(path.iterdir()) for path in kept)
    assert {copy["role"] for copy in ended["copies"]} == {"backup"}
    assert all(Path(copy["path"]).exists() for copy in ended["copies"])
    assert lab.end("committed", id=operation).ok()["changed"] is False
    assert_users_commands_find_the_data(lab)
    lab.assert_mounts()
    lab.assert_tidy()


@pytest.mark.faults
def test_a_roll_back_that_loses_its_connection_is_known_to_be_done(tmp_path: Path) -> None:
    """The worker goes on alone, and notes the end where the next run finds it."""
    with laid_out(tmp_path, services=["redis"]) as lab:
        text, origins = (lab.project.directory / "docker-compose.yml").read_text(), volumes_of(lab)
        with lab.prober() as probe:
            moved = lab.run().ok()["operation"]
            pause = lab.paused("start the stores", "before", ending="rolled_back")
            pause.kill(parent=True)
            pause.process.wait(30)
            pause.go()
            answer = lab.end("rolled_back", id=moved).ok()
            assert answer["operation"] == moved
            assert_rolled_back(lab, probe, origins, text)
        assert set(lab.states()) == {"rolled_back", "committed"}
        assert lab.run(check=True).ok()["changed"] is True, "a new move can be planned"


@pytest.mark.faults
def test_a_store_that_does_not_get_ready_takes_the_others_back_with_it(tmp_path: Path) -> None:
    """Copies, not renames: Redis has run on its copy, and nothing but its own snapshot was written there."""
    with loopfs("ext4", 1024) as disk:
        refuse = "grep -q '/postgres /var/lib/postgresql/data' /proc/self/mountinfo && exit 1"
        lines = (
            "  POSTGRES_INITDB_ARGS: --no-sync",
            f'entrypoint: ["bash", "-c", "{refuse}; exec docker-entrypoint.sh postgres"]',
        )
        sources = {"db": disk / "postgres", "redis": disk / "redis"}
        with laid_out(tmp_path, sources=sources, dependent=True, db_lines=lines) as lab:
            answer = lab.run(ready_timeout=20)
            assert "undone" in answer.data.get("state", ""), answer.data
            assert answer.data["failed_step"] == "prove"
            with lab.prober() as probe:
                wait_until(lambda: probe.acknowledged_count > 10, "both take writes again")
                lab.assert_not_moved(probe)
            assert lab.states() == ["rolled_back"]


@pytest.mark.faults
def test_what_outsiders_wrote_to_the_copy_is_not_undone(tmp_path: Path) -> None:
    """A writer from outside reaches Redis on its new place before the proof fails: the way is forward, and all work."""
    with loopfs("ext4", 1024) as disk:
        refuse = "grep -q '/postgres /var/lib/postgresql/data' /proc/self/mountinfo && [ ! -e /srv/ok ] && exit 1"
        lines = (
            "  POSTGRES_INITDB_ARGS: --no-sync",
            f'entrypoint: ["bash", "-c", "{refuse}; exec docker-entrypoint.sh postgres"]',
            "volumes:",
            f"  - {tmp_path}/srv:/srv:ro",
        )
        (tmp_path / "srv").mkdir()
        sources = {"db": disk / "postgres", "redis": disk / "redis"}
        with laid_out(tmp_path, sources=sources, dependent=True, db_lines=lines) as lab, lab.prober() as probe:
            answer = lab.run(ready_timeout=20)
            assert "nothing is undone" in answer.refusal(), json.dumps(dict(answer.data), indent=1)
            inspected = lab.inspected()
            assert inspected["web"]["State"]["Running"], "a dependent is left stopped"
            assert inspected["web"]["HostConfig"]["RestartPolicy"]["Name"] == "always"
            (tmp_path / "srv" / "ok").touch()
            lab.run().ok()
            lab.assert_moved(probe)
