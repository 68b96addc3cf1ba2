# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the dokku command prints is read, and turned into who points at whom."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._dokku import parsing, survey, words
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.cli import Answer, Call, Dokku, DokkuMissing
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.model import (
    App,
    Schedule,
    Service,
    Settings,
    dsn_of,
    host_of,
    is_legal,
    leftover_options,
    pointers_of,
)


def service(name: str, *links: str, password: str = "secret", scheme: str = "postgres") -> Service:
    address = dsn_of(f"{scheme}://postgres:{password}@{host_of(name)}:5432/{name.replace('-', '_')}")
    return Service(name, "postgres:17", "sha256:17", "running", links, f"/srv/{name}", "cid", dsn=address)


def app(*options: str, scheme: str = "", **values: str) -> App:
    return App("blog", parsing.addresses(values), scheme, options)


@pytest.mark.parametrize(
    "text, names",
    [
        ("=====> Postgres services\nblog\nshop-17\n", ["blog", "shop-17"]),
        ("blog\n", ["blog"]),
        (" !     There are no Postgres services\n", []),
        # As versions of long ago print it.
        ("NAME  VERSION        STATUS   EXPOSED PORTS  LINKS\nblog  postgres:12.2  running  -  -\n", ["blog"]),
        ("", []),
    ],
)  # fmt: skip
def test_lists_are_read_whatever_stands_above_them(text: str, names: list[str]) -> None:
    assert parsing.listed(text) == names


def test_what_is_said_of_a_service_is_read_by_the_names_of_the_flags() -> None:
    text = (
        "=====> blog postgres service information\n"
        "       Dsn:                 postgres://postgres:a@dokku-postgres-blog:5432/blog\n"
        "       Initial network:                              \n       Links:               -                        \n"
    )
    address = "postgres://postgres:a@dokku-postgres-blog:5432/blog"
    assert parsing.facts(text) == {"dsn": address, "initial-network": "", "links": "-"}


@pytest.mark.parametrize(
    "text, version",
    [("dokku version 0.38.22", (0, 38, 22)), ("0.20.4", (0, 20, 4)), ("master", ())],
)
def test_versions_are_read(text: str, version: tuple[int, ...]) -> None:
    assert parsing.version_from(text) == version


def test_plugins_that_are_off_are_none() -> None:
    text = "  postgres   1.48.0 enabled    dokku postgres service plugin\n  maintenance  0.6.0 disabled   pages\n"
    assert parsing.plugin_versions(text) == {"postgres": (1, 48, 0)}


@pytest.mark.parametrize(
    "text",
    [
        "postgres://postgres:0f0f@dokku-postgres-blog:5432/blog",
        "postgis://postgres:0f0f@dokku-postgres-blog:5432/blog?pool=5&sslmode=require",
    ],
)
def test_an_address_is_read_and_written_as_it_was(text: str) -> None:
    address = dsn_of(text)
    assert address is not None
    assert address.text() == text
    assert "0f0f" not in repr(address)


@pytest.mark.parametrize("text", ["", "redis", "5432", "https://", "postgres://"])
def test_what_is_no_address_is_none(text: str) -> None:
    assert dsn_of(text) is None


def test_only_what_points_at_services_counts() -> None:
    values = {
        "DATABASE_URL": "postgres://postgres:a@dokku-postgres-blog:5432/blog",
        "REDIS_URL": "redis://redis:a@dokku-redis-blog:6379",
        "OTHER_URL": "postgres://me:a@db.example.org:5432/blog",
        "HOME_PAGE": "https://example.org/",
    }
    assert list(parsing.addresses(values)) == ["DATABASE_URL"]


def test_a_variable_is_stale_where_its_service_is_not_linked_or_not_there() -> None:
    there = app(
        DATABASE_URL="postgres://postgres:secret@dokku-postgres-new-17:5432/new_17",
        DOKKU_POSTGRES_AQUA_URL="postgis://postgres:secret@dokku-postgres-old:5432/old",
        DOKKU_POSTGRES_RED_URL="postgres://postgres:secret@dokku-postgres-gone:5432/gone",
    )
    found = pointers_of(there, [service("new_17", "blog"), service("old")])
    assert [(each.variable, each.service, each.stale) for each in found] == [
        ("DATABASE_URL", "new_17", False),
        ("DOKKU_POSTGRES_AQUA_URL", "old", True),
        ("DOKKU_POSTGRES_RED_URL", "gone", True),
    ]


def test_names_that_share_a_host_are_told_apart_by_their_passwords() -> None:
    there = app(DATABASE_URL="postgres://postgres:two@dokku-postgres-a-b:5432/a_b")
    found = pointers_of(there, [service("a_b", password="one"), service("a-b", "blog", password="two")])
    assert [(each.service, each.stale) for each in found] == [("a-b", False)]


