# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the files of a service can go to another one, and all that a plan of it is made from. Changes nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.model import FilesWay, Request
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.pair import world_of_moves
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.world import MAINTENANCE_DATABASE, World
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.model import Service, databases_named_for
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image import preflight
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.model import (
    DUMP,
    ImageRequest,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.survey import data_of, survey
from ansible_collections.selfhost.stateful.plugins.module_utils._storage import model as of_moves


def files_way(world: World, request: Request, old: Service, name: str) -> FilesWay:
    """Return how the files of a running service would go to one that is to be called ``name``."""
    moving = world_of_moves(world, old.name, name)
    project = moving.maker.observe(world.engine)
    goal = os.path.join(os.path.dirname(old.root), name, os.path.basename(old.data))
    asked = ImageRequest(
        storage=of_moves.Request(
            project=old.container,
            project_dir=os.path.dirname(goal),
            mounts=(of_moves.MountRequest(old.container, goal, written=goal),),
            backup_dir=request.backup_dir,
            retained_dir=request.programs_dir,
            rewrite="none",
        ),
        service=old.container,
        image=request.reference,
        dependents=(),
    )
    asked, found = survey(moving, project, asked, *data_of(moving, project, old.container))
    way = FilesWay(asked, found)
    databases = [database.name for database in found.subject.cluster.databases]
    return replace(way, against=(*against_names(old.database, name, databases), *_against(way)))


def against_names(former: str, new: str, databases: Sequence[str]) -> Iterator[str]:
    """Say why the old service's database cannot be called as the address of the service ``new`` will say."""
    taken = sorted(databases_named_for(new) & set(databases) - {former})
    if taken:
        yield f"the cluster has a database {', '.join(taken)} beside {former}, and the new service's would be called so"
    if former == MAINTENANCE_DATABASE:
        yield f"the database is called {former}, which every cluster has to have, and would be called otherwise"


def _against(way: FilesWay) -> Iterator[str]:
    request, found = way.request, way.found
    if found.way.strategy in ("", DUMP):
        yield found.way.reason
        return
    yield from (blocker.text for blocker in preflight.blockers(request, found))
    if found.move.data.kind != of_moves.BIND:
        yield f"the data is not in a directory of dokku's ({found.move.data.kind})"
    if not way.copied:
        return
    # The files are copied as they are, and the copy is served by the new image.
    if found.move.data.facts is not None:
        yield from (blocker.text for blocker in found.move.data.facts.blockers)
    if not found.copying.strategy:
        yield found.copying.reason
    if (found.wanted.target, found.wanted.subpath) != (found.move.data.target, found.move.data.subpath):
        yield f"the image has its data at {found.wanted.target}/{found.wanted.subpath}".rstrip("/")
    if found.subject.cluster.tablespaces:
        yield "the cluster has tablespaces"
