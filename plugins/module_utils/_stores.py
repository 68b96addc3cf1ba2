# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every kind of store that the collection knows, put together for the modules: the one place that knows them all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.store import Login, PostgresqlStore
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.store import RedisStore
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.files_store import FilesStore
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.store import Store


def stores_from(params: Mapping[str, Any]) -> dict[str, Store]:
    """Return the stores by kind, with the logins of ``LOGIN_ARGUMENTS``; those that recognise nothing come last."""
    return {
        "postgresql": PostgresqlStore(Login(params["login_user"], params["login_password"], params["login_db"])),
        "redis": RedisStore(params["redis_password"]),
        "files": FilesStore(),
    }
