# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps of a reload: dump all, set the old data aside, start empty, load all. Each side is counted."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._clock import moment
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent import back, counting, keeping
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent import host as hosts
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.common import (
    ask_again,
    counted_before,
    ensure_down,
    host_of,
    is_aside,
    refuse_served,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.host import Host
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.left import orphans, tables_of
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.model import Counted, Kind, rung_from
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import (
    Context,
    Evidence,
    Undecided,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.handlers import SelfProving
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import COMMITTED, DONE, Copy, Step
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation, OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import control
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import durable
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.rename import rename_directory
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World
from ansible_collections.selfhost.stateful.plugins.module_utils._stream import json_count
from ansible_collections.selfhost.stateful.plugins.module_utils._stream import run as streams
from ansible_collections.selfhost.stateful.plugins.module_utils._stream.files import pieces_of

COPY_LIMIT = 24 * 3600.0


class Dump(SelfProving):
    """The old data is in files, and as many of each kind as the stores hold.

    args: ``folder``, ``database``, ``data``, ``rung``, ``dump`` (the directory of the files).
    """

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        known = context.evidence.get(step.name)
        if known is None or not all(os.path.exists(each["path"]) for each in known["files"]):
            return None
        # Where the old data is still in place it must not have been served since.
        if is_aside(context):
            return known
        found = control.read_control(step.args["data"])
        return known if found.shut_down and found.checkpoint_lsn == known["checkpoint"] else None

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        host = host_of(step, context)
        if is_aside(context):
            raise Undecided(
                "The dump is not there any more, and the old data is set aside already.",
                state=f"the old data is in {context.operation.plan.facts['aside']['data']}, whole",
                next_command=f"roll the operation {context.operation.id} back",
            )
        host.start_api(step.args["version"])
        missing = counting.lost(counted_before(context), counting.count_all(host))
        if missing:
            raise StatefulError(f"The stores do not have what they had when they were stopped: {'; '.join(missing)}.")
        durable.make_private(step.args["dump"])
        files: list[dict[str, Any]] = []
        counts: dict[str, dict[str, int]] = {}
        tables = tables_of(kinds_of(step))
        before = back.written_so_far(host, tables)
        for kind in kinds_of(step):
            path = os.path.join(step.args["dump"], f"{kind.name}.json")
            made = dumped(host, kind, path)
            found = counted_in(path, kind)
            check(kind, found, to_be_dumped(host, kind, context), DUMPED)
            files.append({"path": path, "sha256": made.sha256, "bytes": made.bytes_written})
            counts[kind.name] = found
        # What was counted is what was dumped only if nobody wrote until the last who could was stopped.
        host.stop_others()
        location = back.down_unwritten(host, step.args["data"], before, tables)
        copy = Copy(
            role="backup",
            service=hosts.API,
            path=step.args["dump"],
            moment=moment(),
            size_bytes=sum(int(each["bytes"]) for each in files),
            proof="; ".join(f"{count} {what}" for found in counts.values() for what, count in found.items()),
        )
        return {"files": files, "counts": counts, "checkpoint": location, "copies": [copy.as_dict()]}

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        if step.name not in context.evidence and os.path.isdir(step.args["dump"]):
            # First of all: it may be what has filled the disk, which the stores need to stop.
            shutil.rmtree(step.args["dump"])
        host = host_of(step, context)
        ask_again(host, context)
        ensure_down(host, step.args["data"])
        return {}


class SetAside(SelfProving):
    """The old data is beside its place, which is empty; of Redis a copy is beside it.

    args: ``folder``, ``data``, ``redis``, ``aside``: the places beside them, by the same names.
    """

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        aside = step.args["aside"]
        if not all(os.path.isdir(path) for path in aside.values()) or not os.path.isdir(step.args["data"]):
            return None
        known = context.evidence.get(step.name)
        if known is not None:
            return known  # with the moment at which it was set aside
        return {"copies": [keeping.retained(hosts.DB, aside["data"]), keeping.retained(hosts.REDIS, aside["redis"])]}

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        args, aside = step.args, step.args["aside"]
        if not os.path.isdir(aside["data"]):
            ensure_down(host_of(step, context), args["data"])
            if os.path.isdir(aside["redis"]):
                # Of an attempt that was taken back: Redis has gone on since.
                shutil.rmtree(aside["redis"])
            rename_directory(args["data"], aside["data"])
        # From here on nothing can have been started on both, so that the copy is of the same moment.
        if not os.path.isdir(aside["redis"]):
            keeping.copy_tree(args["redis"], aside["redis"])
        keeping.empty_like(args["data"], aside["data"])
        return {"copies": [keeping.retained(hosts.DB, aside["data"]), keeping.retained(hosts.REDIS, aside["redis"])]}

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        args, aside = step.args, step.args["aside"]
        if not os.path.isdir(aside["data"]):
            return {}  # not that far, or back already: the service may run on it, and Redis with it
        host = host_of(step, context)
        ask_again(host, context)
        ensure_down(host, args["data"], prove=False)
        # The data last: as long as it is aside, this is to be gone on with.
        for service, name in ((hosts.REDIS, "redis"), (hosts.DB, "data")):
            if os.path.isdir(aside[name]):
                # Of Redis a copy is aside: where nobody wrote since, both are the same.
                keeping.out_of_the_way(args[name], service, context, same_as=aside[name] if name == "redis" else "")
                rename_directory(aside[name], args[name])
        return {}


class Load(SelfProving):
    """The files are in new stores, as many of each kind as were dumped.

    args: ``folder``, ``database``, ``data``, ``redis``, ``aside``, ``rung``, ``version``. Until it has its evidence
    nobody but the api was let in, so that it may be begun anew.
    """

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        known = context.evidence.get(step.name)
        if known is None or not os.path.exists(os.path.join(step.args["data"], "PG_VERSION")):
            return None
        found = control.read_control(step.args["data"])
        return known if str(found.system_identifier) == known["system_identifier"] else None

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        args, host = step.args, host_of(step, context)
        dumped = context.evidence["dump"]
        refuse_served(host, context)
        ensure_down(host, args["data"], prove=False)
        self._begin_anew(args, context)
        host.start_postgresql()
        identity = str(control.read_control(args["data"]).system_identifier)
        host.start_api(args["version"])
        counts = {}
        for kind, file in zip(kinds_of(step), dumped["files"]):
            self._check_file(file)
            request = streams.Request(argv=kind.load, stdin_path=file["path"])
            streams.carry_out(context.world.engine, host.container(hosts.API), request)
            counts[kind.name] = {each.what: counting.count(host, each.after) for each in kind.counts}
            check(kind, counts[kind.name], dumped["counts"][kind.name], LOADED)
        # Before anybody is let in: what is loaded is on disk, also where the next second brings a power cut.
        with host.postgresql() as there:
            there.run("CHECKPOINT")
        stores = back.state_of_stores(host)
        total = sum(sum(each.values()) for each in counts.values())
        return {"counts": counts, "total": total, "system_identifier": identity, **stores}

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        host, history = host_of(step, context), context.operation.history()
        if history.proved and not {context.operation.plan.steps[-1].name, step.name}.intersection(history.undone):
            back.may_begin(host, context)  # killed before everything was started, which somebody may have done since
        else:
            ask_again(host, context)
        ensure_down(host, step.args["data"], prove=not is_aside(context))
        return {}

    @staticmethod
    def _begin_anew(args: Mapping[str, Any], context: Context[World]) -> None:
        """Start from empty and from what Redis had: what is there is kept, since anybody may have been let in to it."""
        aside = args["aside"]
        if not os.path.exists(os.path.join(aside["data"], "PG_VERSION")):
            raise StatefulError(
                f"The old data is not in {aside['data']}, so that nothing is loaded in its place.",
                next_command=shell("ls", "-la", os.path.dirname(args["data"])),
            )
        keeping.out_of_the_way(args["data"], hosts.DB, context)
        keeping.empty_like(args["data"], aside["data"])
        if keeping.same(aside["redis"], args["redis"]):
            return
        copy = f"{aside['redis']}.again"
        if os.path.isdir(copy):
            shutil.rmtree(copy)
        keeping.copy_tree(aside["redis"], copy)
        keeping.out_of_the_way(args["redis"], hosts.REDIS, context)
        rename_directory(copy, args["redis"])

    @staticmethod
    def _check_file(file: Mapping[str, Any]) -> None:
        digest = hashlib.sha256()
        for piece in pieces_of(file["path"], compressed=False):
            digest.update(piece)
        if digest.hexdigest() != file["sha256"]:
            raise StatefulError(f"{file['path']} is not as it was when it was counted; it is not loaded.")


def prove_loaded(world: World, operation: Operation) -> None:
    """Raise where the database that runs is not the one that was loaded: the original is not removed then."""
    loaded = operation.history().evidence.get("load")
    if loaded is None:
        return
    host = Host(world, world.compose.options.project_src)
    with host.postgresql() as there:
        found = str(there.scalar("SELECT system_identifier FROM pg_control_system()"))
    if found not in (loaded["system_identifier"], *reached_since(operation)):
        raise StatefulError(
            f"The cluster that runs ({found}) is not the one that was loaded ({loaded['system_identifier']}), so the"
            " original is not removed.",
            next_command=shell("docker", "inspect", "-f", "{{json .Mounts}}", host.container(hosts.DB).name),
        )


def reached_since(operation: Operation) -> list[str]:
    """Return the clusters that later changes of the image have made of it, and still stand."""
    found, started = [], operation.history().started_at
    for each in OperationStore(os.path.dirname(operation.directory)).of_project(operation.plan.goal.project):
        history = each.history()
        ended = history.state in (DONE, COMMITTED) and history.started_at > started
        if each.plan.goal.module == "postgresql_image" and each.plan.reverts is None and ended:
            seen = [one for evidence in history.evidence.values() for one in evidence.get("verification", {}).values()]
            found += [str(one.get("identity", {}).get("system_identifier", "")) for one in seen]
    return found


DUMPED = "{found} {what} in the dump, and {expected} in the stores"
LOADED = "{found} {what} are there, and {expected} were dumped"


def check(kind: Kind, found: Mapping[str, int], expected: Mapping[str, int], words: str) -> None:
    """Raise where a count differs, whatever the program's exit code was; all are named, and their sums."""
    differing = [what for what in expected if found[what] != expected[what]]
    wrong = [words.format(what=what, found=found[what], expected=expected[what]) for what in differing]
    if wrong:
        both = {what: found[what] for what in expected}
        raise StatefulError(
            f"{kind.name}: {'; '.join(wrong)} (in sum {sum(both.values())} and {sum(expected.values())}).",
        )


def to_be_dumped(host: Host, kind: Kind, context: Context[World]) -> dict[str, int]:
    """Return what a dump has to hold: what the stores have, without that of it which somebody agreed to leave behind.

    What has lost what it belongs to since then counts: nobody was asked about it.
    """
    accepted = context.operation.plan.summary.get("left", ())

    def missing(counted: Counted) -> int:
        return counting.count_orphans(host, counted) if orphans(counted.what) in accepted else 0

    return {each.what: counting.count(host, each.before) - missing(each) for each in kind.counts if each.before}


def dumped(host: Host, kind: Kind, path: str) -> streams.Streamed:
    """Dump to a file; with the word that the release lists, and else, since it may list none, with each in turn."""
    engine, failed = host.world.engine, None
    for argv in argvs_of(host, kind):
        try:
            request = streams.Request(argv=argv, stdout_path=path, expect=streams.JSON)
            return streams.carry_out(engine, host.container(hosts.API), request)
        except StatefulError as error:
            # It ends with 0 for a word that it does not know, and says so in place of data.
            failed = failed or error
    raise failed or StatefulError(f"{kind.name}: there is no command that dumps.")


def argvs_of(host: Host, kind: Kind) -> list[tuple[str, ...]]:
    """Return the commands that dump, first those with a word that this release lists."""
    if not kind.words:
        return [kind.dump]
    answer = host.world.engine.execute(host.container(hosts.API).id, kind.help)
    said = (answer.stdout + answer.stderr).decode("utf-8", "replace").replace("|", " ").split()
    words = sorted(kind.words, key=lambda word: word not in said)
    return [tuple(word if each == "{word}" else each for each in kind.dump) for word in words]


def counted_in(path: str, kind: Kind) -> dict[str, int]:
    """Count what a dump holds, by the name of each thing."""
    places = [place for each in kind.counts for place in each.json]
    found = json_count.count(pieces_of(path, compressed=False), places)
    return {each.what: sum(found[place] for place in each.json) for each in kind.counts}


def kinds_of(step: Step) -> tuple[Kind, ...]:
    return rung_from(step.args["rung"]).kinds
