# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image import contents
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.contents import Layout
from tests.unit.postgresql.programs import elf

DESCRIBED = (
    "DateStyle\tuser\tClient Connection Defaults\tSTRING\tISO\t\t\tSets the format.\tand more\n"
    "work_mem\tuser\tResource Usage\tINTEGER\t4096\t64\t2147483647\tSets the maximum.\t\n"
    "\nsomething else\n"
)


@pytest.mark.parametrize(
    "answer,expected",
    [
        ("postgres (PostgreSQL) 17.2\n", ("17.2", 170002)),
        ("postgres (PostgreSQL) 13.16 (Debian 13.16-0+deb11u1)\n", ("13.16", 130016)),
        ("postgres (PostgreSQL) 9.6.24\n", ("9.6.24", 90624)),
        ("postgres (PostgreSQL) 19beta1\n", ("19.0", 190000)),
        ("postgres (PostgreSQL) 18rc1 (Debian 18~rc1-1.pgdg13+1)\n", ("18.0", 180000)),
        ("Redis server v=8.0.2\n", None),
        ("", None),
    ],
)
def test_versions(answer: str, expected: tuple[str, int] | None) -> None:
    assert contents.version_of(answer) == expected


@pytest.mark.parametrize(
    "bin_directory,layout",
    [
        ("/usr/lib/postgresql/17/bin", ("/usr/share/postgresql/17", "/usr/lib/postgresql/17/lib")),
        ("/usr/lib/postgresql/9.6/bin", ("/usr/share/postgresql/9.6", "/usr/lib/postgresql/9.6/lib")),
        ("/usr/local/bin", ("/usr/local/share/postgresql", "/usr/local/lib/postgresql")),
        ("/usr/libexec/postgresql17", ("/usr/share/postgresql17", "/usr/lib/postgresql17")),
        ("/usr/bin", ("/usr/share/pgsql", "/usr/lib64/pgsql")),
        ("/usr/pgsql-16/bin", ("/usr/pgsql-16/share", "/usr/pgsql-16/lib")),
        ("/opt/bitnami/postgresql/bin", ("/opt/bitnami/postgresql/share", "/opt/bitnami/postgresql/lib")),
    ],
)
def test_the_usual_places_are_among_those_looked_at(bin_directory: str, layout: tuple[str, str]) -> None:
    assert Layout(bin_directory, *layout) in contents.layouts(bin_directory)


@pytest.mark.parametrize(
    "answer,expected",
    [
        ("/usr/bin\n/usr/share/pg\n/usr/lib/pg\n", Layout("/usr/bin", "/usr/share/pg", "/usr/lib/pg")),
        ("You need to install postgresql-server-dev-NN\n", None),
        ("", None),
    ],
)
def test_what_pg_config_says(answer: str, expected: Layout | None) -> None:
    assert contents.layout_from(answer) == expected


