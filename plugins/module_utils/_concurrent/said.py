# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the api of a host says of it, asked by HTTP: its health, its version."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container

PORT = 8000


def ask(container: Container, path: str) -> tuple[int, str]:
    """Ask the api of a running container by HTTP; 0 and why, where it does not answer."""
    last = "the container has no address"
    for address in container.addresses:
        connection = http.client.HTTPConnection(address, PORT, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read(1 << 20).decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            last = f"{address}:{PORT}: {error}"
        finally:
            connection.close()
    return 0, last


def says(container: Container) -> Mapping[str, Any]:
    """Return what the api says of its host: from v1.0 on in ``/domain``, before in ``/profile``."""
    told: dict[str, Any] = {}
    for path in ("/profile", "/domain"):
        status, text = ask(container, path)
        if status == 200:
            try:
                told[path] = json.loads(text)
            except ValueError:
                continue
    return told


def identity_of(told: Mapping[str, Any]) -> dict[str, str]:
    """Return what the host is called, as far as it says it: ``fqdn`` and ``ccid``, by which others know it."""
    domain = told.get("/domain")
    inner = domain.get("content") if isinstance(domain, dict) else None
    place = inner if isinstance(inner, dict) else domain
    if not isinstance(place, dict):
        return {}
    return {key: str(place[key]) for key in ("fqdn", "ccid") if place.get(key)}


def version_said(told: Mapping[str, Any]) -> str:
    """Return the version that the api names; empty where it names none."""
    places: tuple[Callable[[], Any], ...] = (
        lambda: told["/domain"]["content"]["meta"]["version"],
        lambda: told["/domain"]["meta"]["version"],
        lambda: told["/profile"]["version"],
    )
    for place in places:
        try:
            return str(place() or "")
        except (KeyError, TypeError):
            continue
    return ""
