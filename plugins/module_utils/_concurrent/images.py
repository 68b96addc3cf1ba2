# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which images a version runs on: its own by their version, those of the stores by the very one that ran."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent import host as hosts
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.model import (
    Target,
    Version,
    described,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.survey import (
    VERSION_LABEL,
    Seen,
    repository_of,
    tag_of,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import Blocker, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World

LATEST = ("", "latest")
OURS = ("api", "gateway")
"""The services whose images are released with every version, whatever their names say."""


def own_services(world: World, seen: Seen) -> tuple[str, ...]:
    """Return the services that run an image of Concurrent itself, which its version goes with."""
    found = []
    # A name that says no version would be taken for somebody else's, and the newest pulled and started on the data.
    for name, service in seen.project.config.services.items():
        containers = seen.project.containers.get(name, ())
        image = world.engine.image(containers[0].image_id) if containers else None
        told = image.labels.get(VERSION_LABEL, "") if image else ""
        named = tag_of(service.image)
        said = (described(told), described(named))
        if name in OURS or (seen.version is not None and seen.version in said):
            found.append(name)
    return tuple(found)


def at(reference: str, version: Version) -> str:
    """Return a reference with the tag of a version, written as the one that it has."""
    plain = tag_of(reference)[:1].isdigit()
    return f"{repository_of(reference)}:{str(version)[1:] if plain else version}"


def floating(world: World, references: Mapping[str, str], version: Version) -> tuple[Mapping[str, str], ...]:
    """Return which names that say no version are to mean this one: ``tag``, ``pull``, and ``was``, the id till then.

    The name is moved by a step of the operation: a run that is blocked, or undone, leaves it as it is, and nobody's
    plain ``up`` starts the next version.
    """
    found: dict[str, Mapping[str, str]] = {}
    for reference in references.values():
        if not reference or tag_of(reference) not in LATEST or "@" in reference:
            continue
        pull = f"{repository_of(reference)}:{version}"
        wanted, meant = world.engine.image(pull), world.engine.image(reference)
        if wanted is None or described(wanted.labels.get(VERSION_LABEL, "")) not in (None, version):
            continue
        if meant is None or meant.id != wanted.id:
            found[reference] = {"tag": reference, "pull": pull, "was": meant.id if meant else ""}
    return tuple(found.values())


def against(world: World, service: str, reference: str, version: Version | None) -> list[Blocker]:
    """Return what is wrong with an image: it is not there, or it is another version, or says none at all."""
    if not reference:
        return []
    image = world.engine.image(reference)
    if image is None:
        return [
            Blocker(f"The image {reference} of {service} is not on this engine.", shell("docker", "pull", reference))
        ]
    if version is None:
        return []
    told = described(image.labels.get(VERSION_LABEL, ""))
    by_version = world.engine.image(f"{repository_of(reference)}:{version}")
    unsaid = told is None and tag_of(reference) in LATEST and "@" not in reference
    if told in (None, version) and not (unsaid and (by_version is None or by_version.id != image.id)):
        return []
    return [
        Blocker(
            f"The image {reference} of {service} {f'is {told}' if told else 'does not say its version'}, and {version}"
            f" is wanted: pull that one, and let {reference} mean it.",
            shell("docker", "pull", at(reference, version)),
        )
    ]


def images_to_have(target: Target, version: Version) -> list[dict[str, str]]:
    """Return the images that the version runs on, each as ``pull`` and ``tag``, the name that the file says.

    The database's and Redis' are none of them: those are not to change. Of one whose tag floats the version's own is
    pulled, which gets the floating name; any other would bring the newest.
    """
    found: dict[str, str] = {}
    for name, reference in target.effective.items():
        if name in hosts.STORES or not reference:
            continue
        floats = name in target.own and tag_of(reference) in LATEST and "@" not in reference
        found[reference] = f"{repository_of(reference)}:{version}" if floats else reference
    return [{"pull": pull, "tag": tag} for tag, pull in sorted(found.items())]


def pinned(world: World, container: Container, reference: str, major: int) -> str:
    """Return the name by which a store's file is to say the image that ran; empty where its own name means that one.

    The id decides, and the name only that it cannot come to mean another major: under one name there are several
    libcs over the years, and another libc is another order of text. A newer Redis writes what an older cannot read.
    """
    named = world.engine.image(reference) if reference else None
    fixed = _major(tag_of(reference)) == str(major) or "@" in reference
    if fixed and named is not None and named.id == container.image_id:
        return ""
    running = tag_of(container.image_ref)
    if _major(running) != str(major):
        running = f"{major}{'' if running in LATEST else f'-{running}'}"
    name = f"{repository_of(container.image_ref)}:{running}"
    taken = world.engine.image(name)
    if taken is not None and taken.id != container.image_id:
        # Another image has that name by now, and others of this host may run by it: it is not taken away.
        return f"{name}-{container.image_id.rpartition(':')[2][:12]}"
    return name


def _major(tag: str) -> str:
    return tag.partition("-")[0].partition(".")[0]
