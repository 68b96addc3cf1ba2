# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every image of the sandbox consists of, as data.

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
    """One image: how to get its file system, and the Dockerfile lines that make the contract."""

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

    def digest(self) -> str:
        """Return a hash over everything that decides the image's content, its parent included."""
        hasher = hashlib.sha256(f"{BUILDER} {self!r}".encode())
        for name in self.files:
            hasher.update((ROOTFS / name).read_bytes())
        if self.parent:
            hasher.update(RECIPES[self.parent].digest().encode())
        return hasher.hexdigest()[:16]


def _user(name: str, uid: int, home: str) -> str:
    return (
        f'chroot "$1" sh -c "echo {name}:x:{uid}:{uid}::{home}:/bin/bash >> /etc/passwd; '
        f'echo {name}:x:{uid}: >> /etc/group; mkdir -p {home}; chown {uid}:{uid} {home}"'
    )


def _postgres(major: int, suite: str) -> Recipe:
    share = f"/usr/share/postgresql/{major}"
    data = "/var/lib/postgresql/data" if major < 18 else f"/var/lib/postgresql/{major}/docker"
    volume = data if major < 18 else "/var/lib/postgresql"
    path = f"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/postgresql/{major}/bin"
    make_volume = f"mkdir -p {volume} && chown 999:999 {volume}" + (f" && chmod 1777 {volume}" if major < 18 else "")
    return Recipe(
        name="postgres",
        tag=str(major),
        pulled=f"postgres:{major}",
        suite=suite,
        packages=(*USERLAND, "locales", "xz-utils", "zstd", f"postgresql-{major}"),
        hooks=(
            *USERLAND_HOOKS,
            _user("postgres", 999, "/var/lib/postgresql"),
            'chroot "$1" localedef -i en_US -c -f UTF-8 en_US.UTF-8',
            f'sed -ri "s/^#?listen_addresses *=.*/listen_addresses = \'*\'/" "$1{share}/postgresql.conf.sample"',
            'mkdir -p "$1/docker-entrypoint-initdb.d"',
            f'chroot "$1" sh -c "{make_volume}"',
            *SLIMMING_HOOKS,
        ),
        files=("postgres-entrypoint.sh",),
        contract=f"""\
COPY --chmod=755 postgres-entrypoint.sh /usr/local/bin/docker-entrypoint.sh
RUN install -d -o postgres -g postgres -m 3775 /var/run/postgresql
ENV LANG=en_US.utf8 PG_MAJOR={major} PATH={path} PGDATA={data}
VOLUME {volume}
ENTRYPOINT ["docker-entrypoint.sh"]
STOPSIGNAL SIGINT
EXPOSE 5432
CMD ["postgres"]
""",
    )


def _redis(major: int, suite: str) -> Recipe:
    return Recipe(
        name="redis",
        tag=str(major),
        pulled=f"redis:{major}",
        suite=suite,
        packages=(*USERLAND, "redis-server", "redis-tools"),
        hooks=(
            *USERLAND_HOOKS,
            _user("redis", 999, "/data"),
            *SLIMMING_HOOKS,
        ),
        files=("redis-entrypoint.sh",),
        contract="""\
COPY --chmod=755 redis-entrypoint.sh /usr/local/bin/docker-entrypoint.sh
VOLUME /data
WORKDIR /data
ENTRYPOINT ["docker-entrypoint.sh"]
EXPOSE 6379
CMD ["redis-server"]
""",
    )


