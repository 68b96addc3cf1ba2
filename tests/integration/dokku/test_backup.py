# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backups of a service, into a bucket on the loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.integration.dokku.conftest import Ask
from tests.sandbox.dokku import endpoint
from tests.sandbox.dokku.endpoint import Endpoint
from tests.sandbox.dokku.installation import Installation

pytestmark = [
    pytest.mark.faults,
    pytest.mark.xdist_group("dokku-backup"),
    pytest.mark.skipif(not endpoint.available(), reason="needs moto[server] and boto3"),
]


@pytest.fixture
def bucket() -> Iterator[Endpoint]:
    """Return an endpoint with a bucket."""
    with Endpoint() as made:
        made.make_bucket("bucket")
        yield made


def test_a_service_is_backed_up_as_wanted_and_an_empty_backup_is_none(
    dokku: Installation, ask: Ask, bucket: Endpoint
) -> None:
    service = dokku.create_service("kept")
    dokku.seed(service, 100)
    wanted = {
        "service": service.name, "access_key_id": endpoint.KEY_ID, "secret_access_key": endpoint.SECRET,
        "region": endpoint.REGION, "signature_version": "s3v4", "endpoint_url": bucket.url, "bucket": "bucket",
        "schedule": "0 3 * * *",
    }  # fmt: skip
    assert ask("postgres_backup", check=True, **wanted)["actions"] == ["auth", "schedule"]
    assert not (service.root / "backup").exists()
    first = ask("postgres_backup", now=True, **wanted)
    assert first["actions"] == ["auth", "schedule", "backup"]
    assert bucket.objects("bucket") == {first["backup"]["key"]: first["backup"]["size_bytes"]}
    assert first["backup"]["dump_bytes"] > 1000
    assert endpoint.SECRET not in json.dumps(first)
    assert not ask("postgres_backup", **wanted)["changed"]
    # A login that is there already is taken away first.
    again = ask("postgres_backup", **{**wanted, "secret_access_key": "another-secret"})
    assert again["actions"] == ["auth"]
    assert service.read("backup/AWS_SECRET_ACCESS_KEY") == "another-secret"
    with dokku.fault("backup-empty", service.name):
        empty = ask("postgres_backup", service=service.name, bucket="bucket", now=True)
    assert "is empty" in empty["msg"]
    with dokku.fault("backup-torn", service.name):
        torn = ask("postgres_backup", service=service.name, bucket="bucket", now=True)
    assert "holds a dump that" in torn["msg"]
    missing = ask("postgres_backup", service=service.name, bucket="no-such-bucket", now=True)
    assert "no-such-bucket" in missing["msg"]
    assert "another-secret" not in json.dumps([empty, missing])
    gone = ask("postgres_backup", service=service.name, unschedule=True, deauth=True)
    assert gone["actions"] == ["deauth", "unschedule"]
    assert gone["schedule"] is None
    assert "not named" in ask("postgres_backup", service=service.name, schedule="0 3 * * *")["msg"]
