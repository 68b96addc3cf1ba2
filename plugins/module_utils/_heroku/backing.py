# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A backup is captured and waited for until it succeeded."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, StatefulError, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.api import Heroku
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.http import BrokenOff
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.model import Addon, moment
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.patience import Patience
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.steps import SETTLES

LINES = 5
LONG_AGO = datetime.min.replace(tzinfo=timezone.utc)


@dataclass(frozen=True)
class Transfer:
    """A backup as Heroku tells it."""

    uuid: str
    name: str
    database: str
    created: datetime | None
    finished_at: str
    succeeded: bool
    warnings: int
    source_bytes: int
    processed_bytes: int
    log: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return {
            "uuid": self.uuid,
            "name": self.name,
            "database": self.database,
            "created_at": self.created.isoformat() if self.created else "",
            "finished_at": self.finished_at,
            "succeeded": self.succeeded,
            "warnings": self.warnings,
            "source_bytes": self.source_bytes,
            "processed_bytes": self.processed_bytes,
        }


def transfer_from(raw: Mapping[str, Any]) -> Transfer:
    number, scheduled = raw.get("num") or 0, bool(raw.get("schedule"))
    return Transfer(
        uuid=str(raw["uuid"]),
        name=f"{'a' if scheduled else 'b'}{number:03}",
        database=str(raw.get("from_name") or ""),
        created=moment(raw.get("created_at")),
        finished_at=raw.get("finished_at") or "",
        succeeded=bool(raw.get("succeeded")),
        warnings=int(raw.get("warnings") or 0),
        source_bytes=int(raw.get("source_bytes") or 0),
        processed_bytes=int(raw.get("processed_bytes") or 0),
        log=tuple(str(each.get("message", "")) for each in raw.get("logs") or ()),
    )


def backups_of(heroku: Heroku, app: str) -> list[Transfer]:
    """Return the backups of all databases of an app, oldest first."""
    raws = [each for each in heroku.transfers(app) if each.get("to_type", "gof3r") != "pg_restore"]
    found = [transfer_from(each) for each in raws if each.get("from_type", "pg_dump") == "pg_dump"]
    return sorted(found, key=lambda each: each.created or LONG_AGO)


@dataclass(frozen=True)
class Source:
    """A database that backups are taken of, with the app that owns it and lists them, and all of its names."""

    addon: Addon
    owner: str
    names: frozenset[str]

    def own(self, backups: Sequence[Transfer]) -> list[Transfer]:
        """Return those that were taken of it, as far as the name that Heroku noted is one of its names now."""
        return [each for each in backups if each.database.upper() in self.names]


def capture(
    heroku: Heroku,
    app: str,
    name: str,
    patience: Patience,
    *,
    newer_than: str,
    other_than: Collection[str] = (),
    check: bool,
) -> dict[str, Any]:
    """Return the result of a backup; one that was begun after ``newer_than`` and did not fail will do.

    None of ``other_than``, which are uuids: the moment is by another clock than Heroku's.
    """
    addon = heroku.find(app, name)
    # Backups belong to the app that owns the database, and are listed there.
    owner, names = addon.app, [addon.name, *(each.name for each in heroku.attachments_of(addon))]
    source = Source(addon, owner, frozenset(each.upper() for each in names))
    there = backups_of(heroku, owner)
    before = source.own(there)
    listed = [each.uuid for each in before]
    known = _fresh([each for each in before if each.uuid not in other_than], newer_than)
    if check:
        usable = known is not None and known.succeeded
        return {"changed": not usable, "backup": known.as_dict() if known else {}, "listed": listed}
    if known is not None and known.succeeded:
        return {"changed": False, "backup": known.as_dict(), "listed": listed, "warnings": _warnings(known)}
    uuid = known.uuid if known else _begin(heroku, source, {each.uuid for each in there}, patience)
    ended, over = patience.until(
        heroku, lambda: transfer_from(heroku.transfer(owner, uuid)), lambda seen: bool(seen.finished_at)
    )
    looking = shell("heroku", "pg:backups:info", ended.name, "--app", owner)
    if not over or not ended.succeeded:
        why = "; ".join(ended.log[-LINES:])
        what = f"failed{f': {why}' if why else ''}" if over else f"is not finished after {patience.limit:.0f} s"
        raise StatefulError(
            f"The backup {ended.name} of {addon.name} {what}.",
            state=f"{addon.name} is as it was; a backup only reads",
            next_command=looking,
            backup=ended.as_dict(),
        )
    return {"changed": True, "backup": ended.as_dict(), "listed": listed, "warnings": _warnings(ended)}


def _fresh(known: Sequence[Transfer], newer_than: str) -> Transfer | None:
    """Return the newest backup that was begun after a moment and has not failed."""
    if not newer_than:
        return None
    since = moment(newer_than)
    if since is None:
        raise InvalidInput(f"newer_than is no moment: {newer_than!r}; one is written as 2026-12-06T03:00:00+00:00.")
    usable = [each for each in known if each.created and each.created >= since]
    return next((each for each in reversed(usable) if each.succeeded or not each.finished_at), None)


def _begin(heroku: Heroku, source: Source, there: Collection[str], patience: Patience) -> str:
    """Ask for a backup, once, and return its uuid; where the answer is lost, look for one that was not ``there``."""
    lost: BrokenOff | None = None
    try:
        begun = heroku.capture(source.addon)
    except BrokenOff as error:
        lost = error
    else:
        if begun.get("uuid"):
            return str(begun["uuid"])
    seen, _good = patience.short(SETTLES).until(
        heroku,
        lambda: [each for each in backups_of(heroku, source.owner) if each.uuid not in there],
        lambda seen: bool(source.own(seen)),
    )
    mine = source.own(seen)
    if mine:
        return mine[-1].uuid
    name, others = source.addon.name, ", ".join(f"{each.name} of {each.database or 'no name'}" for each in seen)
    raise StatefulError(
        f"{lost.msg if lost else 'Heroku took the request, and did not say which backup it began.'} No new backup is"
        f" listed by a name of {name}{f', but there are new ones: {others}' if others else ''}.",
        state=f"{name} is as it was; it is not known whether a backup was begun, and one more does no harm",
        next_command=shell("heroku", "pg:backups", "--app", source.owner),
    ) from lost


def _warnings(transfer: Transfer) -> list[str]:
    if not transfer.warnings:
        return []
    return [f"The backup {transfer.name} succeeded with {transfer.warnings} warnings: look at pg:backups:info."]
