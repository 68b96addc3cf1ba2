# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Mounts and images into a project's files: planned in memory, written, taken back."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.document import parse
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_entries import Mount
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_hunks import (
    Edited,
    Hunk,
    edited,
    hunks_between,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_image import set_image
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_masking import masked_diff
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_mounts import has_mount, set_bind_mounts
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_reverse import HunkConflict, reverse
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_volumes import (
    drop_unused_volumes,
    volumes_used,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.files import (
    ProjectFiles,
    file_for_image,
    file_for_mount,
    is_tracked,
    override_path,
    read_text,
    refuse_extended,
    remove_file,
    volumes_used_elsewhere,
    write_atomically,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.override import override_text
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, StatefulError

NOT_IN_FILE = "left as it is"
ALREADY_THERE = "already there"


@dataclass(frozen=True)
class FileEdit:
    """One file before and after. ``before`` is ``None`` for a file that the edit makes."""

    path: str
    before: str | None
    after: str
    how: str
    hunks: tuple[Hunk, ...]
    like: str | None = None
    """Whose mode and owner a new file takes."""

    def diff(self) -> dict[str, str]:
        return masked_diff(self.before or "", self.after, self.path)


@dataclass(frozen=True)
class Rewrite:
    """What the files of a project become. ``files`` are those in use afterwards."""

    edits: tuple[FileEdit, ...]
    how: str
    files: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        return bool(self.edits)

    def hunks(self) -> list[dict[str, object]]:
        """What a journal keeps to take the edit back: ``path``, ``created``, ``hunks``."""
        return [
            {"path": edit.path, "created": edit.before is None, "hunks": [hunk.as_dict() for hunk in edit.hunks]}
            for edit in self.edits
        ]


def plan_rewrite(
    project: ProjectFiles,
    *,
    mounts: Sequence[Mount] = (),
    images: Mapping[str, str] | None = None,
    rewrite: str = "in_place",
) -> Rewrite:
    """Plan the edit of a project's files.

    :param rewrite: ``in_place``, ``override`` or ``none``.
    :raises CannotEditInPlace: when an override file is the way.
    :raises InvalidInput: when the files or the request cannot be worked with.
    """
    wanted = dict(images or {})
    missing = [mount for mount in mounts if not _has(project, mount)]
    differing = {service: image for service, image in wanted.items() if not _names(project, service, image)}
    if not missing and not differing:
        return Rewrite((), ALREADY_THERE, project.paths)
    if rewrite == "none":
        return Rewrite((), NOT_IN_FILE, project.paths)
    if rewrite == "override":
        return _in_override(project, missing, differing)
    return _in_place(project, missing, differing)


def apply_rewrite(rewrite: Rewrite) -> None:
    """Write all files of a plan, or none."""
    written: list[FileEdit] = []
    try:
        for edit in rewrite.edits:
            write_atomically(edit.path, edit.after, expected=edit.before or "", like=edit.like)
            written.append(edit)
    except StatefulError:
        put_back(replace(rewrite, edits=tuple(written)))
        raise


def put_back(rewrite: Rewrite) -> None:
    """Give every file of a plan that was just written its old content."""
    for edit in reversed(rewrite.edits):
        if edit.before is None:
            remove_file(edit.path, expected=edit.after)
        else:
            write_atomically(edit.path, edit.before, expected=edit.after)


def plan_reversal(journaled: Sequence[Mapping[str, object]]) -> Rewrite:
    """Plan to take back what ``Rewrite.hunks`` recorded, in the files as they are now.

    A file that the edit made is emptied of our lines; one of which nothing else
    is left gets removed when the plan is written by ``apply_reversal``.
    """
    edits = []
    for record in journaled:
        path = str(record["path"])
        hunks = tuple(Hunk.from_dict(hunk) for hunk in _list(record["hunks"]))
        if record.get("created") and not os.path.lexists(path):
            continue
        # A reversal that is taken back may have removed the file.
        there = os.path.lexists(path)
        text = read_text(path) if there else ""
        try:
            taken = reverse(text, hunks)
        except HunkConflict as error:
            raise HunkConflict(f"{path}: {error.msg}", next_command=error.next_command, **error.facts) from error
        if taken.changed:
            edits.append(FileEdit(path, text if there else None, taken.text, taken.how, taken.hunks))
    return Rewrite(tuple(edits), "reversed" if edits else ALREADY_THERE, ())


def apply_reversal(rewrite: Rewrite) -> None:
    """Write what ``plan_reversal`` planned."""
    for edit in rewrite.edits:
        if edit.before is None or edit.after.strip("\ufeff \r\n"):
            write_atomically(edit.path, edit.after, expected=edit.before or "")
        else:
            remove_file(edit.path, expected=edit.before or "")


def _list(value: object) -> list[Mapping[str, object]]:
    return list(value) if isinstance(value, (list, tuple)) else []


def _has(project: ProjectFiles, mount: Mount) -> bool:
    path = _file_for(project, mount)
    return has_mount(project.texts[path], mount, project.directory, project.variables)


def _file_for(project: ProjectFiles, mount: Mount) -> str:
    return file_for_mount(project, mount.service, mount.replaces or mount.target)


def _names(project: ProjectFiles, service: str, image: str) -> bool:
    mapping = parse(project.texts[file_for_image(project, service)]).root.get("services")
    node = mapping.get(service) if mapping is not None else None
    named = node.resolved.get("image") if node is not None else None
    return named is not None and named.resolved.value == image


def _in_place(project: ProjectFiles, mounts: Sequence[Mount], images: Mapping[str, str]) -> Rewrite:
    texts = dict(project.texts)
    ways: dict[str, list[str]] = {}

    def keep(path: str, made: Edited) -> None:
        if made.changed:
            texts[path] = made.text
            ways.setdefault(path, []).append(made.how)

    for mount in mounts:
        path = _file_for(project, mount)
        refuse_extended(project, path, mount.service)
        elsewhere = volumes_used_elsewhere(replace(project, texts=texts), path)
        keep(path, _at(path, texts[path], mount, project.directory, elsewhere))
    for service, image in images.items():
        path = file_for_image(project, service)
        refuse_extended(project, path, service)
        keep(path, _image_at(path, texts[path], service, image))
    for path, dropping in _elsewhere_unused(project, texts).items():
        keep(path, dropping)
    edits = tuple(
        FileEdit(path, before, texts[path], ", ".join(dict.fromkeys(ways[path])), hunks_between(before, texts[path]))
        for path, before in project.texts.items()
        if texts[path] != before
    )
    warnings = tuple(
        f"{edit.path} is tracked by git: edited in place, it makes the next 'git pull' that touches it stop. "
        "An override file ('rewrite: override') would not be in its way."
        for edit in edits
        if is_tracked(edit.path)
    )
    return Rewrite(edits, ", ".join(dict.fromkeys(edit.how for edit in edits)), project.paths, warnings)


def _elsewhere_unused(project: ProjectFiles, texts: Mapping[str, str]) -> dict[str, Edited]:
    """Drop from the project's other files the volumes that an edited one used and nothing uses any more."""
    dropped = {}
    after = replace(project, texts=texts)
    edited_paths = [path for path in texts if texts[path] != project.texts[path]]
    gone = {name for path in edited_paths for name in volumes_used(project.texts[path]) - volumes_used(texts[path])}
    for path in [path for path in texts if path not in edited_paths]:
        text = drop_unused_volumes(texts[path], sorted(gone), volumes_used_elsewhere(after, path))
        if text != texts[path]:
            dropped[path] = edited(texts[path], text, "dropped an unused volume")
    return dropped


def _at(path: str, text: str, mount: Mount, directory: str, elsewhere: frozenset[str]) -> Edited:
    try:
        return set_bind_mounts(text, [mount], project_dir=directory, volumes_elsewhere=elsewhere)
    except InvalidInput as error:
        raise _located(path, error) from error


def _image_at(path: str, text: str, service: str, image: str) -> Edited:
    try:
        return set_image(text, service=service, image=image)
    except InvalidInput as error:
        raise _located(path, error) from error


def _located(path: str, error: InvalidInput) -> InvalidInput:
    return InvalidInput(f"{path}: {error.msg}", next_command=error.next_command, **error.facts)


def _in_override(project: ProjectFiles, mounts: Sequence[Mount], images: Mapping[str, str]) -> Rewrite:
    path = override_path(project)
    there = os.path.lexists(path)
    before = project.texts.get(path) if path in project.texts else read_text(path) if there else None
    for service in dict.fromkeys([*(mount.service for mount in mounts), *images]):
        file_for_image(project, service)
    version = parse(project.texts[project.paths[0]]).root.get("version")
    try:
        made = override_text(before, mounts, images, version=version.value if version is not None else None)
    except InvalidInput as error:
        raise _located(path, error) from error
    edit = FileEdit(path, before, made.text, made.how, made.hunks, like=project.paths[0])
    files = project.paths if path in project.texts else (*project.paths, path)
    warnings: tuple[str, ...] = ()
    if project.listed and path not in project.texts:
        warnings = (
            f"the compose files of this project are listed, so compose does not find {path} by itself: "
            "add it at the end of 'files' or COMPOSE_FILE before the next 'up'",
        )
    return Rewrite((edit,) if made.changed else (), made.how, files, warnings)
