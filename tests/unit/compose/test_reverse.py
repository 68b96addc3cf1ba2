# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Our own hunk comes back out of a file that was edited since, and nothing of the admin's is lost."""

from __future__ import annotations

import json
from textwrap import dedent

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.document import parse
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_entries import Mount
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_hunks import Hunk
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_mounts import has_mount, set_bind_mounts
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_reverse import HunkConflict, reverse

BEFORE = dedent(
    """\
    services:
      db:
        image: postgres:14
        environment:
          POSTGRES_PASSWORD: hunter2
        volumes:
          - pgdata:/var/lib/postgresql/data
      redis:
        image: redis
        volumes:
          - redisdata:/data

    volumes:
      pgdata:
        driver: local
      redisdata:
        driver: local
      other:
        driver: local
    """
)
MOUNTS = [Mount("db", "/var/lib/postgresql/data", "./postgres"), Mount("redis", "/data", "./redis")]


def edited() -> tuple[str, tuple[Hunk, ...]]:
    result = set_bind_mounts(BEFORE, MOUNTS)
    return result.text, result.hunks


def test_a_hunk_survives_json_and_holds_no_secret() -> None:
    _text, hunks = edited()
    journaled = json.dumps([hunk.as_dict() for hunk in hunks])
    assert "hunter2" not in journaled
    assert tuple(Hunk.from_dict(each) for each in json.loads(journaled)) == hunks
    assert [hunk.place for hunk in hunks] == [("services", "db"), ("services", "redis"), ("volumes",)]


LATER = {
    "a service above": ("services:\n", "services:\n  web:\n    image: nginx\n    volumes:\n      - ./postgres:/x\n"),
    "another image": ("image: postgres:14", "image: postgres:14.9"),
    "another password": ("hunter2", "correct-horse"),
    "a mount beside ours": ("      - ./redis:/data\n", "      - ./redis:/data\n      - ./conf:/conf\n"),
    "a mount before ours": ("      - ./redis:/data\n", "      - ./conf:/conf\n      - ./redis:/data\n"),
    "a comment at the end": ("  other:\n", "  # mine\n  other:\n"),
    "another volume": ("  other:\n    driver: local\n", "  other:\n    driver: local\n  third:\n"),
    "two spaces more in an empty line": ("\n\n", "\n  \n"),
}


@pytest.mark.parametrize("name", LATER)
def test_later_edits_stay(name: str) -> None:
    text, hunks = edited()
    old, new = LATER[name]
    assert old in text
    assert reverse(text.replace(old, new), hunks).text == BEFORE.replace(
        old.replace("./redis:", "redisdata:"), new.replace("./redis:", "redisdata:")
    )


def test_services_in_another_order_are_found() -> None:
    text, hunks = edited()
    lines = text.splitlines(keepends=True)
    db, redis = lines[1:7], lines[7:11]
    result = reverse("".join([lines[0], *redis, *db, *lines[11:]]), hunks).text
    before = BEFORE.splitlines(keepends=True)
    assert result == "".join([before[0], *before[7:11], *before[1:7], *before[11:]])


def test_converted_line_ends_are_no_change() -> None:
    text, hunks = edited()
    assert reverse(text.replace("\n", "\r\n"), hunks).text == BEFORE.replace("\n", "\r\n")


def test_reversing_twice_changes_nothing() -> None:
    _text, hunks = edited()
    result = reverse(BEFORE, hunks)
    assert (result.text, result.changed, result.how) == (BEFORE, False, "already there")


@pytest.mark.parametrize(
    "old, new, place",
    [
        ("./postgres:/var/lib/postgresql/data", "./postgres:/var/lib/postgresql/data:Z", "service 'db'"),
        ("./postgres:/var/lib/postgresql/data", "/mnt/big/postgres:/var/lib/postgresql/data", "service 'db'"),
        ("      - ./redis:/data\n", "      - type: bind\n        source: ./redis\n        target: /data\n", "'redis'"),
        ("  redis:\n", "  cache:\n", "service 'redis'"),
    ],
)
def test_a_changed_line_is_a_conflict_that_shows_the_place(old: str, new: str, place: str) -> None:
    text, hunks = edited()
    with pytest.raises(HunkConflict) as caught:
        reverse(text.replace(old, new), hunks)
    assert place in caught.value.msg
    assert "hunter2" not in str(caught.value.as_result())
    assert caught.value.safe_to_rerun


def test_a_dropped_volume_comes_back_though_its_neighbours_are_gone() -> None:
    text, hunks = edited()
    rewritten = text.split("volumes:\n  other:")[0] + "volumes:\n  fresh:\n\nnetworks:\n  front:\n"
    result = parse(reverse(rewritten, hunks).text)
    declared = result.top_level_volumes()
    assert declared is not None
    assert sorted(declared.names()) == ["fresh", "pgdata", "redisdata"]
    assert result.root.names() == ["services", "volumes", "networks"]


