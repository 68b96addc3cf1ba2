# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which files a project is made of, and which of them an edit belongs in."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.atomic import (
    read_text,
    remove_file,
    write_atomically,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.command_line import (
    DEFAULT_FILES,
    OVERRIDE_FILES,
    ProjectOptions,
    effective_files,
    settings,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.document import Document, Node, parse
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_mounts import (
    decides_mount,
    targets_of,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_service import (
    CannotEditInPlace,
    extended,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_volumes import volumes_used
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput

__all__ = [
    "ProjectFiles",
    "file_for_image",
    "file_for_mount",
    "is_tracked",
    "named_targets",
    "override_path",
    "project_files",
    "read_text",
    "refuse_extended",
    "remove_file",
    "volumes_used_elsewhere",
    "write_atomically",
]


@dataclass(frozen=True)
class ProjectFiles:
    """A project's files with their texts, in the order in which compose lays them over each other."""

    directory: str
    """What relative sources count from."""
    texts: Mapping[str, str]
    listed: bool
    """Whether the files are listed (``files``, COMPOSE_FILE): compose then looks for no override by itself."""
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What compose puts in for variables. Holds secrets."""

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(self.texts)


def project_files(options: ProjectOptions, environment: Mapping[str, str], *, v1: bool = False) -> ProjectFiles:
    """Read the files of a project; ``v1`` says that compose 1 is in use, which prefers other names.

    :raises InvalidInput: when the directory or one of the files is not there, or cannot be worked with.
    """
    src = options.project_src
    if not os.path.isdir(src):
        raise InvalidInput(f"there is no directory {src}: project_src is the directory that holds the compose file")
    paths = effective_files(options, environment, v1=v1)
    if not paths:
        raise InvalidInput(f"there is no compose file in {src} (looked for {', '.join(DEFAULT_FILES)})")
    known = settings(options, environment, v1=v1)
    listed = bool(options.files or known.get("COMPOSE_FILE"))
    texts = {path: read_text(path) for path in paths}
    for path, text in texts.items():
        _parse(path, text)
    return ProjectFiles(src if options.files else os.path.dirname(paths[0]), texts, listed, known)


def file_for_mount(project: ProjectFiles, service: str, target: str) -> str:
    """The file whose entry for a container path wins, else the first that declares the service."""
    declaring = _declaring(project, service)
    return next(
        (path for path in reversed(declaring) if decides_mount(project.texts[path], service, target)), declaring[0]
    )


def named_targets(project: ProjectFiles, service: str, source: str) -> tuple[str, ...]:
    """The container paths at which the files mount the directory ``source``, commented out or not.

    :raises InvalidInput: when there is no such service.
    """
    found = [
        target
        for path in _declaring(project, service)
        for target in targets_of(project.texts[path], service, source, project.directory, project.variables)
    ]
    return tuple(dict.fromkeys(found))


def file_for_image(project: ProjectFiles, service: str) -> str:
    """The file whose ``image`` of a service wins, else the first that declares it."""
    declaring = _declaring(project, service)

    def names_image(path: str) -> bool:
        mapping = _service(_parse(path, project.texts[path]), service)
        return mapping is not None and mapping.resolved.get("image") is not None

    return next((path for path in reversed(declaring) if names_image(path)), declaring[0])


def volumes_used_elsewhere(project: ProjectFiles, path: str) -> frozenset[str]:
    """The volume names that the project's other files refer to, those that they extend or include among them."""
    texts = _with_drawn_in(project)
    return frozenset().union(*(volumes_used(text) for other, text in texts.items() if other != path))


def refuse_extended(project: ProjectFiles, path: str, service: str) -> None:
    """Refuse to edit in ``path`` a service that another takes its settings from by the file's name.

    :raises CannotEditInPlace: an override file changes the one service alone.
    """
    for other, text in _with_drawn_in(project).items():
        document = _parse(other, text)
        services = document.root.get("services")
        for key, mapping in services.pairs() if services is not None and services.kind == "mapping" else ():
            file, base = extended(mapping) or ("", "")
            if base == service and file and _same_file(os.path.join(project.directory, file), path):
                raise CannotEditInPlace(
                    f"the service '{service}' is extended by '{key.value}' ({other}, line {document.line(key.start)})"
                )


def _with_drawn_in(project: ProjectFiles) -> dict[str, str]:
    """The project's texts, and those of all files that these extend or include, as far as they can be read."""
    texts = dict(project.texts)
    waiting = list(texts)
    while waiting:
        path = waiting.pop()
        for named in _drawn_in(_parse(path, texts[path])):
            # An included file's own paths count from its directory, all others from the project's.
            for base in (project.directory, os.path.dirname(path)):
                other = os.path.normpath(os.path.join(base, named))
                text = _readable(other) if other not in texts else None
                if text is not None:
                    texts[other] = text
                    waiting.append(other)
    return texts


def _readable(path: str) -> str | None:
    try:
        text = read_text(path)
        _parse(path, text)
    except InvalidInput:
        return None  # compose is asked about the whole project, and says what is wrong with it
    return text


def _drawn_in(document: Document) -> Iterator[str]:
    services = document.root.get("services")
    for _key, mapping in services.pairs() if services is not None else ():
        file, _name = extended(mapping) or ("", "")
        if file:
            yield file
    include = document.root.get("include")
    for entry in include.resolved.children if include is not None and include.resolved.kind == "sequence" else ():
        named = entry.resolved.get("path") if entry.resolved.kind == "mapping" else entry
        if named is not None:
            paths = named.resolved.children if named.resolved.kind == "sequence" else (named,)
            yield from (each.resolved.value for each in paths)


def _same_file(one: str, other: str) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def override_path(project: ProjectFiles) -> str:
    """The override file that belongs to the first file in use, whether it is there or not.

    Where compose looks for one by itself, an existing one counts under each of
    the names that compose knows: of two it takes one only.
    """
    first = project.paths[0]
    stem, ending = os.path.splitext(first)
    folder = os.path.dirname(first)
    endings = [ending, *(other for other in (".yml", ".yaml") if other != ending)]
    own = [f"{stem}.override{each}" for each in endings]
    names = own if project.listed else [os.path.join(folder, name) for name in OVERRIDE_FILES]
    used = (name for name in names if name in project.texts)
    return next(used, next((name for name in names if os.path.lexists(name)), own[0]))


def is_tracked(path: str) -> bool | None:
    """Whether git tracks a file; ``None`` without git, or outside a checkout."""
    real = os.path.realpath(path)
    folder, name = os.path.split(real)
    owner = os.stat(folder)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    # Git may run programs that a checkout's own configuration names, and refuses
    # another user's checkout: so ask as the user that it belongs to.
    as_owner = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    try:
        done = subprocess.run(  # pylint: disable=ansible-bad-function
            ["git", "-c", "core.fsmonitor=false", "-C", folder, "ls-files", "--error-unmatch", "--", name],
            env={**environment, "GIT_OPTIONAL_LOCKS": "0", "HOME": "/nonexistent"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=30,
            check=False,
            **as_owner,  # type: ignore[call-overload]
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return {0: True, 1: False}.get(done.returncode)


def _declaring(project: ProjectFiles, service: str) -> tuple[str, ...]:
    """The files that have something to say about a service; of an included one, the first that includes."""
    documents = {path: _parse(path, text) for path, text in project.texts.items()}
    found = [path for path, document in documents.items() if _service(document, service) is not None]
    found = found or [path for path, document in documents.items() if document.root.get("include") is not None]
    if not found:
        services = [document.root.get("services") for document in documents.values()]
        names = dict.fromkeys(name for mapping in services if mapping is not None for name in mapping.names())
        raise InvalidInput(
            f"there is no service '{service}' in {', '.join(project.paths)} (services: {', '.join(names) or 'none'})"
        )
    return tuple(found)


def _service(document: Document, name: str) -> Node | None:
    services = document.root.get("services")
    return services.get(name) if services is not None else None


def _parse(path: str, text: str) -> Document:
    try:
        return parse(text)
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error.msg}", next_command=error.next_command) from error
