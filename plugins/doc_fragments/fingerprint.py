# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options that name an earlier fingerprint."""

from __future__ import annotations


class ModuleDocFragment:
    """Documentation of ``_earlier.py``."""

    DOCUMENTATION = r"""
options:
  against:
    description:
      - What to compare with, as RV(fingerprint) was returned before, or the absolute path of a JSON file on the managed
        host that holds it.
    type: raw
"""
