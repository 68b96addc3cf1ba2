# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What ``ansible-test`` runs instead of downloading get-pip: Python's own pip, then the version asked for."""

from __future__ import annotations

import subprocess
import sys

# get-pip knows these two, pip does not.
arguments = [each for each in sys.argv[1:] if each not in ("--no-setuptools", "--no-wheel")]
# In a child: ensurepip fixes sys.path for the pip that it unpacks, and would leave this process with it.
subprocess.run([sys.executable, "-m", "ensurepip", "--default-pip"], check=True, stdout=subprocess.DEVNULL)
sys.exit(subprocess.run([sys.executable, "-m", "pip", "install", *arguments], check=False).returncode)
