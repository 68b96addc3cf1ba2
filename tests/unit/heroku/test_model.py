# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is read from Heroku's words."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._heroku import model
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.addresses import Address

SERVICE: dict[str, Any] = {
    "num_bytes": 253755392,
    "resource_url": "postgres://user:secret@ec2-1.example.com:5432/d1",
    "info": [
        {"name": "Plan", "values": ["Standard 0"]},
        {"name": "Status", "values": ["Available"]},
        {"name": "Data Size", "values": ["242 MB / 64 GB (0.37%) (In compliance)"]},
        {"name": "Tables", "values": ["1,087"]},
        {"name": "PG Version", "values": ["16.4"]},
        {"name": "Connections", "values": ["12/120"]},
        {"name": "Fork/Follow", "values": ["Temporarily Unavailable"]},
        {"name": "Followers", "values": ["postgres://user:secret@ec2-2.example.com:5432/d2"]},
        {"name": "Behind By", "values": ["1,204 commits"]},
        {"name": "Region", "values": ["eu"]},
    ],
}


@pytest.mark.parametrize(
    "written, plan",
    [("heroku-postgresql:standard-2", "standard-2"), ("Standard 2", "standard-2"), ("premium-0", "premium-0")],
)
def test_a_plan_is_one_however_it_is_written(written: str, plan: str) -> None:
    assert model.plain_plan(written) == plan


@pytest.mark.parametrize(
    "plan, essential",
    [("essential-0", True), ("mini", True), ("Basic", True), ("standard-0", False), ("premium-4", False)],
)
def test_essential_plans(plan: str, essential: bool) -> None:
    assert model.is_essential(plan) is essential


@pytest.mark.parametrize(
    "plan, size, connections",
    [
        ("standard-0", 64 << 30, 120),
        ("premium-2", 256 << 30, 400),
        ("private-9", 4 << 40, 500),
        ("premium-l-9", 0, 0),
        ("essential-1", 0, 0),
    ],
)
def test_limits_of_plans(plan: str, size: int, connections: int) -> None:
    assert (model.size_of_plan(plan), model.connections_of_plan(plan)) == (size, connections)


@pytest.mark.parametrize(
    "text, size", [("242 MB", 242 << 20), ("9.5 GB / 64 GB", int(9.5 * (1 << 30))), ("", 0), ("1,024 kB", 1 << 20)]
)
def test_sizes(text: str, size: int) -> None:
    assert model.bytes_of(text) == size


@pytest.mark.parametrize(
    "text", ["2026-11-27T10:00:00Z", "2026-11-27T10:00:00+00:00", "2026-11-27 10:00:00 +0000", "2026-11-27T10:00:00"]
)
def test_moments(text: str) -> None:
    assert model.moment(text) == datetime(2026, 11, 27, 10, tzinfo=timezone.utc)


@pytest.mark.parametrize("text", [None, "", "soon"])
def test_what_is_no_moment(text: str | None) -> None:
    assert model.moment(text) is None


def test_pg_info_is_read_as_numbers() -> None:
    service = model.service_from(SERVICE)
    assert (service.plan, service.available, service.version) == ("standard-0", True, "16.4")
    assert (service.size_bytes, service.size_limit_bytes) == (253755392, 64 << 30)
    assert (service.connections, service.connection_limit) == (12, 120)
    assert (service.tables, service.behind_by, service.can_be_followed) == (1087, 1204, False)
    assert service.address == Address("ec2-1.example.com", 5432, "/d1")
    assert service.followed_by == (Address("ec2-2.example.com", 5432, "/d2"),)


def test_no_address_and_no_password_is_shown() -> None:
    service = model.service_from(SERVICE)
    addon = model.Addon("id", "postgresql-1", "heroku-postgresql:standard-0", "shop")
    database = model.Database(addon, service, model.Maintenance())
    for text in (repr(service), repr(database), str(database.as_dict())):
        assert "secret" not in text
        assert "example.com" not in text


def test_an_answer_that_says_nothing_is_no_database_that_serves() -> None:
    service = model.service_from({})
    assert not service.available
    assert (service.size_bytes, service.behind_by, service.address) == (0, None, None)


def test_how_long_a_maintenance_took_is_said_or_computed() -> None:
    moments = {"started_at": "2026-11-27T10:00:00Z", "completed_at": "2026-11-27T10:01:10Z"}
    assert model.maintenance_from({"status": "completed", **moments}).seconds() == 70
    assert model.maintenance_from({"status": "completed", "duration_seconds": "68", **moments}).seconds() == 68
    assert model.maintenance_from({"status": "none"}).seconds() == 0
    assert model.maintenance_from({"status": "completed", **moments}).as_dict()["duration_seconds"] == 70
