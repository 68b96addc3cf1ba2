# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The PostgreSQL dogu upgraded on a CES that behaves as the real one was seen to, its traps included."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.cloudogu.lab import ROWS, Bench, Host, hosts
from tests.sandbox._base import wait_for
from tests.sandbox.ces import DUMP
from tests.sandbox.engine import Engine

DUMPS = "/var/lib/postgresql/backup/*.sql"
JOURNEYS = [
    ("15.18-1", "17.6-1", "major"),
    ("13.16-1", "15.12-1", "major"),
    ("13.16-1", "17.6-1", "major"),
    ("15.12-1", "15.18-1", "minor"),
    ("13.16-1", "13.16-2", "minor"),
]


@pytest.fixture
def host(tmp_path: Path, shared_engine: Engine) -> Iterator[Host]:
    with hosts(tmp_path, shared_engine) as make:
        yield make


def test_a_major_upgrade(host: Host) -> None:
    """The one journey that is in the usual run; everything else where the whole product is."""
    bench = host("15.18-1", "17.6-1")
    ces = bench.ces
    # What the dogu's own process leaves waiting for ever.
    ces.when(ces.postgresql, "post-upgrade", "kill -9 $$")
    result = bench.run("17.6-1")
    assert result["changed"], result
    assert (result["version"], result["operation_state"], len(result["resolved"])) == ("17.6-1", "done", 1)
    assert result["verification"]["rows"] >= ROWS
    assert set(result["verification"]["markers"]) == {"restricted_stat_visibility", "migrated_database_constraints"}
    bench.assert_upgraded("17.6-1")


@pytest.mark.faults
@pytest.mark.parametrize("old, new, kind", JOURNEYS)
def test_every_way_up_and_back(host: Host, old: str, new: str, kind: str) -> None:
    bench = host(old, new)
    ces, identity = bench.ces, bench.identity()
    seen = bench.info()
    assert (seen["version"], seen["stuck"], seen["answers"]) == (old, "", True)
    assert [(each["name"], each["account"]) for each in seen["dependents"]] == [(ces.dependent, ces.account)]
    assert seen["registry"]["password_set"]
    assert seen["volume"] == str(ces.data)

    foreseen = bench.run(new, check=True)
    assert (foreseen["changed"], foreseen["plan"]["kind"]) == (True, kind), foreseen
    assert {call.partition(" ")[0] for call in ces.calls} == {"install", "list-upgrades"}

    result = bench.run(new)
    assert result["changed"], result
    assert (result["version"], result["resolved"]) == (new, [])
    assert result["verification"]["rows"] >= ROWS
    assert set(result["verification"]["markers"]) == {"restricted_stat_visibility", "migrated_database_constraints"}
    assert {copy["role"] for copy in result["copies"]} == {"backup", "original"}
    assert all(
        Path(copy["path"]).is_dir() and not Path(copy["path"]).is_relative_to(ces.data) for copy in result["copies"]
    )
    assert result["downtime_seconds"] > 0
    bench.assert_upgraded(new)
    password = ces.execute(ces.postgresql, "doguctl", "config", "-e", "password")
    for place in bench.operations.rglob("*"):
        if place.is_file():
            assert password.encode() not in place.read_bytes(), place

    again = bench.run(new)
    assert (again["changed"], again["version"]) == (False, new)

    ces.sql("INSERT INTO commits VALUES (-1, 'somebody')", ces.account)
    refused = bench.run(module="operation", project=ces.postgresql, state="rolled_back")
    assert refused["failed"]
    assert "transactions" in refused["msg"]
    back = bench.run(module="operation", project=ces.postgresql, state="rolled_back", discard_writes=True)
    assert back["changed"], back
    bench.assert_as_before(old, identity)
    (discarded,) = (copy for copy in back["copies"] if copy["path"].endswith(".discarded"))
    assert (Path(discarded["path"]) / Path(seen["data_directory"]).relative_to(ces.data)).parent.exists()


