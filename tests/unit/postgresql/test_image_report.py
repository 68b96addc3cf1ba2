# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from dataclasses import replace

from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image import report
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.compatibility import compare
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.model import Extension, Setting
from tests.unit.postgresql.subjects import INVENTORY, SUBJECT, UPGRADED

HELD = (Extension("app", "plpgsql", "1.0"), Extension("app", "postgis", "3.4.2"))


def test_a_way_that_is_blocked_is_not_called_possible_and_the_blocker_is_shown_with_its_command() -> None:
    subject = replace(SUBJECT, inventory=replace(INVENTORY, extensions=HELD))
    comparison = compare(
        subject, UPGRADED, standby_possible=True, reflinks=False, same_filesystem=True, container="db-1"
    )
    assert [way["possible"] for way in report.strategies(comparison)] == [False, False, False]
    text = report.text("db-1", subject, UPGRADED, comparison, 3 << 30)
    assert "app: 8.0 MiB, UTF8, en_US.utf8; postgis 3.4.2" in text
    assert "swap: not possible, a server of 17 cannot run on the files of 15" in text
    assert "of 3.0 GiB free beside the original" in text
    assert "BLOCKER: postgres:17 lacks the extension postgis" in text
    assert "\n    $ docker exec db-1 psql " in text


def test_what_a_result_holds_survives_json() -> None:
    default = Setting("max_connections", "100", "configuration file", "f:1", differs=False)
    cluster = replace(SUBJECT.cluster, system_identifier=2**63 - 1)
    subject = replace(SUBJECT, cluster=cluster, inventory=replace(INVENTORY, settings=(*INVENTORY.settings, default)))
    told = json.loads(json.dumps({"cluster": report.cluster_as_dict(subject), "now": report.image_as_dict(UPGRADED)}))
    assert told["cluster"]["system_identifier"] == "9223372036854775807"
    assert [setting["name"] for setting in told["cluster"]["settings"]] == ["work_mem"]
    assert told["cluster"]["databases"][0]["extensions"] == {"plpgsql": "1.0", "hstore": "1.8"}
    assert told["now"]["extensions"]["hstore"] == {"version": "1.8", "updates_from": ["1.4"]}
