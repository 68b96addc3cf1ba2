# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Configuration files on their way to another major."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image import (
    configuration,
    configuration_files,
)

CONF = """\
work_mem = '7MB'   # ours
old_snapshot_threshold = 60
include 'extra/one.conf'
include_if_exists 'missing.conf'
include_dir 'conf.d'
include '/etc/postgresql/outside.conf'
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a data directory with files that include each other, one of them itself."""
    directory = tmp_path / "data"
    (directory / "extra").mkdir(parents=True)
    (directory / "conf.d").mkdir()
    (directory / "postgresql.conf").write_text(CONF)
    (directory / "extra/one.conf").write_text("include 'one.conf'\nvacuum_defer_cleanup_age = 1\n")
    (directory / "conf.d/10.conf").write_text("jit = off\n")
    (directory / "conf.d/readme").write_text("not read\n")
    (directory / "postgresql.auto.conf").write_text("")
    (directory / "pg_hba.conf").write_text("local all all trust\n")
    (directory / "base").mkdir()
    return directory


def test_all_files_that_are_read_are_taken_along(data: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    new.mkdir()
    taken = configuration.copy_configuration(str(data), str(new))
    assert sorted(taken) == [
        "conf.d/10.conf",
        "extra/one.conf",
        "pg_hba.conf",
        "postgresql.auto.conf",
        "postgresql.conf",
    ]
    assert (new / "postgresql.conf").read_text() == CONF
    assert (new / "pg_hba.conf").stat().st_mode & 0o777 == 0o600
    assert not (new / "base").exists()


def unknown(name: str, file: str, line: int) -> str:
    return f'LOG:  unrecognized configuration parameter "{name}" in file "/new/{file}" line {line}'


def test_what_the_new_major_does_not_know_becomes_a_comment(data: Path) -> None:
    answers = [
        (1, unknown("old_snapshot_threshold", "postgresql.conf", 2) + "\n" + unknown("a", "extra/one.conf", 2)),
        (1, unknown("jit", "conf.d/10.conf", 1)),
        (0, "17.2"),
    ]
    left_out = configuration.leave_out_unknown(str(data), lambda: answers.pop(0), "/new")
    assert [str(each) for each in left_out] == [
        "old_snapshot_threshold (postgresql.conf, line 2)",
        "a (extra/one.conf, line 2)",
        "jit (conf.d/10.conf, line 1)",
    ]
    lines = (data / "postgresql.conf").read_text().splitlines()
    assert lines[1] == "# unknown to this major version: old_snapshot_threshold = 60"
    assert [lines[0], *lines[2:]] == [line for line in CONF.splitlines() if "threshold" not in line]
    assert answers == []


@pytest.mark.parametrize(
    "said",
    [
        'FATAL:  invalid value for parameter "wal_level": "archive"',
        'unrecognized configuration parameter "x" in file "/etc/postgresql/outside.conf" line 1',
    ],
)
def test_another_refusal_ends_it_with_the_servers_own_words(data: Path, said: str) -> None:
    with pytest.raises(StatefulError, match=said.split('"')[1]):
        configuration.leave_out_unknown(str(data), lambda: (1, said), "/new")
    assert (data / "postgresql.conf").read_text() == CONF


def test_a_line_that_is_refused_again_ends_it(data: Path) -> None:
    """Never a loop without an end."""
    with pytest.raises(StatefulError):
        configuration.leave_out_unknown(str(data), lambda: (1, unknown("work_mem", "postgresql.conf", 1)), "/new")


DATA_DIRECTORY = "/var/lib/postgresql/data"
NAMING = f"""\
include = extra.conf
include '{DATA_DIRECTORY}/sub/two.conf'
hba_file = '{DATA_DIRECTORY}/rules/hba.conf'
ssl = on
ssl_key_file 'tls/private.key'
ssl_ca_file = '{DATA_DIRECTORY}/tls/ca.crt'
ssl_crl_file = '/etc/ssl/crl.pem'
# ssl_cert_file = 'not.crt'
"""
RULES = """\
# include "not.conf"
include "more.conf"
include_dir drop
local @dbs,@"other dbs" all trust   # @not
local "@quoted" all trust
"""


@pytest.fixture
def named(tmp_path: Path) -> Path:
    """Return a data directory whose files name others in every way that the server takes."""
    files = {
        "postgresql.conf": NAMING, "extra.conf": "", "sub/two.conf": "include 'three.conf'\n", "sub/three.conf": "",
        "rules/hba.conf": RULES, "rules/more.conf": f"@{DATA_DIRECTORY}/rules/dbs all all trust\n",
        "rules/drop/1.conf": "", "rules/drop/readme": "", "rules/dbs": "a\n", "rules/other dbs": "b\n",
        "tls/private.key": "k", "tls/ca.crt": "c", "server.crt": "s", "pg_ident.conf": "", "not.crt": "",
        "not.conf": "", "by/command.dh": "",
    }  # fmt: skip
    for name, text in files.items():
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "data/server.key").symlink_to("/etc/ssl/private/mine.key")
    return tmp_path / "data"


