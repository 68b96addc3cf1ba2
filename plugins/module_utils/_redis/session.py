# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Commands to a Redis server by the client program in its own container.

``redis-cli`` ends with 0 on an error reply, so replies are read, not exit
codes. Commands go through its stdin: several cost one exec, and the password
stands in no argv and in no environment.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Union

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.commands import logs_of
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container, ExecResult
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.startup import (
    Startup,
    startup_of,
    with_config_file,
)

COULD_NOT_RUN = (126, 127)
"""What the engine gives as exit code where it could not run a program, also one that is there."""
NOT_THERE = ("executable file not found", "no such file or directory")
PASSWORD_VARIABLES = ("REDIS_PASSWORD", "REDISCLI_AUTH", "VALKEY_PASSWORD", "KEYDB_PASSWORD")


class RedisError(StatefulError):
    """The server, or the client program, did not do what was asked."""


class NotAnswering(RedisError):
    """Nothing listens, or the server is still loading its data."""


class Unauthorised(RedisError):
    """The server wants a password that we do not have."""


@dataclass(frozen=True)
class ErrorReply:
    """An error as the server words it, such as ``ERR unknown command``."""

    text: str


Reply = Union[str, int, None, ErrorReply, tuple[object, ...]]
"""A string, a number, nil, an error, or an array, nested ones flattened."""


@dataclass(frozen=True)
class Session:
    """How to talk to one server. Holds no connection: each :func:`ask` is one exec."""

    engine: Engine = field(repr=False)
    container_id: str
    container_name: str
    client: tuple[str, ...]
    password: str = field(default="", repr=False)
    startup: Startup = field(default_factory=Startup, repr=False)


def open_session(engine: Engine, container: Container, *, password: str = "") -> Session:
    """Find client program and password for a running container, and prove both with a PING.

    The password is ``password``, else the one that the container's arguments,
    environment or configuration file name. Raises :class:`Unauthorised` or
    :class:`NotAnswering`.
    """
    return open_asking(engine, container, password=password)[0]


def open_asking(
    engine: Engine, container: Container, *commands: Sequence[str], password: str = ""
) -> tuple[Session, tuple[Reply, ...]]:
    """Open a session as :func:`open_session` does, and run ``commands`` in the exec of its PING."""
    startup = _whole_startup(engine, container)
    last_error: RedisError | None = None
    for candidate in _password_candidates(engine, container, startup, password):
        for client in client_candidates(startup):
            session = Session(engine, container.id, container.name, client, candidate, startup)
            try:
                ping, *replies = ask(session, ("PING",), *commands)
                checked(session, ping, ("PING",))
            except _NoSuchClient as error:
                last_error = error
                continue
            except Unauthorised as error:
                last_error = error
                break
            return session, tuple(replies)
    raise last_error or NotAnswering(f"{container.name} has no client that could be asked.")


def client_candidates(startup: Startup) -> list[tuple[str, ...]]:
    """Return the client programs to try, each with the flags that lead to the server's socket or port."""
    names = dict.fromkeys((f"{startup.family}-cli", "redis-cli", "valkey-cli", "keydb-cli"))
    port, path = startup.last("port"), startup.last("unixsocket")
    flags: tuple[str, ...] = ("-p", port) if port and port != "0" else ()
    if port == "0" and path:
        flags = ("-s", path)
    elif port == "0" and startup.last("tls-port"):
        flags = ("-p", startup.last("tls-port") or "", "--tls", "--insecure")
    return [(name, *flags) for name in names]


def ask(session: Session, *commands: Sequence[str]) -> tuple[Reply, ...]:
    """Run ``commands`` in one exec and return a reply for each; error replies are returned, not raised."""
    mark = f"selfhost-{secrets.token_hex(8)}"
    result = session.engine.execute(
        session.container_id,
        (*session.client, "--no-raw"),
        stdin=_script(commands, mark, session.password).encode("utf-8", "surrogateescape"),
    )
    output = result.stdout.decode("utf-8", "surrogateescape")
    blocks = _blocks(output, mark)
    if len(blocks) != len(commands):
        raise _broken(session, result, output.replace(f'"{mark}"\n', ""))
    return tuple(parse_reply(block) for block in blocks)


def command(session: Session, *arguments: str) -> Reply:
    """Run one command and return its reply; an error reply is raised."""
    (reply,) = ask(session, arguments)
    return checked(session, reply, arguments)


def checked(session: Session, reply: Reply, arguments: Sequence[str]) -> Reply:
    """Return ``reply`` unless it is an error, which is raised with the command's name only: arguments may be secret.

    What follows a name is a part of it where it is a word, as in ``CONFIG GET``, and not where it is a script.
    """
    if isinstance(reply, ErrorReply):
        name = " ".join(word for word in arguments[:2] if word.isalpha())
        raise _by_error(reply.text)(
            f"{session.container_name} answered {name} with: {reply.text}",
            next_command=logs_of(session.container_name),
        )
    return reply


def quoted(argument: str) -> str:
    """Return ``argument`` as the client reads it from a line of stdin."""
    escaped = "".join(
        f"\\{char}" if char in '"\\' else char if char.isprintable() else _hexadecimal(char) for char in argument
    )
    return f'"{escaped}"'


