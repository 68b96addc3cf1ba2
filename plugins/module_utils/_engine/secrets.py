# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which values look like secrets, and a text without them."""

from __future__ import annotations

import re
from collections.abc import Iterable

MASK = "********"
SECRET_NAME = re.compile(r"PASS|SECRET|TOKEN|KEY|CREDENTIAL|AUTH(?!_METHOD)|OTP|SALT|DSN|PRIVATE", re.IGNORECASE)
_USERINFO = re.compile(r"//[^/\s:@]*:([^/\s@]+)@")
_REQUIREPASS = re.compile(r"--(?:requirepass|masterauth)[\s=]+(\S+)")
_SHORTEST = 4
"""Shorter values stand in ordinary words, and masking those hides the message."""


def secrets_in(pairs: Iterable[tuple[str, str]], command_lines: Iterable[str]) -> frozenset[str]:
    """Return the secret-looking values of an environment and of command lines."""
    environment = list(pairs)
    found = {value for name, value in environment if SECRET_NAME.search(name)}
    for text in [*(value for _name, value in environment), *command_lines]:
        found.update(_USERINFO.findall(text))
        found.update(_REQUIREPASS.findall(text))
    return frozenset(value for value in found if len(value) >= _SHORTEST)


def mask(text: str, values: Iterable[str]) -> str:
    """Return ``text`` with every one of ``values`` replaced, the longest first."""
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, MASK)
    return text
