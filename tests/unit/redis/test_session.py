# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Talking to a server: replies, errors that exit with 0, passwords, client programs."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container, ExecResult
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.session import (
    ErrorReply,
    NotAnswering,
    RedisError,
    Reply,
    Session,
    Unauthorised,
    ask,
    client_candidates,
    command,
    open_session,
    parse_reply,
    quoted,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.startup import (
    Startup,
    parse_config_file,
    startup_of,
    with_config_file,
)
from tests.unit.redis.fakes import FakeEngine, a_container
from tests.unit.redis.recorded import INFO, MODULES


def session(engine: FakeEngine, password: str = "") -> Session:
    return Session(engine, "r", "app-redis-1", ("redis-cli",), password)  # type: ignore[arg-type]


class Ending(FakeEngine):
    """Its server answers the first mark, and nothing after it."""

    def execute(self, container_id: str, argv: tuple[str, ...], **options: Any) -> ExecResult:
        result = super().execute(container_id, argv, **options)
        said = result.stdout.splitlines(keepends=True)[0]
        return ExecResult(argv, 1, said, b"Error: Server closed the connection")


def opened(engine: FakeEngine, container: Container, password: str = "") -> Session:
    return open_session(engine, container, password=password)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text, reply",
    [
        ("OK", "OK"),
        ('"x\\r\\n\\"y\\xc3\\xbc"', 'x\r\n"yü'),
        ('""', ""),
        ("(integer) -7", -7),
        ("(nil)", None),
        ("(empty array)", ()),
        ("(empty list or set)", ()),
        ("(error) ERR no", ErrorReply("ERR no")),
        ('1) "save"\n2) "3600 1 300 100"', ("save", "3600 1 300 100")),
        ('1) "one"', ("one",)),
        (' 1) "a"\n10) (integer) 2', ("a", 2)),
        (MODULES, ("name", "vectorset", "ver", 1, "path", "", "args")),
        (INFO, INFO),
    ],
)
def test_replies(text: str, reply: Reply) -> None:
    assert parse_reply(text) == reply


@pytest.mark.parametrize("argument", ["plain", "", 'a "b" \\ c', "line\r\nbreak\ttab", "ü€", "\x00\x7f"])
def test_what_is_quoted_reads_back_as_the_same(argument: str) -> None:
    assert parse_reply(quoted(argument)) == argument
    assert "\n" not in quoted(argument)


def test_several_commands_cost_one_exec() -> None:
    engine = FakeEngine({"INFO": INFO, "LASTSAVE": "(integer) 5", "SAVE": "(error) ERR disk"})
    info, second, third = ask(session(engine), ("INFO",), ("LASTSAVE",), ("SAVE",))
    assert (info, second, third) == (INFO.strip(), 5, ErrorReply("ERR disk"))
    assert len(engine.argvs) == 1


def test_an_error_reply_is_an_error_although_the_client_ends_with_0() -> None:
    with pytest.raises(RedisError, match="answered CONFIG SET with: ERR unknown") as caught:
        command(session(FakeEngine()), "CONFIG", "SET", "requirepass", "hush")
    assert "hush" not in caught.value.msg


def test_an_error_reply_is_told_without_the_script_that_it_answers() -> None:
    engine = FakeEngine({"EVAL return 1 0": "(error) NOPERM User default has no permissions to run the 'eval' command"})
    with pytest.raises(Unauthorised, match=r"^app-redis-1 answered EVAL with: NOPERM User"):
        command(session(engine), "EVAL", "return 1", "0")


def test_the_password_is_in_no_argv() -> None:
    engine = FakeEngine(password="p w'\"\\x")
    assert command(session(engine, "p w'\"\\x"), "PING") == "PONG"
    assert engine.argvs == [("redis-cli", "--no-raw")]


@pytest.mark.parametrize(
    "container, files",
    [
        (a_container(command=("redis-server", "--save", "", "--requirepass", "hush")), {}),
        (a_container(command=("--requirepass", "hush")), {}),
        (a_container(command=("sh", "-c", 'exec redis-server --requirepass "$PW"'), env={"PW": "hush"}), {}),
        (a_container(command=("sh", "-c", "redis-server --requirepass ${PW:-hush}")), {}),
        (a_container(env={"REDIS_PASSWORD": "hush"}), {}),
        (a_container(env={"REDIS_PASSWORD_FILE": "/run/secrets/pw"}), {"/run/secrets/pw": "hush\n"}),
        (a_container(command=("redis-server", "/etc/r.conf")), {"/etc/r.conf": '# x\nrequirepass "hush"\n'}),
        (a_container(command=("/etc/r.conf",)), {"/etc/r.conf": "requirepass hush\n"}),
    ],
)
def test_the_password_is_found(container: Container, files: dict[str, str]) -> None:
    found = opened(FakeEngine(password="hush", files=files), container)
    assert found.password == "hush"
    assert "hush" not in repr(found)


def test_the_option_wins_over_what_is_found() -> None:
    container = a_container(env={"REDIS_PASSWORD": "other"})
    assert opened(FakeEngine(password="hush"), container, "hush").password == "hush"
    with pytest.raises(Unauthorised):
        opened(FakeEngine(password="other"), container, "hush")


