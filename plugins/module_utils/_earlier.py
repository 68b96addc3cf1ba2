# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fingerprint that was taken earlier, as a result or as a file of this host, whatever it is of."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any, TypeVar

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, shell

T = TypeVar("T")


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
