# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an image's own process asks for around the change of the image. Pure.

In the old container, once nothing else writes: a full backup where it is due, and what ``pre_upgrade`` says. In the
new one, before anybody is let in: ``post_upgrade``, and numbered migrations.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import SWITCH, Step
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import Transfer

AUTO, ALWAYS, NEVER = "auto", "always", "never"
DECISIONS = (AUTO, ALWAYS, NEVER)
FIRST_OF_ONE_NUMBER = 10
"""The first version whose major is one number."""
SERIES = "image"
"""The series of an image's migrations, where none is named."""


@dataclass(frozen=True)
class Hooks:
    """``pre`` and ``post`` are hooks as the module's option has them: ``name`` and ``content``, scripts or SQL."""

    pre: tuple[Mapping[str, Any], ...] = ()
    post: tuple[Mapping[str, Any], ...] = ()
    migrations: tuple[Mapping[str, Any], ...] = ()
    series: str = SERIES
    full_backup: str = AUTO
    environment: Mapping[str, str] = field(default_factory=dict)

    def wants_full_backup(self, *, major_changes: bool, layout_changes: bool) -> bool:
        """Tell whether a dump of everything is due. Who has no hooks has the change's own backup, which is enough."""
        if self.full_backup == AUTO:
            return bool(self.pre or self.post or self.migrations) and (major_changes or layout_changes)
        return self.full_backup == ALWAYS


def before_the_stop(
    hooks: Hooks, transfer: Transfer, versions: tuple[str, str], *, layout_changes: bool, backup_dir: str
) -> list[Step]:
    """Return the steps in the old container, once the dependents are stopped. ``versions``: from and to."""
    one, (old, new) = {"transfer": transfer.as_dict()}, versions
    major_changes = _major(old) != _major(new)
    due = hooks.wants_full_backup(major_changes=major_changes, layout_changes=layout_changes)
    steps = []
    if due:
        path = posixpath.join(posixpath.dirname(backup_dir), posixpath.basename(backup_dir) + "-full")
        steps.append(Step("full_backup", f"dump all of {transfer.service}", SWITCH, {**one, "path": path}))
    if hooks.pre:
        args = {**one, "hooks": [dict(hook) for hook in hooks.pre], "from": old, "to": new, "full_backup": due}
        args.update(old_server=True, stays=True)
        steps.append(Step("image_hooks", f"pre-upgrade of {transfer.service}", SWITCH, args))
    return steps


def before_the_proof(hooks: Hooks, transfer: Transfer, versions: tuple[str, str], *, in_place: bool) -> list[Step]:
    """Return the steps in the new container, before anybody else is let in. ``in_place``: on the same files."""
    one, (old, new) = {"transfer": transfer.as_dict(), "stays": in_place}, versions
    steps = []
    if hooks.post:
        args = {**one, "hooks": [dict(hook) for hook in hooks.post], "from": old, "to": new, "full_backup": False}
        steps.append(Step("image_hooks", f"post-upgrade of {transfer.service}", SWITCH, args))
    if hooks.migrations:
        more = {"migrations": [dict(each) for each in hooks.migrations], "series": hooks.series}
        steps.append(Step("image_migrations", f"migrate {transfer.service}", SWITCH, {**one, **more}))
    return steps


def _major(version: str) -> str:
    parts = re.findall(r"\d+", version)
    return parts[0] if int(parts[0]) >= FIRST_OF_ONE_NUMBER else ".".join(parts[:2])
