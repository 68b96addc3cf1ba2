# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Have compose read a project as an edit would leave it, before anything is written.

The files that compose gets exist in memory only, so that neither a check nor a
kill leaves anything in the project's directory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.cli import ComposeCli, ComposeFailed
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.document import has_content
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_entries import Mount
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_proof import unintended_changes
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.files import ProjectFiles
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.rewrite import Rewrite, plan_rewrite
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput

BY_HAND = "edit the files by hand and set 'rewrite: none', then run the same task again"


def plan_proved_rewrite(
    compose: ComposeCli,
    project: ProjectFiles,
    *,
    mounts: Sequence[Mount] = (),
    images: Mapping[str, str] | None = None,
    rewrite: str = "in_place",
) -> Rewrite:
    """Plan the edit of a project's files, and have compose confirm it; a warning says where compose could not.

    :raises InvalidInput: as ``plan_rewrite`` does, and where compose would read the files in another way.
    """
    plan = plan_rewrite(project, mounts=mounts, images=images, rewrite=rewrite)
    if not plan.changed:
        return plan
    reason = foresee(compose, project, plan, mounts=mounts, images=images or {}, rewrite=rewrite)
    return replace(plan, warnings=(*plan.warnings, reason)) if reason else plan


def foresee(
    compose: ComposeCli,
    project: ProjectFiles,
    plan: Rewrite,
    *,
    mounts: Sequence[Mount],
    images: Mapping[str, str],
    rewrite: str,
) -> str:
    """Make sure that the edit would change what was asked for and nothing else; return why compose could not say.

    :raises InvalidInput: nothing was written then.
    """
    edited = {**project.texts, **{edit.path: edit.after for edit in plan.edits}}
    try:
        before = _read(compose, project, project.texts)
    except ComposeFailed as error:
        return f"compose could not read this project even before the edit ({first_line(error)}), so it was not asked"
    try:
        after = _read(compose, project, {path: edited[path] for path in plan.files})
        problems = unintended_changes(before, after, mounts=mounts, images=images, directory=project.directory)
    except ComposeFailed as error:
        problems = [first_line(error)]
    if problems:
        raise InvalidInput(
            "with this edit, compose would read the project in another way than was asked for: "
            f"{'; '.join(problems)} ({', '.join(edit.path for edit in plan.edits)})",
            next_command=f"set 'rewrite: override', or {BY_HAND}" if rewrite == "in_place" else BY_HAND,
        )
    return ""


def hindsight(
    compose: ComposeCli,
    project: ProjectFiles,
    reversal: Rewrite,
    *,
    mounts: Sequence[Mount],
    images: Mapping[str, str],
) -> list[str]:
    """Return what an edit that stands in the files changed beyond what was asked for; ``reversal`` takes it back."""
    edits = {edit.path: edit for edit in reversal.edits}
    now = {**project.texts, **{path: edit.before or "" for path, edit in edits.items()}}
    # A file that is empty without our lines was made by the edit.
    without = {path: edits[path].after if path in edits else text for path, text in now.items()}
    try:
        before = _read(compose, project, {path: text for path, text in without.items() if has_content(text)})
        after = _read(compose, project, now)
    except ComposeFailed as error:
        return [first_line(error)]
    return unintended_changes(before, after, mounts=mounts, images=images, directory=project.directory)


def first_line(error: ComposeFailed) -> str:
    return error.message.splitlines()[0] if error.message else "compose gave no reason"


def _read(compose: ComposeCli, project: ProjectFiles, texts: Mapping[str, str]) -> Mapping[str, Any]:
    with _in_memory(texts) as paths:
        reader = compose.with_options(files=paths, project_src=project.directory)
        return reader.config(all_profiles=True)


@contextmanager
def _in_memory(texts: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    """Hand out the texts as files, in order, that other programs can read as long as this lasts."""
    with ExitStack() as stack:
        paths = []
        for text in texts.values():
            descriptor = os.memfd_create("compose")
            stack.callback(os.close, descriptor)
            with open(descriptor, "wb", closefd=False) as file:
                file.write(text.encode("utf-8"))
            paths.append(f"/proc/{os.getpid()}/fd/{descriptor}")
        yield tuple(paths)
