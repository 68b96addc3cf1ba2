# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a client in a helper container reaches the server: over loopback, or by its socket.

``pg_hba.conf`` decides. The images allow replication from 127.0.0.1 and from the
socket, not from the compose network, so a helper joins the server's own network
namespace; where only the socket is allowed, its directory is mounted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Bind, Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import helpers, paths
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.model import Cluster
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.transport import NO_PASSFILE, Login

LOOPBACK = "127.0.0.1"
SECONDS = 5
SOCKET_TARGET = "/run/selfhost-stateful"


@dataclass(frozen=True)
class Route:
    """Everything that a client program needs to be told; the password travels in ``environment``."""

    host: str
    port: int
    user: str
    network_mode: str
    binds: tuple[Bind, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    def switches(self) -> tuple[str, ...]:
        """Return the connection switches that all client programs share; none may ask for a password."""
        return ("-h", self.host, "-p", str(self.port), "-U", self.user, "-w")


class NoRoute(StatefulError):
    """The server lets no client in that way; ``msg`` says what was tried."""


def find_route(engine: Engine, container: Container, cluster: Cluster, login: Login, *, replication: bool) -> Route:
    """Return the first way by which the server lets ``login`` in; raises :class:`NoRoute`.

    Each way is tried from inside the running container, where it costs one psql.
    """
    environment = {**helpers.ENGLISH, **({"PGPASSWORD": login.password} if login.password else {})}
    sockets = [directory for directory in cluster.unix_socket_directories if not directory.startswith("@")]
    refusals = []
    for host in (LOOPBACK, *sockets):
        refused = _refusal(engine, container, cluster, login, host, replication)
        if refused:
            refusals.append(f"{host}: {refused}")
            continue
        if host == LOOPBACK:
            return Route(host, cluster.port, login.user, f"container:{container.id}", (), environment)
        mountable = paths.mountable_path(container, host)
        if mountable:
            bind = Bind(mountable, SOCKET_TARGET, read_only=True)
            return Route(SOCKET_TARGET, cluster.port, login.user, "none", (bind,), environment)
        refusals.append(f"{host}: it would let us in, but this socket cannot be mounted into another container")
    database = "replication" if replication else "all"
    raise NoRoute(
        f"The server in {container.name} lets {login.user} in by none of: {'; '.join(refusals)}",
        next_command=f"add the line 'host {database} {login.user} 127.0.0.1/32 scram-sha-256' to {cluster.hba_file},"
        " reload the server, set login_password, and run the same task again",
    )


def _refusal(engine: Engine, container: Container, cluster: Cluster, login: Login, host: str, replication: bool) -> str:
    return refusal(
        engine,
        container,
        {
            "dbname": "replication" if replication else login.database,
            **({"replication": "true"} if replication else {}),
            "host": host,
            "port": str(cluster.port),
            "user": login.user,
        },
        password=login.password,
        statement=b"IDENTIFY_SYSTEM\n;\n" if replication else b"SELECT 1\n;\n",
        os_user=login.os_user,
    )


def refusal(
    engine: Engine,
    container: Container,
    conninfo: Mapping[str, str],
    *,
    password: str,
    statement: bytes = b"SELECT 1\n;\n",
    os_user: str = "",
) -> str:
    """Return why psql in a container gets no answer by ``conninfo``, in its own words; empty where it gets one."""
    environment = {"PGPASSFILE": NO_PASSFILE}
    if password:
        environment["PGPASSWORD"] = password
    said = {**conninfo, "connect_timeout": str(SECONDS)}
    told = " ".join(f"{name}='{_quoted(value)}'" for name, value in said.items())
    argv = ("psql", "-X", "-A", "-t", "-w", "-d", told, "-f", "-")
    answer = engine.execute(container.id, argv, environment=environment, user=os_user, stdin=statement)
    return "" if answer.rc == 0 and answer.stdout.strip() else " ".join(answer.error_text().split()) or "no answer"


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")
