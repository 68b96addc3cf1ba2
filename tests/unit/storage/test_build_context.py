# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Would a directory land in an image? The documented rules of ``.dockerignore``, one a line."""

from __future__ import annotations

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.build_context import (
    BuildContext,
    is_ignored,
    line_to_add,
)


@pytest.mark.parametrize(
    "lines, path, ignored",
    [
        ([], "postgres", False),
        (["postgres"], "postgres", True),
        (["postgres/"], "postgres", True),
        (["/postgres"], "postgres", True),
        (["./postgres"], "postgres", True),
        (["  postgres  "], "postgres", True),
        (["data/../postgres"], "postgres", True),
        (["# postgres"], "postgres", False),
        ([""], "postgres", False),
        (["."], "postgres", False),
        # Anchored at the context, unlike git's.
        (["postgres"], "data/postgres", False),
        (["postgres"], "postgres14", False),
        (["postgres14"], "postgres", False),
        # A directory covers what is below it.
        (["data"], "data/postgres", True),
        (["data/postgres"], "data", False),
        # One level for a star, any for two.
        (["*"], "postgres", True),
        (["*"], "data/postgres", True),
        (["post*"], "postgres", True),
        (["*gres"], "postgres", True),
        (["*/postgres"], "data/postgres", True),
        (["*/postgres"], "postgres", False),
        (["*/postgres"], "a/b/postgres", False),
        (["**/postgres"], "postgres", True),
        (["**/postgres"], "a/b/postgres", True),
        (["**"], "a/b", True),
        (["data/**"], "data/postgres", True),
        (["a/**/b"], "a/b", True),
        (["a/**/b"], "a/x/y/b", True),
        (["**postgres"], "mypostgres", False),
        (["**postgres"], "a/postgres", True),
        # Single characters and sets.
        (["postgre?"], "postgres", True),
        (["postgres?"], "postgres", False),
        (["a?b"], "a/b", False),
        (["postgres1[0-9]"], "postgres14", True),
        (["postgres1[^0-9]"], "postgres14", False),
        (["post.res"], "postgres", False),
        ([r"\#odd"], "#odd", True),
        ([r"post\*"], "post*", True),
        ([r"post\*"], "postgres", False),
        # The last line that matches wins.
        (["*", "!postgres"], "postgres", False),
        (["!postgres", "*"], "postgres", True),
        (["*", "!postgres", "postgres"], "postgres", True),
        (["*", "! postgres"], "postgres", False),
        (["data", "!data/postgres"], "data/postgres", False),
        (["data", "!data/other"], "data/postgres", True),
        # An exception below a directory brings the directory back.
        (["postgres", "!postgres/keep"], "postgres", False),
        (["postgres", "!postgres14/keep"], "postgres", True),
        # Case counts.
        (["Postgres"], "postgres", False),
    ],
)
def test_rules(lines: list[str], path: str, ignored: bool) -> None:
    assert is_ignored(lines, path) is ignored


CONTEXT = BuildContext("web", "/srv/app", "/srv/app/.dockerignore", ("postgres", "redis"))


@pytest.mark.parametrize(
    "path, line",
    [
        ("/srv/app/postgres", ""),
        ("/srv/app/postgres/", ""),
        ("/srv/app/postgres14", "postgres14"),
        ("/srv/app/data/postgres", "data/postgres"),
        ("/srv/app/redis/deep", ""),
        ("/srv/other/postgres14", ""),
        ("/srv/app2/postgres14", ""),
        ("/srv/app/../elsewhere", ""),
        ("/srv/app", ""),
        ("/srv", ""),
    ],
)
def test_the_line_that_is_missing(path: str, line: str) -> None:
    assert line_to_add(CONTEXT, path) == line
    if line:
        assert is_ignored((*CONTEXT.ignore_lines, line), line), "adding it is enough"
