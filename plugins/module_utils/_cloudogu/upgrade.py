# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The upgrade itself: ``cesapp`` watched, what it leaves hanging resolved, and the way back to the old version."""

from __future__ import annotations

import os
import shutil
import time

from ansible_collections.selfhost.stateful.plugins.module_utils._clock import POLL, until
from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu import ces
from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.ces import Host
from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.model import (
    DUMP_IN_DATA,
    DUMP_KEY,
    KEYS,
    LOCAL_STATE,
    LOCK_OF_DUMP,
    VOLUME,
    version_of_image,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.steps import (
    RESTARTS,
    dependents_of,
    has_begun,
    note_writers,
    retained,
    start,
    start_dependents,
    stop_dependents,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.commands import logs_of
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.last_words import last_words, without_statements
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context, Evidence
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.handlers import NothingToUndo
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import DONE, Step
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.cluster import system_identifier
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import compare, settle

POST_UPGRADE = "/post-upgrade.sh"
KEPT_ASIDE = "kept aside"
PUT_BACK = "put back"
GRACE_OF_A_STARTUP = 2.0


class Upgrade(NothingToUndo):
    """The dogu runs the wanted version, and serves.

    args: ``from``, ``to``, ``keys`` of the registry and ``container`` as they were, ``volume``, ``original``,
    ``system_identifier``. Nothing of the dogu's ever runs on ``original``, which is outside of its volume.
    """

    def is_done(self, step: Step, context: Context[Host]) -> Evidence | None:
        host = context.world
        if str(host.version()) != step.args["to"] or not host.serves(host.container()):
            return None
        return context.evidence.get(step.name, {}) if not host.keys().get(LOCAL_STATE) else None

    def apply(self, step: Step, context: Context[Host]) -> Evidence:
        host, args, directory = context.world, step.args, context.operation.directory
        began, broken_off = time.monotonic(), has_begun(context)
        if not broken_off:
            process = host.begin(("upgrade", "dogu", host.name, args["to"]), directory)
            in_time = until(lambda: process.poll() is not None, host.upgrade_timeout)
            result = f"ended with {process.returncode}" if in_time else "did not end"
        else:
            # Of a run that was killed: cesapp went on without it.
            in_time = until(lambda: not host.at_work(), host.upgrade_timeout)
            result = "has ended without this run" if in_time else "did not end"
        if not in_time:
            note = ces.noted(directory)
            if note is not None:
                ces.end(note)
            result += f" within {host.upgrade_timeout:.0f} s and was ended"
        if str(host.version()) != args["to"]:
            raise StatefulError(
                f"{host.typed('upgrade', 'dogu', host.name, args['to'])} {result}, and {host.name} is at"
                f" {host.version() or 'no version: its container is gone'}.\n{ces.said(directory)}"
            )
        # cesapp started them again: what they write before the proof is neither proved nor in the original.
        if broken_off:
            note_writers(context)
        stop_dependents(host, dependents_of(context))
        resolved = self._bring_up(host, args["from"], args["to"])
        stop_dependents(host, dependents_of(context))
        return {"seconds": round(time.monotonic() - began, 2), "cesapp": result, "resolved": resolved}

    def _bring_up(self, host: Host, old: str, new: str) -> list[str]:
        """Wait until the new version serves; what a dead post-upgrade left waiting is resolved, once."""
        resolved: list[str] = []
        ends, starts = time.monotonic() + host.ready_timeout, set[str]()
        while True:
            container = host.container()
            starts.add(container.started_at)
            if container.pid and host.waits() and not host.post_upgrade_runs(container):
                if resolved:
                    raise StatefulError(
                        f"post-upgrade of {host.name} leaves {LOCAL_STATE} behind each time that it is run.",
                        next_command=logs_of(host.name),
                    )
                resolved.append(self._finish(host, container, old, new))
                ends = time.monotonic() + host.ready_timeout
            elif host.serves(container):
                return resolved
            if container.status in ("exited", "dead") or len(starts) > RESTARTS:
                raise self._failed(host, container, f"ended with code {container.exit_code}, {len(starts)} times")
            if time.monotonic() >= ends:
                raise self._failed(host, container, f"does not serve after {host.ready_timeout:.0f} s")
            time.sleep(POLL)

    @staticmethod
    def _finish(host: Host, container: Container, old: str, new: str) -> str:
        answer = host.engine.execute(container.id, (POST_UPGRADE, old, new))
        if answer.rc != 0:
            raise StatefulError(
                f"post-upgrade of {host.name} died, and does so again (exit code {answer.rc}):"
                f" {without_statements(answer.error_text())}",
                next_command=logs_of(host.name),
            )
        return f"post-upgrade had died and left {LOCAL_STATE} behind; it was run again"

    @staticmethod
    def _failed(host: Host, container: Container, what: str) -> StatefulError:
        return StatefulError(
            f"The new version of {host.name} {what}.\n{last_words(host.engine, container, tail=20)}",
            next_command=logs_of(host.name),
        )

    def undo(self, step: Step, context: Context[Host]) -> Evidence:
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
        if self._is_untouched(host, step):
            return {"untouched": True}
        # Once it was put back somebody may have written to it: then it is the only copy of that.
        if PUT_BACK not in context.operation.history().evidence:
            stop_dependents(host, dependents_of(context))
            self._keep_new(step, context)
            bring_version_back(host, args["from"], directory)
            # That cesapp started them, too.
            stop_dependents(host, dependents_of(context))
            _stop(host)
            put_back(args["original"], args["volume"], directory)
            context.operation.journal.evidence(PUT_BACK, {"volume": args["volume"]}, durable=True)
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

    @staticmethod
    def _keep_new(step: Step, context: Context[Host]) -> None:
        """What the new version has taken is given up, and not thrown away: it goes beside the original.

        Also where it was never proved: ``cesapp`` starts the dependents, which may have written.
        """
        host, journal = context.world, context.operation.journal
        path = f"{step.args['original']}.discarded"
        if KEPT_ASIDE in context.operation.history().evidence:
            return
        record = os.path.join(context.operation.directory, "discarded.record")
        try:
            _stop(host, kill=False)
            settle.settle(step.args["volume"], path, record=record)
            _refuse_differences(step.args["volume"], path)
        except Exception:
            # A version that was proved is as good as before: it is not left down because its copy failed.
            if context.operation.history().state == DONE:
                start(host)
                start_dependents(host, dependents_of(context))
            raise
        made = retained(host, path, f"what {step.args['to']} had")
        journal.evidence(KEPT_ASIDE, {"copies": [made.as_dict()]}, durable=True)

    @staticmethod
    def _is_untouched(host: Host, step: Step) -> bool:
        """Tell whether ``cesapp`` ended before it did anything: the same container serves, with the same keys."""
        container = host.engine.container(host.name)
        same = container is not None and container.id == step.args["container"] and host.serves(container)
        left = (LOCK_OF_DUMP, DUMP_IN_DATA)
        clean = not any(os.path.lexists(os.path.join(step.args["volume"], name)) for name in left)
        return same and clean and host.keys() == step.args["keys"]


def bring_version_back(host: Host, old: str, directory: str) -> None:
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
    _stop(host)
    _empty(next(mount.source for mount in container.mounts if mount.destination == VOLUME))
    host.engine.start(container.id)
    until(lambda: host.serves(host.container()) or _can_ask(host), 60.0)
    # A dump that is named here would be restored by the old version's post-upgrade.
    host.set_key(DUMP_KEY, "")
    _call(host, ("upgrade", "dogu", host.name, old, "--force"), directory)
    back = host.typed("upgrade", "dogu", host.name, old, "--force")
    if str(host.version()) != old:
        raise StatefulError(f"{back} did not bring {old} back:\n{ces.said(directory)}", next_command=back)


def _can_ask(host: Host) -> bool:
    container = host.container()
    return bool(container.pid) and container.status == "running" and bool(host.waits())


def _call(host: Host, words: tuple[str, ...], directory: str) -> None:
    """Run ``cesapp`` to its end. How it ended decides nothing: what is there afterwards does."""
    process = host.begin(words, directory)
    if not until(lambda: process.poll() is not None, host.upgrade_timeout):
        note = ces.noted(directory)
        if note is not None:
            ces.end(note)


def _stop(host: Host, *, kill: bool = True) -> None:
    """Stop the dogu; ``kill``: also a server that does not end in time, because nothing that it has is needed."""
    container = host.engine.container(host.name)
    if container is not None and container.running:
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
    _refuse_differences(original, volume)


def _refuse_differences(source: str, made: str) -> None:
    differences = compare.compare_trees(source, made)
    if differences:
        shown = "; ".join(f"{each.path} ({each.what})" for each in differences[:5])
        raise StatefulError(f"The copy in {made} is not what {source} is: {shown}.", state=f"{source} is whole")


def _keys_back(host: Host, keys: object) -> None:
    """Give the registry back what it had; the container may be waiting for that, and starts then."""
    wanted = dict(keys) if isinstance(keys, dict) else {}
    for key in KEYS:
        host.set_key(key, wanted.get(key, ""))
