# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options that every module about dokku shares."""

from __future__ import annotations


class ModuleDocFragment:
    """Documentation of ``_dokku/arguments.py``."""

    DOCUMENTATION = r"""
options:
  dokku_program:
    description:
      - The C(dokku) command as a list of words, where it is not simply found.
    type: list
    elements: str
    default: [dokku]
  docker_host:
    description:
      - The address of the engine that dokku uses. Left out, E(DOCKER_HOST) is used, else the usual socket.
    type: str
    default: ""
    aliases: [docker_url]
  timeout:
    description: Seconds to wait for an answer of the engine.
    type: int
    default: 120
requirements:
  - root on the host
  - dokku 0.20.4 or later, with its plugin postgres 1.11.5 or later
  - docker (SDK for Python)
"""

    SETTINGS = r"""
options:
  memory:
    description: The container's limit of memory, in megabytes or with a unit, as C(postgres:create --memory) takes it.
    type: str
  shm_size:
    description: The size of the container's shared memory, such as V(256m).
    type: str
  config_options:
    description: Further words for the server, such as V(-c work_mem=8MB).
    type: str
  custom_env:
    description:
      - Further variables of the container. A value has no V(;) and no line break.
      - They are handed to the plugin by its environment, and are no words of a command.
    type: dict
  initial_network:
    description: The network that the container is made in. Empty for the engine's own.
    type: str
  post_create_network:
    description: Networks that the container is put into once it is made, separated by commas.
    type: str
  post_start_network:
    description: Networks that the container is put into once it is started, separated by commas.
    type: str
"""
