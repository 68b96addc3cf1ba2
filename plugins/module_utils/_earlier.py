# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fingerprint that was taken earlier, whatever it is of: where it comes from, and how a comparison is told."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, shell

AGAINST_ARGUMENTS: dict[str, Any] = {"against": {"type": "raw"}}
"""The option is documented in the doc fragment ``fingerprint``."""

T = TypeVar("T")


class Difference(Protocol):
    """One thing that is not as it was, told by its ``str``."""

    @property
    def lost(self) -> bool: ...


def earlier(against: Any, read: Callable[[Any], T]) -> T | None:
    """Return the fingerprint to compare with, of a result or of a file; None where there is none.

    ``read`` makes it of what JSON has, and raises ValueError where it cannot.
    """
    if not isinstance(against, str):
        return None if against is None else read(against)
    if os.path.isabs(against):
        try:
            with open(against, encoding="utf-8") as file:
                return read(json.load(file))
        except (OSError, ValueError) as error:
            raise InvalidInput(
                f"The fingerprint {against} cannot be read: {error}.", next_command=shell("ls", "-l", against)
            ) from error
    try:
        # A template may hand over a dict as its text.
        return read(json.loads(against))
    except ValueError as error:
        raise InvalidInput("against is neither a fingerprint nor the absolute path of a JSON file.") from error


def told(differences: Sequence[Difference] | None) -> dict[str, Any]:
    """Return what a result says of a comparison; None where there was nothing to compare with."""
    found = differences or ()
    return {
        "differences": [str(one) for one in found],
        "lost": [str(one) for one in found if one.lost],
        "equal": None if differences is None else not found,
    }
