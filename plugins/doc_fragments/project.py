# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options that every module about a compose project shares."""

from __future__ import annotations


class ModuleDocFragment:
    """Documentation of ``_compose/arguments.py``."""

    DOCUMENTATION = r"""
options:
  project_src:
    description:
      - The directory of the project, where C(docker compose) is run.
    type: path
    required: true
  project_name:
    description:
      - The name of the project, where it differs from what compose finds by itself.
    type: str
    default: ""
  files:
    description:
      - The compose files, in order, relative to O(project_src).
      - Left out, they are found as compose finds them, from E(COMPOSE_FILE) in the environment, in O(env_files) or
        in C(.env), else by their usual names, override files included. Compose 1 and 2 prefer different names.
    type: list
    elements: path
    default: []
  profiles:
    description:
      - Profiles that are in use.
    type: list
    elements: str
    default: []
  env_files:
    description:
      - Files to be read in place of C(.env).
    type: list
    elements: path
    default: []
"""

    ENGINE = r"""
options:
  docker_host:
    description:
      - The address of the engine. Left out, E(DOCKER_HOST) is used, else the usual socket.
      - The engine has to run on the host on which the task runs, because its files are moved.
    type: str
    default: ""
    aliases: [docker_url]
  tls:
    description: Whether to talk TLS to the engine.
    type: bool
    default: false
  validate_certs:
    description: Whether to talk TLS to the engine and to check its certificate.
    type: bool
    default: false
    aliases: [tls_verify]
  ca_path:
    description: The certificate authority for the engine's certificate.
    type: path
    default: ""
    aliases: [ca_cert, tls_ca_cert, cacert_path]
  client_cert:
    description: The client certificate for the engine.
    type: path
    default: ""
    aliases: [tls_client_cert, cert_path]
  client_key:
    description: The key of O(client_cert).
    type: path
    default: ""
    aliases: [tls_client_key, key_path]
  tls_hostname:
    description: The name that the engine's certificate is expected to have.
    type: str
    default: ""
  timeout:
    description: Seconds to wait for an answer of the engine.
    type: int
    default: 120
  compose_program:
    description:
      - The compose CLI as a list of words, for example C([docker-compose]). Left out, C(docker compose) is tried
        first and C(docker-compose) second.
    type: list
    elements: str
    default: []
"""

    LOGIN = r"""
options:
  login_user:
    description: The Postgres user to log in with. Left out, the one that the image was started with.
    type: str
    default: ""
  login_password:
    description: The password of O(login_user), needed where the server does not trust its local socket.
    type: str
    default: ""
  login_db:
    description: The database to connect to. Left out, the one that the image was started with.
    type: str
    default: ""
"""

    REDIS_LOGIN = r"""
options:
  redis_password:
    description: The password of Redis. Left out, it is found where the container was given it.
    type: str
    default: ""
"""

    CHANGE = r"""
options:
  backup_dir:
    description:
      - Where backups are put, each in a directory of its own. Another file system is fine. Backups are kept, also when
        the operation is committed.
      - Left out, C(backups) beside O(operations_dir).
    type: path
    default: ""
  rewrite:
    description:
      - V(in_place) changes the compose file, and nothing but the lines concerned. If git tracks the file, the next
        C(git pull) that touches it stops.
      - V(override) writes the override file that belongs to it, which git does not track.
      - V(none) leaves the files alone, because they are made by somebody else and name the mount already.
    type: str
    choices: [in_place, override, none]
    default: in_place
  accept_drift:
    description:
      - Whether other changes that were made to the compose file since a service was created may be applied too, which
        creating it anew does.
    type: bool
    default: false
  max_downtime:
    description: Seconds. A plan whose estimate is longer is refused. V(0) sets no limit.
    type: float
    default: 0
  stop_before:
    description:
      - V(switch) does all that costs no downtime, and halts. The next run without it goes on there. Where an earlier
        run was killed in the downtime, this one goes on and does not halt, so that the services come up again.
      - V(commit) halts before the originals are removed, which this module never does by itself (see
        M(selfhost.stateful.operation)); it is the same as leaving the option out.
    type: str
    choices: [switch, commit]
  stop_timeout:
    description:
      - Seconds that a store gets to stop. One that takes longer is not killed; the operation is undone instead.
    type: int
    default: 120
  ready_timeout:
    description: Seconds that a store gets to answer again. After them the operation is undone.
    type: int
    default: 120
  operations_dir:
    description:
      - Where the journals are. Left out, C(/var/lib/selfhost-stateful/operations), or without root the XDG state
        directory.
    type: path
    default: ""
"""
