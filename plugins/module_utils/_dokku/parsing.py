# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the ``dokku`` command prints, read. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.model import (
    HOST_PREFIX,
    SCHEME,
    App,
    Dsn,
    Schedule,
    dsn_of,
)

_DECORATED = re.compile(r"\s*(?:=+>|-+>|!)")
_LINK = re.compile(r"--link[= ]\"?(dokku\.postgres\.[^:\s\"]+):")
_WEBS = re.compile(r"^(?:-+>)?\s*web:?\s+(\d+)\s*$", re.MULTILINE)
_VERSION = re.compile(r"\d+(?:\.\d+)+")


def listed(text: str) -> list[str]:
    """Return the first word of each line that is no heading: older versions print a table, with its own heading."""
    lines = [line for line in text.splitlines() if line.strip() and not _DECORATED.match(line)]
    if lines and lines[0].split()[0] == "NAME":
        del lines[0]
    return [line.split()[0] for line in lines]


def words_or_none(text: str) -> tuple[str, ...]:
    """Return the words of a list for which the plugin prints ``-`` where it is empty."""
    return tuple(word for word in text.split() if word != "-")


def bare(text: str) -> str:
    """Return the one value that was asked for, without what else was remarked."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not _DECORATED.match(line)]
    return lines[-1] if lines else ""


def facts(text: str) -> dict[str, str]:
    """Return what ``postgres:info`` says of a service, by the names of its flags."""
    pairs = (line.strip().partition(":") for line in text.splitlines() if not _DECORATED.match(line))
    return {label.strip().lower().replace(" ", "-"): value.strip() for label, colon, value in pairs if colon}


def version_from(text: str) -> tuple[int, ...]:
    """Return ``(0, 38, 22)`` for ``dokku version 0.38.22``; empty where none is said."""
    found = _VERSION.search(text)
    return tuple(int(part) for part in found.group().split(".")) if found else ()


def plugin_versions(text: str) -> dict[str, tuple[int, ...]]:
    """Return the versions of the plugins that are enabled, by their names."""
    found = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 3 and words[2] == "enabled":
            found[words[0]] = version_from(words[1])
    return found


def variables(text: str) -> dict[str, str]:
    """Return an app's variables from ``config:export --format json``; these are secrets, and stay in memory."""
    found = json.loads(text or "{}")
    return {str(name): str(value) for name, value in found.items()}


def addresses(values: Mapping[str, str]) -> dict[str, Dsn]:
    """Return the variables that point at services of the plugin."""
    read = {name: dsn_of(value) for name, value in values.items()}
    return {name: dsn for name, dsn in read.items() if dsn is not None and dsn.host.startswith(HOST_PREFIX)}


def linked_containers(text: str) -> tuple[str, ...]:
    """Return the containers of services that the options of an app name with ``--link``."""
    return tuple(dict.fromkeys(_LINK.findall(text)))


def app_from(name: str, values: Mapping[str, str], options: str) -> App:
    return App(name, addresses(values), values.get(SCHEME, ""), linked_containers(options))


def environment(text: str) -> dict[str, str]:
    """Return what the plugin keeps as a service's own variables, one to a line."""
    pairs = (line.partition("=") for line in text.splitlines() if line.strip())
    return {name.strip(): value for name, _equals, value in pairs}


def schedule_from(line: str) -> Schedule | None:
    """Return what a line of cron's says: five fields, a user, the program, its subcommand, the service, the bucket."""
    words = line.split()
    if "postgres:backup" not in words:
        return None
    place = words.index("postgres:backup")
    after = words[place + 1 :]
    if len(after) < 2 or place < (3 if words[0].startswith("@") else 5):
        return None
    fields = words[:1] if words[0].startswith("@") else words[:5]
    return Schedule(" ".join(fields), after[1], use_iam=bool({"--use-iam", "-u"} & set(after[2:])))


def webs_from(text: str) -> int:
    """Return how many web processes an app is to have, by what ``ps:scale`` prints."""
    found = _WEBS.search(text)
    return int(found.group(1)) if found else 0


def report(text: str) -> dict[str, Any]:
    """Return a report that was asked for as JSON."""
    found: dict[str, Any] = json.loads(text)
    return found


def is_on(value: Any) -> bool:
    return str(value).lower() == "true"