@pytest.mark.faults
def test_nothing_to_do_and_nothing_possible(host: Host) -> None:
    bench = host("13.16-2", "13.16-1")
    ces = bench.ces
    container = ces.engine.docker("inspect", "-f", "{{.Id}}", ces.postgresql)
    assert bench.run("13.16-2")["changed"] is False
    assert "older" in bench.run("13.16-1")["msg"]
    assert "no version" in bench.run("17")["msg"]

    # What an upgrade left is named, each with the command that looks or frees.
    ces.set_config("local_state", "upgrading")
    ces.set_config("migration_backup_path", "/var/lib/postgresql/backup/old.sql")
    (ces.data / "backup").mkdir()
    (ces.data / "backup/backup.lock").touch()
    for check in (True, False):
        refused = bench.run("15.12-1", check=check)
        assert refused["failed"]
        assert len([text for text in refused["blockers"] if "broken off" in text]) == 3, refused
        assert "--rm local_state" in refused["next_command"]
    assert "local_state" in bench.info()["stuck"]
    assert "broken off" in bench.run("13.16-2")["msg"]
    ces.execute(ces.postgresql, "doguctl", "config", "--rm", "local_state")
    ces.execute(ces.postgresql, "doguctl", "config", "--rm", "migration_backup_path")
    (ces.data / "backup/backup.lock").unlink()

    ces.set_config("user", "somebody")
    assert "superuser" in bench.run("15.12-1")["msg"]
    ces.set_config("user", "postgres")
    inside = bench.run("15.12-1", backup_dir=str(ces.data / "copies"))
    assert "volume" in inside["msg"]
    assert ces.engine.docker("inspect", "-f", "{{.Id}}", ces.postgresql) == container
    assert not [call for call in ces.calls if call.startswith("upgrade")]


@pytest.mark.faults
@pytest.mark.parametrize("old, new", [("15.18-1", "17.6-1"), ("13.16-1", "13.16-2"), ("13.16-1", "15.12-1")])
def test_a_post_upgrade_that_died_is_recognised_and_run_again(host: Host, old: str, new: str) -> None:
    bench = host(old, new)
    bench.ces.when(bench.ces.postgresql, "post-upgrade", "kill -9 $$")
    result = bench.run(new)
    assert len(result["resolved"]) == 1, result
    bench.assert_upgraded(new)


@pytest.mark.faults
def test_a_post_upgrade_that_dies_each_time_is_undone(host: Host) -> None:
    bench = host("15.18-1", "17.6-1")
    identity = bench.identity()
    bench.ces.when(bench.ces.postgresql, "post-upgrade", "exit 7", once=False)
    result = bench.run("17.6-1")
    assert result["failed"]
    assert "post-upgrade" in result["msg"]
    bench.assert_as_before("15.18-1", identity)


@pytest.mark.faults
@pytest.mark.parametrize(
    "old, new, script",
    [
        # Cut off, with nobody the wiser: psql reads what is there.
        ("13.16-1", "15.12-1", f"head -c 2500 {DUMP} >/tmp/cut; cat /tmp/cut >{DUMP}"),
        # An error that the dogu's own restore passes over.
        ("13.16-1", "15.12-1", f"sed -i 's/^COPY public.commits/COPY public.commit/' {DUMP}"),
        ("15.18-1", "17.6-1", f"for file in {DUMPS}; do head -c 2500 $file >/tmp/cut; cat /tmp/cut >$file; done"),
        # One that it stops at, half-way: the next start serves what is there.
        ("15.18-1", "17.6-1", f"sed -i 's/^COPY public.commits/COPY public.commit/' {DUMPS}"),
    ],
)  # fmt: skip
def test_a_restore_that_loses_something_is_seen_and_undone(host: Host, old: str, new: str, script: str) -> None:
    bench = host(old, new)
    identity = bench.identity()
    bench.ces.when(bench.ces.postgresql, "dumped", script)
    result = bench.run(new)
    assert result["failed"]
    assert f"does not have what {old} had" in result["msg"] or "ended with" in result["msg"], result
    assert result["safe_to_rerun"]
    bench.assert_as_before(old, identity)
    # What the new version had is kept, too: the dependents ran on it.
    assert sorted(Path(copy["path"]).suffix for copy in result["copies"]) == ["", ".discarded"]
    # Without the fault the same task succeeds.
    assert bench.run(new)["version"] == new
    bench.assert_upgraded(new)


@pytest.mark.faults
def test_a_post_upgrade_that_died_without_its_data_is_undone_at_once(host: Host) -> None:
    """The dump is in the container by then, and what is run again would wait for ever for a server without data."""
    bench = host("13.16-1", "15.12-1")
    identity = bench.identity()
    bench.ces.when(bench.ces.postgresql, "emptied", "kill -9 $$")
    result = bench.run("15.12-1")
    assert "there is no dump any more" in result["msg"], result
    bench.assert_as_before("13.16-1", identity)


@pytest.mark.faults
def test_a_post_upgrade_that_hangs_when_it_is_run_again_is_undone(host: Host) -> None:
    bench = host("13.16-1", "15.12-1", upgrade_timeout=40)
    identity = bench.identity()
    # It ends half-way, with an empty cluster of the new version; then it waits for something that never comes.
    script = "[ -f /tmp/once ] && sleep 1000; touch /tmp/once; kill -9 $$"
    bench.ces.when(bench.ces.postgresql, "post-upgrade", script, once=False)
    result = bench.run("15.12-1")
    assert "does so again (after 40 s)" in result["msg"], result
    bench.assert_as_before("13.16-1", identity)


