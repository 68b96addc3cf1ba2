# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Values that must not be repeated in a message, and their masking."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.dotenv import read_dotenv
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.secrets import secrets_in


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
    return secrets_in(pairs, words)


def environment_pairs(environment: Any) -> list[tuple[str, str]]:
    """Return the pairs of compose's ``environment:``, a mapping or a list of ``KEY=value``."""
    if isinstance(environment, Mapping):
        return [(str(key), "" if value is None else str(value)) for key, value in environment.items()]
    return [(key, value) for key, _eq, value in (str(entry).partition("=") for entry in environment or ())]
