# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is an address of a database, what is a copy of one, and what is any other text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.addresses import (
    Address,
    address_of,
    copies_of,
)

HOST = "ec2-1.example.com"
HERE = Address(HOST, 5432, "/d1")
OWN = f"postgres://user:secret@{HOST}:5432/d1"


@pytest.mark.parametrize(
    "written",
    [
        OWN,
        f"postgresql://{HOST}/d1",
        f"postgresql+asyncpg://u:p@{HOST.upper()}/d1?sslmode=require",
        f"postgis://u:p@{HOST}:5432/d1",
        f"jdbc:postgresql://{HOST}:5432/d1?user=u&password=p",
        f" JDBC:postgresql://{HOST}/d1?sslmode=require&user=u&password=p\n",
    ],
)
def test_an_address_is_one_however_it_is_written(written: str) -> None:
    assert address_of(written) == HERE


@pytest.mark.parametrize(
    "written",
    [
        None,
        "",
        "shop",
        "postgres:d1",
        "jdbc:postgresql:d1",
        f"mysql://u:p@{HOST}:5432/d1",
        f"jdbc:mysql://{HOST}:5432/d1",
        f"postgres://{HOST}:port/d1",
        f"jdbc:postgresql://{HOST}:5432,ec2-2.example.com:5432/d1",
        r"https://[a-z0-9-]+\.example\.com",
        "postgres://u:pä℀w@h/db",
    ],
)
def test_any_other_text_is_none(written: str | None) -> None:
    assert address_of(written) is None


@given(st.sampled_from(["", "postgres://", "https://[", "jdbc:"]).flatmap(lambda begin: st.text().map(begin.__add__)))
def test_no_text_is_an_error(written: str) -> None:
    address_of(written)


def test_copies_are_found_by_what_they_reach() -> None:
    config = {
        "DATABASE_URL": OWN,
        "REPORTS_DB": f"postgres://other:password@{HOST}:5432/d1",
        "SPRING_DATASOURCE_URL": f"jdbc:postgresql://{HOST}:5432/d1?user=other&password=password",
        "GEO_URL": f"postgis://other:password@{HOST}/d1",
        "REDIS_URL": f"redis://{HOST}:5432/d1",
        "OTHER_URL": "postgres://user:secret@ec2-9.example.com:5432/d1",
        "CORS": r"https://[a-z0-9-]+\.example\.com",
        "NAME": "shop",
        "EMPTY": None,
    }
    found = copies_of({HERE: "postgresql-1"}, config, ["DATABASE_URL"])
    assert [each["config_var"] for each in found] == ["GEO_URL", "REPORTS_DB", "SPRING_DATASOURCE_URL"]
    assert {each["database"] for each in found} == {"postgresql-1"}
