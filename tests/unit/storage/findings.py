# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Findings as the survey of a small project would give them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import (
    ANONYMOUS,
    POSTGRESQL,
    DataPath,
    Findings,
    Move,
    Place,
    PlannedRewrite,
    Request,
    StoppedContainer,
    StoreFacts,
    Unstarted,
)

GIB = 1 << 30
FACTS = StoreFacts(POSTGRESQL, "17", "/var/lib/postgresql/data", identity={"system_identifier": "1"})
PLACE = Place("/srv/app/postgres", False, True, "ext4", 1, "/", 100 * GIB, False)
DATA = DataPath(
    service="db", target="/var/lib/postgresql/data", kind=ANONYMOUS, host_path="/engine/volumes/v/_data",
    store=POSTGRESQL, volume="a" * 64, driver="local", container="c" * 64, running=True, size_bytes=GIB,
    files=1000, inode=7, device=1, facts=FACTS,
)  # fmt: skip
MOVE = Move(DATA, "/srv/app/postgres", "./postgres", PLACE, {}, image_id="sha256:" + "1" * 64)
REQUEST = Request(
    "app",
    "/srv/app",
    (),
    backup_dir="/srv/app/backups",
    retained_dir="/engine/retained",
    rewrite="in_place",
    compose="cd /srv/app && docker compose",
)
UNSTARTED = Unstarted("db", "/var/lib/postgresql/data", PLACE, store=POSTGRESQL, version="17")
REWRITE = PlannedRewrite(("/srv/app/compose.yaml",), "added an entry")


def a_move(**changes: Any) -> Move:
    """Return a move; what belongs to its data or its place is passed on to them."""
    place = {key: value for key, value in changes.items() if key in Place.__dataclass_fields__}
    data = {key: value for key, value in changes.items() if key in DataPath.__dataclass_fields__ and key not in place}
    own = {key: value for key, value in changes.items() if key not in data and key not in place}
    made = replace(MOVE, data=replace(DATA, **data), place=replace(PLACE, **place))
    return replace(made, **own)


def waiting(**changes: Any) -> Findings:
    """Return the findings about one service without a container; what belongs to its place is passed on to that."""
    place = {key: value for key, value in changes.items() if key in Place.__dataclass_fields__}
    own = {key: value for key, value in changes.items() if key not in place}
    made = replace(UNSTARTED, place=replace(PLACE, **place), **own)
    return Findings(moves=(), unstarted=(made,), rewrite=REWRITE)


def stopped(service: str) -> StoppedContainer:
    return StoppedContainer(f"id-{service}", f"app-{service}-1", service, "always", 0, 10.0)


def findings(*moves: Move, **changes: Any) -> Findings:
    raw: dict[str, Any] = {
        "moves": moves or (MOVE,),
        "rewrite": REWRITE,
        "dependents": ((stopped("web"),), (stopped("api"),)),
        "stores": tuple(stopped(move.data.service) for move in moves or (MOVE,)),
        "backup_place": replace(PLACE, path="/srv/app/backups"),
        **changes,
    }
    return Findings(**raw)