@pytest.mark.faults
def test_a_new_version_that_ends_on_its_data_is_undone(host: Host) -> None:
    bench = host("13.16-1", "13.16-2")
    identity = bench.identity()
    crash = '[ "$(cat /ces/dogu/$DOGU)" != 13.16-2 ] || [ ! -s "$PGDATA/PG_VERSION" ] || exit 9'
    bench.ces.when(bench.ces.postgresql, "startup", crash, once=False)
    result = bench.run("13.16-2")
    assert "The new version of" in result["msg"], result
    bench.assert_as_before("13.16-1", identity)


@pytest.mark.faults
@pytest.mark.parametrize("old, new", [("15.18-1", "17.6-1"), ("13.16-1", "15.12-1")])
def test_a_restore_takes_longer_than_a_start_may(host: Host, old: str, new: str) -> None:
    bench = host(old, new)
    bench.ces.when(bench.ces.postgresql, "restoring", "psql -qU postgres -c 'SELECT pg_sleep(45)' postgres")
    result = bench.run(new, ready_timeout=30)
    assert result.get("version") == new, result.get("msg")
    bench.assert_upgraded(new)


@pytest.mark.faults
def test_a_migration_that_sets_no_mark_is_told_and_no_reason_to_undo(host: Host) -> None:
    bench = host("13.16-1", "13.16-2")
    ces = bench.ces
    ces.execute(ces.postgresql, "doguctl", "config", "--rm", "restricted_stat_visibility")
    # As where the file that it needs is not in the image.
    ces.when(ces.postgresql, "migration-02-restrictStatVisibility.sh", "echo '#!/bin/sh' >\"$script\"")
    result = bench.run("13.16-2")
    assert result["version"] == "13.16-2", result
    assert "02-restrictStatVisibility.sh" in json.dumps(result["warnings"]), result
    assert "restricted_stat_visibility" not in result["verification"]["markers"]
    bench.assert_upgraded("13.16-2")


@pytest.mark.faults
def test_dependents_that_take_no_signal_are_stopped_all_the_same(host: Host) -> None:
    bench = host("15.18-1", "17.6-1")
    ces = bench.ces
    ces.when(ces.dependent, "start", "trap '' TERM; while :; do sleep 1; done", once=False)
    ces.engine.docker("restart", "-t", "0", ces.dependent)
    result = bench.run("17.6-1")
    assert result["version"] == "17.6-1", result
    bench.assert_upgraded("17.6-1")


@pytest.mark.faults
def test_dependents_that_never_come_up_are_a_reason_to_go_back(host: Host) -> None:
    bench = host("15.18-1", "17.6-1")
    ces, identity = bench.ces, bench.identity()
    # It cannot work with the new version.
    ces.when(ces.dependent, "start", f'[ "$(cat /ces/dogu/{ces.postgresql})" != 17.6-1 ] || exit 3', once=False)
    assert ces.dependent in bench.run("17.6-1")["msg"]
    # What it has written before it ended, the server's own work included, is kept beside.
    back = bench.run(module="operation", project=ces.postgresql, state="rolled_back", discard_writes=True)
    assert back.get("changed"), back
    bench.assert_as_before("15.18-1", identity)


@pytest.mark.faults
def test_who_was_uninstalled_meanwhile_is_told(host: Host) -> None:
    bench = host("15.18-1", "17.6-1")
    ces = bench.ces
    ces.when("cesapp", "removed", f"docker rm -f {ces.dependent} >/dev/null")
    result = bench.run("17.6-1")
    assert result["operation_state"] == "done", result
    assert ces.dependent in json.dumps(result["warnings"])
    committed = bench.run(module="operation", project=ces.postgresql, state="committed", remove_backups=True)
    assert committed["changed"], committed
    assert list(bench.backups.iterdir()) == []


@pytest.mark.faults
def test_halted_before_the_downtime_and_gone_on_with(host: Host) -> None:
    bench = host("13.16-1", "13.16-2")
    ces = bench.ces
    halted = bench.run("13.16-2", stop_before="switch")
    assert (halted["stopped_before"], ces.version) == ("switch", "13.16-1")
    assert ces.running(ces.dependent)
    ces.sql("INSERT INTO commits VALUES (-1, 'meanwhile')", ces.account)
    assert bench.run("13.16-2")["operation_state"] == "done"
    assert ces.count() == ROWS + 1


