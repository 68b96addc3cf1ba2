# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""See a Mastodon's data move into bind mounts: ``python -m tests.demo``, and ``clean`` to remove all of it."""

from __future__ import annotations
