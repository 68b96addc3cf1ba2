# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The seam: what is sent again, what is not, and what an admin is told, over HTTP on loopback."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.http import (
    BrokenOff,
    Http,
    Refused,
    Reply,
    Unreachable,
    checked_url,
)
from tests.support.heroku_lab import APP, Lab


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "drop_before"},
        {"kind": "drop_after"},
        {"status": 502},
        {"status": 503, "body": "<html>"},
        {"status": 500, "body": '{"id": "internal_server_error"}'},
        {"status": 504},
        {"status": 521},
        {"status": 429, "headers": {"Retry-After": "7"}},
    ],
)
def test_a_question_is_asked_again(lab: Lab, fault: dict[str, object]) -> None:
    lab.stand_in.faults.clear()
    lab.stand_in.break_next("/formation$", times=2, **fault)  # type: ignore[arg-type]
    before = lab.clock()
    assert lab.heroku.formation(APP)["web"].quantity == 2
    assert len(lab.stand_in.requests) == 3
    if fault.get("status") == 429:
        assert lab.clock() - before == 14, "Heroku said for how long"


def test_a_question_without_answer_ends(lab: Lab) -> None:
    lab.stand_in.break_next("/formation$", status=503, times=10_000)
    with pytest.raises(Unreachable, match="503 all the time") as caught:
        lab.heroku.formation(APP)
    assert caught.value.safe_to_rerun
    assert "status.heroku.com" in caught.value.next_command


@pytest.mark.parametrize(
    "fault",
    [{"kind": "drop_before"}, {"kind": "drop_after"}, *({"status": each} for each in (500, 502, 503, 504, 507, 521))],
)
def test_a_change_is_sent_once(lab: Lab, fault: dict[str, object]) -> None:
    lab.stand_in.break_next("^/apps/shop$", method="PATCH", **fault)  # type: ignore[arg-type]
    with pytest.raises(BrokenOff, match="was lost"):
        lab.heroku.set_maintenance(APP, True)
    assert len(lab.stand_in.changes()) == 1
    assert lab.app.maintenance is (fault.get("kind") == "drop_after")


def test_a_change_that_the_rate_limit_turned_away_is_sent_again(lab: Lab) -> None:
    lab.stand_in.break_next("^/apps/shop$", method="PATCH", status=429, headers={"Retry-After": "3"})
    lab.heroku.set_maintenance(APP, True)
    assert lab.app.maintenance


def test_a_change_that_the_rate_limit_turns_away_to_the_end_changed_nothing(lab: Lab) -> None:
    lab.stand_in.break_next("^/apps/shop$", method="PATCH", status=429, times=10_000)
    with pytest.raises(Unreachable, match="429 all the time") as caught:
        lab.heroku.set_maintenance(APP, True)
    assert "turned away, and changed nothing" in caught.value.state


def test_near_the_rate_limit_is_noticed(lab: Lab) -> None:
    heroku = lab.heroku
    heroku.formation(APP)
    assert not heroku.http.is_scarce
    lab.stand_in.break_next("/formation$", body="[]", status=200, headers={"Ratelimit-Remaining": "12"})
    heroku.formation(APP)
    assert heroku.http.is_scarce
    heroku.formation(APP)
    assert not heroku.http.is_scarce


class Scripted(Http):
    """The seam, with answers that a test wrote; it notes what was asked."""

    def __init__(self, *replies: Reply) -> None:
        super().__init__("key")
        self.replies = list(replies)
        self.asked: list[tuple[str, str]] = []

    def _exchange(self, method: str, url: str, body: Any, headers: Mapping[str, str]) -> Reply:
        self.asked.append((url, headers.get("Range", "")))
        return self.replies.pop(0)


def test_an_answer_that_does_not_count_requests_forgets_no_limit() -> None:
    platform, data = "https://platform.example/apps", "https://data.example/client"
    near, far = Reply(200, "[]", {"ratelimit-remaining": "12"}), Reply(200, "[]", {"ratelimit-remaining": "4500"})
    http = Scripted(near, Reply(200, "[]", {}), far, far)
    http.ask("GET", platform)
    assert http.is_scarce
    http.ask("GET", data)
    assert http.is_scarce, "the Data API does not say how many are left"
    http.ask("GET", data)
    assert http.is_scarce, "nor does it speak for the Platform API"
    http.ask("GET", platform)
    assert not http.is_scarce


def test_a_list_is_asked_for_to_its_last_range() -> None:
    url = "https://platform.example/apps/shop/dynos"
    http = Scripted(
        Reply(206, "[1, 2]", {"next-range": "id ]2.."}), Reply(206, "[3]", {"next-range": "id ]3.."}),
        Reply(200, "[4]", {}),
    )  # fmt: skip
    assert http.ask("GET", url) == [1, 2, 3, 4]
    assert http.asked == [(url, ""), (url, "id ]2.."), (url, "id ]3..")]


def test_ranges_that_never_end_are_no_list() -> None:
    again = Reply(206, "[1]", {"next-range": "id ]1.."})
    with pytest.raises(Unreachable, match="repeats the range"):
        Scripted(again, again, again).ask("GET", "https://platform.example/apps")


def test_ranges_over_http(lab: Lab) -> None:
    first = '[{"type": "api", "quantity": 1, "size": "Basic"}]'
    lab.stand_in.break_next("/formation$", status=206, body=first, headers={"Next-Range": "id ]api.."})
    assert set(lab.heroku.formation(APP)) == {"api", "web", "worker", "cron"}


@pytest.mark.parametrize("status, word", [(401, "has expired"), (403, "may not do this"), (404, "knows nothing")])
def test_a_refusal_says_what_it_means(lab: Lab, status: int, word: str) -> None:
    lab.stand_in.break_next("/formation$", status=status, body='{"id": "no", "message": "No."}')
    with pytest.raises(Refused, match=word) as caught:
        lab.heroku.formation(APP)
    assert (caught.value.status, caught.value.error_id) == (status, "no")
    assert len(lab.stand_in.requests) == 1, "asking again would not help"


def test_the_key_is_in_no_message(lab: Lab) -> None:
    lab.world.key_expired = True
    with pytest.raises(Refused) as caught:
        lab.heroku.formation(APP)
    assert lab.world.key not in str(caught.value.as_result())


def test_the_key_goes_to_no_other_host(lab: Lab) -> None:
    lab.stand_in.break_next("/formation$", status=302, headers={"Location": f"{lab.stand_in.url}/apps/shop/dynos"})
    with pytest.raises(Refused, match="302"):
        lab.heroku.formation(APP)
    assert [each.path for each in lab.stand_in.requests] == ["/apps/shop/formation"]


def test_an_answer_that_is_no_json_is_none(lab: Lab) -> None:
    lab.stand_in.break_next("/formation$", status=200, body="<html>")
    with pytest.raises(Unreachable, match="no JSON"):
        lab.heroku.formation(APP)


@pytest.mark.parametrize("url", ["http://api.example.com", "ftp://api.example.com", "api.example.com", "https://u:p@x"])
def test_an_address_that_would_give_the_key_away_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput):
        checked_url("api_url", url)


@pytest.mark.parametrize("url", ["https://api.example.com/", "http://127.0.0.1:5080", "http://localhost:1"])
def test_an_address_that_is_none_the_worse(url: str) -> None:
    assert checked_url("api_url", url) == url.rstrip("/")
