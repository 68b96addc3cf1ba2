# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the two file-editing modules share: options in, a written and proved edit out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._compose import edit_journal
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.arguments import (
    PROJECT_ARGUMENTS,
    project_options,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.atomic import refuse_unwritable
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.cli import (
    ComposeCli,
    ComposeFailed,
    ComposeMissing,
    find_compose,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.command_line import (
    ProjectOptions,
    effective_files,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_entries import Mount
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_proof import unintended_changes
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_reading import (
    first_line,
    foresee,
    hindsight,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_reverse import HunkConflict
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.files import ProjectFiles, project_files
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.rewrite import (
    Rewrite,
    apply_reversal,
    apply_rewrite,
    plan_reversal,
    plan_rewrite,
    put_back,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.docker import Connection
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError

ARGUMENTS: dict[str, dict[str, Any]] = {
    **PROJECT_ARGUMENTS,
    "service": {"type": "str", "required": True},
    "rewrite": {"type": "str", "choices": ["in_place", "override", "none"], "default": "in_place"},
    "operations_dir": {"type": "path", "default": ""},
}


def edit_files(
    params: Mapping[str, Any],
    *,
    operations: str,
    mounts: Sequence[Mount] = (),
    images: Mapping[str, str] | None = None,
    check_mode: bool = False,
) -> dict[str, Any]:
    """Make the files of a project say what is asked for; the result's keys are those of the modules.

    :param operations: the directory below which the edit is journaled.
    :raises StatefulError: the files are then as they were.
    """
    options = project_options(params)
    journal = edit_journal.path_for(operations, options.project_src)
    warnings = [] if check_mode else _end_killed_edit(options, journal)
    project = project_files(options, os.environ, v1=_is_v1_asked(options))
    plan = plan_rewrite(project, mounts=mounts, images=images, rewrite=params["rewrite"])
    for edit in plan.edits:
        refuse_unwritable(edit.path)
    reason = ""
    if plan.changed:
        compose, reason = _compose(options)
        if compose is not None:
            reason = foresee(compose, project, plan, mounts=mounts, images=images or {}, rewrite=params["rewrite"])
        if not check_mode:
            asked = compose if compose is not None and not reason else None
            edit_journal.begin(journal, plan, mounts, images or {})
            try:
                _write_proved(asked, project, plan, mounts, images or {})
            except StatefulError:
                edit_journal.forget(journal)  # nothing of it is left in the files
                raise
            edit_journal.settle(journal)
    return {
        "changed": plan.changed,
        "plan": {"files": [edit.path for edit in plan.edits], "how": plan.how, "files_in_use": list(plan.files)},
        "plan_text": _plan_text(plan),
        "how": plan.how,
        "files": list(plan.files),
        "files_changed": [edit.path for edit in plan.edits],
        "hunks": plan.hunks(),
        "diff": [edit.diff() for edit in plan.edits],
        "validated": plan.changed and not reason,
        "warnings": [*warnings, *plan.warnings, *([reason] if reason else [])],
    }


def _plan_text(plan: Rewrite) -> str:
    if not plan.changed:
        return f"No file is changed: {plan.how}."
    return "\n".join(f"{edit.path}: {edit.how}" for edit in plan.edits)


def _end_killed_edit(options: ProjectOptions, journal: str) -> list[str]:
    """Prove the edit of a run that was killed before it could, or take it back; return what the admin has to know."""
    left = edit_journal.unsettled(journal)
    if left is None:
        return []
    try:
        reversal = plan_reversal(left["files"])
    except HunkConflict:
        edit_journal.settle(journal)
        return [f"the edit of {left['at']} was never proved, and its lines were changed by somebody else since"]
    if not reversal.changed:
        edit_journal.forget(journal)
        return []
    compose, reason = _compose(options)
    if compose is not None:
        project = project_files(options, os.environ, v1=compose.is_v1)
        mounts = [Mount(**mount) for mount in left["mounts"]]
        reason = "; ".join(hindsight(compose, project, reversal, mounts=mounts, images=left["images"]))
        if reason:
            apply_reversal(reversal)
            edit_journal.forget(journal)
            return [f"the edit of {left['at']}, whose run was killed, was taken back: {reason}"]
    edit_journal.settle(journal)
    return [reason] if reason else []


def _is_v1_asked(options: ProjectOptions) -> bool:
    """Tell whether compose 1 is in use, where that makes a difference to the files."""
    if effective_files(options, os.environ) == effective_files(options, os.environ, v1=True):
        return False
    compose, _reason = _compose(options)
    return compose is not None and compose.is_v1


def _compose(options: ProjectOptions) -> tuple[ComposeCli | None, str]:
    try:
        return find_compose(options, Connection()), ""
    except ComposeMissing:
        return (
            None,
            "compose is not installed here, so only the edit itself was proved, not compose's reading of it",
        )


def _write_proved(
    compose: ComposeCli | None,
    project: ProjectFiles,
    plan: Rewrite,
    mounts: Sequence[Mount],
    images: Mapping[str, str],
) -> None:
    """Write the plan and ask compose, where it is to be asked, about the files as they are then."""
    before = compose.config(all_profiles=True) if compose is not None else {}
    apply_rewrite(plan)
    if compose is None:
        return
    try:
        after = _with_files(compose, project, plan).config(all_profiles=True)
        problems = unintended_changes(before, after, mounts=mounts, images=images, directory=project.directory)
    except ComposeFailed as error:
        problems = [first_line(error)]
    except BaseException:
        put_back(plan)
        raise
    if problems:
        put_back(plan)
        raise StatefulError(
            f"after the edit, compose reads the project in another way than was asked for: {'; '.join(problems)}",
            state="the compose files were put back as they were",
            next_command="set 'rewrite: override', or edit the file by hand, then run the same task again",
        )


def _with_files(compose: ComposeCli, project: ProjectFiles, plan: Rewrite) -> ComposeCli:
    """Compose with an override file that it would not find by itself."""
    if not project.listed or plan.files == project.paths:
        return compose
    if compose.options.files:
        return compose.with_options(files=plan.files)
    separator = compose.environment.get("COMPOSE_PATH_SEPARATOR") or os.pathsep
    return replace(compose, environment={**compose.environment, "COMPOSE_FILE": separator.join(plan.files)})
