# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Restore a logical backup into a server that holds nothing yet: all of it, or nothing.

Every database is restored under a name that no application knows, counted there, and all
get their own names in one transaction at the end. So nobody can write into half a database,
and what an interrupted restore left can be removed without asking what is in it.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import globals as cluster_globals
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import pg_restore, sql
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.cluster import server_version
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.counts import (
    Counts,
    compare_counts,
    count_database,
    emptied_behind,
    relations,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.compare import refuse_losses
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.model import Fingerprint
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.take import ESTIMATED, take
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.globals import Globals
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.logical_catalogue import (
    Catalogue,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.pg_restore import Target
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.transport import SqlError

DAYS = 86400.0
EVERY_TABLE = 1 << 62

TEMPORARY = "selfhost_stateful_restoring_"
REPLACED = "selfhost_stateful_replaced_"
DESK = f"{TEMPORARY}desk"
# A new database is a copy of it, so that it keeps its place, and is filled in one transaction when all else is there.
TEMPLATE = "template1"
TEMPLATE_TRIED = f"{TEMPORARY}template"
OBJECT_IN_USE = "55006"
FIRST_WITH_SUBSCRIPTIONS = 100000
CLOSED_PUBLIC = 150000
DATABASE_OWNER = 140000
"""The first server that has the role pg_database_owner."""
RENAME_SECONDS = 60.0
PAUSE = 0.2


@dataclass(frozen=True)
class Brought:
    """What is in the target, still under temporary names.

    ``left_out`` are settings that it does not know, ``memberships_left_out`` (``member in role``) those in predefined
    roles that it does not have, ``parameters_left_out`` settings on which it knows no privileges. ``emptied_behind``
    are tables whose rows no count could be held against (:func:`counts.emptied_behind`).
    """

    counts: Counts
    roles: tuple[str, ...]
    tablespaces: tuple[str, ...]
    kept_roles: tuple[str, ...]
    left_out: tuple[str, ...]
    memberships_left_out: tuple[str, ...] = ()
    parameters_left_out: tuple[str, ...] = ()
    emptied_behind: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fill:
    """Rows that are not in the dump, of some databases.

    ``bring_rows`` gets a database's name and its temporary one, when its tables are there and nothing is built on them.
    """

    databases: frozenset[str]
    bring_rows: Callable[[str, str], None]


def missing_roles(target: Target, wanted: Globals) -> tuple[str, ...]:
    """Return the roles that a restore makes: what exists is kept as it is."""
    existing = cluster_globals.role_names(target.session)
    return tuple(role.name for role in wanted.roles if role.name not in existing)


def missing_tablespaces(target: Target, wanted: Globals) -> tuple[str, ...]:
    existing = cluster_globals.tablespace_names(target.session)
    return tuple(space.name for space in wanted.tablespaces if space.name not in existing)


def bring(
    target: Target,
    dump: str,
    catalogue: Catalogue,
    *,
    jobs: int,
    operation: str,
    labels: Mapping[str, str],
    expected: Fingerprint | None = None,
    fill: Fill | None = None,
) -> Brought:
    """Bring roles and tablespaces, restore every database under its temporary name, and compare the rows of each.

    ``expected`` is what a server showed that was restored from this dump before. ``fill`` brings rows that are not in
    the dump.

    Any error of a client program and any table with other rows than the dump's snapshot
    had raises :class:`StatefulError`; :func:`clear` then takes everything back.
    """
    wanted, session = catalogue.globals, target.session
    roles, spaces = missing_roles(target, wanted), missing_tablespaces(target, wanted)
    existing = cluster_globals.role_names(session)
    nowhere = cluster_globals.unknown_memberships(wanted, existing)
    wanted = replace(wanted, memberships=tuple(each for each in wanted.memberships if each not in nowhere))
    names = temporary_names(catalogue)
    known = cluster_globals.setting_names(session)
    # Password hashes are among the statements, and a server may log those.
    session.run("SET log_statement = 'none'")
    session.run("SET log_min_duration_statement = -1")
    session.run("SET log_min_error_statement = 'panic'")
    _run_all(session, cluster_globals.role_statements(wanted, existing), "The restore of the roles")
    _run_all(
        session, cluster_globals.membership_statements(wanted, target.version), "The restore of the roles' memberships"
    )
    _run_all(
        session,
        cluster_globals.parameter_statements(wanted, target.version),
        "The restore of the privileges on settings",
    )
    in_no_database = [setting for setting in wanted.settings if not setting.database]
    _run_all(
        session,
        cluster_globals.setting_statements(in_no_database, known, {}),
        "The restore of the roles' settings",
    )
    made = cluster_globals.tablespace_statements(wanted, cluster_globals.tablespace_names(session))
    _run_all(session, made, "The restore of the tablespaces")
    found, derived = {}, {}
    for name, directory in catalogue.directories.items():
        there, what = names[name], f"The restore of the database {name}"
        _run_all(session, [cluster_globals.creation(wanted.frame(name), there, target.version)], what)
        _prepare(target, catalogue, name, there, what)
        restore = functools.partial(
            pg_restore.restore, target, dump, directory, there, what, operation=operation, labels=labels
        )
        if fill is not None and name in fill.databases:
            restore(jobs=jobs, sections=pg_restore.BEFORE_INDEXES)
            fill.bring_rows(name, there)
            restore(jobs=jobs, sections=pg_restore.INDEXES)
        else:
            restore(jobs=jobs)
        _dress(session, wanted, name, there, known)
        with session.sibling(there).without_timeouts() as opened:
            found[name] = count_database(opened, ends=time.monotonic() + DAYS, exact_up_to=EVERY_TABLE)
            derived[name] = {f"{table.schema}.{table.name}" for table in relations(opened) if table.is_derived}
    counts = Counts(found, {})
    wanted_counts, own_counts = _own(catalogue.counts, derived), _own(counts, derived)
    behind = emptied_behind(wanted_counts, own_counts)
    lost = _differences(wanted_counts, own_counts, behind)
    if lost:
        raise StatefulError(f"The dump does not hold what its snapshot held: {'; '.join(lost[:20])}.")
    if expected is not None:
        _compare_with(expected, session, names, roles, jobs)
    return Brought(
        counts=counts,
        roles=roles,
        tablespaces=spaces,
        kept_roles=tuple(sorted({role.name for role in wanted.roles} & existing)),
        left_out=tuple(
            sorted({setting.name for setting in wanted.settings if cluster_globals.is_unknown(setting, known)})
        ),
        memberships_left_out=tuple(f"{each.member} in {each.role}" for each in nowhere),
        parameters_left_out=tuple(
            sorted({each.parameter for each in wanted.parameters})
            if target.version < cluster_globals.WITH_PARAMETER_GRANTS
            else ()
        ),
        emptied_behind=tuple(f"{name}: {table}" for name, tables in behind.items() for table in tables),
    )


def _own(counts: Counts, derived: Mapping[str, set[str]]) -> Counts:
    """Return the counts without what a restore computes anew, and what an extension brings by itself."""
    databases = {
        name: {table: count for table, count in tables.items() if table not in derived.get(name, ())}
        for name, tables in counts.databases.items()
    }
    return replace(counts, databases=databases)


def _differences(wanted: Counts, found: Counts, behind: Mapping[str, list[str]]) -> list[str]:
    """Return what differs in words, but for the tables that were emptied ``behind`` the dump."""
    differences = compare_counts(wanted, found)
    return [str(each) for each in differences if each.subject not in behind.get(each.database, ())]


def _compare_with(
    expected: Fingerprint, session: Session, names: Mapping[str, str], roles: tuple[str, ...], jobs: int
) -> None:
    """Raise where anything of ``expected`` is missing that is told without the databases' own names."""
    found = take(session, rows=ESTIMATED, jobs=jobs, databases=list(names.values()))
    wanted = replace(
        expected,
        databases={name: database for name, database in expected.databases.items() if name in names},
        roles={name: role for name, role in expected.roles.items() if name in roles},
        settings={},
        grants={},
        skipped={},
    )
    there = replace(found, databases={name: found.databases[other] for name, other in names.items()}, skipped={})
    refuse_losses(wanted, there, "What was restored lacks what the backup had when it was proved")


def _prepare(target: Target, catalogue: Catalogue, name: str, database: str, what: str) -> None:
    """Give an empty database the schema public that the dump takes for granted.

    A dump names what differs from the defaults of the program that made it, whatever the server was. Up to 14 everybody
    may create in that schema, from 15 on nobody: applications would meet a refusal, or, on the way to an older major,
    anybody could do what nobody could.
    """
    statements = []
    if catalogue.defaults_of < CLOSED_PUBLIC <= target.version:
        owner = sql.identifier(catalogue.globals.superuser)
        statements = [f"ALTER SCHEMA public OWNER TO {owner}", "GRANT CREATE ON SCHEMA public TO PUBLIC"]
    elif target.version < CLOSED_PUBLIC <= catalogue.defaults_of:
        statements = ["REVOKE CREATE ON SCHEMA public FROM PUBLIC"]
        if target.version < DATABASE_OWNER:
            # Whose the schema is elsewhere is a role that stands for the owner of the database.
            owner = sql.identifier(catalogue.globals.frame(name).owner)
            statements.append(f"ALTER SCHEMA public OWNER TO {owner}")
    if statements:
        with target.session.sibling(database) as there:
            _run_all(there, statements, what)


def _dress(session: Session, wanted: Globals, name: str, there: str, known: set[str]) -> None:
    settings = [setting for setting in wanted.settings if setting.database == name]
    statements = cluster_globals.setting_statements(settings, known, {name: there})
    statements += cluster_globals.frame_statements(wanted.frame(name), there)
    _run_all(session, statements, f"The restore of what belongs to the database {name}")


def fill_template(
    target: Target, dump: str, catalogue: Catalogue, *, operation: str, labels: Mapping[str, str]
) -> None:
    """Fill ``TEMPLATE``, which is empty, in one transaction; :func:`bring` has shown that its dump can be restored."""
    directory, what = catalogue.directories[TEMPLATE], f"The restore of the database {TEMPLATE}"
    _prepare(target, catalogue, TEMPLATE, TEMPLATE, what)
    pg_restore.restore(target, dump, directory, TEMPLATE, what, jobs=0, operation=operation, labels=labels)
    _dress(target.session, catalogue.globals, TEMPLATE, TEMPLATE, cluster_globals.setting_names(target.session))


def temporary_names(catalogue: Catalogue) -> dict[str, str]:
    """Return the name under which each database is restored first."""
    numbered = {name: f"{TEMPORARY}{number}" for number, name in enumerate(sorted(catalogue.directories))}
    return {name: TEMPLATE_TRIED if name == TEMPLATE else there for name, there in numbered.items()}


def publish(
    session: Session,
    catalogue: Catalogue,
    *,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Give all databases their own names in one transaction, and those that stood there before another one.

    ``session`` is connected to ``TEMPLATE``, which alone keeps its name.
    """
    names = {name: there for name, there in temporary_names(catalogue).items() if name != TEMPLATE}
    taken = sorted(database_names(session) & names.keys())
    aside = {name: f"{REPLACED}{number}" for number, name in enumerate(taken)}
    renames = [*aside.items(), *((there, name) for name, there in names.items())]
    swap = "; ".join(f"ALTER DATABASE {sql.identifier(old)} RENAME TO {sql.identifier(new)}" for old, new in renames)
    session.run(f"CREATE DATABASE {sql.identifier(DESK)} TEMPLATE template0")
    ends = clock() + RENAME_SECONDS
    # Nobody can rename the database that he is connected to.
    with session.sibling(DESK) as desk:
        while True:
            try:
                desk.run(f"BEGIN; {swap}; COMMIT")
                return
            except SqlError as error:
                if desk.holds_transactions:
                    desk.run("ROLLBACK")
                if error.sqlstate != OBJECT_IN_USE or clock() >= ends:
                    raise
            pause(PAUSE)


def is_published(databases: Iterable[str]) -> bool:
    """Tell from the names of the databases whether :func:`publish` was interrupted after its transaction."""
    names = set(databases)
    pending = {name for name in names if name.startswith(TEMPORARY)} - {DESK, TEMPLATE_TRIED}
    return DESK in names and not pending


def database_names(session: Session) -> set[str]:
    return {str(name) for (name,) in session.rows("SELECT datname FROM pg_database")}


def leftover_bytes(session: Session) -> int:
    """Return what the databases under temporary names hold, which :func:`clear` drops."""
    ours = f"left(datname::text, {len(TEMPORARY)}) = {sql.literal(TEMPORARY)}"
    return int(session.scalar(f"SELECT COALESCE(sum(pg_database_size(oid)), 0)::bigint FROM pg_database WHERE {ours}"))


def drop_leftovers(session: Session, *, is_empty: Callable[[str], bool]) -> list[str]:
    """Drop the databases that bear names of a restore; return those that somebody wrote into before they were replaced.

    What is under a temporary name was never to be used. What was replaced was empty when it was looked at.
    """
    kept = []
    # The desk first: alone it would say that all has been published.
    for name in sorted(database_names(session), key=lambda name: (name != DESK, name)):
        if name.startswith(REPLACED) and not is_empty(name):
            kept.append(name)
        elif name.startswith((TEMPORARY, REPLACED)):
            _drop_subscriptions(session, name)
            _take_back(session, f"ALTER DATABASE {sql.identifier(name)} WITH IS_TEMPLATE false")
            _take_back(session, f"DROP DATABASE {sql.identifier(name)}")
    return kept


def _drop_subscriptions(session: Session, database: str) -> None:
    """Drop what forbids to drop a database; a dump brings it disabled, and with a slot that is another server's."""
    if server_version(session) < FIRST_WITH_SUBSCRIPTIONS:
        return
    found = session.rows(
        "SELECT s.subname FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = %s"
        " ORDER BY s.subname",
        (database,),
    )
    if found:
        with session.sibling(database, {"default_transaction_read_only": "off"}) as there:
            for (name,) in found:
                subscription = f"SUBSCRIPTION {sql.identifier(name)}"
                _take_back(there, f"ALTER {subscription} DISABLE")
                # The slot serves the server that was backed up.
                _take_back(there, f"ALTER {subscription} SET (slot_name = NONE)")
                _take_back(there, f"DROP {subscription}")


def clear(session: Session, roles: Iterable[str], tablespaces: Iterable[str]) -> None:
    """Take back what :func:`bring` made, as far as it got; a role that owns anything by now is kept by the server."""
    drop_leftovers(session, is_empty=lambda name: False)
    existing = cluster_globals.tablespace_names(session)
    for name in tablespaces:
        if name in existing:
            _take_back(session, f"DROP TABLESPACE {sql.identifier(name)}")
    present = cluster_globals.role_names(session)
    dropped = [name for name in roles if name in present]
    granted = cluster_globals.parameter_grants(session, server_version(session))
    for statement in cluster_globals.parameter_revocations(granted, dropped):
        _take_back(session, statement)
    for name in dropped:
        _take_back(session, f"DROP ROLE {sql.identifier(name)}")


def _take_back(session: Session, statement: str) -> None:
    """Run a statement that takes something back; where it is refused, it is what an admin has to get through."""
    try:
        session.run(statement)
    except SqlError as error:
        name = session.container.name
        error.state = (
            f"{name} still holds some of what a restore brought that was not finished; the backup is untouched"
        )
        error.next_command = error.next_command or shell(
            *("docker", "exec", name, "psql", "-U", session.login.user, "-d", session.database, "-c", statement)
        )
        raise


def _run_all(session: Session, statements: Iterable[str], what: str) -> None:
    for statement in statements:
        try:
            session.run(statement)
        except SqlError as error:
            raise StatefulError(f"{what} failed: {error.msg}") from error