@pytest.mark.parametrize("loader", ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-musl-aarch64.so.1"])
@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("order", ["<", ">"])
def test_the_loader_is_read_from_the_program(loader: str, wide: bool, order: str) -> None:
    assert contents.loader_of(elf(loader, wide=wide, order=order)) == loader


@pytest.mark.parametrize("program", [b"", b"#!/bin/sh\nexec postgres.bin\n", elf("")[:70], b"\x7fELF"])
def test_what_names_no_loader(program: bytes) -> None:
    assert contents.loader_of(program) == ""


@pytest.mark.parametrize(
    "loader,kind",
    [
        ("/lib64/ld-linux-x86-64.so.2", "glibc"),
        ("/lib/ld-linux-aarch64.so.1", "glibc"),
        ("/lib/ld64.so.1", "glibc"),
        ("/nix/store/x-glibc-2.38/lib/ld-linux-x86-64.so.2", "glibc"),
        ("/lib/ld-musl-x86_64.so.1", "musl"),
        ("/system/bin/linker64", ""),
        ("", ""),
    ],
)
def test_a_loader_belongs_to_a_libc(loader: str, kind: str) -> None:
    assert contents.libc_of(loader) == kind


@pytest.mark.parametrize(
    "answer,version",
    [
        ("glibc 2.36\n", "2.36"),
        ("ldd (Debian GLIBC 2.31-13+deb11u11) 2.31\nCopyright (C) 2020\n", "2.31"),
        ("getconf: no such configuration parameter", ""),
    ],
)
def test_the_version_of_glibc(answer: str, version: str) -> None:
    assert contents.glibc_version(answer) == version


def test_the_version_of_musl() -> None:
    said = "musl libc (x86_64)\nVersion 1.2.5\nDynamic Program Loader\nUsage: /lib/ld-musl-x86_64.so.1 [options]\n"
    assert contents.musl_version(said) == "1.2.5"
    assert contents.musl_version("sh: not found") == ""


def test_the_icu_that_a_program_is_linked_with() -> None:
    assert contents.icu_of(b"\0libssl.so.3\0libicui18n.so.72\0libicuuc.so.72\0") == "72"
    assert contents.icu_of(b"\0libssl.so.3\0") == ""


PASSWD = "root:x:0:0:root:/root:/bin/bash\npostgres:x:70:71::/var/lib/postgresql:/bin/sh\nbroken\n"
GROUP = "root:x:0:\nssl-cert:x:101:postgres\n"


@pytest.mark.parametrize(
    "wanted,user",
    [
        ("postgres", (70, 71)),
        ("70", (70, 71)),
        ("1001", (1001, 0)),
        ("1001:7", (1001, 7)),
        ("postgres:ssl-cert", (70, 101)),
        ("postgres:nobody", None),
        ("nobody", None),
    ],
)
def test_users(wanted: str, user: tuple[int, int] | None) -> None:
    assert contents.user_from(wanted, PASSWD, GROUP) == user


def test_locales_are_compared_as_libc_compares_them() -> None:
    assert contents.locales_from("C\nen_US.utf8\nde_DE.iso88591\n") == ("c", "de_de.iso88591", "en_us.utf8")
    assert contents.normal_locale("en_US.UTF-8") == "en_us.utf8"
    assert contents.normal_locale("de_DE.ISO-8859-1") == "de_de.iso88591"
    assert contents.normal_locale("de_DE@euro") == "de_de@euro"


def test_parameters() -> None:
    assert contents.parameters_from(DESCRIBED) == ("DateStyle", "work_mem")


@pytest.mark.parametrize(
    "control,version",
    [
        ("# hstore\ncomment = 'it''s'\ndefault_version = '1.8'\n", "1.8"),
        ("default_version=1.8 # bare\n", "1.8"),
        ("#default_version = '1.0'\n", ""),
        ("default_version = 'a''b'", "a'b"),
    ],
)
def test_a_control_file(control: str, version: str) -> None:
    assert contents.control_value(control, "default_version") == version


NAMES = (
    "uuid-ossp.control",
    "uuid-ossp--1.1.sql",
    "hstore--1.4.sql",
    "hstore--1.4--1.5.sql",
    "hstore--1.5--1.6.sql",
    "hstore--1.7--1.8.sql",
    "postgis--3.5.0.sql",
    "postgis--ANY--3.5.0.sql",
    "README",
)


@pytest.mark.parametrize(
    "extension,target,versions",
    [
        ("uuid-ossp", "1.1", ("1.1",)),
        ("hstore", "1.6", ("1.4", "1.5", "1.6")),
        ("hstore", "1.8", ("1.7", "1.8")),
        ("hstore", "1.5", ("1.4", "1.5")),
        ("postgis", "3.5.0", ("3.5.0", "ANY")),
    ],
)
def test_versions_that_can_be_updated(extension: str, target: str, versions: tuple[str, ...]) -> None:
    scripts = contents.scripts_by_extension(NAMES)
    assert contents.reaching(target, scripts[extension]) == versions


def test_scripts_that_lead_in_a_circle_end() -> None:
    assert contents.reaching("2", [("1", "2"), ("2", "1")]) == ("1", "2")


@pytest.mark.parametrize(
    "probin,library",
    [
        ("$libdir/hstore", "hstore"),
        ("$libdir/postgis-3.so", "postgis-3"),
        ("plain", "plain"),
        ("/opt/x/mine.so", "/opt/x/mine"),
    ],
)
def test_libraries_of_functions(probin: str, library: str) -> None:
    assert contents.library_of(probin) == library


def test_the_methods_of_a_pg_hba() -> None:
    text = """\
# TYPE  DATABASE  USER  ADDRESS  METHOD
local   all       all                     trust  # the images' own
host    all       all   127.0.0.1/32      md5
host    a, b      "x y" 10.0.0.0 255.0.0.0 ldap ldapserver=l
host    all       all   ::1/128           md5
host    all       all   fe80:: ffff::     cert
hostssl all       all   all               scram-sha-256 clientcert=1
host    all       all   samenet           reject

broken
"""
    assert contents.hba_methods(text) == ("trust", "md5", "ldap", "cert", "scram-sha-256", "reject")
