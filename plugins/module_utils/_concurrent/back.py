# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a way back would lose, or leave broken: asked before it takes anything away."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.rewrite import plan_reversal
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent import host as hosts
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.checkout import Checkout
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.counting import stream_items
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.host import Host
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.commands import logs_of
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context, Evidence, UndoRefused
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import COMMITTED
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation, OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import control
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.cluster import NEXT_XID
from ansible_collections.selfhost.stateful.plugins.module_utils._redis import fingerprint as redis_fingerprint
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.steps.files import read_hunks
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World

LOOKS = 3
"""So often the stores are stopped for good: the server's own work may take a transaction in between, seldom twice."""
UNTOUCHED = "everything runs on the new version; nothing was changed"
ROWS_WRITTEN = """
SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0) FROM pg_stat_user_tables
WHERE schemaname || '.' || relname = ANY(string_to_array(%s, ' '))
"""
IDENTITY = "SELECT system_identifier FROM pg_control_system()"
# A sample would not see that one setting of one user was written anew. Of a large key the length and the ends are seen.
EVERY_KEY = {str(number): 1 for number in range(16)}


def state_of_stores(host: Host) -> dict[str, Any]:
    """Return what tells later that somebody wrote: the next transaction, and what Redis holds, without its names."""
    with host.postgresql() as there:
        xid = int(there.scalar(NEXT_XID))
    return {"next_xid": xid, "redis": redis_fingerprint.as_dict(_in_redis(host))}


def written_so_far(host: Host, tables: Collection[str]) -> dict[str, int]:
    """Return what grows with every write to the data that is dumped: to these tables, or to a stream.

    Into others the api writes by itself, such as when it has last heard of another host.
    """
    with host.postgresql() as there:
        xid, rows = int(there.scalar(NEXT_XID)), int(there.scalar(ROWS_WRITTEN, (" ".join(sorted(tables)),)))
    return {"xid": xid, "rows": rows, "items": stream_items(host)}


def refuse_written(before: Mapping[str, int], now: Mapping[str, int]) -> None:
    """Raise where something was written between two looks of :func:`written_so_far`: a dump may not have it."""
    found = []
    # The server's own analysis takes transactions as well, and writes to no table of the application's.
    if before["xid"] != now["xid"] and before["rows"] != now["rows"]:
        found.append(f"{now['xid'] - before['xid']} transactions in the database")
    if before["items"] != now["items"]:
        found.append(f"{now['items'] - before['items']} items of streams")
    if found:
        raise StatefulError(
            f"Somebody wrote while everything was dumped ({', '.join(found)}): the dump may lack that. Only the api"
            " ran; who reaches it beside the gateway is to be stopped before.",
        )


def down_unwritten(host: Host, data: str, before: Mapping[str, int], tables: Collection[str]) -> str:
    """Shut the stores down with nothing written since ``before``, and return the location of the last checkpoint.

    Between the last look and the stop somebody may still be in the database, beside the api. The cluster at rest tells
    that a transaction was taken, and not by whom: where one was, it is started once more and looked at.
    """
    for _look in range(LOOKS):
        now = written_so_far(host, tables)
        refuse_written(before, now)
        location = host.take_down(data)
        if control.read_control(data).next_xid == now["xid"]:
            return location
        host.start_stores()
    raise StatefulError(
        "Transactions are taken whenever the database is about to stop: who connects to it beside the api is to be"
        " stopped before.",
        next_command=logs_of(host.container(hosts.DB).name),
    )


def _in_redis(host: Host) -> redis_fingerprint.Fingerprint:
    taken = redis_fingerprint.take(host.redis(), one_of=EVERY_KEY)
    # The names of streams would be most of a journal; their items are in the sum, and their ends in the digest.
    databases = {number: replace(database, streams={}) for number, database in taken.databases.items()}
    return replace(taken, databases=databases)


def may_begin(host: Host, context: Context[World]) -> None:
    """Raise where a way back from what was proved would lose something; what writes is stopped before it is told."""
    refuse_later(context.operation)
    refuse_own_changes(context)
    refuse_own_edits(context)
    refuse_taken_places(context)
    loaded = context.evidence.get("load")
    if loaded is None:
        return
    refuse_without_original(context.operation)
    host.stop_others()
    if not context.world.discard_writes:
        refuse_loss(host, loaded)


def refuse_later(operation: Operation) -> None:
    """Refuse where what came after was committed: this one's way back stands on what that has freed or replaced."""
    started = operation.history().started_at
    ours = OperationStore(os.path.dirname(operation.directory)).of_project(operation.plan.goal.project)
    for each in ours:
        history = each.history()
        if each.plan.reverts is None and history.state == COMMITTED and history.started_at > started:
            raise UndoRefused(
                f"{each.id}, which came after {operation.id}, was committed: there is no way back to before it, and"
                " what was written since is in its data alone.",
                state=UNTOUCHED,
                next_command="leave it as it is; selfhost.stateful.operation_info lists the backups that are left",
            )


