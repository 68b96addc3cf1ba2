# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import globals as cluster_globals
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import sql
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.globals import (
    Frame,
    Globals,
    Grant,
    Membership,
    ParameterGrant,
    Role,
    RoleSetting,
    Space,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.globals_joined import joined

APP = Role("app", ("NOSUPERUSER", "LOGIN"), -1, "SCRAM-SHA-256$it's", "2030-01-01 00:00:00+00", 'the "app"\'s')
BOSS = Role("postgres", ("SUPERUSER", "LOGIN"), -1, "", "", "")
FORUM = Frame("fo rum", "app", "UTF8", "C", "C", "c", "", "", "pg_default", -1, False, "", None)
GLOBALS = Globals(
    superuser="postgres",
    roles=(APP, BOSS),
    memberships=(Membership("pg_monitor", "app", True, False, None),),
    settings=(RoleSetting("app", "fo rum", "work_mem", "7MB"),),
    tablespaces=(Space("fast", "app", "/fast", ("seq_page_cost=1.5",), "", (Grant("", "CREATE", False),)),),
    databases=(FORUM,),
)


def test_they_survive_json_and_show_no_hash() -> None:
    assert cluster_globals.from_dict(json.loads(json.dumps(cluster_globals.as_dict(GLOBALS)))) == GLOBALS
    assert "SCRAM" not in repr(GLOBALS)


def test_a_role_that_exists_is_kept() -> None:
    made = cluster_globals.role_statements(GLOBALS, {"postgres"})
    assert made == [
        "CREATE ROLE \"app\" WITH NOSUPERUSER LOGIN CONNECTION LIMIT -1 PASSWORD 'SCRAM-SHA-256$it''s'"
        " VALID UNTIL '2030-01-01 00:00:00+00'",
        "COMMENT ON ROLE \"app\" IS 'the \"app\"''s'",
    ]
    assert cluster_globals.role_statements(GLOBALS, {"postgres", "app"}) == []


@pytest.mark.parametrize(
    "version, membership, options",
    [
        (150000, Membership("a", "b", True, None, None), " WITH ADMIN OPTION"),
        (150000, Membership("a", "b", False, True, True), ""),
        (160000, Membership("a", "b", False, None, None), " WITH ADMIN FALSE"),
        (160000, Membership("a", "b", True, False, True), " WITH ADMIN TRUE, INHERIT FALSE, SET TRUE"),
    ],
)
def test_memberships_say_what_the_server_understands(version: int, membership: Membership, options: str) -> None:
    wanted = replace(GLOBALS, memberships=(membership,))
    assert cluster_globals.membership_statements(wanted, version) == [f'GRANT "a" TO "b"{options}']


@pytest.mark.parametrize(
    "setting, statement",
    [
        (RoleSetting("", "", "work_mem", "7MB"), "ALTER ROLE ALL SET \"work_mem\" TO '7MB'"),
        (RoleSetting("app", "", "a.b", "x'y"), "ALTER ROLE \"app\" SET \"a.b\" TO 'x''y'"),
        (RoleSetting("", "d", "search_path", '"$user", a'), 'ALTER DATABASE "t" SET "search_path" TO \'$user\', \'a\''),
        (RoleSetting("", "d", "search_path", ""), "ALTER DATABASE \"t\" SET \"search_path\" TO ''"),
        (RoleSetting("app", "d", "work_mem", "1"), 'ALTER ROLE "app" IN DATABASE "t" SET "work_mem" TO \'1\''),
    ],
)  # fmt: skip
def test_settings(setting: RoleSetting, statement: str) -> None:
    assert cluster_globals.setting_statements([setting], {"work_mem", "search_path"}, {"d": "t"}) == [statement]


def test_a_setting_that_the_server_does_not_know_is_left_out() -> None:
    gone = RoleSetting("app", "", "default_with_oids", "on")
    assert cluster_globals.setting_statements([gone], {"work_mem"}, {}) == []
    assert cluster_globals.is_unknown(gone, {"work_mem"})


@pytest.mark.parametrize("name", ["role", "seed", "session_authorization"])
def test_what_every_server_knows_and_none_lists_is_brought(name: str) -> None:
    class Session:
        def rows(self, _query: str) -> list[tuple[str]]:
            return [("work_mem",)]

    known = cluster_globals.setting_names(Session())  # type: ignore[arg-type]
    (statement,) = cluster_globals.setting_statements([RoleSetting("app", "", name, "owner")], known, {})
    assert statement == f'ALTER ROLE "app" SET "{name}" TO \'owner\''


@pytest.mark.parametrize(
    "value, parts",
    [("", []), ("a", ["a"]), ('"$user", public', ["$user", "public"]), ('"a,""b", c', ['a,"b', "c"])],
)
def test_lists_are_split_as_the_catalog_quotes_them(value: str, parts: list[str]) -> None:
    assert sql.split_list(value) == parts


@pytest.mark.parametrize(
    "changes, version, clause",
    [
        ({}, 130000, "LC_CTYPE 'C'"),
        ({}, 150000, "LOCALE_PROVIDER libc"),
        ({"provider": "i", "locale": "de", "icu_rules": "&a"}, 160000, "PROVIDER icu ICU_LOCALE 'de' ICU_RULES '&a'"),
        ({"provider": "b", "locale": "C.UTF-8"}, 170000, "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'"),
        ({"tablespace": "fast"}, 130000, 'TABLESPACE "fast"'),
    ],
)  # fmt: skip
def test_a_database_is_made_like_the_other(changes: dict[str, str], version: int, clause: str) -> None:
    made = cluster_globals.creation(replace(FORUM, **changes), "temporary", version)  # type: ignore[arg-type]
    assert made.startswith('CREATE DATABASE "temporary" TEMPLATE template0 OWNER "app" ENCODING')
    assert made.endswith(clause)


def test_what_else_a_database_has() -> None:
    assert cluster_globals.frame_statements(FORUM, "x") == []
    grants = (Grant("", "CONNECT", False), Grant("app", "CREATE", True))
    dressed = replace(FORUM, comment="c", grants=grants, connection_limit=3, is_template=True)
    assert cluster_globals.frame_statements(dressed, "x") == [
        "COMMENT ON DATABASE \"x\" IS 'c'",
        'REVOKE ALL ON DATABASE "x" FROM PUBLIC',
        'REVOKE ALL ON DATABASE "x" FROM "app"',
        'GRANT CONNECT ON DATABASE "x" TO PUBLIC',
        'GRANT CREATE ON DATABASE "x" TO "app" WITH GRANT OPTION',
        'ALTER DATABASE "x" WITH CONNECTION LIMIT 3',
        'ALTER DATABASE "x" WITH IS_TEMPLATE true',
    ]


def test_tablespaces() -> None:
    assert cluster_globals.tablespace_statements(GLOBALS, {"fast"}) == []
    first, *others = cluster_globals.tablespace_statements(GLOBALS, set())
    assert first == 'CREATE TABLESPACE "fast" OWNER "app" LOCATION \'/fast\' WITH (seq_page_cost=1.5)'
    assert others[-1] == 'GRANT CREATE ON TABLESPACE "fast" TO PUBLIC'


LATE = replace(APP, name="late")
WITH_LATE = replace(
    GLOBALS,
    roles=(replace(APP, connection_limit=3), LATE, BOSS),
    memberships=(*GLOBALS.memberships, Membership("app", "late", False, True, True)),
    settings=(RoleSetting("app", "", "work_mem", "1GB"), RoleSetting("late", "", "work_mem", "2MB")),
    tablespaces=(*GLOBALS.tablespaces, Space("slow", "late", "/slow", (), "", None)),
    databases=(
        replace(FORUM, grants=(Grant("", "CONNECT", False), Grant("late", "CONNECT", False))),
        replace(FORUM, name="new", owner="late"),
    ),
    parameters=(ParameterGrant("work_mem", "late", "SET", False),),
)


def test_what_came_later_is_joined_to_what_was_there_first() -> None:
    found = joined(GLOBALS, WITH_LATE)
    assert found.roles == (APP, BOSS, LATE)
    assert found.memberships == WITH_LATE.memberships
    assert found.settings == (*GLOBALS.settings, RoleSetting("late", "", "work_mem", "2MB"))
    assert [space.name for space in found.tablespaces] == ["fast", "slow"]
    assert found.databases == (WITH_LATE.databases[0],)
    assert found.parameters == WITH_LATE.parameters


def test_a_grant_to_a_later_role_stands_beside_those_that_were_there_first() -> None:
    first = replace(GLOBALS, databases=(replace(FORUM, grants=(Grant("app", "CREATE", False),)),))
    (frame,) = joined(first, WITH_LATE).databases
    assert frame.grants == (Grant("app", "CREATE", False), Grant("late", "CONNECT", False))


def test_nothing_is_joined_where_nobody_came_or_somebody_went() -> None:
    changed = replace(GLOBALS, roles=(replace(APP, connection_limit=3), BOSS))
    assert joined(GLOBALS, changed) == GLOBALS
    assert joined(WITH_LATE, GLOBALS) == WITH_LATE


def test_the_bootstrap_superuser_gets_back_what_it_had() -> None:
    boss = replace(next(role for role in GLOBALS.roles if role.name == "app"), name="boss", comment="")
    wanted = replace(GLOBALS, superuser="boss", roles=(*GLOBALS.roles, boss))
    (statement,) = cluster_globals.superuser_statements(wanted)
    assert statement.startswith('ALTER ROLE "boss" WITH NOSUPERUSER LOGIN')
    assert "PASSWORD 'SCRAM-SHA-256$it''s'" in statement


@pytest.mark.parametrize("version, told", [(140000, 0), (150000, 2)])
def test_privileges_on_settings_go_where_there_are_such(version: int, told: int) -> None:
    granted = (
        ParameterGrant("work_mem", "app", "SET", True),
        ParameterGrant("auto_explain.log_min_duration", "", "SET", False),
    )
    wanted = replace(GLOBALS, parameters=granted)
    statements = cluster_globals.parameter_statements(wanted, version)
    assert (
        statements
        == [
            'GRANT SET ON PARAMETER "work_mem" TO "app" WITH GRANT OPTION',
            'GRANT SET ON PARAMETER "auto_explain"."log_min_duration" TO PUBLIC',
        ][:told]
    )
    assert cluster_globals.from_dict(cluster_globals.as_dict(wanted)) == wanted


def test_privileges_on_settings_are_taken_from_roles_that_are_to_go() -> None:
    granted = (
        ParameterGrant("work_mem", "app", "ALTER SYSTEM", False),
        ParameterGrant("work_mem", "app", "SET", True),
        ParameterGrant("auto_explain.log_min_duration", "app", "SET", False),
        ParameterGrant("work_mem", "admin", "SET", False),
        ParameterGrant("work_mem", "", "SET", False),
    )
    assert cluster_globals.parameter_revocations(granted, ["app"]) == [
        'REVOKE ALL ON PARAMETER "work_mem" FROM "app" CASCADE',
        'REVOKE ALL ON PARAMETER "auto_explain"."log_min_duration" FROM "app" CASCADE',
    ]


def test_a_predefined_role_that_the_server_lacks_is_known() -> None:
    reads, other = (Membership(role, "app", False, None, None) for role in ("pg_read_all_data", "team"))
    wanted = replace(GLOBALS, memberships=(reads, other))
    assert cluster_globals.unknown_memberships(wanted, {"app", "pg_monitor"}) == [reads]
    assert cluster_globals.unknown_memberships(wanted, {"pg_read_all_data"}) == []
