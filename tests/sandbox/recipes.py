# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every image of the sandbox, and which of them are for what."""

from __future__ import annotations

from .recipe import SLIMMING_HOOKS, USERLAND, USERLAND_HOOKS, Recipe, user_hook
from .recipes_ces import CES
from .recipes_concurrent import CONCURRENT
from .recipes_postgres import POSTGRES


def _redis(major: int, suite: str) -> Recipe:
    return Recipe(
        name="redis",
        tag=str(major),
        pulled=f"redis:{major}",
        suite=suite,
        packages=(*USERLAND, "redis-server", "redis-tools"),
        hooks=(
            *USERLAND_HOOKS,
            user_hook("redis", 999, "/data"),
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
    hooks=(*USERLAND_HOOKS, user_hook("mastodon", 991, "/mastodon"), *SLIMMING_HOOKS),
    files=("mastodon.py",),
    contract=_MASTODON_CONTRACT,
)
# The base is what a project's own Dockerfile starts from; this is the image that others built from it.
_MASTODON = Recipe(name="mastodon", tag="latest", parent="mastodon-base:latest", contract="USER mastodon\n")

# What dokku's apps run: the process's name is the command.
_DOKKU_APP = Recipe(
    name="dokku-app",
    tag="latest",
    parent="mastodon-base:latest",
    files=("dokku_app.py",),
    contract="""\
USER root
COPY --chmod=755 dokku_app.py /app/dokku_app.py
RUN install -d -o mastodon -g mastodon -m 777 /acknowledged
RUN python3 -c 'import http.server, psycopg, urllib.parse'
ENV PYTHONUNBUFFERED=1
WORKDIR /app
USER mastodon
EXPOSE 5000
ENTRYPOINT ["python3", "/app/dokku_app.py"]
CMD ["web"]
""",
)

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
    *POSTGRES,
    _redis(7, "bookworm"),
    _redis(8, "trixie"),
    _MASTODON_BASE,
    _MASTODON,
    *CONCURRENT,
    _DOKKU_APP,
    *CES,
    _SERVER,
)
RECIPES: dict[str, Recipe] = {recipe.key: recipe for recipe in _ALL}
DEMO = ("postgres:17", "redis:8", "mastodon:latest")
# What ``make test`` uses, what takes longest to build first.
TESTED = (
    "server:trixie", "postgres:17", "postgres:18", "mastodon:latest", "redis:8", "redis:7", "dokku-app:latest",
    "ces-postgresql:15.18-1", "ces-postgresql:17.6-1",
    *(recipe.key for recipe in CONCURRENT),
)  # fmt: skip


def digest(recipe: Recipe) -> str:
    """Return the hash that tells whether an image is what its recipe, and its parent's, now say."""
    return recipe.digest(digest(RECIPES[recipe.parent]) if recipe.parent else "")
