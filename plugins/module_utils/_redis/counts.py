# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How many keys a server has, and whether that is still as many. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_LINE = re.compile(r"^db(\d+):keys=(\d+),expires=(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class KeyCount:
    """Keys of one database, and how many of them have a time to live."""

    keys: int
    expires: int = 0


Counts = Mapping[str, KeyCount]
"""By the database's number as text, so that it survives JSON; empty databases are left out."""


def parse_keyspace(info: str) -> dict[str, KeyCount]:
    """Read the keyspace section of INFO."""
    return {number: KeyCount(int(keys), int(expires)) for number, keys, expires in _LINE.findall(info)}


def total(counts: Counts) -> int:
    return sum(count.keys for count in counts.values())


def compare_counts(before: Counts, after: Counts) -> list[str]:
    """Return in words what is missing in ``after``; empty where nothing is.

    Meant for a moment without writers. Keys with a time to live may have ended
    theirs in between, so they are not missed; all others are.
    """
    missing = []
    for number, was in sorted(before.items()):
        now = after.get(number, KeyCount(0))
        lost = (was.keys - was.expires) - (now.keys - now.expires)
        if lost > 0:
            missing.append(f"database {number}: {lost} of {was.keys - was.expires} keys without expiry are missing")
    return missing


def as_dict(counts: Counts) -> dict[str, dict[str, int]]:
    """Return counts for a journal or a result."""
    return {number: {"keys": count.keys, "expires": count.expires} for number, count in counts.items()}


def from_dict(raw: Mapping[str, Mapping[str, int]]) -> dict[str, KeyCount]:
    return {number: KeyCount(int(count["keys"]), int(count["expires"])) for number, count in raw.items()}
