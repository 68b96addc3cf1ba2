# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compose 1.29, as Debian 12 ships it, beside whatever compose this machine has."""

from __future__ import annotations

import shutil
from pathlib import Path

from ._base import cache_dir, locked, run
from .images import make_rootfs

SUITE = "bookworm"
PACKAGES = ("docker-compose", "libc6", "python3", "python3-distutils")
# It runs on its own interpreter and its own loader, so that it works on any release.
WRAPPER = """#!/bin/sh
root={root}
# The link in lib64 is absolute and would name this machine's own loader.
loader=$(echo "$root"/lib/*-linux-gnu/ld-linux-*.so.*)
libraries=$(echo "$root"/lib/*-linux-gnu):$(echo "$root"/usr/lib/*-linux-gnu)
export PYTHONHOME="$root/usr" PYTHONPATH="$root/usr/lib/python3/dist-packages" PYTHONDONTWRITEBYTECODE=1
exec "$loader" --library-path "$libraries" "$root"/usr/bin/python3.11 -W ignore "$root/usr/bin/docker-compose" "$@"
"""


def compose_v1() -> Path:
    """Return the path of a ``docker-compose`` that answers as 1.29, unpacked on first use."""
    home = cache_dir("compose-v1")
    wrapper = home / "docker-compose"
    with locked(cache_dir("locks") / "compose-v1.lock"):
        if wrapper.exists() and run([wrapper, "version", "--short"], check=False).returncode == 0:
            return wrapper
        root = home / "root"
        shutil.rmtree(root, ignore_errors=True)
        make_rootfs(SUITE, PACKAGES, (), root)
        wrapper.write_text(WRAPPER.format(root=root))
        wrapper.chmod(0o755)
        run([wrapper, "version", "--short"])
    return wrapper
