# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Volumes, held by a helper while no container of their service needs to be there."""

from __future__ import annotations

import os

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import (
    ANONYMOUS_LABEL,
    OPERATION_LABEL,
    ROLE_LABEL,
    Container,
    Helper,
    RestartPolicy,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context, Evidence
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.handlers import SelfProving
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Step
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import ANONYMOUS
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import Location
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World, transfer_of

HOLDER = "volume-holder"
VOLUME_LABEL = "selfhost.stateful.volume"
HOLDING = ("sleep", "2147483647")
"""What a holder runs: 'infinity' is none for the sleep of older Alpine images."""


class HoldVolume(SelfProving):
    """A helper holds a volume, read-only, from before the stop until the operation has ended.

    A prune takes a volume that no container refers to, with all that is in it, and a container that does not run is
    taken by one first: so it runs, also after a restart of the engine. And a volume with options is mounted by the
    engine only while a container uses it: without one its directory on the host is empty, and settling against that
    would empty the copy.

    args: ``transfer``, whose one end that is a volume is held.
    """

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        known, holders = context.evidence.get(step.name), _holders(step, context)
        if any(container.running for container in holders):
            return known or {"running": True}
        # An image without the program that it would run can hold it stopped at least.
        stopped = known is not None and holders and not known.get("running", True)
        return known if stopped else None

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        engine, location = context.world.engine, _held(step)
        _let_go(step, context)
        if _arrives(step):
            self._make_place(engine, location)
        elif engine.volume(location.volume) is None:
            return {"running": False}  # held, it would be made anew, and look like the one that is gone
        helper = Helper(
            operation=context.operation.id,
            role=HOLDER,
            image_id=transfer_of(step).image_id,
            argv=HOLDING,
            stop_signal="SIGKILL",  # as the first process it hears no other, and an engine that stops would wait for it
            volumes=(location.volume,),
            labels={VOLUME_LABEL: location.volume},
        )
        try:
            engine.set_restart_policy(engine.create_helper(helper), RestartPolicy("unless-stopped"))
        except StatefulError:
            _let_go(step, context)
            if transfer_of(step).options:
                raise  # stopped, it would not have the engine mount what the options point to
            engine.create_helper(helper, start=False)
            return {"running": False}
        return {"running": True}

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        _let_go(step, context)
        location = _held(step)
        path, used = location.path, context.world.engine.containers(volume=location.volume)
        if _arrives(step) and not used and os.path.isdir(path) and not os.listdir(path):
            os.rmdir(path)  # the engine refuses to start a service on the volume then, as it did before
        return {}

    @staticmethod
    def _make_place(engine: Engine, location: Location) -> None:
        """Make the volume and its directory, which a rename has left without one, so that they can be mounted."""
        make_volume(engine, location)
        os.makedirs(location.path, exist_ok=True)


class ReleaseVolume(SelfProving):
    """The holder goes once the data is proved elsewhere. args: ``transfer``."""

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        return None if _holders(step, context) else {}

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        _let_go(step, context)
        return {}

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        return {}


def make_volume(engine: Engine, location: Location) -> None:
    """Make the volume of ``location`` anew where a prune has taken it."""
    if engine.volume(location.volume) is None:
        engine.create_volume(location.volume, labels={ANONYMOUS_LABEL: ""} if location.kind == ANONYMOUS else {})


def _held(step: Step) -> Location:
    transfer = transfer_of(step)
    return transfer.volume_end or transfer.origin


def _arrives(step: Step) -> bool:
    """Tell whether the data is on its way to the volume that is held, and not from there."""
    return _held(step) != transfer_of(step).origin


def _holders(step: Step, context: Context[World]) -> list[Container]:
    labels = {OPERATION_LABEL: context.operation.id, ROLE_LABEL: HOLDER, VOLUME_LABEL: _held(step).volume}
    return context.world.engine.containers(labels=labels)


def _let_go(step: Step, context: Context[World]) -> None:
    for container in _holders(step, context):
        context.world.engine.remove_container(container.id, force=True)