def test_what_the_files_name_is_taken_along_however_they_name_it(named: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    by_command = {f"{DATA_DIRECTORY}/by/command.dh": "plain"}
    taken = configuration.copy_configuration(str(named), str(new), DATA_DIRECTORY, by_command)
    assert sorted(taken) == [
        "by/command.dh", "extra.conf", "pg_ident.conf", "postgresql.conf", "rules/dbs", "rules/drop/1.conf",
        "rules/hba.conf", "rules/more.conf", "rules/other dbs", "server.crt", "server.key", "sub/three.conf",
        "sub/two.conf", "tls/ca.crt", "tls/private.key",
    ]  # fmt: skip
    assert (new / "server.key").readlink() == Path("/etc/ssl/private/mine.key"), "nothing of the host's"
    assert (new / "tls/private.key").stat().st_mode & 0o777 == 0o600
    again = tmp_path / "again"
    configuration.place(str(new), str(again))
    assert (again / "rules/drop/1.conf").exists()
    assert (again / "server.key").is_symlink()


def test_absolute_paths_into_the_data_directory_become_relative(named: Path, tmp_path: Path) -> None:
    """With 18 the directory has another name, and what is named by the old one is not found."""
    new = tmp_path / "new"
    configuration.copy_configuration(str(named), str(new), DATA_DIRECTORY)
    lines = (new / "postgresql.conf").read_text().splitlines()
    assert lines[1:3] == ["include 'sub/two.conf'", "hba_file = 'rules/hba.conf'"]
    assert lines[5:7] == ["ssl_ca_file = 'tls/ca.crt'", "ssl_crl_file = '/etc/ssl/crl.pem'"]
    assert (new / "rules/more.conf").read_text() == "@dbs all all trust\n"


def test_a_changed_certificate_is_a_changed_configuration(named: Path) -> None:
    before = configuration.digests_of(str(named), DATA_DIRECTORY)
    (named / "tls/ca.crt").write_text("renewed")
    after = configuration.digests_of(str(named), DATA_DIRECTORY)
    assert [name for name in after if after[name] != before[name]] == ["tls/ca.crt"]


def test_a_link_to_nothing_stays_one(named: Path, tmp_path: Path) -> None:
    (named / "tls/ca.crt").unlink()
    (named / "tls/ca.crt").symlink_to("renewed/ca.crt")
    (named / "root.crt").symlink_to("tls/ca.crt")
    new, again = tmp_path / "new", tmp_path / "again"
    assert configuration.digests_of(str(named), DATA_DIRECTORY)["tls/ca.crt"] == "renewed/ca.crt"
    configuration.copy_configuration(str(named), str(new), DATA_DIRECTORY)
    configuration.place(str(new), str(again))
    assert [(again / name).readlink() for name in ("tls/ca.crt", "root.crt")] == [
        Path("renewed/ca.crt"), Path("tls/ca.crt"),
    ]  # fmt: skip


def test_a_link_to_a_directory_is_taken_along(data: Path, tmp_path: Path) -> None:
    """One into the data directory is read as that directory, one to another place is the server's own to follow."""
    (data / "conf.d").rename(data / "real")
    (data / "conf.d").symlink_to("real")
    with (data / "postgresql.conf").open("a") as file:
        file.write("include_dir 'elsewhere'\n")
    (tmp_path / "there").mkdir()
    (data / "elsewhere").symlink_to(tmp_path / "there")
    new, again = tmp_path / "new", tmp_path / "again"
    taken = configuration.copy_configuration(str(data), str(new))
    assert {"conf.d/10.conf", "elsewhere"} <= set(taken)
    assert set(configuration.digests_of(str(data))) == set(taken)
    configuration.place(str(new), str(again))
    assert (again / "conf.d/10.conf").read_text() == "jit = off\n"
    assert (again / "elsewhere").readlink() == tmp_path / "there"


def test_rules_that_the_command_line_names_are_rules(named: Path, tmp_path: Path) -> None:
    (named / "postgresql.conf").write_text("")
    new, given = tmp_path / "new", {f"{DATA_DIRECTORY}/rules/hba.conf": "rules", "/etc/pg_ident.conf": "rules"}
    taken = configuration.copy_configuration(str(named), str(new), DATA_DIRECTORY, given)
    assert {"rules/hba.conf", "rules/more.conf", "rules/dbs"} <= set(taken)
    assert (new / "rules/more.conf").read_text() == "@dbs all all trust\n"


def test_more_files_than_are_taken_along_are_refused(data: Path) -> None:
    for number in range(configuration_files.AT_MOST):
        (data / f"conf.d/{number}.conf").write_text("")
    with pytest.raises(StatefulError, match="more than 200 files"):
        configuration.digests_of(str(data))
