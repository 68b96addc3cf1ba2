# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Join what a cluster had at one moment with what had come by a later one."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.globals import (
    Globals,
    Grant,
)


def joined(first: Globals, later: Globals) -> Globals:
    """Return ``first``, and the roles and tablespaces that only ``later`` has, with all that belongs to those.

    What is in both is as ``first`` has it; a database is never added, its content would be missing.
    """
    roles = {role.name for role in later.roles} - {role.name for role in first.roles}
    spaces = {space.name for space in later.tablespaces} - {space.name for space in first.tablespaces}
    if not roles and not spaces:
        return first
    on_spaces = {space.name: space.grants for space in later.tablespaces}
    on_databases = {frame.name: frame.grants for frame in later.databases}
    kept = tuple(
        replace(space, grants=_with_grants(space.grants, on_spaces.get(space.name), roles))
        for space in first.tablespaces
    )
    return replace(
        first,
        roles=(*first.roles, *(role for role in later.roles if role.name in roles)),
        memberships=(
            *first.memberships,
            *(each for each in later.memberships if each.role in roles or each.member in roles),
        ),
        settings=(*first.settings, *(each for each in later.settings if each.role in roles)),
        tablespaces=(*kept, *(space for space in later.tablespaces if space.name in spaces)),
        databases=tuple(
            replace(frame, grants=_with_grants(frame.grants, on_databases.get(frame.name), roles))
            for frame in first.databases
        ),
        parameters=(*first.parameters, *(each for each in later.parameters if each.grantee in roles)),
    )


def _with_grants(
    first: tuple[Grant, ...] | None, later: tuple[Grant, ...] | None, roles: Collection[str]
) -> tuple[Grant, ...] | None:
    theirs = tuple(each for each in later or () if each.grantee in roles)
    if not theirs:
        return first
    # Beside a grant the defaults are in the list as well.
    return later if first is None else (*first, *theirs)
