# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The PostgreSQL dogu's stand-in, in both generations, on the sandbox's own images of Postgres."""

from __future__ import annotations

from .recipe import Recipe

NAME = "ces-postgresql"
FIRST, SECOND = "1", "2"
"""Generations: the dump inside PGDATA; the dump in a directory of its own, and the data below its major version."""
_MIGRATIONS = ("ces-02-restrictStatVisibility.sh", "ces-03-migrateConstraintsOnPartitionedTables.sh")
_COMMON = """\
COPY --chmod=755 ces-doguctl.sh /usr/local/bin/doguctl
COPY ces-common.sh /ces-common.sh
COPY --chmod=755 ces-{generation}-startup.sh /startup.sh
COPY --chmod=755 ces-{generation}-pre-upgrade.sh /pre-upgrade.sh
COPY --chmod=755 ces-{generation}-post-upgrade.sh /post-upgrade.sh
COPY --chmod=755 ces-02-restrictStatVisibility.sh /docker-entrypoint-initdb.d/02-restrictStatVisibility.sh
COPY --chmod=755 ces-03-migrateConstraintsOnPartitionedTables.sh \
/docker-entrypoint-initdb.d/03-migrateConstraintsOnPartitionedTables.sh
"""


def _first(version: str) -> Recipe:
    major = version.partition(".")[0]
    path = f"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/postgresql/{major}/bin"
    return Recipe(
        name=NAME,
        tag=version,
        parent=f"{NAME}-base:{major}",
        files=_files(FIRST),
        contract=_COMMON.format(generation=FIRST)
        + f"ENV PG_MAJOR={major} PATH={path} LANG=en_US.utf8 PGDATA=/var/lib/postgresql\n"
        "STOPSIGNAL SIGINT\nEXPOSE 5432\nCMD [\"/startup.sh\"]\n",
    )  # fmt: skip


def _second(version: str) -> Recipe:
    major = version.partition(".")[0]
    return Recipe(
        name=NAME,
        tag=version,
        parent=f"postgres:{major}",
        files=(*_files(SECOND), "ces-2-01-restore.sh"),
        contract=_COMMON.format(generation=SECOND)
        + "COPY --chmod=755 ces-2-01-restore.sh /docker-entrypoint-initdb.d/01-restore.sh\n"
        f"ENV PGDATA=/var/lib/postgresql/{major}/docker\n"
        "ENTRYPOINT []\nCMD [\"/startup.sh\"]\n",
    )  # fmt: skip


def _files(generation: str) -> tuple[str, ...]:
    scripts = (f"ces-{generation}-{name}.sh" for name in ("startup", "pre-upgrade", "post-upgrade"))
    return ("ces-doguctl.sh", "ces-common.sh", *scripts, *_MIGRATIONS)


def _base(major: int) -> Recipe:
    """Return a postgres image without its VOLUME, which lies inside of what the first generation calls PGDATA."""
    return Recipe(
        name=f"{NAME}-base",
        tag=str(major),
        parent=f"postgres:{major}",
        contract="FROM scratch\nCOPY --from=0 / /\n",
    )


CES = (
    _base(13),
    _base(15),
    _first("13.16-1"),
    _first("13.16-2"),
    _first("15.12-1"),
    _second("15.18-1"),
    _second("17.6-1"),
)
