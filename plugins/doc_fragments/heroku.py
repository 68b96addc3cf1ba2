# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options that the modules for Heroku share."""

from __future__ import annotations


class ModuleDocFragment:
    """Documentation of ``_heroku/arguments.py``."""

    DOCUMENTATION = r"""
options:
  app:
    description: The name of the app.
    type: str
    required: true
  api_key:
    description:
      - The key, or an OAuth token with the scopes C(read-protected) and C(write-protected). Left out, it is
        E(HEROKU_API_KEY) of the environment in which the module runs.
    type: str
  api_url:
    description:
      - The address of the Platform API. It has to begin with C(https://), unless it is this very machine.
    type: str
    default: https://api.heroku.com
  data_api_url:
    description: The address of the Data API, likewise.
    type: str
    default: https://api.data.heroku.com
  timeout:
    description: Seconds that one request may take.
    type: float
    default: 30
  retry_timeout:
    description:
      - Seconds for which a question is asked again that meets a rate limit, an answer of 500 or above, or no answer. A
        change is sent once, except after a rate limit, and then read back.
    type: float
    default: 180
"""

    DATABASE = r"""
options:
  database:
    description: The database, by an attachment, a config var of one, or the name of the add-on.
    type: str
    default: DATABASE_URL
"""

    WAIT = r"""
options:
  poll_interval:
    description: Seconds between two looks. Near the rate limit it is six times as long.
    type: float
    default: 5
"""

    JOURNAL = r"""
options:
  operations_dir:
    description:
      - Where it is journaled what ran, on the machine that the module runs on, which is the controller. Left out,
        C(/var/lib/selfhost-stateful/operations), or without root the XDG state directory.
    type: path
    default: ""
"""

    LOCAL = r"""
options: {}
notes:
  - The module talks to Heroku only. Run it on the controller, with C(delegate_to=localhost) or in a play on
    C(localhost).
attributes:
  platform:
    description: Target OS/families that can be operated against.
    platforms: posix
    support: full
"""
