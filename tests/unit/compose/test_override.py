# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The override file: written, extended, and back."""

from __future__ import annotations

from textwrap import dedent

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_entries import Mount
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_reverse import reverse
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_service import CannotEditInPlace
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.override import HEADER, override_text
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput

DB = Mount("db", "/var/lib/postgresql/data", "./postgres")
REDIS = Mount("redis", "/data", "./my redis")


def test_a_new_file() -> None:
    result = override_text(None, [DB, REDIS], {"db": "postgres:14"}, version="3")
    assert result.text == HEADER + dedent(
        """
        version: "3"
        services:
          db:
            image: postgres:14
            volumes:
              - ./postgres:/var/lib/postgresql/data
          redis:
            volumes:
              - "./my redis:/data"
        """
    )
    assert result.how == "wrote override file"
    assert reverse(result.text, result.hunks).text == ""


EXISTING = [
    (
        "services:\n  web:\n    ports: []   # none\n# end\n",
        "services:\n  web:\n    ports: []   # none\n"
        "  db:\n    image: postgres:14\n    volumes:\n      - ./postgres:/var/lib/postgresql/data\n# end\n",
    ),
    (
        "services:\n    db:\n        shm_size: 1g\n",
        "services:\n    db:\n        shm_size: 1g\n"
        "        volumes:\n            - ./postgres:/var/lib/postgresql/data\n        image: postgres:14\n",
    ),
    (
        "services:\n  db:\n    image: 'postgres'\n    volumes: [./a:/a]\n",
        "services:\n  db:\n    image: 'postgres:14'\n    volumes: [./a:/a, \"./postgres:/var/lib/postgresql/data\"]\n",
    ),
    (
        "services:\n  db:\n",
        "services:\n  db:\n    image: postgres:14\n    volumes:\n      - ./postgres:/var/lib/postgresql/data\n",
    ),
    (
        "services:\n",
        "services:\n  db:\n    image: postgres:14\n    volumes:\n      - ./postgres:/var/lib/postgresql/data\n",
    ),
    (
        "# mine\n",
        "# mine\nservices:\n  db:\n    image: postgres:14\n    volumes:\n      - ./postgres:/var/lib/postgresql/data\n",
    ),
    (
        "version: '3'\n# mine",
        "version: '3'\nservices:\n  db:\n    image: postgres:14\n"
        "    volumes:\n      - ./postgres:/var/lib/postgresql/data\n# mine",
    ),
    (
        "services:\n  db: {init: true}\n",
        'services:\n  db: {init: true, volumes: ["./postgres:/var/lib/postgresql/data"], "image": "postgres:14"}\n',
    ),
]


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("before, after", EXISTING, ids=range(len(EXISTING)))
def test_a_file_of_the_admins_own_is_extended(before: str, after: str, line_end: str) -> None:
    before, after = before.replace("\n", line_end), after.replace("\n", line_end)
    result = override_text(before, [DB], {"db": "postgres:14"})
    assert result.text == after
    assert result.how == "extended override file"
    again = override_text(after, [DB], {"db": "postgres:14"})
    assert (again.changed, again.how) == (False, "already there")
    assert reverse(after, result.hunks).text == before


@pytest.mark.parametrize(
    "text",
    [
        "x: &v [./a:/a]\nservices:\n  db:\n    volumes: *v\n",
        "services: {web: {init: true}}\n",
        "{version: '3'}\n",
        "- a\n",
    ],
)
def test_a_file_that_cannot_be_extended_is_told(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        override_text(text, [DB], {})
    assert not isinstance(caught.value, CannotEditInPlace)
    assert "rewrite: override" not in caught.value.msg