def test_a_dropped_section_comes_back_though_all_around_it_changed() -> None:
    before = "services:\n  db:\n    image: x\n    volumes:\n      - pg:/data\n    init: true\nvolumes:\n  pg:\n"
    result = set_bind_mounts(before, [Mount("db", "/data", "./pg")])
    changed = result.text.replace("    init: true\n", "    init: false\n\nnetworks:\n  a:\n")
    after = parse(reverse(changed, result.hunks).text)
    assert after.root.names() == ["services", "networks", "volumes"]
    fresh = changed + "volumes:\n  mine:\n"
    again = parse(reverse(fresh, result.hunks).text).top_level_volumes()
    assert again is not None
    assert sorted(again.names()) == ["mine", "pg"]


STYLES = {
    "none": "",
    "null": "{k}volumes:\n",
    "commented": "#{k}volumes:\n#{k}  - ./old:{target}\n",
    "commented behind": "{k}# volumes:\n{k}#   - ./old:{target}\n",
    "short": "{k}volumes:\n{k}{s}- ./a:/a\n",
    "unindented": "{k}volumes:\n{k}- './a:/a'   # a\n",
    "long": "{k}volumes:\n{k}{s}- type: bind\n{k}{s}  source: ./a\n{k}{s}  target: /a\n",
    "flow": '{k}volumes: ["./a:/a"]\n',
    "empty flow": "{k}volumes: []\n",
    "bind": "{k}volumes:\n{k}{s}- ./old:{target}:z\n{k}{s}- ./a:/a\n",
    "named": "{k}volumes:\n{k}{s}- ./a:/a\n{k}{s}- {name}data:{target}\n",
    "named long": "{k}volumes:\n{k}{s}- target: {target}\n{k}{s}  source: {name}data\n{k}{s}  type: volume\n",
    "named flow": "{k}volumes: [ {name}data:{target} , './a:/a' ]\n",
    "anonymous": "{k}volumes:\n{k}- {target}\n",
}
TARGETS = {"db": "/var/lib/postgresql/data", "redis": "/data", "web": "/srv/web"}


@st.composite
def compose_files(draw: st.DrawFn) -> str:
    """A project of three services in any mixture of styles."""
    step = draw(st.sampled_from(["  ", "    ", "   "]))
    filler = st.sampled_from(["", "\n", "# a comment\n", f"{step}# behind\n", "\n\n"])
    parts, declared = [], []
    for name in draw(st.permutations(list(TARGETS))):
        style = draw(st.sampled_from(sorted(STYLES)))
        values = {"k": step * 2, "s": step, "target": TARGETS[name], "name": name}
        body = [f"{step * 2}image: {name}\n", STYLES[style].format(**values), f"{step * 2}restart: always # r\n"]
        if draw(st.booleans()):
            body = [body[0], body[2], body[1]]
        parts.append(f"{step}{name}:\n" + "".join(body) + draw(filler))
        if "named" in style:
            declared.append(f"{step}{name}data:\n" + draw(st.sampled_from(["", f"{step * 2}driver: local\n"])))
    services = "services:\n" + draw(filler) + "".join(parts)
    volumes = "volumes:\n" + draw(filler) + "".join(declared) if declared else ""
    text = volumes + services if draw(st.booleans()) else services + volumes
    if draw(st.booleans()):
        text = text.rstrip("\n")
    if draw(st.booleans()):
        text = text.replace("\n", "\r\n")
    return "\ufeff" * draw(st.booleans()) + text


@settings(deadline=None, max_examples=100)
@given(compose_files(), st.sets(st.sampled_from(sorted(TARGETS)), min_size=1), st.sampled_from(["./new", "n e:w"]))
def test_edit_then_reverse_gives_the_same_bytes(text: str, services: set[str], source: str) -> None:
    mounts = [Mount(name, TARGETS[name], source) for name in sorted(services)]
    result = set_bind_mounts(text, mounts)
    assert result.changed
    assert all(has_mount(result.text, mount) for mount in mounts)
    assert not set_bind_mounts(result.text, mounts).changed
    assert reverse(result.text, result.hunks).text == text


@settings(deadline=None, max_examples=100)
@given(compose_files(), st.sampled_from(sorted(TARGETS)), st.data())
def test_a_line_added_anywhere_outside_stays(text: str, service: str, data: st.DataObject) -> None:
    """A comment that the admin adds after the edit is there after the reversal, and the meaning is the old one."""
    result = set_bind_mounts(text, [Mount(service, TARGETS[service], "./new")])
    lines = result.text.split("\n")
    ours = {hunk.line - 1 + offset for hunk in result.hunks for offset in range(len(hunk.after))}
    at = data.draw(st.sampled_from([n for n in range(1, len(lines)) if n not in ours and n - 1 not in ours]))
    end = "\r" if "\r\n" in text else ""
    reversed_text = reverse("\n".join([*lines[:at], "# mine" + end, *lines[at:]]), result.hunks).text
    assert "# mine" in reversed_text
    assert parse(reversed_text).root.data() == parse(text).root.data()
