# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What forbids an upgrade of the dogu, and the steps of one. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.model import (
    DUMP_KEY,
    EQUAL,
    LOCAL_STATE,
    MAJOR,
    UPGRADING,
    USER,
    Seen,
    Version,
    way,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import Blocker, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import FINISH, PREPARE, SWITCH, Step

KEEP, BACKUP, WARM, QUIET, ORIGINAL, UPGRADE, PROVE, DEPENDENTS = (
    *("cloudogu_keep_image", "cloudogu_backup", "cloudogu_copy", "cloudogu_quiet", "cloudogu_original"),
    *("cloudogu_upgrade", "cloudogu_prove", "cloudogu_dependents"),
)
MARGIN = 256 << 20
"""Bytes beyond the estimate: a dump is text, and may be larger than its rows."""


def blockers_of(seen: Seen, wanted: Version, *, backups: str, free_for_backups: int, same_disk: bool) -> list[Blocker]:
    """Return everything in the way, each with a way out. ``backups`` is where copies go, on this host."""
    if seen.at_work:
        # What is half done looks as if it were broken off, and what would free that would break this.
        look = shell("pgrep", "-af", f"upgrade.*{seen.name}")
        return [Blocker(f"A cesapp upgrades {seen.name} now: wait until it has ended.", look)]
    return [*_broken_off(seen), *_silent(seen), *_inconsistent(seen), *_no_room(
        seen, wanted, backups, free_for_backups, same_disk
    )]  # fmt: skip


def _broken_off(seen: Seen) -> Iterator[Blocker]:
    keys = seen.keys or {}
    if keys.get(LOCAL_STATE) == UPGRADING:
        if seen.post_upgrade_runs:
            yield Blocker(
                f"A post-upgrade is at work in {seen.name}: wait until it has ended.",
                shell("docker", "logs", seen.name),
            )
        elif seen.cluster is not None:
            # It had not come to the new version: the one that runs has served since before.
            yield Blocker(
                f"An upgrade of {seen.name} was broken off: {seen.stuck}. {seen.version} serves its data, so remove the"
                " key.",
                shell("docker", "exec", seen.name, "doguctl", "config", "--rm", LOCAL_STATE),
            )
        else:
            of_it = seen.data_major == str(seen.version.major)
            what = "as it should be" if of_it else "which it cannot run on"
            yield Blocker(
                f"An upgrade of {seen.name} to {seen.version} was broken off: {seen.stuck}, and the data in {seen.data}"
                f" is of {seen.data_major or 'no'} major version, {what}. Copy {seen.volume} to another place first."
                f" Then run its post-upgrade again, with the version before as FROM (docker exec {seen.name}"
                f" /post-upgrade.sh FROM {seen.version}): it does what is left to do, a dump and migrations among that,"
                " and lets the startup go on.",
                shell("docker", "logs", "--tail", "50", seen.name),
            )
        if seen.cluster is None:
            # What else is there is what post-upgrade needs.
            return
    if keys.get(DUMP_KEY):
        yield Blocker(
            f"The registry key {DUMP_KEY} of {seen.name} names {keys[DUMP_KEY]}, a dump of an upgrade that was broken"
            " off: the next upgrade would empty the data and restore that dump. Move the dump to another place, then"
            " remove the key.",
            shell("docker", "exec", seen.name, "doguctl", "config", "--rm", DUMP_KEY),
        )
    for path in seen.left_over:
        yield Blocker(
            f"{path} is left of an upgrade that was broken off, and would get in the way of this one or be restored"
            " over the data by the next start: look at it, and move it to another place.",
            shell("ls", "-la", path),
        )


def _silent(seen: Seen) -> Iterator[Blocker]:
    if seen.cluster is None and not (seen.keys or {}).get(LOCAL_STATE):
        yield Blocker(
            f"The server in {seen.name} does not answer ({seen.why_silent}), so that it cannot be backed up, nor shut"
            " down cleanly.",
            shell("docker", "logs", "--tail", "50", seen.name),
        )
    if seen.cluster is not None and not seen.serves:
        yield Blocker(
            f"The server that answers in {seen.name} is not its main process: a script of the dogu is at work on the"
            " data, or its startup does not hand over to the server, and then this cannot tell a temporary server from"
            " the one that serves.",
            shell("docker", "top", seen.name),
        )
    if seen.cluster is not None and seen.cluster.in_recovery:
        yield Blocker(f"{seen.name} is a standby: it is its primary that is upgraded.")


