# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a result says of a host of dokku's; without any secret."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.model import Service
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import scan

TOLD = ("dokku", "postgres", "maintenance")


def told_versions(found: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    return {name: ".".join(map(str, found[name])) for name in TOLD if found.get(name)}


def described(service: Service) -> dict[str, Any]:
    """Return a service as data for a playbook."""
    return {
        "image": service.image,
        "image_id": service.image_id,
        "version": service.version,
        "status": service.status,
        "links": list(service.links),
        "dsn_host": service.host,
        "database": service.database,
        "size_bytes": size_of(service),
        "data_dir": service.data,
        "settings": service.settings.as_dict(),
        "schedule": service.schedule.as_dict() if service.schedule else None,
        "backup_auth": service.authenticated,
    }


def size_of(service: Service) -> int:
    """Return the bytes that a service's data takes on disk."""
    return scan.tree_size(service.data).bytes_allocated if os.path.isdir(service.data) else 0
