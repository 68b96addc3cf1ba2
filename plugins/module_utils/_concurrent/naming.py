# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What compose calls the project of a host: by another name it sees none of the containers, and would start a second.

Compose 2 leaves out what a name may not begin with, so that ``docs`` and ``_docs`` are one to it; compose 1 does not.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping, Sequence

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.cli import ComposeCli
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.command_line import settings
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.config import v1_project_name
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.dotenv import (
    interpolate,
    parse_dotenv,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.project import (
    PROJECT_LABEL,
    SERVICE_LABEL,
    Project,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent import host as hosts
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.checkout import Checkout
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import Blocker, InvalidInput
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World, can_write

NAME = "COMPOSE_PROJECT_NAME"


def name_in(cli: ComposeCli, folder: str, documents: Sequence[Mapping[str, object]], dotenv: Mapping[str, str]) -> str:
    """Return what compose calls a project in ``folder``, whose files (in order) and ``.env`` say what is given."""
    given = cli.options.project_name or cli.environment.get(NAME, "") or dotenv.get(NAME, "")
    if not given and not cli.is_v1:
        # The last file that has one says it, and may leave a part of it to variables.
        said = [str(document["name"]) for document in documents if document.get("name")]
        given = interpolate(said[-1], {**dotenv, **cli.environment}) if said else ""
    name = v1_project_name(given or os.path.basename(folder))
    return name if cli.is_v1 else name.lstrip("_-")


def dotenv_in(cli: ComposeCli, checkout: Checkout, source: str, folder: str, moved: Iterable[str]) -> Mapping[str, str]:
    """Return what stands in ``.env`` of a folder once ``source`` is checked out and what is ``moved`` is there."""
    if cli.options.env_files:
        return settings(cli.options, {}, v1=cli.is_v1)
    text = checkout.file_at(source, os.path.normpath(os.path.join(folder, ".env")))
    if text is not None:
        return parse_dotenv(text)
    along = ".env" in map(os.path.basename, moved)
    return settings(cli.options, {}, v1=cli.is_v1) if along else {}


def against_folder(
    project: Project,
    checkout: Checkout,
    source: str,
    goal: str,
    moved: Iterable[str],
    documents: Sequence[Mapping[str, object]],
) -> list[Blocker]:
    """Return what forbids to go to a folder where compose would call the project otherwise; see :func:`name_in`."""
    cli, known = project.compose, project.name
    dotenv = dotenv_in(cli, checkout, source, os.path.relpath(goal, checkout.root), moved)
    found = name_in(cli, goal, documents, dotenv)
    if found == known:
        return []
    return [
        Blocker(
            f"In {goal} compose would call the project {found}, and it is called {known}: by that name it finds none of"
            f" the containers, and its next up would start others on the same data. Put {NAME}={known} into .env, which"
            " goes along.",
            put(known, cli.options.project_src),
        )
    ]


def refuse_other_name(world: World, known: str, folder: str) -> None:
    """Raise where the data in a folder is served, by a project of another name than compose finds there."""
    for container in world.engine.containers(labels={SERVICE_LABEL: hosts.DB}):
        other = container.labels.get(PROJECT_LABEL, "")
        if container.running and other != known and can_write(container, folder):
            raise InvalidInput(
                f"{container.name} serves the data in {folder} as part of the project {other}, and compose calls the"
                f" project there {known}. Start no second one on it: put {NAME}={other} into .env.",
                next_command=put(other, folder),
            )


def put(name: str, folder: str) -> str:
    """Return the command that gives the project in a folder its name, whatever compose would derive."""
    # The last line of what is there may have no end.
    return f"printf '\\n%s\\n' {shlex.quote(f'{NAME}={name}')} >> {shlex.quote(os.path.join(folder, '.env'))}"
