# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options that every module about a compose project shares, and what they turn into.

Named as in community.docker, and documented in the doc fragment ``project``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.command_line import ProjectOptions
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.docker import DEFAULT_HOST, Connection

PROJECT_ARGUMENTS: dict[str, Any] = {
    "project_src": {"type": "path", "required": True},
    "project_name": {"type": "str", "default": ""},
    "files": {"type": "list", "elements": "path", "default": []},
    "profiles": {"type": "list", "elements": "str", "default": []},
    "env_files": {"type": "list", "elements": "path", "default": []},
}

ENGINE_ARGUMENTS: dict[str, Any] = {
    "docker_host": {"type": "str", "default": "", "aliases": ["docker_url"]},
    "tls": {"type": "bool", "default": False},
    "validate_certs": {"type": "bool", "default": False, "aliases": ["tls_verify"]},
    "ca_path": {"type": "path", "default": "", "aliases": ["ca_cert", "tls_ca_cert", "cacert_path"]},
    "client_cert": {"type": "path", "default": "", "aliases": ["tls_client_cert", "cert_path"]},
    "client_key": {"type": "path", "default": "", "aliases": ["tls_client_key", "key_path"]},
    "tls_hostname": {"type": "str", "default": ""},
    "timeout": {"type": "int", "default": 120},
    "compose_program": {"type": "list", "elements": "str", "default": []},
}

POSTGRESQL_LOGIN_ARGUMENTS: dict[str, Any] = {
    "login_user": {"type": "str", "default": ""},
    "login_password": {"type": "str", "default": "", "no_log": True},
    "login_db": {"type": "str", "default": ""},
}

LOGIN_ARGUMENTS: dict[str, Any] = {
    **POSTGRESQL_LOGIN_ARGUMENTS,
    "redis_password": {"type": "str", "default": "", "no_log": True},
}


def project_options(params: Mapping[str, Any]) -> ProjectOptions:
    return ProjectOptions(
        project_src=os.path.abspath(params["project_src"]),
        project_name=params["project_name"],
        files=tuple(params["files"]),
        profiles=tuple(params["profiles"]),
        env_files=tuple(params["env_files"]),
    )


def connection(params: Mapping[str, Any]) -> Connection:
    """Return how the engine is reached: by the options, else by DOCKER_HOST, else at its usual socket."""
    return Connection(
        docker_host=params["docker_host"] or os.environ.get("DOCKER_HOST", "") or DEFAULT_HOST,
        tls=params["tls"],
        validate_certs=params["validate_certs"],
        ca_path=params["ca_path"],
        client_cert=params["client_cert"],
        client_key=params["client_key"],
        tls_hostname=params["tls_hostname"],
        timeout=params["timeout"],
    )