@pytest.mark.faults
def test_while_a_cesapp_is_at_work_nothing_is_advised_that_would_break_it(host: Host) -> None:
    bench = host("15.18-1", "17.6-1")
    ces, place = bench.ces, bench.directory / "ces" / "here"
    ces.when("cesapp", "between", f"touch {place}; while [ -f {place} ]; do sleep 0.1; done")
    process = subprocess.Popen(
        [str(ces.program), "upgrade", "dogu", ces.postgresql, "17.6-1"], env=ces.environment, stdout=subprocess.DEVNULL
    )
    try:
        wait_for(place.exists, "cesapp is half-way", timeout=120)
        refused = bench.run("17.6-1")
        assert refused["blockers"] == [f"A cesapp upgrades {ces.postgresql} now: wait until it has ended."]
        assert refused["next_command"].startswith("pgrep")
        assert bench.info()["stuck"] == ""
    finally:
        place.unlink(missing_ok=True)
        process.wait(120)


@pytest.mark.faults
@pytest.mark.parametrize("word", ["between", "removed"])
def test_a_cesapp_that_breaks_off_is_undone(host: Host, word: str) -> None:
    bench = host("15.18-1", "17.6-1")
    identity = bench.identity()
    bench.ces.when("cesapp", word, "exit 1")
    result = bench.run("17.6-1")
    assert result["failed"]
    assert "cesapp" in result["msg"]
    bench.assert_as_before("15.18-1", identity)


@pytest.mark.faults
def test_a_cesapp_that_never_ends_is_ended_and_undone(host: Host) -> None:
    bench = host("15.18-1", "17.6-1", upgrade_timeout=15)
    identity = bench.identity()
    bench.ces.when("cesapp", "between", "sleep 1000")
    result = bench.run("17.6-1")
    assert "did not end within 15 s" in result["msg"]
    bench.assert_as_before("15.18-1", identity)


@pytest.mark.faults
def test_a_version_that_is_not_offered_changes_nothing(host: Host) -> None:
    bench = host("15.18-1")
    container = bench.ces.engine.docker("inspect", "-f", "{{.Id}}", bench.ces.postgresql)
    identity = bench.identity()
    result = bench.run("99.1-1")
    assert "not offered" in result["msg"]
    bench.assert_as_before("15.18-1", identity)
    assert bench.ces.engine.docker("inspect", "-f", "{{.Id}}", bench.ces.postgresql) == container


@pytest.mark.faults
def test_dependents_that_do_not_come_up_are_told_and_nothing_is_undone(host: Host) -> None:
    bench = host("15.18-1", "17.6-1")
    bench.ces.when(bench.ces.dependent, "start", "exit 3", once=False)
    result = bench.run("17.6-1")
    assert result["failed"]
    assert bench.ces.dependent in result["msg"]
    assert "after the change was made and proved" in result["msg"]
    assert (bench.ces.version, bench.ces.count()) == ("17.6-1", ROWS)
    (bench.directory / "ces/trouble" / bench.ces.dependent / "start").unlink()
    assert bench.run("17.6-1")["operation_state"] == "done"
    bench.assert_upgraded("17.6-1")


@pytest.mark.faults
@pytest.mark.parametrize("moment", ["copied", "dumping", "between", "post-upgrade", "restoring"])
def test_killed_it_is_resumed_or_undone_and_reaches_the_same_end(host: Host, moment: str) -> None:
    """Killed with SIGKILL, while ``cesapp`` goes on without it."""
    bench = host("15.18-1", "17.6-1")
    ces, place = bench.ces, bench.directory / "ces" / "here"
    pause = "touch {}/here; n=0; while [ -f {}/here ] && [ $n -lt 600 ]; do sleep 0.1; n=$((n+1)); done"
    if moment == "copied":
        ces.when("cesapp", "between", "exit 1")
    elif moment == "between":
        ces.when("cesapp", "between", pause.format(bench.directory / "ces", bench.directory / "ces"))
    else:
        word = {"dumping": "dumped"}.get(moment, moment)
        ces.when(ces.postgresql, word, pause.format("/ces", "/ces"))
    process = bench.start("17.6-1")
    if moment == "copied":
        wait_for(lambda: any(bench.backups.glob("*-original")), "the copy has begun", timeout=120)
    else:
        wait_for(place.exists, f"{moment} is reached", timeout=120)
    kill_workers(bench)
    process.wait(30)
    place.unlink(missing_ok=True)
    result = bench.run("17.6-1")
    if result.get("failed") and moment == "copied":  # the trouble that was laid in its way
        result = bench.run("17.6-1")
    assert result.get("version") == "17.6-1", result
    bench.assert_upgraded("17.6-1")


