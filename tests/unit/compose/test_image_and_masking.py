# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images in the file, entries as compose reads them, and what a diff may show."""

from __future__ import annotations

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_entries import (
    Entry,
    may_be_target,
    quoted,
    read_short,
    split_short,
    written_source,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_image import set_image
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_masking import MASK, mask, masked_diff
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_reverse import reverse
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_service import CannotEditInPlace
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput


@pytest.mark.parametrize(
    "before, after",
    [
        ("image: postgres  # float\n    init: true", "image: postgres:14.9-alpine  # float\n    init: true"),
        ("image:   'postgres'", "image:   'postgres:14.9-alpine'"),
        ('image: "postgres:${TAG:-14}"', 'image: "postgres:14.9-alpine"'),
        ("image:", "image: postgres:14.9-alpine"),
        ("{image: postgres, init: true}", '{image: "postgres:14.9-alpine", init: true}'),
    ],
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_the_image_changes_and_nothing_else(before: str, after: str, line_end: str) -> None:
    head = "services:\n  web:\n    image: postgres\n  db: # x\n    "
    old, new = (f"{head}{text}\n".replace("\n", line_end) for text in (before, after))
    result = set_image(old, service="db", image="postgres:14.9-alpine")
    assert (result.text, result.how) == (new, "replaced")
    assert reverse(result.text, result.hunks).text == old
    again = set_image(new, service="db", image="postgres:14.9-alpine")
    assert (again.changed, again.how) == (False, "already there")


@pytest.mark.parametrize(
    "text",
    [
        "x: &i postgres\nservices:\n  db:\n    image: *i\n",
        "services:\n  db:\n    image: &i postgres\n  b:\n    image: *i\n",
        "x: &b {image: postgres}\nservices:\n  db:\n    <<: *b\n",
        "services:\n  db:\n    extends: {file: a, service: b}\n",
    ],
)
def test_a_shared_image_is_refused(text: str) -> None:
    with pytest.raises(CannotEditInPlace):
        set_image(text, service="db", image="postgres:14")


@pytest.mark.parametrize("image", ["", "post gres", "$IMAGE", "a\nb", "-x"])
def test_no_image_name(image: str) -> None:
    with pytest.raises(InvalidInput):
        set_image("services:\n  db:\n    image: postgres\n", service="db", image=image)


def test_a_service_that_is_built_names_no_image() -> None:
    with pytest.raises(InvalidInput, match="is built here"):
        set_image("services:\n  db:\n    build: .\n", service="db", image="postgres:14")


@pytest.mark.parametrize(
    "spec, parts",
    [
        ("/data", ["/data"]),
        ("./a:/data:ro,z", ["./a", "/data", "ro,z"]),
        ("${A:-./x}:/data", ["${A:-./x}", "/data"]),
        ("${A:-${B:-c}}/d:/data", ["${A:-${B:-c}}/d", "/data"]),
        (r"C:\data:/data", [r"C:\data", "/data"]),
        ("pg:/data", ["pg", "/data"]),
    ],
)
def test_the_short_form_is_split_where_compose_splits_it(spec: str, parts: list[str]) -> None:
    assert split_short(spec) == parts


@pytest.mark.parametrize(
    "spec, entry",
    [
        ("/data", Entry("volume", "", "/data")),
        ("pg:/data", Entry("volume", "pg", "/data")),
        ("./pg:/data:Z", Entry("bind", "./pg", "/data", ("Z",))),
        ("~/pg:/data", Entry("bind", "~/pg", "/data")),
        ("a:b:c:d", None),
        (":/data", None),
    ],
)
def test_what_an_entry_says(spec: str, entry: Entry | None) -> None:
    assert read_short(spec) == entry


@pytest.mark.parametrize(
    "target, possible",
    [("${D}", True), ("/var/$X/data", True), ("/etc/${X}", False), ("/var/${X}/conf", False), ("/$$x", False)],
)
def test_an_interpolated_target_is_told_apart_by_what_stands_around_it(target: str, possible: bool) -> None:
    assert may_be_target(Entry("volume", "pg", target), "/var/lib/data") is possible


@pytest.mark.parametrize(
    "source, written",
    [
        ("postgres", "./postgres"),
        ("./postgres/", "./postgres"),
        ("../x", "../x"),
        ("/srv/x/", "/srv/x"),
        ("/", "/"),
        (".hidden", "./.hidden"),
        ("~/x", "~/x"),
        ("~x", "./~x"),
        (".", "."),
    ],
)
def test_a_source_is_written_as_compose_takes_a_path(source: str, written: str) -> None:
    assert written_source(source) == written


@pytest.mark.parametrize("value", ["no", "12", "1:30", "a b", "a: b", "a #b", "ä", "'", '"', "x\\y", "*a", "a:"])
def test_what_yaml_would_read_otherwise_is_quoted(value: str) -> None:
    assert quoted(value)[0] == '"'
    assert quoted(value, "'")[0] in "'\""


SECRETS = [
    "      POSTGRES_PASSWORD: hunter2",
    "      - POSTGRES_PASSWORD=hunter2",
    '      - "DB_PASS=hunter2"',
    "      SECRET_KEY_BASE: hunter2",
    "      OTP_SECRET: 'hunter2'",
    "      VAPID_PRIVATE_KEY=hunter2",
    "      AWS_ACCESS_KEY_ID: hunter2",
    '      "API_TOKEN":"hunter2"',
    "      DATABASE_URL: postgres://me:hunter2@db/x",
    "      SENTRY_DSN: https://hunter2@sentry.io/1",
    "    command: redis-server --requirepass hunter2 --appendonly yes",
    '    command: ["redis-server", "--requirepass", "hunter2"]',
    "    x: {POSTGRES_PASSWORD: hunter2}",
    "      -----BEGIN RSA PRIVATE KEY----- hunter2",
    "      hunter2ZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZ=",
]
HARMLESS = [
    "      - ./secrets/token:/run/token",
    "    image: postgres@sha256:0123456789012345678901234567890123456789012345678901234567890123",
    "      POSTGRES_PASSWORD_FILE: /run/secrets/x",
    "      - ./postgres:/var/lib/postgresql/data",
    "      - compose_project_postgresql_production_data_volume:/data",
    "    secrets:",
    "      - db_password",
]


@pytest.mark.parametrize("line", SECRETS)
def test_a_secret_is_masked(line: str) -> None:
    assert "hunter2" not in mask(line)
    assert MASK in mask(line)


@pytest.mark.parametrize("line", HARMLESS)
def test_what_is_no_secret_stays_readable(line: str) -> None:
    assert mask(line) == line


def test_a_diff_shows_changed_hunks_only() -> None:
    before = "\n".join(["far: away", *("#" * 20), "PASSWORD: hunter2", "image: a", "end: x"]) + "\n"
    shown = masked_diff(before, before.replace("image: a", "image: b"), "/srv/compose.yml")["prepared"]
    assert "-image: a\n+image: b\n" in shown
    assert "/srv/compose.yml" in shown
    assert "PASSWORD: " + MASK in shown
    assert "far" not in shown
    assert masked_diff(before, before, "x")["prepared"] == ""
