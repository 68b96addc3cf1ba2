# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""pg_restore, run in a helper: one database from its dump, all of it or some of its sections."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Bind, Helper
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import globals as cluster_globals
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import helpers, paths
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.logical_catalogue import DUMP_TARGET
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.routes import Route
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.transport import session_options

ROLE = "logical-restore"
DAYS = 86400.0
# Newest first: transaction_timeout came with 17, default_toast_compression with 14, the other with 12.
OF_A_DUMPS_SESSION = ("transaction_timeout", "default_toast_compression", "default_table_access_method")
_REFUSED_SETTING = re.compile(r'unrecognized configuration parameter "([^"]+)"')
AT_ITS_END = "errors ignored on restore"
"""What pg_restore says last where it went on after errors."""
BEFORE_INDEXES, INDEXES = ("pre-data", "data"), ("post-data",)


@dataclass(frozen=True)
class Target:
    """The server to restore into; ``session`` is a superuser's, ``route`` is for the client programs.

    ``image_id`` is the image of those, ``run`` what runs them. Where they are newer than the server, ``unknown`` are
    the settings that they make for their own session and that it does not know (:func:`unknown_settings`).
    """

    session: Session
    version: int
    route: Route
    image_id: str
    run: helpers.Run
    unknown: tuple[str, ...] = ()


def unknown_settings(session: Session) -> tuple[str, ...]:
    """Return the settings of a dump's own session that a server does not know: it refuses them, and that is all."""
    known = cluster_globals.setting_names(session)
    return tuple(name for name in OF_A_DUMPS_SESSION if name not in known)


def restore(
    target: Target,
    dump: str,
    directory: str,
    database: str,
    what: str,
    *,
    jobs: int,
    operation: str,
    labels: Mapping[str, str],
    sections: tuple[str, ...] = (),
) -> None:
    """Fill one database from its dump; without ``jobs`` in one transaction, unless the server refuses a setting.

    ``sections`` are pg_restore's, all of them where none is named.

    Every error ends it; but for the refusal of a setting that the target is known not to know, which is
    told from the words and from nothing being said beside it.
    """
    at_once: tuple[str, ...] = ("-j", str(jobs)) if jobs else ("--single-transaction",)
    if target.unknown:
        at_once = ("-j", str(max(1, jobs)))
    owner = paths.owner_of(dump)
    # A role or a database may be read-only by default, be somebody else, and have little time.
    settings = {**target.session.for_programs(), "default_transaction_read_only": "off", "lc_messages": "C"}
    helper = Helper(
        operation=operation,
        role=ROLE,
        image_id=target.image_id,
        argv=(
            *("pg_restore", *(() if target.unknown else ("--exit-on-error",)), *at_once),
            *(f"--section={section}" for section in sections),
            *(*target.route.switches(), "-d", database),
            f"{DUMP_TARGET}/{directory}",
        ),
        user=f"{owner[0]}:{owner[1]}",
        binds=(Bind(dump, DUMP_TARGET, read_only=True), *target.route.binds),
        environment={
            **helpers.ENGLISH,
            **target.route.environment,
            "PGOPTIONS": session_options(settings),
        },
        network_mode=target.route.network_mode,
        labels=labels,
    )
    finished = target.run(helper, timeout=DAYS)
    if target.unknown and finished.rc == 1:
        finished = replace(finished, rc=0, output=_but_refused_settings(finished, target.unknown, what))
    helpers.must_be_silent(helpers.must_succeed(finished, what).output, what)


def _but_refused_settings(finished: helpers.Finished, unknown: tuple[str, ...], what: str) -> str:
    """Return what a client program complained of beside settings; raises where not all of it can be read."""
    if finished.cut:
        raise StatefulError(f"{what} failed, and may have said more than is kept:\n{finished.last_words()}")
    if AT_ITS_END not in finished.output:
        raise StatefulError(f"{what} failed before its end:\n{finished.last_words()}")
    lines = finished.output.splitlines()
    return "\n".join(line for line in lines if not set(_REFUSED_SETTING.findall(line)) & set(unknown))
