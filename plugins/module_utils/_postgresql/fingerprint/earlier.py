# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fingerprint that was taken earlier, as a result or as a file of this host."""

from __future__ import annotations

import json
import os
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.model import (
    Fingerprint,
    from_dict,
)


def earlier(against: Any) -> Fingerprint | None:
    """Return the fingerprint to compare with, of a result or of a file; None where there is none."""
    if not isinstance(against, str):
        return None if against is None else from_dict(against)
    if os.path.isabs(against):
        try:
            with open(against, encoding="utf-8") as file:
                return from_dict(json.load(file))
        except (OSError, ValueError) as error:
            raise InvalidInput(
                f"The fingerprint {against} cannot be read: {error}.", next_command=shell("ls", "-l", against)
            ) from error
    try:
        # A template may hand over a dict as its text.
        return from_dict(json.loads(against))
    except ValueError as error:
        raise InvalidInput("against is neither a fingerprint nor the absolute path of a JSON file.") from error
