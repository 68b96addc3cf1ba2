# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A ``dokku`` with its postgres and maintenance plugins, on the sandbox's engine.

The program is all modules but those that ``layout.TESTS_ONLY`` names, which the tests
import: it needs the standard library alone, so that it can be copied to another host.
"""

from __future__ import annotations
