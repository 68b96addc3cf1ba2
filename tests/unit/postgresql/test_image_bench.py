# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What another cluster is made with: workers of what is preloaded, settings that are kept, how a dump is packed."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image import bench, contents, upgrade
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.programs import Programs
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.reload import compression_of
from tests.unit.postgresql.subjects import CLUSTER, UPGRADED


@pytest.mark.parametrize(
    ("preloaded", "none"),
    [
        ("", True),
        ("pg_stat_statements", True),
        ('"pg_stat_statements", auto_explain', True),
        ("pg_cron", False),
        ("pg_stat_statements,pg_cron", False),
        ("something_of_ones_own", False),
    ],
)
def test_only_what_is_known_to_bring_none_is_trusted(preloaded: str, none: bool) -> None:
    assert bench._without_workers(replace(CLUSTER, shared_preload_libraries=preloaded)) is none


@pytest.mark.parametrize(
    ("was", "version", "kept"),
    [
        ("md5", 170002, "md5"),
        ("scram-sha-256", 170002, ""),
        ("md5", 130022, ""),
        # Down: what was the default is none there.
        ("scram-sha-256", 130022, "scram-sha-256"),
        ("scram-sha-256", 90624, ""),
    ],
)
def test_passwords_are_kept_as_they_were_whatever_the_default(
    was: str, version: int, kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, work = tmp_path / "data", tmp_path / "work"
    source.mkdir()
    work.mkdir()
    (source / "postgresql.conf").write_text("work_mem = 7MB\n")
    answered: Any = type("Finished", (), {"rc": 0, "output": ""})
    monkeypatch.setattr(bench.helpers, "run", lambda *_asked, **_more: answered)
    monkeypatch.setattr(bench, "make_owned", lambda path, owner: Path(path).mkdir())
    monkeypatch.setattr(bench, "give_to", lambda path, owner: None)
    place = bench.Bench(None, "op", "new", "old", (0, 0), str(work), str(tmp_path / "passwd"))  # type: ignore[arg-type]
    for _twice in range(2):
        bench.carry_configuration(place, replace(CLUSTER, password_encryption=was), str(source), version)
        text = (work / bench.CONFIGURATION / "postgresql.conf").read_text()
        assert text.count("password_encryption") == bool(kept)
        assert f"password_encryption = '{kept}'" in text or not kept


def test_a_dump_is_packed_by_what_its_clients_were_built_with() -> None:
    assert contents.has_lz4(b"\0liblz4.so.1\0")
    assert compression_of(replace(UPGRADED, lz4=True)) == "lz4"
    assert compression_of(UPGRADED) == "1"
    assert compression_of(replace(UPGRADED, lz4=True, server_version_num=150004)) == "1"


def test_nothing_is_run_from_where_the_data_lies() -> None:
    """Its file system may be mounted so that nobody can."""
    place: Any = SimpleNamespace(seen=lambda path: path, new="/w/new")
    programs = Programs("/root", "/selfhost-stateful/old/usr/bin")
    new: Any = SimpleNamespace(bin_directory="/usr/lib/postgresql/17/bin")
    *_settings, made, called = upgrade._call(place, CLUSTER, programs, new, "/w/old", "--check").splitlines()
    words = shlex.split(called)
    assert (words[0], words[-2:]) == ("pg_upgrade", ["||", "exit"])
    for switch in ("-b", "-B"):
        assert not words[words.index(switch) + 1].startswith(bench.WORK)
    assert words[words.index("-B") + 1] in shlex.split(made)
