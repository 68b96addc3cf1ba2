# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps that bring the files of a host to a release: git's, and those that git does not know."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent import host as hosts
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent import keeping
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.between import (
    in_place_of,
    note_moves,
    refuse_between,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.checkout import Checkout
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.host import Host
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.mending import is_whole, mend
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context, Evidence
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.handlers import SelfProving
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Step
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import durable
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.rename import rename_directory
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World

COARSE = 1.0
"""Seconds by which the times of files may be behind the clock."""


class Release(SelfProving):
    """The checkout is at a release. args: ``root``, ``release``, ``merge``, ``head``, ``branch`` (as they were)."""

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        checkout, args = Checkout(step.args["root"]), step.args
        if not self._reached(checkout, args) or not is_whole(checkout, args["head"]):
            return None
        return self._found(step, context)

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        checkout, args = Checkout(step.args["root"]), step.args
        note, found = durable.read_json(_note_path(context)), None
        since = _began(note)
        if note:
            mend(checkout, args["head"], args["release"], since=since)
        if self._reached(checkout, args):
            mend(checkout, checkout.head, args["head"], since=since)
            found = self._found(step, context)
        elif checkout.head != args["head"] or checkout.branch != args["branch"]:
            raise StatefulError(
                f"The checkout in {args['root']} is not where it was when this was planned ({args['head'][:12]}).",
                next_command=shell("git", "-C", args["root"], "status"),
            )
        else:
            # Noted first: where a way back finds another commit, this tells whether that is on top of ours.
            durable.write_json_atomically(_note_path(context), {"from": args["head"], "began": time.time() - COARSE})
            checkout.to_release(args["release"], merge=args["merge"])
            if not self._reached(checkout, args):
                raise StatefulError(
                    f"git ended well, and the checkout in {args['root']} is at {checkout.head[:12]} and not at"
                    f" {args['release']}.",
                    next_command=shell("git", "-C", args["root"], "status"),
                )
        # Git itself syncs neither the files nor its index, and what compose reads next may be empty after a power cut.
        durable.sync_file_system(checkout.root)
        return found or {"head": checkout.head}

    def _found(self, step: Step, context: Context[World]) -> Evidence:
        """Return what was made, where somebody has come on top of it since, or was there before it came to ours."""
        known = context.evidence.get(step.name)
        if known is not None:
            return known
        checkout = Checkout(step.args["root"])
        # What somebody else made is not ours to be taken back.
        theirs = checkout.head != self._made(checkout, step.args)
        return {"head": checkout.head, **({"theirs": True} if theirs else {})}

    @staticmethod
    def _reached(checkout: Checkout, args: Mapping[str, Any]) -> bool:
        wanted = checkout.commit_of(args["release"])
        if args["merge"]:
            return checkout.branch == args["branch"] and checkout.asks("merge-base", "--is-ancestor", wanted, "HEAD")
        return checkout.head == wanted

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        try:
            return self._take_back(step, context)
        except StatefulError as error:
            # By then all is stopped.
            head = Checkout(step.args["root"]).head
            error.state = f"the checkout in {step.args['root']} is at {head[:12]}; the data is whole, and nothing runs"
            raise

    def _take_back(self, step: Step, context: Context[World]) -> Evidence:
        checkout, args = Checkout(step.args["root"]), step.args
        note = durable.read_json(_note_path(context))
        since = _began(note)
        # First of all: it waits for a git that is still at work, which may be the admin's own commit.
        broken = mend(checkout, args["head"], args["release"], since=since)
        known = context.evidence.get(step.name)
        made = known["head"] if known and not known.get("theirs") else self._made(checkout, args)
        elsewhere = checkout.head not in (args["head"], made)
        switched = checkout.head == args["head"] and checkout.branch != args["branch"]
        if known is None and note is None and (elsewhere or switched):
            return {}  # what is checked out is somebody else's doing, and was there before it came to ours
        # Where this is broken off, whoever goes on with it is to know a lock that it left, and finds nothing any more
        # that was to be kept.
        noted = note or {"began": time.time() - COARSE}
        if elsewhere:
            noted = {**noted, "kept": checkout.keep_as(f"selfhost-stateful/{context.operation.id}")}
        if noted != note and (checkout.head, checkout.branch) != (args["head"], args["branch"]):
            durable.write_json_atomically(_note_path(context), noted)
        if checkout.head != args["head"]:
            # A way back that was broken off: first it is whole again where it is.
            mend(checkout, checkout.head, args["head"], broken=broken, since=since)
        checkout.back_to(args["head"], args["branch"], made)
        durable.sync_file_system(checkout.root)
        kept = noted.get("kept", "")
        told = [f"what was committed in {checkout.root} meanwhile is on the branch {kept}"] if kept else []
        return {"head": args["head"], "told": told}

    @staticmethod
    def _made(checkout: Checkout, args: Mapping[str, Any]) -> str:
        """Return what is checked out where it is what ``apply`` makes, and was ended before it could say so."""
        here, wanted = checkout.head, checkout.commit_of(args["release"])
        if args["merge"]:
            return here if checkout.parents_of(here) == [args["head"], wanted] else ""
        return wanted if not checkout.branch else ""


def _note_path(context: Context[World]) -> str:
    return os.path.join(context.operation.directory, "release.json")


def _began(note: Mapping[str, Any] | None) -> float:
    """Return when git was first sent anywhere, in seconds since the epoch; 0 where it was, and nobody noted when."""
    # Before it began nothing can have been broken off: what is in the way then is the admin's own.
    return time.time() if note is None else float(note.get("began", 0.0))


class Follow(SelfProving):
    """What git does not know goes where the files went. args: ``moves``: pairs of paths on one file system."""

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        moved = [(old, new) for old, new in step.args["moves"] if not os.path.lexists(old) and os.path.lexists(new)]
        return {"moved": [new for _old, new in moved]} if len(moved) == len(step.args["moves"]) else None

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        note_moves(context, step.args["moves"])
        for old, new in step.args["moves"]:
            move(old, new)
        return {"moved": [new for _old, new in step.args["moves"]]}

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        others = in_place_of(context)
        if others:
            refuse_between(Host(context.world, os.path.dirname(others[0])), context)
        for old, new in reversed(step.args["moves"]):
            if new not in others:
                move(new, old)
                continue
            # It was never moved, or is back already, and what came in its place is not what it would be taken for.
            keeping.out_of_the_way(new, hosts.DB, context)
        return {}


def move(source: str, target: str) -> None:
    """Move one entry, durably; one that is moved already stays. What is in the way is never replaced."""
    if not os.path.lexists(source):
        return
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        # Tidied away since, empty as it was: whose checkout it is, has git write into it.
        keeping.empty_like(folder, os.path.dirname(source))
    if os.path.isdir(source) and not os.path.islink(source):
        rename_directory(source, target)
        return
    if os.path.lexists(target):
        raise StatefulError(f"{target} is in the way of {source}.", next_command=shell("ls", "-la", source, target))
    os.rename(source, target)
    durable.fsync_parent(target)
    durable.fsync_parent(source)
