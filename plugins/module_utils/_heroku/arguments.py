# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From a module's options to the seam, and the options that all of these modules share."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from ansible.module_utils.basic import env_fallback

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.api import Heroku
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.http import Http, checked_url
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.patience import Patience

KEY_VARIABLE = "HEROKU_API_KEY"
API_ARGUMENTS: dict[str, Any] = {
    "api_key": {"type": "str", "no_log": True, "fallback": (env_fallback, [KEY_VARIABLE])},
    "api_url": {"type": "str", "default": "https://api.heroku.com"},
    "data_api_url": {"type": "str", "default": "https://api.data.heroku.com"},
    "timeout": {"type": "float", "default": 30},
    "retry_timeout": {"type": "float", "default": 180},
    "app": {"type": "str", "required": True},
}
"""The options are documented in the doc fragment ``heroku``."""

DATABASE_ARGUMENTS: dict[str, Any] = {"database": {"type": "str", "default": "DATABASE_URL"}}
"""Of the modules that are about one database; the doc fragment is ``heroku.database``."""

WAIT_ARGUMENTS: dict[str, Any] = {
    "wait_timeout": {"type": "float", "required": False},
    "poll_interval": {"type": "float", "default": 5},
}
"""Of the modules that wait; the doc fragment is ``heroku.wait``."""


def connect(params: Mapping[str, Any], hide: Callable[[str], None]) -> Heroku:
    """Return the seam; ``hide`` keeps a text out of all that the module returns and logs."""
    # A role hands an empty one on where none was set: ansible asks the environment for one that is left out only.
    key = params["api_key"] or os.environ.get(KEY_VARIABLE)
    if not key:
        raise InvalidInput("There is no key: set api_key, or HEROKU_API_KEY in the environment of the controller.")
    hide(key)
    return Heroku(
        Http(key, timeout=params["timeout"], patience=params["retry_timeout"]),
        platform=checked_url("api_url", params["api_url"]),
        data=checked_url("data_api_url", params["data_api_url"]),
    )


def patience_from(params: Mapping[str, Any]) -> Patience:
    return Patience(limit=params["wait_timeout"], interval=params["poll_interval"])
