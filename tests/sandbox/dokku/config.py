# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``config:*``: an app's variables, and what a change of them sets off."""

from __future__ import annotations

import base64
import binascii
import json
import re
import shlex
from collections.abc import Iterable, Mapping

from . import deploy
from .ground import Host
from .variables import RESTORE, load, save
from .words import Fail, info1, info2, plain, quiet, warn

KEY = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


def set_many(host: Host, app: str, changes: Mapping[str, str], *, restart: bool = True) -> None:
    """Set variables and start the app anew, unless it was stopped."""
    _check_keys(changes)
    variables = {**load(host, app), **changes}
    if changes:
        if not quiet():
            info1("Setting config vars")
            plain("\n".join(f"       {line}" for line in _pretty(changes)))
        save(host, app, variables)
    _restart(host, app, variables, restart)


def unset_many(host: Host, app: str, keys: Iterable[str], *, restart: bool = True) -> None:
    """Remove variables and start the app anew, unless it was stopped."""
    keys = list(keys)
    _check_keys(keys)
    variables = load(host, app)
    for key in keys:
        if variables.pop(key, None) is None:
            info1(f"Skipping {key}, it is not set in the environment")
        else:
            info1(f"Unsetting {key}")
    save(host, app, variables)
    _restart(host, app, variables, restart)


def _restart(host: Host, app: str, variables: Mapping[str, str], restart: bool) -> None:
    if not restart or variables.get(RESTORE) == "0":
        return
    info1(f"Restarting app {app}")
    try:
        deploy.deploy(host, app)
    except Fail as failed:
        # The variables are set, the app is not back, and the exit code tells neither.
        warn(f"Failure while restarting app: {failed.words.strip()}")


def _check_keys(keys: Iterable[str]) -> None:
    for key in keys:
        if not KEY.fullmatch(key):
            raise Fail(f"Invalid key name: '{key}'")


def _pretty(variables: Mapping[str, str]) -> list[str]:
    width = max((len(key) + 1 for key in variables), default=0)
    return [f"{key + ':':<{width}}  {value}".rstrip() for key, value in sorted(variables.items())]


def _split(args: list[str], *flags: str) -> tuple[set[str], list[str]]:
    return {arg for arg in args if arg in flags}, [arg for arg in args if arg not in flags]


def _named(args: list[str]) -> tuple[str, list[str]]:
    if not args:
        raise Fail("Please specify an app or --global")
    return args[0], args[1:]


def _show(host: Host, args: list[str]) -> None:
    flags, rest = _split(args, "--merged", "--export", "--shell")
    app, _rest = _named(rest)
    if flags & {"--export", "--shell"}:
        plain(_formatted(load(host, app), "shell" if "--shell" in flags else "exports"))
        return
    info2(f"{app} env vars")
    plain("\n".join(_pretty(load(host, app))))


def _get(host: Host, args: list[str]) -> int:
    flags, rest = _split(args, "--quoted")
    app, keys = _named(rest)
    if len(keys) != 1:
        raise Fail("Expected: key" if not keys else f"Unexpected argument(s): {keys[1:]}")
    value = load(host, app).get(keys[0])
    if value is None:
        return 1
    plain(shlex.quote(value) if "--quoted" in flags else value)
    return 0


def _keys(host: Host, args: list[str]) -> None:
    _flags, rest = _split(args, "--merged")
    app, _rest = _named(rest)
    for key in sorted(load(host, app)):
        plain(key)


def _set(host: Host, args: list[str]) -> None:
    flags, rest = _split(args, "--no-restart", "--encoded")
    app, pairs = _named(rest)
    changes = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise Fail(f"Invalid env pair: {pair}")
        try:
            changes[key] = base64.b64decode(value, validate=True).decode() if "--encoded" in flags else value
        except (binascii.Error, UnicodeDecodeError) as exc:
            raise Fail(f"{exc} for key '{key}'") from exc
    set_many(host, app, changes, restart="--no-restart" not in flags)


def _unset(host: Host, args: list[str]) -> None:
    flags, rest = _split(args, "--no-restart")
    app, keys = _named(rest)
    unset_many(host, app, keys, restart="--no-restart" not in flags)


def _export(host: Host, args: list[str]) -> None:
    wanted, rest = "exports", []
    words = iter(args)
    for word in words:
        if word.startswith("--format"):
            wanted = word.partition("=")[2] or next(words, "")
        elif word != "--merged":
            rest.append(word)
    app, _rest = _named(rest)
    plain(_formatted(load(host, app), wanted))


def _formatted(variables: Mapping[str, str], wanted: str) -> str:
    ordered = dict(sorted(variables.items()))
    # Quoted whether or not it has to be, as dokku does.
    quoted = {key: "'" + value.replace("'", "'\\''") + "'" for key, value in ordered.items()}
    formats = {
        "exports": lambda: "\n".join(f"export {key}={value}" for key, value in quoted.items()),
        "envfile": lambda: "\n".join(f"{key}={json.dumps(value)}" for key, value in ordered.items()),
        "docker-args": lambda: " ".join(f"--env={key}={value}" for key, value in quoted.items()),
        "shell": lambda: " ".join(f"{key}={value}" for key, value in quoted.items()),
        "pretty": lambda: "\n".join(_pretty(ordered)),
        "json": lambda: json.dumps(ordered, separators=(",", ":")),
        "json-list": lambda: json.dumps([{"name": key, "value": value} for key, value in ordered.items()]),
    }
    if wanted not in formats:
        raise Fail(f"Unknown export format: {wanted}")
    return formats[wanted]()


COMMANDS = {
    "config": _show, "config:show": _show, "config:get": _get, "config:set": _set, "config:unset": _unset,
    "config:keys": _keys, "config:export": _export,
}  # fmt: skip
