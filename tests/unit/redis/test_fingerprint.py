# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a look through the keys asks of the server, and what two of them say together."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._redis import fingerprint as subject

QUEUE = subject.Database(1, {"list": 1}, {"list": 1}, True, 0, {}, 1, 1, "00000000000a", in_part=1)


class Server:
    """Answers with one part of its keys after the other."""

    def __init__(self, *parts: dict[str, Any]) -> None:
        self.parts = list(parts)
        self.asked: list[tuple[str, ...]] = []
        self.keyspace = "# Keyspace\ndb0:keys=3,expires=0,avg_ttl=0"

    def command(self, _session: object, *words: str) -> str:
        if words[0] == "INFO":
            return self.keyspace if words[1] == "keyspace" else "redis_version:8.0.1"
        self.asked.append(words)
        return json.dumps(self.parts.pop(0))


def part(cursor: str, looked: int, in_part: int, digest: int) -> dict[str, Any]:
    counts = [{"list": looked}]
    return {
        "cursor": cursor,
        "types": counts,
        "lasting": counts,
        "streams": [],
        "looked": looked,
        "sampled": looked,
        "in_part": in_part,
        "digest": str(digest),
    }


def test_the_server_is_told_how_much_it_may_read_and_ends_a_call_before_its_keys_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = Server(part("7", 1, 1, 2), part("0", 2, 1, 3))
    monkeypatch.setattr(subject, "command", server.command)
    found = subject.take(None).databases["0"]  # type: ignore[arg-type]
    assert (found.exact, found.sampled, found.in_part, found.digest) == (True, 3, 2, "000000000005")
    limits = tuple(str(each) for each in (subject.WHOLE_ITEMS, subject.WHOLE_BYTES, subject.WORK_A_CALL))
    assert [words[4] for words in server.asked] == ["0", "7"]
    assert [words[-3:] for words in server.asked] == [limits] * 2


def test_keys_that_have_ended_and_are_still_counted_hide_no_lost_one(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for lasting in (2000, 1999):
        server = Server(part("0", lasting, 0, 5))
        server.keyspace = f"# Keyspace\ndb0:keys={lasting + 40},expires=40,avg_ttl=9"
        monkeypatch.setattr(subject, "command", server.command)
        found.append(subject.take(None))  # type: ignore[arg-type]
    (lost,) = [str(each) for each in subject.compare(*found) if each.lost and "sample" not in each.text]
    assert lost == "database 0: 1999 keys of type list without a time to live, 2000 before"


def differing(was: subject.Database, now: subject.Database) -> list[subject.Difference]:
    return subject.compare(subject.Fingerprint("8", {"0": was}), subject.Fingerprint("8", {"0": now}))


def test_other_content_is_a_loss_also_where_it_was_read_in_part() -> None:
    assert differing(QUEUE, QUEUE) == []
    (found,) = differing(QUEUE, replace(QUEUE, digest="00000000000b"))
    assert (found.lost, found.text) == (True, "the 1 sampled keys hold other content")


def test_a_fingerprint_of_an_earlier_version_is_read_and_says_no_loss_that_it_cannot_know() -> None:
    raw = subject.as_dict(subject.Fingerprint("8", {"0": replace(QUEUE, digest="00000000000b")}))
    del raw["databases"]["0"]["in_part"]
    was = subject.from_dict(raw).databases["0"]
    (found,) = differing(was, QUEUE)
    assert not found.lost
    assert "cannot be told: 1 of them are too large to be read whole" in found.text
    # What has no large key was digested alike.
    (found,) = differing(was, replace(QUEUE, in_part=0))
    assert (found.lost, found.text) == (True, "the 1 sampled keys hold other content")
