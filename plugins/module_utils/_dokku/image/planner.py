# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps by which the data of an app goes to a service of another image, and what forbids them. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image import plan_physical
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.model import (
    DUMP,
    LONGEST_NAME,
    NEW_CLUSTER_BYTES,
    PHYSICAL,
    Found,
    Request,
    in_words,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.model import (
    COLOUR,
    NETWORKS,
    RUNNING,
    Dsn,
    host_of,
    is_legal,
    points_at,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import Blocker, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import FINISH, PREPARE, SWITCH, Step
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.planner import keeping_steps
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.strategy import Choice

SECRET = re.compile(r"(?:^|[&;])[^=&;]*(?:pass(?!file)|pwd|secret|token)[^=&;]*=", re.IGNORECASE)
"""What looks like a secret among the parameters of an address."""
MAKE, UNIT, LAST_BACKUP = "make the new service", "run the unit", "back the old service up"
QUIET, EXPORT, IMPORT, REPOINT = "shut the writers out", "export", "import", "link and promote the new service"
LET_IN = "let the app in"
SHOW, CARRY, FIRST_BACKUP, RETIRE = (
    "take the page away",
    "carry the backups over",
    "back the new service up",
    "unlink and stop the old service",
)


BROUGHT_BY = (IMPORT, plan_physical.ADOPT)
"""The steps of which one notes as what the data has come to the new service; before it nothing of others is there."""


def brought(evidence: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return as what the data has come to the new service, our own statistics included; None before it has."""
    known = next((evidence[name] for name in BROUGHT_BY if name in evidence), None)
    if known is None:
        return None
    own = sum(int(found.get("transactions", 0)) for found in evidence.values())
    return {**known, "next_xid": int(known["next_xid"]) + own}


def way_of(request: Request, found: Found) -> Choice:
    """Return how the data gets to the new service, and why; no strategy where it cannot as it was asked to."""
    against = "; ".join(found.files.against) if found.files else "the old service does not run"
    if request.strategy == DUMP:
        return Choice(DUMP, "it was asked for", {})
    if not against:
        return Choice(PHYSICAL, _reason(found), {})
    if request.strategy == PHYSICAL:
        return Choice("", f"strategy physical was asked for, but {against}", {PHYSICAL: against})
    return Choice(DUMP, f"physical: {against}", {PHYSICAL: against})


def _reason(found: Found) -> str:
    if found.files is not None and found.files.copied:
        return "a copy of the files, made while the app runs, is served by the new image"
    return "a copy of the files, made while the app runs, is taken to the new major version by pg_upgrade"


def blockers_of(request: Request, found: Found) -> list[Blocker]:
    """Return everything that forbids the swap."""
    way = way_of(request, found)
    return [
        *_of_names(request, found),
        *_of_the_old(found),
        *_of_the_image(request, found, way),
        *_of_space(found, way),
    ]


def _of_names(request: Request, found: Found) -> list[Blocker]:
    refused = []
    if not is_legal(found.name):
        refused.append(
            Blocker(f"{found.name!r} is no name for a service: letters, digits, - and _ are, and a dot is not.")
        )
    elif len(found.name) > LONGEST_NAME:
        refused.append(
            Blocker(
                f"{found.name} is longer than {LONGEST_NAME} characters, and the host name of its container could not"
                " be made of it: name the new service with name."
            )
        )
    if host_of(found.name) == found.old.host and not found.name_taken:
        refused.append(
            Blocker(
                f"{found.name} and {found.old.name} would have one host name, {found.old.host}, by which nobody could"
                " tell them apart: name the new service with name."
            )
        )
    if found.name_taken:
        refused.append(
            Blocker(
                f"There is a service {found.name} already, of a swap that was begun by hand, say. Nothing is brought"
                " into what is not ours: destroy it where nobody needs it, or give the new one another name.",
                shell("dokku", "postgres:info", found.name),
            )
        )
    return refused


def _of_the_old(found: Found) -> list[Blocker]:
    old, refused = found.old, []
    if old.status != RUNNING:
        refused.append(
            Blocker(
                f"The service {old.name} does not run ({old.status}), and its data can be taken from it only while it"
                " does.",
                shell("dokku", "postgres:start", old.name),
            )
        )
    if found.others:
        refused.append(
            Blocker(
                f"Others would go on writing to {old.name}: {'; '.join(found.others)}. Give them a service of their own"
                " first.",
                shell("dokku", "postgres:links", old.name),
            )
        )
    if old.exposed:
        refused.append(
            Blocker(
                f"{old.name} is exposed on ports of this host ({old.exposed}), so that somebody beside the app may"
                " write to it; the new service would not be. Take that away first, and expose the new one afterwards.",
                shell("dokku", "postgres:unexpose", old.name),
            )
        )
    if old.encrypted:
        refused.append(
            Blocker(
                f"The backups of {old.name} are encrypted, and its key is not carried over: those of the new service"
                " would not be. Take the encryption away first, and set it for the new service afterwards.",
                shell("dokku", "postgres:backup-unset-encryption", old.name),
            )
        )
    if old.schedule_unread:
        refused.append(
            Blocker(
                f"{old.name} is backed up by a schedule that cannot be read, and could not be carried over.",
                shell("dokku", "postgres:backup-schedule-cat", old.name),
            )
        )
    refused += [
        Blocker(
            f"{name} of {found.app.name} has a password in its query, which the journal would keep: take it away.",
            shell("dokku", "config:keys", found.app.name),
        )
        for name, dsn in _named(found).items()
        if SECRET.search(dsn.query)
    ]
    if found.strangers:
        refused.append(
            Blocker(
                f"{', '.join(found.strangers)} of {found.app.name} names {old.name} by another login than the service's"
                " own, would stay behind, and name a service that is stopped: let it name that by its own login, or"
                " take it away.",
                shell("dokku", "config:keys", found.app.name),
            )
        )
    if found.mixed:
        refused.append(
            Blocker(
                f"Of the processes of {found.app.name} some run and others do not. Whether it runs as before could not"
                " be told afterwards: start it, or stop it.",
                shell("dokku", "ps:report", found.app.name),
            )
        )
    return refused


def _of_the_image(request: Request, found: Found, way: Choice) -> list[Blocker]:
    refused = list(found.lacks) if way.strategy == DUMP else []
    if not way.strategy and found.old.status == RUNNING:
        refused.append(Blocker(f"{found.old.name}: {way.reason}. Set strategy: dump, or auto."))
    if found.new_major < found.major:
        refused.append(
            Blocker(
                f"{request.reference} is Postgres {found.new_major}, and the data is of {found.major}: there is no way"
                " down."
            )
        )
    if found.beside and way.strategy == DUMP and not request.accept_losses:
        refused.append(
            Blocker(
                f"The plugin exports one database, without roles and grants. {found.old.name} has more, which would be"
                f" left behind: {'; '.join(in_words(found.beside))}. Where nobody needs that, set accept_losses."
                f"{_why_not_physical(way)}"
            )
        )
    elsewhere = {name: dsn.database for name, dsn in _named(found).items() if dsn.database != found.old.database}
    if elsewhere and way.strategy == DUMP:
        told = ", ".join(f"{name} ({database or 'none'})" for name, database in elsewhere.items())
        refused.append(
            Blocker(
                f"The plugin exports one database, {found.old.database}, and these variables of {found.app.name} name"
                f" another one: {told}.{_why_not_physical(way)}",
                shell("dokku", "config:keys", found.app.name),
            )
        )
    if request.maintenance and found.maintained is None:
        refused.append(
            Blocker(
                "There is no plugin maintenance from 0.5 on here, to show the page with: install it, or set maintenance"
                " to false.",
                shell("dokku", "plugin:list"),
            )
        )
    if not found.old.networks_known and any(request.settings.get(name) for name in NETWORKS):
        refused.append(
            Blocker(
                "This version of the plugin knows no networks of services: update it first.",
                shell("dokku", "plugin:update", "postgres"),
            )
        )
    return refused


def _named(found: Found) -> dict[str, Dsn]:
    """Return the app's variables that name the old service, by their names."""
    return {name: dsn for name, dsn in sorted(found.app.addresses.items()) if points_at(dsn, found.old)}


def _why_not_physical(way: Choice) -> str:
    return (
        f" The strategy physical would take it along, but {way.against[PHYSICAL]}." if PHYSICAL in way.against else ""
    )


def space_of(found: Found, way: Choice) -> dict[str, int]:
    """Return the bytes that the swap takes on each file system, by its mount point."""
    needed = {found.backup_room.mount_point: found.database_bytes}
    data, made = found.data_room.mount_point, found.database_bytes
    if way.strategy == PHYSICAL and found.files is not None:
        made = found.files.space_bytes
    needed[data] = needed.get(data, 0) + made + NEW_CLUSTER_BYTES
    return needed


def _of_space(found: Found, way: Choice) -> list[Blocker]:
    free = {room.mount_point: room.free_bytes for room in (found.backup_room, found.data_room)}
    return [
        Blocker(
            f"{mount} has {free[mount]:,} bytes free, and the dump and the new service take up to {needed:,}:"
            f" {needed - free[mount]:,} bytes are missing there.",
            shell("df", "-h", mount),
        )
        for mount, needed in space_of(found, way).items()
        if needed > free[mount]
    ]


def steps_of(request: Request, found: Found, *, dump: str, operation: str) -> tuple[Step, ...]:
    """Return the steps. What is secret is read again where it is needed, from where it is kept."""
    old, new, app = found.old.name, found.name, found.app.name
    both: dict[str, Any] = {"app": app, "old": old, "new": new}
    files = None
    if found.files is not None and way_of(request, found).strategy == PHYSICAL:
        files = plan_physical.steps_of(found.files, both, dump=dump, operation=operation, made_by=MAKE)
    made = {
        **both,
        "repository": request.repository,
        "tag": request.version,
        "image_id": found.image_id,
        "settings": {name: value for name, value in found.settings.as_dict().items() if name != "custom_env"},
        "custom_env": sorted(found.settings.custom_env),
    }
    place = {"bucket": request.backup.bucket, "use_iam": request.backup.use_iam} if request.backup else {}
    shown = request.maintenance and found.maintained is False
    quiet = {**both, "page": shown}
    addresses = {
        name: {"scheme": dsn.scheme, "database": dsn.database, "query": dsn.query}
        for name, dsn in _named(found).items()
    }
    moving = {
        **both,
        "addresses": {name: parts for name, parts in addresses.items() if not COLOUR.fullmatch(name)},
        "colours": {name: parts for name, parts in addresses.items() if COLOUR.fullmatch(name)},
        "scheme": request.scheme,
        "former_scheme": found.app.scheme,
    }
    steps = [
        *keeping_steps((old, found.old.image_id), (new, found.image_id), operation),
        Step("dokku_make", MAKE, PREPARE, made),
    ]
    if request.unit:
        steps.append(Step("dokku_unit", UNIT, PREPARE, {"unit": request.unit}))
    if place:
        steps.append(Step("dokku_back_up", LAST_BACKUP, PREPARE, {"service": old, **place}))
    # Where the files go, whoever writes until the server stops has written to what goes.
    databases = {name: parts["database"] for name, parts in addresses.items()}
    asking: dict[str, Any] = {"variables": sorted(addresses), "databases": databases, "image_id": found.old.image_id}
    if files is None:
        asking["exported"] = {
            "beside": {what: list(names) for what, names in found.beside.items()},
            "to": found.image_id,
        }
    shut = Step("dokku_quiet", QUIET, SWITCH, {**quiet, **asking, "read_only": files is None})
    if files is None:
        steps += [
            shut,
            Step("dokku_export", EXPORT, SWITCH, {**both, "path": dump}),
            Step("dokku_import", IMPORT, SWITCH, {**both, "path": dump}),
        ]
    else:
        steps += [*files.preparing, *files.before_quiet, shut, *files.after_quiet]
    steps += [
        Step("dokku_repoint", REPOINT, SWITCH, moving),
        Step("dokku_let_in", LET_IN, SWITCH, {**quiet, "answer_path": request.answer_path, "dump": dump}, proves=True),
        Step("dokku_show", SHOW, FINISH, quiet),
        Step("dokku_carry_backups", CARRY, FINISH, both),
        *(files.tidying if files else ()),
    ]
    if place:
        steps.append(Step("dokku_back_up", FIRST_BACKUP, FINISH, {"service": new, **place}))
    steps.append(Step("dokku_retire", RETIRE, FINISH, both))
    return tuple(steps)


def summary_of(request: Request, found: Found, steps: tuple[Step, ...]) -> dict[str, Any]:
    way = way_of(request, found)
    return {
        "app": found.app.name,
        "from": {"service": found.old.name, "image": found.old.image, "image_id": found.old.image_id},
        "to": {"service": found.name, "image": request.reference, "image_id": found.image_id},
        "strategy": way.strategy,
        "reason": way.reason,
        "space": space_of(found, way),
        "free": {room.mount_point: room.free_bytes for room in (found.backup_room, found.data_room)},
        "steps": [step.name for step in steps],
    }


def text_of(request: Request, found: Found, blockers: list[Blocker], *, dump: str) -> str:
    """Return the plan as an admin reads it."""
    page = "shown" if request.maintenance else "not shown"
    way = way_of(request, found)
    how = f"the app is stopped, its database dumped and restored ({found.database_bytes:,} bytes)"
    if way.strategy == PHYSICAL:
        how = f"physical: {way.reason}; the app is stopped for the last of it"
    backup = f"into the bucket {request.backup.bucket}" if request.backup else "none but the dump"
    lines = [
        f"{found.app.name}: {found.old.name} ({found.old.image}) → {found.name} ({request.reference})",
        f"  image      {found.old.image_id[7:19]} → {found.image_id[7:19]}, Postgres {found.major} → {found.new_major}",
        f"  how        {how}",
        f"  dump       {dump}, which is kept",
        f"  page       {page}",
        f"  backup     {backup}",
        f"  afterwards {found.old.name} is unlinked and stopped, and stays until the operation is committed",
    ]
    if way.strategy == DUMP:
        lines += [f"  left       {what}" for what in in_words(found.beside)]
        lines += [f"  not by     {name}: {why}" for name, why in way.against.items()]
    lines += [f"  BLOCKER: {blocker.text}" for blocker in blockers]
    return "\n".join(lines)
