# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an image of the sandbox consists of, as data, and what most of them share.

Each recipe knows two ways to the same contract: ``pulled`` lines on top of an image
from a registry, or packages of the distribution with the ``contract`` on top.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from ._base import IMAGE_PREFIX

# Raised when the way of building changes, so that every image is built anew.
BUILDER = 2
ROOTFS = Path(__file__).parent / "rootfs"

# What a container needs before its own program: a shell, the usual tools, time zones.
USERLAND = (
    "base-files", "base-passwd", "bash", "coreutils", "dash", "debianutils", "diffutils", "findutils", "grep",
    "gzip", "hostname", "libc-bin", "mawk", "mount", "procps", "sed", "tar", "tzdata", "util-linux",
)  # fmt: skip

# Packages are unpacked without running their scripts, which is three times faster and
# half the size; this is what those scripts would have done that matters here.
USERLAND_HOOKS = (
    'cp "$1/usr/share/base-passwd/passwd.master" "$1/etc/passwd"',
    'cp "$1/usr/share/base-passwd/group.master" "$1/etc/group"',
    '[ -e "$1/bin/sh" ] || ln -s dash "$1/bin/sh"',
    '[ -e "$1/usr/bin/awk" ] || ln -s mawk "$1/usr/bin/awk"',
    'mkdir -p "$1/root" "$1/usr/local/bin" "$1/usr/local/sbin" "$1/usr/local/lib" && chmod 1777 "$1/tmp" "$1/var/tmp"',
    '[ -e "$1/etc/nsswitch.conf" ] || cp "$1/usr/share/libc-bin/nsswitch.conf" "$1/etc/nsswitch.conf"',
    '[ -e "$1/etc/localtime" ] || ln -s /usr/share/zoneinfo/Etc/UTC "$1/etc/localtime"',
    'rm -rf "$1/var/run" && ln -s /run "$1/var/run"',
    'chroot "$1" ldconfig',
)
SLIMMING_HOOKS = (
    'rm -rf "$1"/usr/share/doc/* "$1"/usr/share/man/* "$1"/usr/share/i18n "$1"/usr/share/info/*',
    'rm -rf "$1"/usr/share/locale/*',
    'rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*',
)


@dataclass(frozen=True)
class Recipe:
    """One image: how to get its file system, and the Dockerfile lines that make the contract.

    ``suite`` may name several, parted by blanks: each package is the newest that they have.
    """

    name: str
    tag: str
    contract: str
    pulled: str = ""
    pulled_lines: str = ""
    suite: str = ""
    packages: tuple[str, ...] = ()
    hooks: tuple[str, ...] = ()
    variant: str = "extract"
    files: tuple[str, ...] = ()
    parent: str = ""

    @property
    def key(self) -> str:
        """The name under which the command line and the tests know it, such as ``postgres:17``."""
        return f"{self.name}:{self.tag}"

    @property
    def ref(self) -> str:
        """The image's reference in the engine."""
        return f"{IMAGE_PREFIX}/{self.key}"

    def digest(self, parent: str = "") -> str:
        """Return a hash over everything that decides the image's content; ``parent`` is the parent's."""
        hasher = hashlib.sha256(f"{BUILDER} {self!r}".encode())
        for name in self.files:
            hasher.update((ROOTFS / name).read_bytes())
        hasher.update(parent.encode())
        return hasher.hexdigest()[:16]


def user_hook(name: str, uid: int, home: str) -> str:
    """Return the hook that makes a user, its group and its home."""
    return (
        f'chroot "$1" sh -c "echo {name}:x:{uid}:{uid}::{home}:/bin/bash >> /etc/passwd; '
        f'echo {name}:x:{uid}: >> /etc/group; mkdir -p {home}; chown {uid}:{uid} {home}"'
    )
