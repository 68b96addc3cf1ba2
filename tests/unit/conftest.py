# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which tests a Python without ansible leaves out: no ansible-core of today runs on the Python of the oldest hosts."""

from __future__ import annotations

import importlib.util

collect_ignore = [] if importlib.util.find_spec("ansible") else ["test_examples.py", "test_host.py", "test_module.py"]
