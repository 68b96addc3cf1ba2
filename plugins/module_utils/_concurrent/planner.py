# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps to one version, from where a host is and what its files become. Pure."""

from __future__ import annotations

from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.model import (
    QUERY,
    RELOAD,
    Rung,
    Site,
    Target,
    Version,
    after_moves,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import FINISH, PREPARE, SWITCH, Step

NONE = "none"
DB = "db"
REDIS = "redis"
DATABASE = "concurrent"


def steps_of(
    site: Site,
    target: Target,
    rung: Rung,
    version: Version,
    *,
    backup: str,
    backup_path: str,
    dump: str,
    operation: str,
) -> tuple[tuple[Step, ...], dict[str, str]]:
    """Return the steps, and where the old data lies aside; the folder of a step is where the files are then."""
    old: dict[str, Any] = {"folder": site.folder, "database": DATABASE, "data": site.data}
    moved = dict(target.moves)
    data, redis = after_moves(site.data, moved), after_moves(site.redis, moved)
    new: dict[str, Any] = {"folder": target.folder, "database": DATABASE, "data": data, "redis": redis}
    aside = {"data": f"{data}.{operation}", "redis": f"{redis}.{operation}"}
    ids = list(site.containers)
    steps = [Step("concurrent_keep_images", "keep the images", PREPARE, {"images": dict(site.images)})]
    if backup != NONE:
        steps.append(Step("concurrent_backup", "backup", PREPARE, {**old, "path": backup_path, "format": backup}))
    for service, words, image_id in ((DB, "the database", site.database_image), (REDIS, "Redis", site.redis_image)):
        if target.images.get(service):
            name = {"image_id": image_id, "reference": target.images[service]}
            steps.append(Step("concurrent_name_image", f"name the image of {words}", PREPARE, name))
    quiet = {**old, "containers": ids, "images": dict(site.images)}
    steps.append(Step("concurrent_quiet", "quiet", SWITCH, quiet))
    if rung.kind != RELOAD and backup != NONE:
        # A reload has one beside the old data.
        copying = {"redis": site.redis, "path": f"{backup_path}-redis"}
        steps.append(Step("concurrent_copy_redis", "copy Redis", SWITCH, copying))
    if target.names:
        names = {"names": [dict(each) for each in target.names]}
        steps.append(Step("concurrent_tag", "let the names without a version mean the new one", SWITCH, names))
    if site.root:
        release = {
            "root": site.root,
            "release": str(version),
            "merge": target.merge,
            "head": site.head,
            "branch": site.branch,
        }
        steps.append(Step("concurrent_release", "check the release out", SWITCH, release))
    if target.moves:
        steps.append(Step("concurrent_follow", "move what git does not know", SWITCH, {"moves": list(target.moves)}))
    if target.images:
        files = {**new, "mounts": [], "images": dict(target.images), "rewrite": "override"}
        steps.append(Step("concurrent_files", "name the images", SWITCH, files))
    if rung.kind == RELOAD:
        loading = {**new, "aside": aside, "rung": dict(rung.raw), "dump": dump, "version": str(version)}
        steps += [
            Step("concurrent_dump", "dump", SWITCH, loading),
            Step("concurrent_set_aside", "set the old data aside", SWITCH, loading),
            Step("concurrent_load", "load", SWITCH, loading, proves=True),
        ]
    else:
        starting = {**new, "awaits": list(rung.awaits), "version": str(version)}
        filling = rung.kind == QUERY
        steps.append(Step("concurrent_start_api", "start the api alone", SWITCH, starting, proves=not filling))
        if filling:
            given = [dict(each) for each in rung.migrations]
            migrating = {**new, "migrations": given, "series": rung.ledger_series}
            steps.append(Step("concurrent_migrate", "migrate", SWITCH, migrating, proves=True))
    ending = {**new, "version": str(version)}
    steps.append(Step("concurrent_up", "start everything", FINISH, ending))
    return tuple(steps), aside