def refuse_without_original(operation: Operation) -> None:
    """Refuse where the old data is not beside its place: the old version would be started on the new data."""
    aside = operation.plan.facts["aside"]["data"]
    if not os.path.isdir(aside):
        raise UndoRefused(
            f"The old data is not in {aside} any more: there is nothing to return to.",
            state=UNTOUCHED,
            next_command=shell("ls", "-la", os.path.dirname(aside)),
        )


def refuse_own_changes(context: Context[World]) -> None:
    """Refuse while everything still runs what would be left behind, or would stop git once all is down."""
    released = next((step for step in context.operation.plan.steps if step.kind == "concurrent_release"), None)
    if released is None:
        return
    checkout, known = Checkout(released.args["root"]), context.evidence.get(released.name)
    if known is not None and checkout.head not in (known["head"], released.args["head"]):
        raise UndoRefused(
            f"The checkout in {checkout.root} is not where this operation left it: its own commits since"
            f" {known['head'][:12]} would be left behind.",
            state=UNTOUCHED,
            next_command=shell("git", "-C", checkout.root, "log", "--oneline", f"{known['head'][:12]}..HEAD"),
        )
    unknown = checkout.in_the_way(released.args["head"])
    if unknown:
        raise UndoRefused(
            f"{', '.join(unknown)} in {checkout.root} is unknown to git, and would be in the way of what was checked"
            " out before.",
            state=UNTOUCHED,
            next_command=shell("ls", "-la", *(os.path.join(checkout.root, name) for name in unknown)),
        )
    ours = {os.path.relpath(str(each["path"]), checkout.root) for each in read_hunks(context)}
    changed = set(checkout.changed_here()).intersection(checkout.differs(released.args["head"])) - ours
    if changed:
        raise UndoRefused(
            f"{', '.join(sorted(changed))} in {checkout.root} was changed here and is not committed: it would be in"
            " the way of what was checked out before.",
            state=UNTOUCHED,
            next_command=shell("git", "-C", checkout.root, "diff"),
        )


def refuse_own_edits(context: Context[World]) -> None:
    """Refuse where the lines that we wrote were changed since: that they cannot be taken out is no news for later."""
    undone = context.operation.history().undone
    if any(step.kind == "concurrent_files" and step.name in undone for step in context.operation.plan.steps):
        return  # and the file may be elsewhere by now
    try:
        plan_reversal(read_hunks(context))
    except StatefulError as error:
        raise UndoRefused(error.msg, state=UNTOUCHED, next_command=error.next_command, **error.facts) from error


def refuse_taken_places(context: Context[World]) -> None:
    """Refuse where something came to a place since that is to be gone back to."""
    moves = context.operation.plan.facts.get("moves", ())
    taken = [old for old, new in moves if os.path.lexists(new) and _holds_something(old)]
    if taken:
        raise UndoRefused(
            f"{', '.join(taken)} came there since, and would be in the way of what was moved away from there.",
            state=UNTOUCHED,
            next_command=shell("ls", "-la", *taken),
        )


def _holds_something(path: str) -> bool:
    directory = os.path.isdir(path) and not os.path.islink(path)
    return bool(os.listdir(path)) if directory else os.path.lexists(path)


def refuse_loss(host: Host, loaded: Evidence) -> None:
    """Refuse where the new stores have what the old ones lack; counted from before anybody was let in.

    A cluster that nobody here knows has all that was written to it, and of none of it is known how much.
    """
    host.start_stores()
    with host.postgresql() as there:
        identity = str(there.scalar(IDENTITY))
    if identity != loaded["system_identifier"]:
        written = (
            f"The database that runs ({identity}) is not the one that was loaded ({loaded['system_identifier']}): it"
            " came in its place since, and what was written to it the old one does not have."
        )
    else:
        written = "; ".join(written_since(loaded, state_of_stores(host)))
        written = f"{written}. The old data does not have that." if written else ""
    if not written:
        return
    state = UNTOUCHED
    try:
        host.bring_up()
    except StatefulError as error:
        state = f"the new version does not come up ({error.msg}); its data was not changed"
    raise UndoRefused(
        written,
        state=state,
        next_command="keep it, or set discard_writes: true to return to the old data and lose them",
    )


def written_since(before: Evidence, now: Evidence) -> list[str]:
    """Return in words what was written between two looks of :func:`state_of_stores`."""
    found = []
    taken = int(now["next_xid"]) - int(before["next_xid"])
    if taken > 0:
        found.append(f"The new database has taken about {taken} transactions since")
    known = before.get("redis")
    if known is not None:
        was, there = redis_fingerprint.from_dict(known), redis_fingerprint.from_dict(now["redis"])
        differing = [str(each) for each in redis_fingerprint.compare(was, there)]
        if differing:
            found.append(f"Redis is not as it was loaded ({', '.join(differing)})")
    return found
