# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Numbered files, wherever they lie, read as migrations.

``NN-description.sql`` and ``NN-description.sh``; beside one may lie
``NN-description.undo.sql`` or ``.undo.sh``, which takes it back. What guards a
migration stands in a comment at its head, as YAML::

    -- selfhost.stateful:
    --   transaction: false
    --   done_when: SELECT EXISTS (SELECT FROM pg_index
    --     WHERE indexrelid = to_regclass('public.index_of_names') AND indisvalid)
"""

from __future__ import annotations

import io
import math
import os
import re
import tarfile
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations import head
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.model import (
    Expectation,
    Guards,
    Marker,
    Migration,
    Query,
    Range,
)

NAME = re.compile(r"(?P<number>\d+)-(?P<words>[\w.+-]+?)(?P<undo>\.undo)?\.(?P<kind>sql|sh)")
OPTIONS = {
    *("transaction", "repeatable", "expect_rows", "done_when", "statement_timeout", "lock_timeout", "marker"),
}
LARGEST = 64 << 20
"""Bytes that the files of one directory may have together."""


def undo_name(name: str) -> str:
    """Return what the file is called that takes a migration back."""
    stem, _dot, kind = name.rpartition(".")
    return f"{stem}.undo.{kind}"


def parse(files: Mapping[str, str], guards: Mapping[str, Mapping[str, Any]] | None = None) -> tuple[Migration, ...]:
    """Return the migrations among ``files`` (content by name), in order; other names are left alone.

    ``guards`` are given by name, where they do not stand in the file; what stands there wins.
    Raises :class:`InvalidInput` for a head that cannot be read, and for an undo file without its migration.
    """
    found: list[Migration] = []
    undo: dict[str, str] = {}
    for name in sorted(files):
        match = NAME.fullmatch(name)
        if match is None:
            continue
        if match["undo"]:
            undo[f"{match['number']}-{match['words']}.{match['kind']}"] = files[name]
            continue
        given = {**dict((guards or {}).get(name, {})), **head.read(name, match["kind"], files[name])}
        read = guards_from(name, given)
        found.append(Migration(int(match["number"]), name, match["kind"], files[name], read))
    _check_beside(undo, {migration.name for migration in found})
    return tuple(
        Migration(m.number, m.name, m.kind, m.content, m.guards, undo.get(m.name, ""))
        for m in sorted(found, key=lambda each: each.number)
    )


def _check_beside(undone: Collection[str], names: Collection[str]) -> None:
    alone = sorted({*undone} - {*names})
    if alone:
        raise InvalidInput(f"There is an undo file for {alone[0]} and no such file: both have to be of one kind.")


def guards_from(name: str, given: Mapping[str, Any]) -> Guards:
    """Return the guards that ``given`` names; raises :class:`InvalidInput` for what is no option, or no value of it."""
    unknown = sorted(map(str, set(given) - OPTIONS))
    if unknown:
        raise InvalidInput(f"{name}: {unknown[0]} is no option of a migration; there are {', '.join(sorted(OPTIONS))}.")
    seconds = {}
    for option in ("statement_timeout", "lock_timeout"):
        value = given.get(option) or 0
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
            raise InvalidInput(f"{name}: {option} is a number of seconds, not {value!r}.")
        seconds[option] = float(value)
    return Guards(
        transaction=_flag(name, "transaction", given.get("transaction", True)),
        repeatable=_flag(name, "repeatable", given.get("repeatable", False)),
        expect_rows=expectation_from(name, given.get("expect_rows")),
        done_when=str(given.get("done_when") or ""),
        marker=_marker_from(name, given.get("marker")),
        **seconds,
    )


def _flag(name: str, option: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidInput(f"{name}: {option} is true or false, not {value!r}.")
    return value


def expectation_from(name: str, value: Any) -> Expectation:
    """Read ``5``, ``"1-5"``, ``{min: 1, max: 5}``, or a query."""
    if value is None or value == "":
        return None
    found = _range_from(value)
    if found is not None and (found.most is None or found.least <= found.most):
        return found
    if isinstance(value, str) and re.match(r"\s*(select|values|with)\b", value, re.IGNORECASE):
        return Query(value.strip().rstrip(";"))
    raise InvalidInput(
        f"{name}: expect_rows is a number, a range such as 10-20, {{min: 1, max: 5}}, or a query, not {value!r}."
    )


def _range_from(value: Any) -> Range | None:
    if isinstance(value, dict):
        ends = {key: str(end) for key, end in value.items() if end is not None}
        if not ends or not set(ends) <= {"min", "max"} or not all(map(str.isdecimal, ends.values())):
            return None
        return Range(int(ends.get("min", 0)), int(ends["max"]) if "max" in ends else None)
    exact = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", str(value))
    return Range(int(exact[1]), int(exact[2] or exact[1])) if exact else None


def _marker_from(name: str, value: Any) -> Marker | None:
    if not value:
        return None
    if not isinstance(value, dict) or not set(value) <= {"read", "set", "remove", "expected"} or not value.get("read"):
        raise InvalidInput(f"{name}: marker holds read, and set, remove and expected where they are needed.")
    commands = {}
    for option in ("read", "set", "remove"):
        words = value.get(option) or []
        if not isinstance(words, list):
            raise InvalidInput(f"{name}: {option} of marker is a list of words, as [doguctl, config, {name}].")
        commands[option] = tuple(str(word) for word in words)
    return Marker(expected=str(value.get("expected", "") or ""), **commands)


def of_directory(path: str) -> dict[str, str]:
    """Return the numbered files of a directory of this host."""
    if not os.path.isdir(path):
        raise InvalidInput(f"{path} is no directory on this host.", next_command=shell("ls", "-la", path))
    found, size = {}, 0
    for name in sorted(os.listdir(path)):
        place = os.path.join(path, name)
        if NAME.fullmatch(name) is None or not os.path.isfile(place):
            continue
        size += os.path.getsize(place)
        _check_size(path, size)
        with open(place, "rb") as file:
            found[name] = _text(name, file.read())
    return found


def of_container(engine: Engine, container: Container, path: str) -> dict[str, str]:
    """Return the numbered files of a directory inside a container."""
    whole = bytearray()
    for piece in engine.archive(container.id, path.rstrip("/") + "/."):
        whole += piece
        _check_size(path, len(whole))
    found = {}
    with tarfile.open(fileobj=io.BytesIO(bytes(whole))) as archive:
        for member in archive:
            folder, name = os.path.split(os.path.normpath(member.name))
            content = archive.extractfile(member) if member.isfile() and not folder and NAME.fullmatch(name) else None
            if content is not None:
                found[name] = _text(name, content.read())
    return found


def of_list(given: Sequence[Mapping[str, Any]]) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """Return content and guards by name of what a task gave in place of files."""
    contents: dict[str, str] = {}
    guards: dict[str, dict[str, Any]] = {}
    for each in given:
        name = each["name"]
        if NAME.fullmatch(name) is None:
            raise InvalidInput(f"{name!r} is no name of a migration: it is NN-description.sql, or .sh.")
        if name in contents:
            raise InvalidInput(f"{name} is given twice.")
        contents[name] = each["content"]
        guards[name] = {key: value for key, value in each.items() if key in OPTIONS and value is not None}
        if each.get("undo"):
            contents[undo_name(name)] = each["undo"]
    return contents, guards


def as_list(contents: Mapping[str, str]) -> list[dict[str, str]]:
    """Return files as :func:`of_list` takes them; raises :class:`InvalidInput` as :func:`parse` does."""
    found, undone = [], []
    for name, content in contents.items():
        match = NAME.fullmatch(name)
        if match is None:
            continue
        if match["undo"]:
            undone.append(f"{match['number']}-{match['words']}.{match['kind']}")
            continue
        found.append({"name": name, "content": content, "undo": contents.get(undo_name(name), "")})
    _check_beside(undone, {each["name"] for each in found})
    return found


def _text(name: str, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{name} is no text in UTF-8: {error}.") from error


def _check_size(path: str, size: int) -> None:
    if size > LARGEST:
        raise InvalidInput(f"The files in {path} have more than {LARGEST >> 20} MiB together: that is no migration.")
