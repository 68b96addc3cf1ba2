# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where databases are reached. Pure.

Addresses hold passwords: they are compared here, and never kept, and no error quotes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

DEFAULT_PORT = 5432
JDBC = "jdbc:"
SCHEMES = ("postgres", "postgis", "pgsql")
"""What the schemes of a Postgres database begin with; ``postgresql+asyncpg`` is one of them."""


@dataclass(frozen=True)
class Address:
    """Where a database is reached, without who reaches it: two that are equal are one database."""

    host: str
    port: int
    path: str


def address_of(url: str | None) -> Address | None:
    """Return where an address leads; None for a text that is no address of a Postgres database."""
    text = (url or "").strip()
    try:
        parts = urlsplit(text[len(JDBC) :] if text.lower().startswith(JDBC) else text)
        host, port = parts.hostname, parts.port or DEFAULT_PORT
    except ValueError:
        # A config var may be any text, and what this error says quotes it, its password included.
        return None
    return Address(host, port, parts.path) if host and parts.scheme.startswith(SCHEMES) else None


def copies_of(addresses: Mapping[Address, str], config: Mapping[str, Any], own: Sequence[str]) -> list[dict[str, str]]:
    """Return the config vars that hold a database's address as a copy of their own.

    Heroku writes new addresses to the vars of an attachment (``own``), and to no other.
    """
    found = []
    for name in sorted(config):
        database = addresses.get(address) if (address := address_of(str(config[name]))) else None
        if database and name not in own:
            found.append({"config_var": name, "database": database})
    return found
