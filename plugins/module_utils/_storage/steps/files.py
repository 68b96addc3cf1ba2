# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The compose file, as a step: our own hunk goes in, and can be taken out of a file that was edited since."""

from __future__ import annotations

import os
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.cli import ComposeCli
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_entries import Mount
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.files import project_files
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.rewrite import (
    Rewrite,
    apply_reversal,
    apply_rewrite,
    plan_reversal,
    plan_rewrite,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context, Evidence
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.handlers import NothingToUndo, SelfProving
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Step
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import durable
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World


class RewriteFiles(SelfProving):
    """args: ``mounts``, ``images``, ``rewrite`` (in_place, override)."""

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        if self._plan(step, context).changed:
            return None
        journaled = read_hunks(context)
        return {"files_changed": [record["path"] for record in journaled], "hunks": journaled}

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        rewrite = self._plan(step, context)
        # What was changed is on disk before the change is: a kill in between
        # must not lose the way back.
        _add_hunks(context, rewrite)
        apply_rewrite(rewrite)
        return {"files_changed": [edit.path for edit in rewrite.edits], "hunks": rewrite.hunks()}

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        reversal = plan_reversal(read_hunks(context))
        apply_reversal(reversal)
        return {"files_changed": [edit.path for edit in reversal.edits]}

    def compose(self, step: Step, context: Context[World]) -> ComposeCli:
        """Return the CLI that knows the files which are edited."""
        return context.world.compose

    def _plan(self, step: Step, context: Context[World]) -> Rewrite:
        compose = self.compose(step, context)
        return plan_rewrite(
            project_files(compose.options, compose.environment, v1=compose.is_v1),
            mounts=[
                Mount(entry["service"], entry["target"], entry["source"], replaces=entry.get("replaces", ""))
                for entry in step.args["mounts"]
            ],
            images=step.args["images"],
            rewrite=step.args["rewrite"],
        )


class ReverseFiles(NothingToUndo):
    """Take the hunks of an earlier operation out of the files as they are now. args: ``hunks``."""

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        return None if plan_reversal(step.args["hunks"]).changed else {"files_changed": []}

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        reversal = plan_reversal(step.args["hunks"])
        _add_hunks(context, reversal)
        apply_reversal(reversal)
        return {"files_changed": [edit.path for edit in reversal.edits], "hunks": reversal.hunks()}

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        apply_reversal(plan_reversal(read_hunks(context)))
        return {}


def read_hunks(context: Context[World]) -> list[dict[str, Any]]:
    """Return what the rewrite of this operation changed; empty where it did not come to that."""
    journaled: list[dict[str, Any]] = durable.read_json(_hunks_path(context)) or []
    return journaled


def _add_hunks(context: Context[World], rewrite: Rewrite) -> None:
    """Note the hunks beside those of the files that an earlier, killed run had changed already."""
    new = rewrite.hunks()
    paths = {record["path"] for record in new}
    kept = [record for record in read_hunks(context) if record["path"] not in paths]
    durable.write_json_atomically(_hunks_path(context), [*kept, *new])


def _hunks_path(context: Context[World]) -> str:
    return os.path.join(context.operation.directory, "hunks.json")
