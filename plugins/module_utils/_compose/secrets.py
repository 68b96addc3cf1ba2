# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Values that must not be repeated in a message, and their masking."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.dotenv import read_dotenv

MASK = "********"
SECRET_NAME = re.compile(r"PASS|SECRET|TOKEN|KEY|CREDENTIAL|AUTH|OTP|SALT|DSN|PRIVATE", re.IGNORECASE)
_USERINFO = re.compile(r"//[^/\s:@]*:([^/\s@]+)@")
_REQUIREPASS = re.compile(r"--(?:requirepass|masterauth)[\s=]+(\S+)")
_SHORTEST = 4
"""Shorter values stand in ordinary words, and masking those hides the message."""


def secret_values(config: Mapping[str, Any], *, env_files: Iterable[str] = ()) -> frozenset[str]:
    """Return the secret-looking values in the output of ``compose config`` and in the project's env files."""
    pairs: list[tuple[str, str]] = []
    words: list[str] = []
    for service in (config.get("services") or {}).values():
        pairs += environment_pairs(service.get("environment"))
        for key in ("command", "entrypoint"):
            value = service.get(key)
            words.append(" ".join(map(str, value)) if isinstance(value, list) else str(value or ""))
    for path in env_files:
        pairs += read_dotenv(path).items()
    found = {value for name, value in pairs if SECRET_NAME.search(name)}
    for text in [value for _name, value in pairs] + words:
        found.update(_USERINFO.findall(text))
        found.update(_REQUIREPASS.findall(text))
    return frozenset(value for value in found if len(value) >= _SHORTEST)


def environment_pairs(environment: Any) -> list[tuple[str, str]]:
    """Return the pairs of compose's ``environment:``, a mapping or a list of ``KEY=value``."""
    if isinstance(environment, Mapping):
        return [(str(key), "" if value is None else str(value)) for key, value in environment.items()]
    return [(key, value) for key, _eq, value in (str(entry).partition("=") for entry in environment or ())]


def mask(text: str, values: Iterable[str]) -> str:
    """Return ``text`` with every one of ``values`` replaced, the longest first."""
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, MASK)
    return text
