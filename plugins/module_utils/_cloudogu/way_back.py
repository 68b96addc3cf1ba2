# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The way back: the old version on the old data, and what the new one had kept beside."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._clock import until
from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu import ces
from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.ces import Host
from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.dependents import (
    dependents_of,
    stop_dependents,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.model import (
    DUMP_IN_DATA,
    DUMP_KEY,
    KEYS,
    LOCAL_STATE,
    LOCK_OF_DUMP,
    UPGRADING,
    VOLUME,
    version_of_image,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.steps import retained
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container, RestartPolicy
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context, Evidence
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Step
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.cluster import system_identifier
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import KEPT_IMAGES
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import compare, settle

KEPT_ASIDE = "kept aside"
EMPTYING = "emptying"
PUT_BACK = "put back"
GRACE_OF_A_STARTUP = 2.0
GRACE_OF_SCRATCH = 60.0
"""Seconds that a version gets to come up on data that is none, and its scripts to end on that."""


def go_back(step: Step, context: Context[Host]) -> Evidence:
    """Bring the old version back on the old data. Killed before that is there, it begins anew from the original."""
    host, args, directory = context.world, step.args, context.operation.directory
    note = ces.noted(directory)
    # Once it is undone the dependents may write again: what they wrote is not to be taken from them.
    if note is None or step.name in context.operation.history().undone:
        return {}
    ces.end(note)
    if host.at_work():
        raise StatefulError(
            f"A cesapp that upgrades {host.name} is at work, and this run did not begin it.",
            state=f"the original is in {args['original']}, whole",
            next_command=shell("pgrep", "-af", f"upgrade dogu {host.name}"),
        )
    if _is_untouched(host, step):
        return {"untouched": True}
    # Once it was put back somebody may have written to it: then it is the only copy of that.
    if PUT_BACK not in context.operation.history().evidence:
        stop_dependents(host, dependents_of(context))
        _keep_new(step, context)
        journal = context.operation.journal

        def about_to_empty() -> None:
            journal.evidence(EMPTYING, {"volume": args["volume"]}, durable=True)

        bring_version_back(host, args["from"], args["volume"], directory, about_to_empty)
        # That cesapp started them, too.
        stop_dependents(host, dependents_of(context))
        _stop(host)
        about_to_empty()
        put_back(args["original"], args["volume"], directory)
        context.operation.journal.evidence(PUT_BACK, {"volume": args["volume"]}, durable=True)
    give_policy_back(step, host)
    container = host.container()
    if not container.running:
        host.engine.start(container.id)
    _keys_back(host, args["keys"])
    container = host.wait_serving(host.ready_timeout)
    with host.session(container) as there:
        found = str(system_identifier(there))
    if found != args["system_identifier"] or str(host.version()) != args["from"]:
        raise StatefulError(
            f"{host.name} is at {host.version()} with the cluster {found}, and not at {args['from']} with"
            f" {args['system_identifier']}.",
            state=f"the original is in {args['original']}, whole",
            safe_to_rerun=False,
        )
    # A startup or a post-upgrade may have made another one, in the registry or in the data that is given up.
    host.set_password_of_registry(container)
    return {"system_identifier": found}


def give_policy_back(step: Step, host: Host) -> None:
    """Give the container that stays the restart policy that the dogu had: one that was stopped in a loop has none."""
    # An operation that was begun before this was noted may be rolled back, too.
    if "policy" in step.args:
        policy = RestartPolicy(step.args["policy"], step.args["retries"])
        host.engine.set_restart_policy(host.container().id, policy)


def _keep_new(step: Step, context: Context[Host]) -> None:
    """What the new version has taken is given up, and not thrown away: it goes beside the original.

    Also where it was never proved: ``cesapp`` starts the dependents, which may have written.
    """
    host, journal = context.world, context.operation.journal
    path = f"{step.args['original']}.discarded"
    evidence = context.operation.history().evidence
    if KEPT_ASIDE in evidence and (EMPTYING in evidence or not _ran_since(host, evidence[KEPT_ASIDE])):
        return
    record = os.path.join(context.operation.directory, "discarded.record")
    _stop(host, kill=False)
    settle.settle(step.args["volume"], path, record=record)
    compare.refuse_differences(step.args["volume"], path)
    made = retained(host, path, f"what {step.args['to']} had")
    journal.evidence(KEPT_ASIDE, {"copies": [made.as_dict()], "at": time.time()}, durable=True)


def _ran_since(host: Host, kept: Mapping[str, Any]) -> bool:
    """Tell whether the new version was started after its data was copied: after a reboot, say, it may be written to."""
    container = host.engine.container(host.name)
    return container is not None and "at" in kept and container.started > kept["at"]


def _is_untouched(host: Host, step: Step) -> bool:
    """Tell whether ``cesapp`` ended before it did anything: the same container serves, with the same keys."""
    container = host.engine.container(host.name)
    same = container is not None and container.id == step.args["container"] and host.serves(container)
    left = (LOCK_OF_DUMP, DUMP_IN_DATA)
    clean = not any(os.path.lexists(os.path.join(step.args["volume"], name)) for name in left)
    # A pre-upgrade goes on in the container where its cesapp has died, and leaves its dump and its key later.
    quiet = container is not None and not host.pre_upgrade_runs(container)
    return same and quiet and clean and host.keys() == step.args["keys"]


def bring_version_back(host: Host, old: str, volume: str, directory: str, about_to_empty: Callable[[], None]) -> None:
    """Have the old version's container again, by the CES's own program, whatever the volume holds.

    ``cesapp`` runs scripts in the container that is there: so that they can be run, the new version gets an empty
    volume, on which it starts or waits. They never see the original.
    """
    if host.engine.container(host.name) is None:
        _call(host, ("recreate", "--start", host.name), directory)
    container = host.engine.container(host.name)
    if container is None:
        raise StatefulError(
            f"{host.name} has no container, and {host.typed('recreate', '--start', host.name)} made none:\n"
            f"{ces.said(directory)}",
            next_command=host.typed("recreate", "--start", host.name),
        )
    if str(version_of_image(container.image_ref)) == old:
        return
    _refuse_another_volume(container, volume)
    # A startup that waits runs, and can have scripts run in it; one that meets data which it cannot serve may not.
    # Only one that runs can be told, which it does after a run that was broken off: otherwise it was stopped to be
    # copied. It is not told before that, because it may have to stay, nor started after that, because it might be
    # written to. Then it starts on the empty volume as on a new one, which is waited for below.
    _try_keys(host, {LOCAL_STATE: UPGRADING, DUMP_KEY: ""})
    # The version that comes back has a container, and a policy, of its own; this one is not to come up half-way.
    host.engine.set_restart_policy(container.id, RestartPolicy())
    _stop(host)
    about_to_empty()
    _empty(volume)
    until(lambda: _can_run_scripts(host), GRACE_OF_SCRATCH)
    back = host.typed("upgrade", "dogu", host.name, old, "--force")
    _call(host, ("upgrade", "dogu", host.name, old, "--force"), directory, scratch_version=old)
    if str(host.version()) != old:
        raise StatefulError(
            f"{back} did not bring {old} back:\n{ces.said(directory)}",
            state="the new version has no data, and does not serve; the old image has a name of its own"
            f" ({shell('docker', 'images', KEPT_IMAGES)})",
            next_command=back,
        )


def _refuse_another_volume(container: Container, volume: str) -> None:
    """Raise unless the new version has the volume that was copied: what is in another one has no copy."""
    mount = container.mount_at(VOLUME)
    there = os.path.realpath(mount.source) if mount and mount.source else ""
    if there != os.path.realpath(volume):
        raise StatefulError(
            f"{container.name} has {there or 'nothing'} mounted at {VOLUME}, and not {volume}, which the version before"
            " had: nothing is emptied.",
            safe_to_rerun=False,
            next_command=shell("docker", "inspect", "-f", "{{json .Mounts}}", container.name),
        )


def _can_run_scripts(host: Host) -> bool:
    """Tell whether the container is up for good, on data that is none; one that has ended is started."""
    container = host.container()
    if not container.running:
        host.engine.start(container.id)
        return False
    # A dump that is named here would be restored by the old version's post-upgrade.
    return _try_keys(host, {DUMP_KEY: ""}) and (host.waits() or host.serves(container))


def _try_keys(host: Host, keys: Mapping[str, str]) -> bool:
    """Set keys of the registry, which only a container that runs can be asked for; tell whether that went well."""
    try:
        for key, value in keys.items():
            host.set_key(key, value)
    except StatefulError:
        return False
    return True


def _call(host: Host, words: tuple[str, ...], directory: str, *, scratch_version: str = "") -> None:
    """Run ``cesapp`` to its end. How it ended decides nothing: what is there afterwards does.

    ``scratch_version``: once that is there its scripts get no more than a while. Some wait without a limit for a
    server that cannot start on what the volume holds, which is nothing that anybody needs.
    """
    process, since = host.begin(words, directory), list[float]()

    def over() -> bool:
        if process.poll() is not None:
            return True
        if scratch_version and str(host.version()) == scratch_version:
            since.append(time.monotonic())
            if since[-1] - since[0] > GRACE_OF_SCRATCH:
                _stop(host)
                since.clear()
        return False

    if not until(over, host.upgrade_timeout):
        note = ces.noted(directory)
        if note is not None:
            ces.end(note)


def _stop(host: Host, *, kill: bool = True) -> None:
    """Stop the dogu; ``kill``: also a server that does not end in time, because nothing that it has is needed."""
    container = host.engine.container(host.name)
    if container is not None and container.running:
        if container.status == "restarting":
            # It comes to rest only so; whichever stays is given its policy back.
            host.engine.set_restart_policy(container.id, RestartPolicy())
        # A startup that waits is a shell, which takes no signal.
        serves = host.serves(container)
        grace = host.stop_timeout if serves else GRACE_OF_A_STARTUP
        host.engine.stop(container.id, signal="SIGINT", timeout=grace, kill=kill or not serves)


def _empty(directory: str) -> None:
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)


def put_back(original: str, volume: str, directory: str) -> None:
    """Make the volume what the original is, and prove it; the original stays."""
    if not os.path.isdir(original) or not os.listdir(original):
        raise StatefulError(
            f"The original is not in {original}, so that nothing is emptied.",
            safe_to_rerun=False,
            next_command=shell("ls", "-la", os.path.dirname(original)),
        )
    record = os.path.join(directory, "back.record")
    for name in (record, f"{record}-journal", f"{record}-wal", f"{record}-shm"):
        if os.path.exists(name):
            os.unlink(name)
    _empty(volume)
    settle.settle(original, volume, record=record)
    compare.refuse_differences(original, volume)


def _keys_back(host: Host, keys: object) -> None:
    """Give the registry back what it had; the container may be waiting for that, and starts then."""
    wanted = dict(keys) if isinstance(keys, dict) else {}
    for key in KEYS:
        host.set_key(key, wanted.get(key, ""))
