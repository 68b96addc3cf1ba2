# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What has to change for an app to be linked, from what there is."""

from __future__ import annotations

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._dokku import parsing
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.model import App, Service, dsn_of, host_of
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.plan_links import (
    Wish,
    after_linking,
    before_linking,
    for_unlinking,
)


def at(name: str, scheme: str = "postgres", query: str = "") -> str:
    return f"{scheme}://postgres:of-{name}@dokku-postgres-{name}:5432/{name}{f'?{query}' if query else ''}"


def service(name: str, *links: str) -> Service:
    return Service(name, "postgres:17", "sha256:17", "running", links, f"/srv/{name}", "cid", dsn=dsn_of(at(name)))


def app(*options: str, scheme: str = "", **values: str) -> App:
    return App("blog", parsing.addresses(values), scheme, options)


OLD, NEW = service("old", "blog"), service("new", "blog")


def test_host_names_are_as_the_plugin_makes_them() -> None:
    assert host_of("blog-17_2") == "dokku-postgres-blog-17-2"


@pytest.mark.parametrize(
    "there, target, linked",
    [
        (app(), service("new"), True),
        (app(DATABASE_URL=at("new")), NEW, False),
        # The list says so, and no variable does.
        (app(), NEW, True),
    ],
)
def test_it_is_linked_where_list_or_variable_lacks(there: App, target: Service, linked: bool) -> None:
    assert before_linking(there, target, Wish()).link == linked


def test_room_is_made_for_a_link_where_its_variable_was_left_over() -> None:
    first = before_linking(app(GEO_URL=at("new", "postgis")), service("new"), Wish())
    assert (first.link, first.unset) == (True, ("GEO_URL",))


def test_what_is_as_it_should_be_changes_nothing() -> None:
    there = app(DATABASE_URL=at("new"), DOKKU_POSTGRES_AQUA_URL=at("old"))
    assert not before_linking(there, NEW, Wish(primary=True))
    assert not after_linking(there, NEW, [OLD, NEW], Wish(primary=True))


def test_the_former_primary_keeps_a_variable_as_long_as_it_is_linked() -> None:
    there = app(DATABASE_URL=at("old", query="pool=5"), DOKKU_POSTGRES_AQUA_URL=at("new"))
    changes = after_linking(there, NEW, [OLD, NEW], Wish(primary=True))
    assert changes.values == {"DATABASE_URL": at("new"), "DOKKU_POSTGRES_BLACK_URL": at("old", query="pool=5")}
    unlinked = after_linking(there, NEW, [service("old"), NEW], Wish(primary=True))
    assert unlinked.values == {"DATABASE_URL": at("new")}


def test_colours_of_what_is_not_linked_go_and_names_of_ones_own_stay() -> None:
    there = app(
        DATABASE_URL=at("new"), DOKKU_POSTGRES_AQUA_URL=at("old", "postgis"), DOKKU_POSTGRES_RED_URL=at("gone"),
        MY_URL=at("gone"),
    )  # fmt: skip
    changes = after_linking(there, NEW, [service("old"), NEW], Wish())
    assert changes.unset == ("DOKKU_POSTGRES_AQUA_URL", "DOKKU_POSTGRES_RED_URL")
    assert changes.values == {}


def test_a_scheme_is_the_apps_and_the_addresses_follow() -> None:
    there = app(DATABASE_URL=at("new"))
    assert before_linking(there, NEW, Wish(scheme="postgis")).values == {"POSTGRES_DATABASE_SCHEME": "postgis"}
    changed = app(DATABASE_URL=at("new"), scheme="postgis")
    assert after_linking(changed, NEW, [NEW], Wish(scheme="postgis")).values == {"DATABASE_URL": at("new", "postgis")}
    assert before_linking(changed, NEW, Wish(scheme="")).unset == ("POSTGRES_DATABASE_SCHEME",)
    assert not after_linking(app(DATABASE_URL=at("new", "postgis")), NEW, [NEW], Wish())


def test_a_name_that_is_asked_for_is_there_beside_another() -> None:
    changes = after_linking(app(DATABASE_URL=at("new")), NEW, [NEW], Wish(alias="geo", query="pool=5"))
    assert changes.values == {"GEO_URL": at("new", query="pool=5")}


def test_unlinking_takes_all_of_it_whatever_the_scheme() -> None:
    there = app("dokku.postgres.old", "dokku.postgres.new", DATABASE_URL=at("old", "postgis"), X_URL=at("old"))
    changes = for_unlinking(there, OLD)
    assert changes.unset == ("DATABASE_URL", "X_URL")
    assert changes.options == ("dokku.postgres.old",)
    assert changes.unlink
    assert not for_unlinking(app(DATABASE_URL=at("new")), service("old"))


def test_what_is_told_of_changes_holds_no_address() -> None:
    there = app(DATABASE_URL=at("old"), DOKKU_POSTGRES_AQUA_URL=at("new"))
    changes = after_linking(there, NEW, [OLD, NEW], Wish(primary=True))
    assert changes.told() == ["set DATABASE_URL", "set DOKKU_POSTGRES_BLACK_URL"]
    assert "of-old" not in repr(changes)
