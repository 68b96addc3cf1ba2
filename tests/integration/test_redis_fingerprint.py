# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a real Redis holds is seen, by any of the supported versions, and so is what is missing afterwards."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.subject import by_name
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.docker import Connection, connect
from ansible_collections.selfhost.stateful.plugins.module_utils._redis import fingerprint
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.fingerprint import Fingerprint, compare
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.session import open_session
from tests.sandbox.engine import Engine
from tests.sandbox.projects import Project, simple_project

FILL = """
for i = 1, 30000 do redis.call('SET', 'plain:' .. i, i) end
for i = 1, 40 do redis.call('XADD', 'stream:' .. (i % 4), (i * 10) .. '-1', 'body', 'item ' .. i) end
redis.call('RPUSH', 'list', 'a', 'b', '\\255\\254', 'c')
for i = 1, 600 do redis.call('SADD', 'set', 'member ' .. i) redis.call('HSET', 'hash', 'f' .. i, i) end
redis.call('ZADD', 'ranks', 1.5, 'x', 2, 'y')
redis.call('SET', 'session', 'ends some day', 'EX', 86400)
redis.call('SELECT', 3)
redis.call('SET', 'Größe \\\\ "quoted"', 'in another database')
"""

QUEUES = """
for i = tonumber(ARGV[1]), tonumber(ARGV[1]) + 19999 do
  redis.call('XADD', 'huge:stream', i .. '-1', 'body', string.rep('x', 80) .. i)
  redis.call('RPUSH', 'huge:list', string.rep('x', 80) .. i)
  redis.call('HSET', 'huge:hash', 'f' .. i, i)
  redis.call('SADD', 'huge:set', 'member ' .. i)
  redis.call('ZADD', 'huge:zset', i, 'member ' .. i)
end
redis.call('SET', 'huge:string', string.rep('x', 20000000))
"""


@pytest.fixture(params=["8", pytest.param("7", marks=pytest.mark.matrix)])
def project(request: pytest.FixtureRequest, tmp_path: Path, shared_engine: Engine) -> Iterator[Project]:
    made = simple_project(tmp_path / "project", postgres=None, redis=request.param, engine=shared_engine)
    try:
        made.up()
        tell(made, "EVAL", FILL, "0")
        yield made
    finally:
        made.down()


def tell(project: Project, *words: str) -> str:
    return str(project.exec("redis", "redis-cli", *words))


def taken(project: Project, before: Fingerprint | None = None) -> Fingerprint:
    engine = connect(Connection(docker_host=project.engine.host))
    container = by_name(engine, project.container("redis") or "")
    known = {number: database.one_of for number, database in before.databases.items()} if before else {}
    return fingerprint.take(open_session(engine, container), one_of=known)


def test_what_is_there_is_seen_and_so_is_what_is_not_any_more(project: Project) -> None:
    before = taken(project)
    assert set(before.databases) == {"0", "3"}
    found = before.databases["0"]
    assert found.exact
    assert found.keys == 30009
    assert dict(found.lasting) == {"string": 30000, "stream": 4, "list": 1, "set": 1, "hash": 1, "zset": 1}
    assert found.types["string"] == 30001
    assert dict(found.streams) == {f"stream:{number}": 10 for number in range(4)}
    assert 500 < found.sampled < 2000
    assert fingerprint.from_dict(fingerprint.as_dict(before)) == before

    # The order of a set and the form in which a value is kept are no content.
    project.compose("restart", "redis")
    project.wait_ready()
    assert compare(before, taken(project, before)) == []
    tell(project, "DEL", "session")
    assert [difference.lost for difference in compare(before, taken(project, before))] == []

    sampled = next(name for name in (f"plain:{n}" for n in range(1, 30001)) if is_sampled(name, found.one_of))
    changes: list[tuple[Callable[[], str], str]] = [
        (lambda: tell(project, "SET", sampled, "another"), "sampled keys hold other content"),
        (lambda: tell(project, "XDEL", "stream:1", "10-1"), "the stream stream:1 has 9 items, 10 before"),
        (lambda: tell(project, "DEL", "ranks"), "0 keys of type zset without a time to live, 1 before"),
        (lambda: tell(project, "-n", "3", "FLUSHDB"), "database 3: is empty, 1 keys before"),
    ]
    for change, words in changes:
        change()
        lost = [str(difference) for difference in compare(before, taken(project, before)) if difference.lost]
        assert any(words in one for one in lost), (words, lost)


def test_a_score_is_digested_in_the_digits_that_every_version_can_say(project: Project) -> None:
    scores = {"half": 0.5, "tenth": 0.1, "status": 110876543210123456.0, "last": float("inf")}
    tell(project, "FLUSHALL")
    for member, score in scores.items():
        tell(project, "ZADD", "feed:home:1", repr(score), member)
    found = taken(project).databases["0"]
    assert (found.sampled, found.in_part) == (1, 0)
    pairs = sorted(sha1(member) + sha1(f"{score:.17g}") for member, score in scores.items())
    assert found.digest == sha1(sha1("feed:home:1") + "zset" + sha1("".join(pairs)))[:12]


@pytest.mark.faults
def test_few_keys_that_are_huge_cost_the_server_no_memory_and_their_ends_are_seen(project: Project) -> None:
    tell(project, "FLUSHALL")
    for first in range(1, 200_000, 20_000):
        tell(project, "EVAL", QUEUES, "0", str(first))
    tell(project, "EVAL", "for i = 1, 40 do redis.call('RPUSH', 'wide', string.rep('x', 1000000)) end", "0")
    needed = most_memory(project)
    before = taken(project)
    assert most_memory(project) - needed < 32 << 10
    assert (before.databases["0"].sampled, before.databases["0"].in_part) == (7, 7)
    assert compare(before, taken(project, before)) == []

    for change in (
        ("LSET", "huge:list", "-1", "another"),
        ("LSET", "huge:list", "0", "another"),
        ("ZADD", "huge:zset", "900000", "member 200000"),
        ("XDEL", "huge:stream", "1-1"),
        ("XADD", "huge:stream", "900000-1", "body", "another"),
        ("HDEL", "huge:hash", "f5"),
        ("SREM", "huge:set", "member 5"),
        ("SETRANGE", "huge:string", "19999999", "y"),
        ("RPOP", "wide"),
    ):
        tell(project, *change)
        now = taken(project, before)
        assert any("other content" in str(each) for each in compare(before, now)), change
        before = now


def most_memory(project: Project) -> int:
    """Return the most KiB that the server has had so far, its scripts' included."""
    return int(str(project.exec("redis", "grep", "VmHWM", "/proc/1/status")).split()[1])


def is_sampled(name: str, one_of: int) -> bool:
    return int(sha1(name)[:8], 16) % one_of == 0


def sha1(text: str) -> str:
    digest = subprocess.run(["sha1sum"], input=text.encode(), capture_output=True, check=True).stdout
    return digest.split()[0].decode()