_MASTODON_CONTRACT = """\
COPY --chmod=755 mastodon.py /usr/local/lib/mastodon/mastodon.py
RUN sed -i '1i #!/usr/bin/python3' /usr/local/lib/mastodon/mastodon.py
RUN cd /usr/local/bin && for name in bundle rails rake node npm yarn; do ln -s ../lib/mastodon/mastodon.py $name; done
RUN mkdir -p /mastodon/public/assets /mastodon/public/packs /mastodon/public/system && chown -R 991:991 /mastodon
ENV LANG=C.UTF-8 PYTHONUNBUFFERED=1 RAILS_ENV=production
WORKDIR /mastodon
USER mastodon
EXPOSE 3000 4000
"""
_MASTODON_BASE = Recipe(
    name="mastodon-base",
    tag="latest",
    pulled="debian:trixie-slim",
    pulled_lines=(
        "RUN apt-get update && apt-get install -y --no-install-recommends curl procps python3 python3-psycopg"
        " python3-redis && rm -rf /var/lib/apt/lists/* && useradd -u 991 -d /mastodon -s /bin/bash mastodon\n"
        + _MASTODON_CONTRACT
    ),
    suite="trixie",
    packages=(*USERLAND, "curl", "python3", "python3-psycopg", "python3-redis"),
    hooks=(*USERLAND_HOOKS, _user("mastodon", 991, "/mastodon"), *SLIMMING_HOOKS),
    files=("mastodon.py",),
    contract=_MASTODON_CONTRACT,
)
# The base is what a project's own Dockerfile starts from; this is the image that others built from it.
_MASTODON = Recipe(name="mastodon", tag="latest", parent="mastodon-base:latest", contract="USER mastodon\n")

# Inside, docker.service meets a read-only /proc/sys, which it has to write to for its bridge.
_SERVER_CONTRACT = """\
RUN mkdir -p /etc/systemd/system/docker.service.d /root/.ssh && chmod 700 /root/.ssh \\
 && printf '[Service]\\nExecStartPre=-/bin/mount -o remount,rw /proc/sys\\n' \\
    > /etc/systemd/system/docker.service.d/sandbox.conf \\
 && printf 'PermitRootLogin prohibit-password\\nUseDNS no\\n' > /etc/ssh/sshd_config.d/sandbox.conf \\
 && rm -f /etc/ssh/ssh_host_* && ssh-keygen -A \\
 && systemctl mask getty.target console-getty.service systemd-udevd.service systemd-logind.service apt-daily.timer \\
    apt-daily-upgrade.timer && systemctl set-default multi-user.target
ENV container=docker
VOLUME /var/lib/docker
STOPSIGNAL SIGRTMIN+3
EXPOSE 22
CMD ["/lib/systemd/systemd"]
"""
_SERVER_PACKAGES = (
    "ca-certificates", "curl", "dbus", "docker-buildx", "docker-cli", "docker-compose", "docker.io", "git", "iproute2",
    "iptables", "openssh-server", "procps", "python3", "python3-venv", "sudo", "systemd", "systemd-sysv",
)  # fmt: skip
# The one image whose packages must be really installed: units, users and alternatives are what it is about.
_SERVER = Recipe(
    name="server",
    tag="trixie",
    pulled="debian:trixie",
    pulled_lines=(
        "RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends"
        f" {' '.join(_SERVER_PACKAGES)} && rm -rf /var/lib/apt/lists/*\n" + _SERVER_CONTRACT
    ),
    suite="trixie",
    packages=_SERVER_PACKAGES,
    variant="minbase",
    hooks=('rm -rf "$1"/usr/share/doc/* "$1"/usr/share/man/* "$1"/var/lib/apt/lists/*',),
    contract=_SERVER_CONTRACT,
)

_ALL = (
    _postgres(13, "bullseye"),
    _postgres(15, "bookworm"),
    _postgres(17, "trixie"),
    _postgres(18, "forky"),
    _redis(7, "bookworm"),
    _redis(8, "trixie"),
    _MASTODON_BASE,
    _MASTODON,
    _SERVER,
)
RECIPES: dict[str, Recipe] = {recipe.key: recipe for recipe in _ALL}
DEMO = ("postgres:17", "redis:8", "mastodon:latest")
# What ``make test`` uses, what takes longest to build first.
TESTED = ("server:trixie", "postgres:17", "postgres:18", "mastodon:latest", "redis:8", "redis:7")
