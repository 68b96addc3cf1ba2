# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a server says of itself, what speaks against moving it, and how its stop is made safe."""

from __future__ import annotations

import json

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._redis.counts import (
    KeyCount,
    as_dict,
    compare_counts,
    from_dict,
    parse_keyspace,
    total,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.facts import facts_from, observe_redis
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.session import ErrorReply, RedisError, Session
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.shutdown import (
    BY_COMMAND,
    SAVE_POINT,
    SavePlan,
    arrange_save,
    plan_from_dict,
    plan_save,
    unarrange_save,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.startup import Startup, startup_of
from tests.unit.redis.fakes import FakeEngine, a_container, facts
from tests.unit.redis.recorded import INFO, MODULES

AOF_OFF = {"aof_enabled": "0"}
STARTED_WITH_AOF = startup_of(a_container(command=("redis-server", "--appendonly", "yes")))


def started(*arguments: str) -> Startup:
    return startup_of(a_container(command=("redis-server", *arguments)))


def session(engine: FakeEngine) -> Session:
    return Session(engine, "r", "app-redis-1", ("redis-cli",))  # type: ignore[arg-type]


def test_facts_are_read_in_one_exec() -> None:
    settings = {"dir": "/data", "save": "", "appendfilename": "a.aof"}
    replies = {f"CONFIG GET {name}": f'1) "{name}"\n2) "{value}"' for name, value in settings.items()}
    engine = FakeEngine({"INFO": INFO, "MODULE LIST": MODULES, "CONFIG GET rdbchecksum": "(empty array)", **replies})
    found = observe_redis(session(engine))
    assert len(engine.argvs) == 1
    assert (found.server, found.version, found.process_id) == ("redis", (7, 0, 15), 1)
    assert (found.dir, found.save, found.appendfilename) == ("/data", "", "a.aof")
    assert found.databases == {"0": KeyCount(4, 1), "3": KeyCount(1, 0)}
    assert (found.appendonly, found.role, found.changes_since_save) == (True, "master", 5)
    assert found.modules == ()
    assert found.multipart_aof


def test_without_config_the_startup_tells() -> None:
    refused = {name: ErrorReply("ERR unknown command 'CONFIG'") for name in ("dir", "save")}
    found = facts_from(INFO, (), refused, started("--dir", "/d", "--dbfilename", "x.rdb"))
    assert (found.dir, found.dbfilename, found.save) == ("/d", "x.rdb", None)
    assert "CONFIG" in found.config_refusal


def test_a_module_is_told_by_its_path() -> None:
    found = facts_from(INFO, ("name", "json", "ver", 1, "path", "/m.so", "args"), {}, Startup())
    assert found.modules == ("/m.so",)


def test_valkey_is_known_by_its_own_version() -> None:
    found = facts_from(INFO + "server_name:valkey\nvalkey_version:8.1.0\n", (), {}, Startup())
    assert (found.server, found.version) == ("valkey", (8, 1, 0))


@pytest.mark.parametrize(
    "info, startup, told",
    [
        ({"role": "slave"}, Startup(), "replica"),
        ({"cluster_enabled": "1"}, Startup(), "cluster"),
        ({"loading": "1"}, Startup(), "loading"),
        ({**AOF_OFF, "rdb_last_bgsave_status": "err"}, Startup(), "rdb_last_bgsave_status"),
        ({"aof_last_write_status": "err"}, STARTED_WITH_AOF, "aof_last_write_status"),
        (AOF_OFF, STARTED_WITH_AOF, "switched off at run time"),
        (AOF_OFF, started("--dir", "/elsewhere"), "started with dir /elsewhere"),
        (AOF_OFF, started("--dbfilename", "x.rdb"), "started with dbfilename x.rdb"),
    ],
)
def test_what_speaks_against_a_move(info: dict[str, str], startup: Startup, told: str) -> None:
    (blocker,) = facts(info, startup).blockers("app-redis-1")
    assert told in blocker.text
    assert ("app-redis-1" in blocker.command) == (told != "cluster")


@pytest.mark.parametrize("startup", [Startup(), started("--dir", "/data/"), started("--dir", "./")])
def test_a_plain_server_has_no_blocker(startup: Startup) -> None:
    assert facts(AOF_OFF, startup).blockers("app-redis-1") == []


@pytest.mark.parametrize(
    "info, startup, settings, method, to_set",
    [
        (AOF_OFF, Startup(), {}, "none", {}),
        (AOF_OFF, Startup(), {"save": ""}, "config", {"save": SAVE_POINT}),
        ({}, STARTED_WITH_AOF, {"save": ""}, "none", {}),
        # Switched on at run time only: the next start reads the RDB file.
        ({}, Startup(), {"save": ""}, "config", {"save": SAVE_POINT}),
        (AOF_OFF, Startup(), {"shutdown_on_sigterm": "nosave"}, "config", {"shutdown-on-sigterm": "default"}),
        (
            AOF_OFF,
            Startup(),
            {"save": "", "shutdown_on_sigterm": "now nosave"},
            "config",
            {"save": SAVE_POINT, "shutdown-on-sigterm": "default"},
        ),
    ],
)
def test_a_stop_is_made_to_save(
    info: dict[str, str], startup: Startup, settings: dict[str, str], method: str, to_set: dict[str, str]
) -> None:
    plan = plan_save(facts(info, startup, **settings))
    assert (plan.method, dict(plan.settings), plan.pause_ms) == (method, to_set, 0)
    assert set(plan.previous) == set(to_set)
    assert plan_from_dict(json.loads(json.dumps(plan.as_dict()))) == plan


def test_writers_are_held_back_where_that_is_known() -> None:
    assert plan_save(facts(AOF_OFF), pause_ms=5).pause_ms == 5
    assert plan_save(facts({**AOF_OFF, "redis_version": "6.0.16"}), pause_ms=5).pause_ms == 0


@pytest.mark.parametrize(
    "info, startup, method",
    [
        ({}, STARTED_WITH_AOF, "none"),
        (AOF_OFF, started("--save", "60", "1"), "none"),
        (AOF_OFF, Startup(), BY_COMMAND),
        ({**AOF_OFF, "redis_version": "6.0.16"}, Startup(), BY_COMMAND),
        ({**AOF_OFF, "redis_version": "6.0.16"}, started("--save", ""), BY_COMMAND),
    ],
)
def test_without_config(info: dict[str, str], startup: Startup, method: str) -> None:
    text = INFO
    for name, value in info.items():
        text = "\n".join(line for line in text.splitlines() if not line.startswith(f"{name}:")) + f"\n{name}:{value}\n"
    plan = plan_save(facts_from(text, (), {"save": ErrorReply("ERR unknown command")}, startup))
    assert (plan.method, plan.settings) == (method, {})


def test_settings_are_asked_back_before_they_are_believed() -> None:
    plan = SavePlan("config", "", {"save": SAVE_POINT}, {"save": ""}, 9)
    kept = '1) "save"\n2) "86400 1"'
    replies = {f"CONFIG SET save {SAVE_POINT}": "OK", "CLIENT PAUSE 9 WRITE": "OK", "INFO keyspace": INFO,
               "CONFIG GET save": kept, "CONFIG SET save ": "OK", "CLIENT UNPAUSE": "OK"}  # fmt: skip
    engine = FakeEngine(dict(replies))
    assert arrange_save(session(engine), plan)["0"] == KeyCount(4, 1)
    assert engine.asked == [f"CONFIG SET save {SAVE_POINT}", "CONFIG GET save", "CLIENT PAUSE 9 WRITE", "INFO keyspace"]

    lying = FakeEngine({**replies, "CONFIG GET save": '1) "save"\n2) ""'})
    with pytest.raises(RedisError, match="does not keep save"):
        arrange_save(session(lying), plan)
    assert lying.asked[-2:] == ["CONFIG SET save ", "CLIENT UNPAUSE"]


def test_what_was_set_is_put_back() -> None:
    engine = FakeEngine({"CONFIG SET save ": "OK"})
    unarrange_save(session(engine), SavePlan("config", "", {"save": SAVE_POINT}, {"save": ""}))
    assert engine.asked == ["CONFIG SET save "]
    unarrange_save(session(FakeEngine()), SavePlan("none", ""))


def test_counts_survive_json() -> None:
    counts = parse_keyspace(INFO)
    assert from_dict(json.loads(json.dumps(as_dict(counts)))) == counts
    assert total(counts) == 5


@pytest.mark.parametrize(
    "before, after, missing",
    [
        (KeyCount(10, 0), KeyCount(10, 0), False),
        (KeyCount(10, 0), KeyCount(9, 0), True),
        (KeyCount(10, 4), KeyCount(6, 0), False),
        (KeyCount(10, 4), KeyCount(9, 4), True),
        (KeyCount(10, 4), KeyCount(20, 4), False),
        (KeyCount(10, 10), KeyCount(0, 0), False),
    ],
)
def test_only_keys_with_a_time_to_live_may_go(before: KeyCount, after: KeyCount, missing: bool) -> None:
    assert bool(compare_counts({"0": before}, {"0": after})) == missing


def test_a_database_that_is_gone_is_missed() -> None:
    assert compare_counts({"3": KeyCount(2, 0)}, {}) == ["database 3: 2 of 2 keys without expiry are missing"]