def _inconsistent(seen: Seen) -> Iterator[Blocker]:
    if seen.cluster is None or seen.keys is None:
        return
    user = seen.keys.get(USER, "")
    show = shell("docker", "exec", seen.name, "doguctl", "config", USER)
    if not user:
        yield Blocker(f"The registry has no {USER} of {seen.name}, by which its scripts log in.", show)
    elif user not in seen.superusers:
        yield Blocker(
            f"The registry says that the user of {seen.name} is {user}, and no superuser of the server is called so"
            f" ({', '.join(seen.superusers)}): the dump would fail, or lack something.",
            show,
        )
    if not seen.has_password:
        yield Blocker(
            f"The registry has no password of {seen.name}, by which other dogus are given their accounts.", show
        )


def _no_room(seen: Seen, wanted: Version, backups: str, free: int, same_disk: bool) -> Iterator[Blocker]:
    if (backups + "/").startswith(seen.volume + "/"):
        yield Blocker(
            f"The copies would go to {backups}, which is on the volume that the dogu empties: set backup_dir to a"
            " directory elsewhere."
        )
    size = seen.cluster.size_bytes if seen.cluster else 0
    if seen.cluster is not None and seen.cluster.prepared_transactions and way(seen.version, wanted) != EQUAL:
        # Also within a major version: where the dogu's layout changes, it dumps.
        yield Blocker(
            f"{seen.cluster.prepared_transactions} prepared transactions are open in {seen.name}, which a dump does not"
            " have: commit or roll them back.",
            shell("docker", "exec", seen.name, "psql", "-U", seen.cluster.superuser, "-c", "TABLE pg_prepared_xacts"),
        )
    # The dump and the new cluster are in the volume at one time, beside the old one where that is not emptied before.
    inside = 2 * size + MARGIN
    whole = max(seen.volume_bytes, size)
    # The backup and the original; and all that is in the volume afterwards, where it is undone.
    copies = size + whole + (whole + 2 * size) + MARGIN
    if same_disk:
        inside, copies = inside + copies, inside + copies
    for what, there, needed in ((seen.volume, seen.free_bytes, inside), (backups, free, copies)):
        if there < needed:
            yield Blocker(
                f"The file system of {what} has {there >> 20} MiB free, and the upgrade, with the way back from it, may"
                f" need {needed >> 20} MiB there: {(needed - there) >> 20} MiB are missing. Free them, or set"
                " backup_dir to another file system.",
                shell("df", "-h", what),
            )
            if same_disk:
                return


def steps_of(
    seen: Seen, wanted: Version, *, backup: str, backup_path: str, original: str, sought: Sequence[str]
) -> tuple[Step, ...]:
    """Return the steps from the version that runs to ``wanted``; ``sought``: which dependents are looked for."""
    base: dict[str, Any] = {"from": str(seen.version), "to": str(wanted), "volume": seen.volume, "original": original}
    keys: Mapping[str, str] = dict(seen.keys or {})
    dependents = [each.as_dict() for each in seen.dependents if each.running]
    identity = str(seen.cluster.system_identifier) if seen.cluster else ""
    return (
        Step(KEEP, "keep the image", PREPARE, {"image_id": seen.image_id}),
        Step(BACKUP, "backup", PREPARE, {"path": backup_path, "format": backup}),
        Step(WARM, "copy", PREPARE, base),
        Step(QUIET, "quiet", SWITCH, {"dependents": dependents, "sought": list(sought)}),
        Step(ORIGINAL, "original", SWITCH, {**base, "data": seen.data, "system_identifier": identity}),
        Step(UPGRADE, "upgrade", SWITCH, {**base, "keys": dict(keys), "container": seen.container,
             "system_identifier": identity, "policy": seen.policy, "retries": seen.retries}),
        Step(PROVE, "prove", SWITCH, {**base, "keys": dict(keys)}, proves=True),
        Step(DEPENDENTS, "start the dependents", FINISH, {"dependents": dependents}),
    )  # fmt: skip


def text_of(seen: Seen, wanted: Version, *, backup_path: str, original: str, blockers: list[Blocker]) -> str:
    """Return the plan as an admin reads it."""
    size = (seen.cluster.size_bytes if seen.cluster else 0) >> 20
    how = {
        MAJOR: "another major version: the dogu dumps everything, empties its data, and restores the dump",
    }.get(
        way(seen.version, wanted),
        "the same major version: on the files that are there, unless the dogu's layout changes between the two, which"
        " takes a dump and a restore",
    )
    lines = [
        f"Dogu {seen.name}: {seen.version} → {wanted}",
        f"  how        cesapp upgrade dogu {seen.name} {wanted}, watched; {how}",
        f"  data       {seen.data} ({size} MiB, Postgres {seen.data_major})",
        f"  backup     {backup_path}, restored into a server of its own to prove it, before anything stops",
        f"  original   {original}, a copy of the whole volume as it was shut down",
        f"  stopped    {', '.join(each.name for each in seen.dependents if each.running) or 'no dependent'}",
    ]
    lines += [f"  BLOCKER: {each.text}" for each in blockers]
    return "\n".join(lines)