def parse_reply(block: str) -> Reply:
    """Read a reply as ``redis-cli --no-raw`` formats it; what is not formatted (INFO) comes back as it is."""
    lines = block.splitlines()
    if len(lines) == 1 and not _ELEMENT.match(lines[0]):
        return _scalar(lines[0])
    if lines and all(_ELEMENT.match(line) for line in lines):
        flat = (_scalar(_ELEMENT.sub("", line)) for line in lines)
        return tuple(value for value in flat if value != ())
    return block


_ELEMENT = re.compile(r"^(?:\s*\d+[)#~>]\s)+")


class _NoSuchClient(NotAnswering):
    pass


def _scalar(text: str) -> Reply:
    if text.startswith("(error) "):
        return ErrorReply(text[len("(error) ") :])
    if text.startswith("(integer) "):
        return int(text[len("(integer) ") :])
    if text == "(nil)":
        return None
    if text.startswith("(empty "):
        return ()
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return _unquoted(text[1:-1])
    return text


_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|(.))")
_NAMED = {"n": 10, "r": 13, "t": 9, "a": 7, "b": 8}


def _unquoted(text: str) -> str:
    def replaced(match: re.Match[bytes]) -> bytes:
        if match.group(1):
            return bytes([int(match.group(1), 16)])
        char = match.group(2).decode()
        return bytes([_NAMED[char]]) if char in _NAMED else char.encode()

    raw = text.encode("utf-8", "surrogateescape")
    return re.sub(_ESCAPE.pattern.encode(), replaced, raw).decode("utf-8", "surrogateescape")


def _hexadecimal(char: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))


def _script(commands: Iterable[Sequence[str]], mark: str, password: str) -> str:
    lines = [f"AUTH {quoted(password)}"] if password else []
    for arguments in commands:
        # The marks tell where a reply of several lines ends.
        lines += [f"ECHO {mark}", " ".join(quoted(argument) for argument in arguments)]
    return "\n".join([*lines, f"ECHO {mark}", ""])


# The client writes how long it waited below a reply that took half a second and more; that to a mark may be one, too.
_TOOK = re.compile(r"\A\(\d+\.\d\ds\)\n|\n\(\d+\.\d\ds\)\n*\Z")


def _blocks(output: str, mark: str) -> list[str]:
    parts = output.split(f'"{mark}"\n')
    return [_TOOK.sub("", part).strip("\r\n") for part in parts[1:-1]]


def _broken(session: Session, result: ExecResult, output: str) -> RedisError:
    said = (output + "\n" + result.stderr.decode("utf-8", "replace")).strip()
    lines = [line.strip() for line in said.splitlines() if line.strip()] or ["no answer"]
    # A server that comes up meanwhile answers the later commands, and the client has told of the first elsewhere.
    telling = next((line for line in lines if _by_error(_error_in(line)) is not RedisError), lines[0])
    if any(words in said for words in NOT_THERE):
        return _NoSuchClient(f"There is no {session.client[0]} in the container {session.container_name}.")
    if result.rc in COULD_NOT_RUN:
        return _could_not_run(session.client[0], session.container_name, telling)
    error = _error_in(telling)
    return _by_error(error)(
        f"The server in {session.container_name} does not answer: {error}",
        next_command=logs_of(session.container_name),
    )


def _error_in(line: str) -> str:
    return line[len("(error) ") :] if line.startswith("(error) ") else line


def _could_not_run(program: str, container_name: str, telling: str) -> NotAnswering:
    # It is also said of a container whose server has just ended, before the engine says that it
    # has: no last word, so whoever waits for a server goes on until the inspection tells.
    return NotAnswering(
        f"{program} could not be run in the container {container_name}: {telling}",
        next_command=logs_of(container_name),
    )


def _by_error(text: str) -> type[RedisError]:
    if text.startswith(("NOAUTH", "WRONGPASS", "ERR invalid password", "NOPERM")):
        return Unauthorised
    if text.startswith(("LOADING", "Could not connect", "Error:", "MASTERDOWN")) or text == "no answer":
        return NotAnswering
    return RedisError


def _whole_startup(engine: Engine, container: Container) -> Startup:
    startup = startup_of(container)
    text = _file_inside(engine, container, startup.config_file)
    return with_config_file(startup, text) if text else startup


def _file_inside(engine: Engine, container: Container, path: str) -> str:
    if not path:
        return ""
    result = engine.execute(container.id, ("cat", path))
    said = (result.stdout + result.stderr).decode("utf-8", "replace").strip()
    if result.rc in COULD_NOT_RUN and not any(words in said for words in NOT_THERE):
        # A password that stands in the file must not pass for one that is not set.
        raise _could_not_run("cat", container.name, said)
    return result.text() if result.rc == 0 else ""


def _password_candidates(engine: Engine, container: Container, startup: Startup, given: str) -> Iterator[str]:
    if given:
        yield given
        return
    seen = {""}
    named = [startup.last("requirepass") or ""]
    named += [container.env.get(name, "") for name in PASSWORD_VARIABLES]
    for name in PASSWORD_VARIABLES:
        named.append(_file_inside(engine, container, container.env.get(f"{name}_FILE", "")).strip())
    for password in named:
        if password not in seen:
            seen.add(password)
            yield password
    yield ""