def test_no_password_and_a_wrong_one_are_told() -> None:
    with pytest.raises(Unauthorised, match="NOAUTH"):
        opened(FakeEngine(password="hush"), a_container())


def test_a_password_that_nobody_asks_for_does_no_harm() -> None:
    assert opened(FakeEngine(), a_container(env={"REDIS_PASSWORD": "stale"})).container_name == "app-redis-1"


@pytest.mark.parametrize("client", ["redis-cli", "valkey-cli", "keydb-cli"])
def test_the_client_of_the_fork_is_found(client: str) -> None:
    assert opened(FakeEngine(clients=(client,)), a_container()).client == (client,)


def test_no_client_at_all_is_told() -> None:
    with pytest.raises(RedisError, match="no keydb-cli in the container"):
        opened(FakeEngine(clients=()), a_container())


@pytest.mark.parametrize(
    "said",
    ["Could not connect to Redis at 127.0.0.1:6379: Connection refused", "Error: Server closed the connection", ""],
)
def test_a_server_that_does_not_answer(said: str) -> None:
    engine = FakeEngine(unreachable=said or " ")
    with pytest.raises(NotAnswering):
        opened(engine, a_container())


def test_a_server_that_ends_while_it_is_asked_is_told_without_our_own_mark() -> None:
    with pytest.raises(NotAnswering, match="does not answer: Error: Server closed the connection"):
        command(session(Ending()), "EVAL", "...", "0")


class Starting(FakeEngine):
    """Its server comes up after the client has asked for the first mark."""

    def execute(self, container_id: str, argv: tuple[str, ...], **options: Any) -> ExecResult:
        result = super().execute(container_id, argv, **options)
        said = b"".join(result.stdout.splitlines(keepends=True)[1:])
        return ExecResult(argv, 0, said, b"Could not connect to Redis at 127.0.0.1:6379: Connection refused")


def test_a_server_that_comes_up_while_it_is_asked_is_waited_for() -> None:
    with pytest.raises(NotAnswering, match="Could not connect"):
        opened(Starting(), a_container())


class Slow(FakeEngine):
    """Its server takes half a second for every answer."""

    def execute(self, container_id: str, argv: tuple[str, ...], **options: Any) -> ExecResult:
        result = super().execute(container_id, argv, **options)
        return ExecResult(argv, 0, result.stdout.replace(b"\n", b"\n(0.50s)\n"), b"")


def test_the_answer_to_a_mark_may_be_slow_too() -> None:
    assert ask(session(Slow({"DBSIZE": "(integer) 5"})), ("DBSIZE",), ("PING",)) == (5, "PONG")


def test_how_long_the_client_waited_is_no_part_of_a_reply() -> None:
    engine = FakeEngine({"EVAL": '"{}"\n(0.52s)', "SAVE": "(error) ERR disk\n(12.30s)", "DBSIZE": "(integer) 5"})
    found = ask(session(engine), ("EVAL",), ("SAVE",), ("DBSIZE",))
    assert found == ("{}", ErrorReply("ERR disk"), 5)


def test_a_server_that_loads_does_not_answer_yet() -> None:
    with pytest.raises(NotAnswering, match="LOADING"):
        opened(FakeEngine({"PING": "(error) LOADING Redis is loading the dataset in memory"}), a_container())


@pytest.mark.parametrize(
    "options, flags",
    [
        ("redis-server", ()),
        ("redis-server --port 6380", ("-p", "6380")),
        ("redis-server --port 0 --unixsocket /s", ("-s", "/s")),
        ("redis-server --port 0 --tls-port 6380", ("-p", "6380", "--tls", "--insecure")),
    ],
)
def test_the_way_to_the_server(options: str, flags: tuple[str, ...]) -> None:
    startup = startup_of(a_container(command=tuple(options.split())))
    assert client_candidates(startup)[0] == ("redis-cli", *flags)


def test_startup_of_a_fork_and_of_a_shell() -> None:
    assert startup_of(a_container(command=("/usr/bin/valkey-server", "--save", "60", "1"))).family == "valkey"
    assert startup_of(a_container(image_ref="docker.io/eqalpha/keydb", command=())).program == "keydb-server"
    behind = startup_of(a_container(command=("sh", "-c", "sysctl x; redis-server --save ''")))
    assert (behind.behind_shell, behind.last("save")) == (True, "")
    assert not startup_of(a_container(command=("sh", "-c", "exec redis-server"))).behind_shell


def test_directives_repeat_and_the_command_line_wins() -> None:
    startup = startup_of(a_container(command=("redis-server", "/c", "--save", "60", "1", "--save", "300", "10")))
    assert startup.config_file == "/c"
    merged = with_config_file(startup, "save 1 1\nloadmodule /a.so\nloadmodule /b.so x\ndir '/d e'\n")
    assert merged.directives["save"] == (("60", "1"), ("300", "10"))
    assert merged.directives["loadmodule"] == (("/a.so",), ("/b.so", "x"))
    assert merged.last("dir") == "/d e"
    assert Startup().last("dir") is None


def test_a_config_file_with_an_unclosed_quote_is_read_around_it() -> None:
    assert parse_config_file('a "b\n# c\nD e') == [("d", ("e",))]
