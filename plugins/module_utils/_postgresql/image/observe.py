# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A running cluster with the image that serves it, and the place where a new data directory would lie."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.subject import Reached
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import paths
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.cluster import observe_cluster
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.candidate import (
    examine,
    user_given,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.inventory import take_inventory
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.model import Subject
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.clone import can_clone


@dataclass(frozen=True)
class Place:
    """``free_bytes`` below ``parent``, and how the data now relates to it; see ``compatibility.compare``."""

    parent: str
    free_bytes: int
    reflinks: bool
    same_filesystem: bool


def observe_subject(engine: Engine, session: Session) -> Subject:
    """Return the cluster as it runs, asked through ``session``, a superuser's. Changes nothing."""
    container = session.container
    cluster = observe_cluster(session)
    inventory = take_inventory(session, cluster)
    # By its id: the reference may mean another image by now.
    examined = examine(engine, container.image_id, user=user_given(engine, container))
    image = replace(examined, reference=container.image_ref)
    return Subject(cluster, inventory, image)


def place_beside(reached: Reached, data_directory: str) -> Place | None:
    """Return the place of a new data directory: in the project, else beside the data; None where that is not known."""
    data = paths.mountable_path(reached.container, data_directory)
    parent = reached.project.working_dir if reached.project else os.path.dirname(data)
    if not data or not os.path.isdir(data) or not os.path.isdir(parent):
        return None
    found = os.statvfs(parent)
    cloned = can_clone(data, parent).yes
    return Place(
        parent=parent,
        free_bytes=found.f_bavail * found.f_frsize,
        reflinks=cloned,
        same_filesystem=cloned or os.stat(data).st_dev == os.stat(parent).st_dev,
    )