def test_what_a_link_has_left_in_the_options_is_named() -> None:
    links = [f"--link dokku.postgres.{name}:dokku-postgres-{name}" for name in ("old", "new")]
    text = " ".join(["--restart=on-failure:10", *links])
    assert parsing.linked_containers(text) == ("dokku.postgres.old", "dokku.postgres.new")
    there = App("blog", {}, "", parsing.linked_containers(text))
    assert leftover_options(there, [service("new", "blog"), service("old")]) == ["dokku.postgres.old"]


@pytest.mark.parametrize(
    "line, schedule",
    [
        ("0 3 * * * dokku /usr/bin/dokku postgres:backup blog bucket ", Schedule("0 3 * * *", "bucket")),
        ("0 3 * * * dokku /usr/bin/dokku postgres:backup blog b --use-iam", Schedule("0 3 * * *", "b", True)),
        ("@daily dokku /usr/bin/dokku postgres:backup blog bucket", Schedule("@daily", "bucket")),
        ("3 * * dokku /usr/bin/dokku postgres:backup", None),
        ("There is no scheduled backup", None),
    ],
)
def test_the_schedule_is_read_from_crons_line(line: str, schedule: Schedule | None) -> None:
    assert parsing.schedule_from(line) == schedule


def test_the_call_that_makes_a_service_says_what_is_set_and_nothing_secret() -> None:
    settings = Settings(memory="512", shm_size="96m", config_options="-c a=1", custom_env={"TOKEN": "hush", "A": "1"},
                        initial_network="net")  # fmt: skip
    call = words.create("blog-17", "postgres", "17", settings)
    assert call == (
        *("postgres:create", "blog-17", "-i", "postgres", "-I", "17"),
        *("-m", "512", "-s", "96m", "-c", "-c a=1", "-N", "net"),
    )  # fmt: skip
    assert words.create_environment(settings) == {"POSTGRES_CUSTOM_ENV": "A=1;TOKEN=hush"}
    assert "hush" not in repr(settings)
    assert "hush" not in str(settings.as_dict())
    assert words.unfit_for_environment(Settings(custom_env={"A": "1;2", "B": "3"})) == ["A"]


def test_trailing_values_of_a_login_are_left_out_and_those_between_are_not() -> None:
    assert words.authenticate("s", ("k", "x", "", "s3v4", "")) == ("postgres:backup-auth", "s", "k", "x", "", "s3v4")


@pytest.mark.parametrize("name, legal", [("blog-17_2", True), ("blog-17.2", False), ("", False), ("a b", False)])
def test_names_have_no_dots(name: str, legal: bool) -> None:
    assert is_legal(name) == legal


def test_a_failure_shows_no_password() -> None:
    def fail(_call: Call) -> Answer:
        return Answer(1, "", " !     postgres://postgres:hush@dokku-postgres-a:5432/a is taken\n !     by key-of-mine")

    dokku = Dokku(runner=fail)
    error = dokku.failed(("postgres:backup-auth", "a", "key-of-mine"), fail(Call(())), secrets=["key-of-mine"])
    assert "hush" not in error.msg
    assert "key-of-mine" not in error.msg
    assert error.rc == 1
    assert not dokku.says_yes("postgres:exists", "a")


def test_a_host_without_dokku_is_told_so() -> None:
    with pytest.raises(DokkuMissing, match="no no-such-dokku on this host"):
        Dokku(("no-such-dokku",)).asked("version")


@pytest.mark.parametrize(
    "rc, line, unread",
    [
        (0, "@daily dokku /usr/bin/dokku postgres:backup blog bucket", False),
        (0, "0 3 * * * dokku /usr/local/bin/backup-all blog", True),
        (0, "", False),
        (1, "There is no scheduled backup for blog.", False),
    ],
)
def test_a_schedule_that_cannot_be_read_is_not_the_same_as_none(rc: int, line: str, unread: bool) -> None:
    dokku = Dokku(runner=lambda _call: Answer(rc, line, ""))
    assert survey.with_schedule(dokku, service("blog")).schedule_unread is unread


def test_a_file_of_crons_that_is_not_told_of_is_a_schedule_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "CRON", f"{tmp_path}/dokku-postgres-")
    (tmp_path / "dokku-postgres-blog").touch()
    assert survey.with_schedule(Dokku(runner=lambda _call: Answer(1, "", "")), service("blog")).schedule_unread


@pytest.mark.parametrize(
    "text, webs",
    [
        ("-----> Scaling for blog\nproctype: qty\n--------: ---\nweb:  2\nworker: 1\n", 2),
        ("-----> proctype           qty\n-----> web                1\n", 1),
        ("worker: 1\n", 0),
        ("web:  0\n", 0),
    ],
)
def test_how_many_web_processes_there_are_to_be_is_read(text: str, webs: int) -> None:
    assert parsing.webs_from(text) == webs