@pytest.mark.faults
def test_what_dependents_wrote_before_the_proof_is_neither_a_loss_nor_lost(host: Host) -> None:
    """The run is killed while ``cesapp`` works; that ends without it, and starts the dependents."""
    bench = host("15.18-1", "17.6-1")
    ces, identity, place = bench.ces, bench.identity(), bench.directory / "ces" / "here"
    ces.when("cesapp", "between", f"touch {place}; while [ -f {place} ]; do sleep 0.1; done")
    process = bench.start("17.6-1")
    wait_for(place.exists, "cesapp is half-way", timeout=120)
    kill_workers(bench)
    process.wait(30)
    place.unlink()
    wait_for(lambda: ces.version == "17.6-1" and ces.running(ces.dependent), "cesapp has ended", timeout=120)
    ces.wait_ready()
    ces.sql("INSERT INTO commits VALUES (-1, 'somebody'); DELETE FROM commits WHERE id BETWEEN 1 AND 9", ces.account)
    for _ in range(2):
        undecided = bench.run("17.6-1")
        assert "they may have deleted it" in undecided["msg"], undecided
        assert not ces.running(ces.dependent)
        assert ces.count() == ROWS - 8
    back = bench.run(module="operation", project=ces.postgresql, state="rolled_back")
    assert back["changed"], back
    bench.assert_as_before("15.18-1", identity)
    (discarded,) = (Path(copy["path"]) for copy in back["copies"] if copy["path"].endswith(".discarded"))
    assert (discarded / "17/docker/PG_VERSION").is_file()


@pytest.mark.faults
def test_what_was_written_after_the_original_was_put_back_stays(host: Host) -> None:
    """The undo is killed while the old version starts; somebody starts it, and writes, before the next run."""
    bench = host("15.18-1", "17.6-1")
    ces, identity = bench.ces, bench.identity()
    ces.when(ces.postgresql, "post-upgrade", "exit 7", once=False)
    process = bench.start("17.6-1")
    wait_for(lambda: "put back" in journals(bench), "the original is put back", timeout=120)
    kill_workers(bench)
    process.wait(30)
    (bench.directory / "ces/trouble" / ces.postgresql / "post-upgrade").unlink()
    ces.engine.docker("start", ces.postgresql)
    ces.execute(ces.postgresql, "doguctl", "config", "--rm", "local_state")
    ces.wait_ready()
    ces.sql("INSERT INTO commits VALUES (-1, 'somebody')", ces.account)
    back = bench.run(module="operation", project=ces.postgresql, state="rolled_back")
    assert back["changed"], back
    assert (ces.version, bench.identity(), ces.count()) == ("15.18-1", identity, ROWS + 1)
    assert ces.running(ces.dependent)


@pytest.mark.faults
def test_a_dependent_that_cannot_be_started_holds_no_other_up(host: Host) -> None:
    bench = host("15.18-1", "17.6-1")
    ces, docker = bench.ces, bench.ces.engine.docker
    other, place = f"{ces.prefix}-aaa", bench.directory / "mounted"
    place.mkdir()
    docker(
        *("run", "-d", "--name", other, "--restart", "always", "--stop-signal", "SIGKILL", "--network", "none"),
        *("--mount", f"type=bind,source={place},target=/mounted", "--entrypoint", "sleep", ces.image, "infinity"),
    )
    try:
        # The engine refuses to start it then; it comes before the other one.
        ces.when("cesapp", "between", f"rmdir {place}")
        result = bench.run("17.6-1", dependents=["auto", other])
        assert other in result["msg"], result
        assert "after the change was made and proved" in result["msg"]
        assert docker("inspect", "-f", "{{.HostConfig.RestartPolicy.Name}}", other) == "always"
        bench.assert_upgraded("17.6-1")
        place.mkdir()
        assert bench.run("17.6-1", dependents=["auto", other])["operation_state"] == "done"
        assert ces.running(other)
    finally:
        docker("rm", "-fv", other, check=False)


def journals(bench: Bench) -> str:
    return "".join(each.read_text() for each in bench.operations.rglob("journal.jsonl"))


def kill_workers(bench: Bench) -> None:
    """Kill the module and its detached worker, and not ``cesapp``, which works on."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            environment = (entry / "environ").read_bytes()
            files = [os.readlink(each) for each in (entry / "fd").iterdir()]
        except OSError:
            continue
        mine = any(word.endswith(b"modules.cloudogu_dogu") for word in words)
        if mine and environment and any(str(bench.operations) in name for name in files):
            os.kill(int(entry.name), signal.SIGKILL)
