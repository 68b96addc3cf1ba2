# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a host, a project, a cluster and an image say that an image change is planned from. Changes nothing."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Mapping
from dataclasses import replace

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.project import Services
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import Blocker, InvalidInput
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.candidate import (
    examine,
    user_given,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.compatibility import compare
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.hooks import against, parsed
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.model import (
    SWAP,
    CandidateImage,
    ImageFindings,
    ImageRequest,
    Wanted,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.observe import observe_subject
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.strategy import choose_way
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations import ledger
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.store import postgresql_store
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import (
    AUTO,
    BIND,
    CLONE,
    POSTGRESQL,
    RENAME,
    REPLICA,
    DataPath,
    MountRequest,
    Move,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.observe import (
    data_paths,
    line_missing,
    measured,
    place,
    with_facts,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.outlying import outlying
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.planner import partial_of
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.strategy import choose
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.survey import (
    PARTIAL,
    build_contexts,
    dependents_of,
    other_anonymous,
    other_users,
    stopped,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import clone
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import Change, World

ORIGINAL_STAYS = "the original stays as it is, and the new cluster is made from a copy"


def data_of(world: World, project: Services, service: str) -> tuple[Container, DataPath]:
    """Return the service's one container and where it has its cluster; raises where it has none."""
    containers = project.containers.get(service, ())
    if len(containers) != 1:
        raise InvalidInput(
            f"The service {service} has {len(containers)} containers, and its image can be changed where it has one.",
            next_command=project.compose.typed("up", "-d", "--no-deps", service),
        )
    paths = [path for path in data_paths(world, project, service) if path.store == POSTGRESQL]
    if len(paths) != 1:
        raise InvalidInput(
            f"The service {service} is no Postgres whose data was found: {len(paths)} of its paths hold a cluster."
        )
    if not containers[0].running:
        raise InvalidInput(
            f"{containers[0].name} does not run: a cluster says only while it runs what another image has to bring.",
            next_command=project.compose.typed("start", service),
        )
    return containers[0], paths[0]


def default_source(data: DataPath, project_dir: str, major: str) -> tuple[str, str]:
    """Return the sibling of the data that is named for a major, and how a compose file writes it."""
    base = os.path.basename(data.host_path) if data.kind == BIND else "postgres"
    parent = os.path.dirname(data.host_path) if data.kind == BIND else project_dir
    source = os.path.join(parent, re.sub(r"[-_.]?[0-9.]+$", "", base) + major)
    if source == data.host_path:
        source += "-new"  # another libc, say: the major stays, and so does what is there
    inner = os.path.relpath(source, project_dir)
    return source, source if inner.startswith("..") else f"./{inner}"


def wanted_place(
    container: Container,
    image_env_data: str,
    data: DataPath,
    candidate: CandidateImage,
    environment: Mapping[str, str | None] | None = None,
) -> Wanted:
    """Return where a container of the new image has its data.

    A PGDATA of the project's own stays what it is, also where it says what the image said: the service's
    ``environment`` tells. Else it is the image's, and the mount its declared volume: with 18
    both became others.
    """
    own = container.env.get("PGDATA", "")
    if own and (own != image_env_data or "PGDATA" in (environment or {})):
        return Wanted(data.target, data.subpath)
    holding = [
        path for path in candidate.volumes if (candidate.data_directory + "/").startswith(path.rstrip("/") + "/")
    ]
    target = max(holding, key=len, default=candidate.data_directory)
    inner = posixpath.relpath(candidate.data_directory, target)
    return Wanted(target, "" if inner == "." else inner)


def survey(
    world: World,
    project: Services,
    request: ImageRequest,
    container: Container,
    data: DataPath,
    kept: frozenset[str] = frozenset(),
) -> tuple[ImageRequest, ImageFindings]:
    """Return the request with its places filled in, and the findings for it.

    ``kept``: the ids of the containers that earlier operations put aside, and that have the data mounted still.
    """
    engine, service = world.engine, request.service
    candidate = examine(engine, request.image, user=user_given(engine, container))
    with postgresql_store(world).session(engine, container) as session:
        subject = observe_subject(engine, session)
        refused = _against_migrations(request, session)
    known = with_facts(world, measured(data), container)
    own = project.service(service).environment
    wanted = wanted_place(container, subject.image.data_directory, known, candidate, own)
    # Without a project's directory there is nothing that a new one would lie in by itself.
    placeless = request.bare and not request.storage.mounts and known.kind != BIND
    request = _placed(request, known, wanted, candidate)
    (mount,) = request.storage.mounts
    contexts = build_contexts(project)
    ignore_line, ignore_file = line_missing(contexts, mount.source)
    cannot = {RENAME: ORIGINAL_STAYS}
    can_clone = clone.can_clone(known.host_path, os.path.dirname(mount.source))
    if not can_clone.yes:
        cannot[CLONE] = can_clone.reason
    move = Move(
        data=known,
        source=mount.source,
        written=mount.written,
        place=place(world, mount.source),
        cannot=cannot,
        users=other_users(world, data, kept),
        ignore_line=ignore_line,
        ignore_file=ignore_file,
        partial_line=line_missing(contexts, partial_of(mount.source, PARTIAL))[0].replace(PARTIAL, "*"),
        image_id=container.image_id,
    )
    copying = choose(move, AUTO)
    comparison = compare(
        subject,
        candidate,
        standby_possible=copying.strategy == REPLICA,
        reflinks=can_clone.yes,
        same_filesystem=can_clone.yes or move.place.device == known.device,
        container=container.name,
    )
    way = choose_way(comparison, request.strategy)
    stays = way.strategy == SWAP
    changing = {(service, data.target), (service, wanted.target)}
    asked = replace(request.storage, mounts=()) if stays else request.storage
    change = Change(service, {service: request.image}, frozenset(target for _service, target in changing))
    findings = replace(
        world.maker.around(world, project, asked, change),
        moves=() if stays else (move,),
        dependents=dependents_of(project, [service], request.dependents),
        stores=(stopped(container),),
        backup_place=place(world, request.storage.backup_dir, shared=True),
        other_anonymous=other_anonymous(world, project, [service], changing),
        outlying=outlying(world, project, (move,)),
    )
    return request, ImageFindings(
        subject=subject,
        candidate=candidate,
        comparison=comparison,
        findings=findings,
        move=move,
        wanted=wanted,
        way=way,
        copying=copying,
        programs_place=place(world, request.storage.retained_dir, shared=True),
        image_is_built=project.service(service).build is not None,
        placeless=placeless,
        against_migrations=refused,
        data_place=place(world, known.host_path, shared=True),
    )


def _against_migrations(request: ImageRequest, session: Session) -> tuple[Blocker, ...]:
    hooks = request.hooks
    return tuple(against(parsed(hooks.migrations), ledger.read(session, hooks.series))) if hooks.migrations else ()


def _placed(request: ImageRequest, data: DataPath, wanted: Wanted, candidate: CandidateImage) -> ImageRequest:
    """Return the request with the one mount that an upgraded cluster would get."""
    storage = request.storage
    source, written = default_source(data, storage.project_dir, candidate.major)
    if storage.mounts and storage.mounts[0].source:
        source, written = storage.mounts[0].source, storage.mounts[0].written
    replaces = data.target if posixpath.normpath(data.target) != wanted.target else ""
    mount = MountRequest(request.service, source, target=wanted.target, written=written, replaces=replaces)
    return replace(request, storage=replace(storage, mounts=(mount,)))
