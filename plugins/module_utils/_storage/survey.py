# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Collect the findings that a plan is made from. Asks the engine, compose and the file system; changes nothing."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.atomic import refuse_unwritable
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.build_context import BuildContext
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.cli import ComposeCli
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.config import volume_name
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.drift import FLOATING, REPLICAS, find_drift
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_entries import Mount
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_reading import plan_proved_rewrite
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.files import ProjectFiles, project_files
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.project import Project, Services
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.rewrite import (
    NOT_IN_FILE,
    Rewrite,
    plan_rewrite,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import OPERATION_LABEL, Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import Blocker
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.layer import place_to_keep, shipped_by_image
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import (
    ANONYMOUS,
    AUTO,
    CLONE,
    LAYER,
    RENAME,
    DataPath,
    Findings,
    MountRequest,
    Move,
    PlannedRewrite,
    Request,
    StoppedContainer,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.neighbours import neighbours
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.observe import (
    data_paths,
    declared_by,
    line_missing,
    measured,
    place,
    with_facts,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.outlying import outlying, with_parts
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.planner import partial_of
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.preflight import check_move
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.starting import major_of
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import clone, rename
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.unstarted import look_around, lost_volumes
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World

PARTIAL = "any"
"""Stands for an operation's id in the name of a partial copy, where only the rest of the name matters."""


def survey(
    world: World,
    project: Project,
    request: Request,
    moving: Sequence[tuple[MountRequest, DataPath]],
    never_created: Sequence[MountRequest],
) -> Findings:
    """Return the findings for the mounts that are not reached yet."""
    services = list(dict.fromkeys(mount.service for mount, _data in moving))
    contexts = build_contexts(project)
    moves = with_parts([_move(world, project, mount, data, contexts, request.retained_dir) for mount, data in moving])
    floating, images = floating_images(world, project, services)
    changing = {(mount.service, data.target) for mount, data in moving}
    others = neighbours(world, project, services)
    hashes = world.compose.service_hashes(services)
    return Findings(
        moves=moves,
        hashes=hashes,
        unstarted=tuple(look_around(world, project, mount, contexts) for mount in never_created),
        rewrite=planned_rewrite(world.compose, request, images if request.pin_images else {}),
        dependents=dependents_of(project, services),
        stores=tuple(stopped(c) for name in services for c in project.containers[name]),
        floating=floating,
        images_to_write=images,
        other_majors=other_majors(world, project, services),
        drift=drift_of(world, project, services, changing, hashes),
        blockers=(*others.blockers, *_unkept(moves, request.retained_dir)),
        warnings=others.warnings,
        backup_place=place(world, request.backup_dir, shared=True),
        compose_v1=world.compose.is_v1,
        other_anonymous=other_anonymous(world, project, services, changing),
        outlying=outlying(world, project, moves),
        stranded_by_up=stranded_by_up(world, project, [data for _mount, data in moving]),
    )


def _move(
    world: World,
    project: Project,
    mount: MountRequest,
    data: DataPath,
    contexts: Sequence[BuildContext],
    retained_dir: str,
) -> Move:
    check_move(data, mount.source)
    container = next(c for c in project.containers[mount.service] if c.id == data.container)
    known = with_facts(world, measured(data), container)
    parent = os.path.dirname(mount.source)
    cannot = {}
    can_rename = rename.can_rename(known.host_path, parent)
    if not can_rename.yes:
        cannot[RENAME] = can_rename.reason
    can_clone = clone.can_clone(known.host_path, parent)
    if not can_clone.yes:
        cannot[CLONE] = can_clone.reason
    ignore_line, ignore_file = line_missing(contexts, mount.source)
    in_layer = data.kind == LAYER
    return Move(
        data=known,
        source=mount.source,
        written=mount.written or mount.source,
        place=place(world, mount.source),
        cannot=cannot,
        users=other_users(world, data),
        shipped_by_image=in_layer and shipped_by_image(container, data.target),
        ignore_line=ignore_line,
        ignore_file=ignore_file,
        partial_line=line_missing(contexts, partial_of(mount.source, PARTIAL))[0].replace(PARTIAL, "*"),
        image_id=container.image_id,
        kept_below=place_to_keep(known.host_path, retained_dir, world.engine.info().root_dir) if in_layer else "",
    )


def _unkept(moves: Sequence[Move], retained_dir: str) -> list[Blocker]:
    """Say which layers cannot be kept by hard links, because there is no place for those on their file system."""
    return [
        Blocker(
            f"{move.data.target} of {move.data.service} lies in the container's own layer, in {move.data.host_path},"
            f" and what is kept of it would lie on another file system, in {retained_dir}: name a directory on the"
            " layer's file system with operations_dir."
        )
        for move in moves
        if move.data.kind == LAYER and move.data.host_path and not move.kept_below
    ]


def other_users(world: World, data: DataPath, kept: Collection[str] = ()) -> tuple[str, ...]:
    """Return the other containers that mount the volume of ``data``, but for those that are ``kept``, by their ids."""
    if not data.volume:
        return ()
    found = world.engine.containers(volume=data.volume)
    # Those of our own operations only hold a volume, read-only, and stand in nobody's way.
    return tuple(c.name for c in found if c.id not in (data.container, *kept) and OPERATION_LABEL not in c.labels)


def build_contexts(project: Services) -> list[BuildContext]:
    """Return the project's build contexts with the ignore file that the builder would read."""
    found = []
    for name, service in project.config.services.items():
        if service.build is None or "://" in service.build.context:
            continue
        directory = os.path.realpath(os.path.join(project.working_dir, service.build.context))
        # BuildKit looks for an ignore file named after the Dockerfile first.
        own = os.path.join(directory, f"{service.build.dockerfile}.dockerignore")
        path = own if os.path.isfile(own) else os.path.join(directory, ".dockerignore")
        lines: tuple[str, ...] = ()
        if os.path.isfile(path):
            with open(path, encoding="utf-8", errors="replace") as handle:
                lines = tuple(handle.read().splitlines())
        found.append(BuildContext(name, directory, path, lines))
    return found


def survey_files(
    world: World,
    project: Project,
    request: Request,
    never_created: Sequence[MountRequest],
    settled: Sequence[MountRequest] = (),
) -> Findings:
    """Return the findings where no data moves: the file alone is to say what it does not say yet, if anything."""
    contexts = build_contexts(project)
    return Findings(
        moves=(),
        unstarted=tuple(look_around(world, project, mount, contexts) for mount in never_created),
        rewrite=planned_rewrite(world.compose, request, {}),
        warnings=_left_behind(world, project, list(dict.fromkeys(mount.service for mount in settled))),
    )


def _left_behind(world: World, project: Project, services: Sequence[str]) -> tuple[str, ...]:
    """Tell of volumes without a container that may hold what services that run on their mounts are missing.

    An ``up`` with the mount in the file and before the move leaves the volume
    behind, and the store begins an empty one: all is in place then but the data.
    """
    found: dict[str, list[str]] = {}
    for name in services:
        container = project.containers[name][0]
        kind, _declared = declared_by(world, container.image_ref, container.env)
        if kind:
            found.setdefault(kind, []).append(name)
    told = []
    for kind, those in found.items():
        others, here = lost_volumes(world, project, kind)
        if others or here:
            told.append(
                f"Volumes without a container hold {kind} data: {', '.join((*here, *others))}. If {' or '.join(those)}"
                " misses what one of them holds, prune no volumes, and copy it from there; what is not needed goes by"
                " docker volume rm."
            )
    return tuple(told)


def planned_rewrite(compose: ComposeCli, request: Request, images: Mapping[str, str]) -> PlannedRewrite:
    """Plan the edit of the compose files in memory; raises where they cannot be edited as asked."""
    files = project_files(compose.options, compose.environment, v1=compose.is_v1)
    mounts = [Mount(mount.service, mount.target, mount.written, replaces=mount.replaces) for mount in request.mounts]
    rewrite = plan_proved_rewrite(compose, files, mounts=mounts, images=images, rewrite=request.rewrite)
    for edit in rewrite.edits:
        refuse_unwritable(edit.path)  # now, and not in the downtime
    return PlannedRewrite(
        paths=tuple(edit.path for edit in rewrite.edits),
        how=rewrite.how,
        warnings=rewrite.warnings,
        diff=tuple(edit.diff() for edit in rewrite.edits),
        blockers=tuple(_of_rewrite(files, rewrite, mounts, request)),
    )


def _of_rewrite(files: ProjectFiles, rewrite: Rewrite, mounts: Sequence[Mount], request: Request) -> list[Blocker]:
    """Return why the services could not be created on their new mounts from what the files would say."""
    if request.rewrite == "none":
        lacking = [mount for mount in mounts if plan_rewrite(files, mounts=[mount], rewrite="none").how == NOT_IN_FILE]
        return [
            Blocker(
                f"The compose file does not mount {mount.source} at {mount.target} of {mount.service}, and rewrite:"
                " none leaves it as it is: put the mount into the file, or set rewrite: in_place or override."
            )
            for mount in lacking
        ]
    unread = [edit.path for edit in rewrite.edits if edit.path not in files.texts]
    if not files.listed:
        return []
    return [
        Blocker(
            f"The compose files of this project are listed, so compose would not read {path}: add it at the end of"
            " files or COMPOSE_FILE (with the line 'x-empty: true' for now), or set rewrite: in_place."
        )
        for path in unread
    ]


def dependents_of(
    project: Services, services: Sequence[str], named: Sequence[str] = (AUTO,)
) -> tuple[tuple[StoppedContainer, ...], ...]:
    """Return the running containers that depend on ``services``, in groups that can stop at once, outermost first.

    ``named`` are those that were asked for, with all that depends on them: ``auto`` stands for what the compose file
    says of ``services``; what is no service any more is none of them.
    """
    further = [name for name in named if name != AUTO and name in project.config.services]
    roots = [*(services if AUTO in named else ()), *further]
    found = {*project.config.dependents_of(roots), *further} - set(services)
    names = [*project.config.stop_order(found)]
    groups: list[tuple[StoppedContainer, ...]] = []
    left = list(names)
    while left:
        needed = {needs for name in left for needs in project.service(name).depends_on if needs != name}
        outermost = [name for name in left if name not in needed] or list(left)
        left = [name for name in left if name not in outermost]
        group = tuple(stopped(c) for name in outermost for c in project.containers[name] if c.running)
        if group:
            groups.append(group)
    return tuple(groups)


def stopped(container: Container) -> StoppedContainer:
    return StoppedContainer(
        id=container.id,
        name=container.name,
        service=container.service,
        policy=container.restart.name,
        maximum_retries=container.restart.maximum_retries,
        grace=float(container.stop_timeout or 10),
    )


def floating_images(world: World, project: Project, services: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the services whose tag means another image by now, and what would pin each to the one that it runs."""
    sentences, images = {}, {}
    for name in services:
        container = project.containers[name][0]
        reference = project.service(name).image or container.image_ref
        now = world.engine.image(reference)
        if now is not None and now.id == container.image_id:
            continue
        running = world.engine.image(container.image_id)
        meaning = f"means {now.id[7:19]} by now" if now else "is not here any more"
        sentences[name] = (
            f"The tag {reference} {meaning}, and {container.name} runs {container.image_id[7:19]}: the next plain"
            " 'up' or 'pull' would start another image on this data."
        )
        images[name] = running.digests[0] if running and running.digests else container.image_id
    return sentences, images


def other_majors(world: World, project: Project, services: Sequence[str]) -> dict[str, str]:
    """Return the services whose tag means another major of their store by now, both named."""
    found = {}
    for name in services:
        container = project.containers[name][0]
        reference = project.service(name).image or container.image_ref
        now = world.engine.image(reference)
        kind, runs = declared_by(world, container.image_ref, container.env)
        other, means = declared_by(world, reference, now.env) if now is not None else ("", None)
        if runs is None or means is None or kind != other:
            continue
        majors = major_of(kind, runs.version), major_of(kind, means.version)
        if all(majors) and majors[0] != majors[1]:
            found[name] = f"{container.name} runs {kind} {majors[0]}, and the tag {reference} means {majors[1]} by now"
    return found


def drift_of(
    world: World,
    project: Project,
    services: Sequence[str],
    changing: set[tuple[str, str]],
    hashes: Mapping[str, str],
    images: Collection[str] = (),
) -> dict[str, tuple[str, ...]]:
    """Return in words what creating ``services`` anew changes beside mounts at ``changing`` and ``images``.

    ``hashes`` are those of ``ComposeCli.service_hashes``.
    """
    ours = {name: [target for service, target in changing if service == name] for name in services}
    found: dict[str, tuple[str, ...]] = {}
    for drift in find_drift(world.engine, project, services, hashes, ignore_targets=ours, ignore_images=images):
        if drift.kind not in (FLOATING, REPLICAS):  # said on their own, each with its way out
            found[drift.service] = (*found.get(drift.service, ()), drift.text)
    return found


def stranded_by_up(world: World, project: Project, moving: Iterable[DataPath]) -> frozenset[str]:
    """Return the services that a plain ``up`` would create anew without their data, or not at all.

    A layer goes with its container. Where the file names another mount for the
    data's path already, that takes the place of the volume. And v1 dies while
    recreating on newer engines (docker/compose 11693), with the service stopped.
    """
    return frozenset(
        data.service
        for data in moving
        if world.compose.is_v1 or data.kind == LAYER or _mounted_elsewhere(project, data)
    )


def _mounted_elsewhere(project: Project, data: DataPath) -> bool:
    """Tell whether the file, as it is now, mounts something else where the data is."""
    target = os.path.normpath(data.target)
    declared = project.service(data.service).mount_at(os.path.join(target, data.subpath))
    # What is mounted further up leaves an anonymous volume below it alone, and replaces a named one.
    if declared is None or len(os.path.normpath(declared.target)) < len(target):
        return data.kind != ANONYMOUS
    if os.path.normpath(declared.target) != target:
        return True
    if declared.anonymous or declared.type != "volume":
        return data.kind != ANONYMOUS or not declared.anonymous
    return volume_name(project.config.volumes, declared.source) != data.volume


def other_anonymous(
    world: World, project: Services, services: Sequence[str], changing: set[tuple[str, str]]
) -> dict[str, tuple[str, ...]]:
    """Return the paths of ``services`` in anonymous volumes that are not about to change."""
    found = {}
    for name in services:
        paths = [p.target for p in data_paths(world, project, name) if p.kind == ANONYMOUS]
        others = tuple(path for path in paths if (name, path) not in changing)
        if others:
            found[name] = others
    return found
