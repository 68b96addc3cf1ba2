# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every style of compose file: the edit is exact to the byte, and reversing it gives the old bytes back."""

from __future__ import annotations

from dataclasses import dataclass, field
from textwrap import dedent

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_entries import Mount
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_hunks import Hunk
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_mounts import (
    decides_mount,
    has_mount,
    set_bind_mounts,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_reverse import reverse
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_service import CannotEditInPlace
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput

PGDATA = "/var/lib/postgresql/data"
DB = Mount("db", PGDATA, "./postgres")


@dataclass(frozen=True)
class Case:
    name: str
    before: str
    after: str
    how: str
    mounts: tuple[Mount, ...] = field(default=(DB,))


def case(name: str, how: str, before: str, after: str, *mounts: Mount) -> Case:
    return Case(name, dedent(before).lstrip("\n"), dedent(after).lstrip("\n"), how, mounts or (DB,))


NEW_LAYOUT = Mount("db", "/var/lib/postgresql", "./postgres18", replaces=PGDATA)

CASES = [
    case(
        "another target in the place of the old one, short",
        "replaced",
        """
        services:
          db:
            image: postgres:17
            volumes:
              - ./other:/other
              - ./postgres:/var/lib/postgresql/data:Z  # ours
        """,
        """
        services:
          db:
            image: postgres:17
            volumes:
              - ./other:/other
              - ./postgres18:/var/lib/postgresql:Z  # ours
        """,
        NEW_LAYOUT,
    ),
    case(
        "another target in the place of the old one, long",
        "replaced",
        """
        services:
          db:
            volumes:
              - type: bind
                source: ./postgres
                target: /var/lib/postgresql/data
                bind: {create_host_path: false}
        """,
        """
        services:
          db:
            volumes:
              - type: bind
                source: ./postgres18
                target: /var/lib/postgresql
                bind: {create_host_path: false}
        """,
        NEW_LAYOUT,
    ),
    case(
        "commented block with the hash in column 0",
        "uncommented",
        """
        version: '2'
        services:

          db:
            restart: always
            image: postgres:alpine
        ### Uncomment to enable DB persistance
        #    volumes:
        #      - ./postgres:/var/lib/postgresql/data

          redis:
            restart: always
            image: redis:alpine
        ### Uncomment to enable REDIS persistance
        #    volumes:
        #      - ./redis:/data

          web:
            build: .
        """,
        """
        version: '2'
        services:

          db:
            restart: always
            image: postgres:alpine
        ### Uncomment to enable DB persistance
            volumes:
              - ./postgres:/var/lib/postgresql/data

          redis:
            restart: always
            image: redis:alpine
        ### Uncomment to enable REDIS persistance
            volumes:
              - ./store:/data

          web:
            build: .
        """,
        DB,
        Mount("redis", "/data/", "store/"),
    ),
    case(
        "commented block behind the indentation, with another entry that stays a comment",
        "uncommented",
        """
        services:
          db:
            image: postgres:14
            # volumes:
            #   - ./conf:/etc/postgresql
            #   - pgdata:/var/lib/postgresql/data  # keep it
            environment:
              POSTGRES_PASSWORD: x
        """,
        """
        services:
          db:
            image: postgres:14
            volumes:
            #   - ./conf:/etc/postgresql
              - ./postgres:/var/lib/postgresql/data  # keep it
            environment:
              POSTGRES_PASSWORD: x
        """,
    ),
    case(
        "commented long form",
        "uncommented",
        """
        services:
          db:
            image: postgres:14
        #    volumes:
        #      - type: bind
        #        source: ./old
        #        target: /var/lib/postgresql/data
          web:
            image: nginx
        """,
        """
        services:
          db:
            image: postgres:14
            volumes:
              - type: bind
                source: ./postgres
                target: /var/lib/postgresql/data
          web:
            image: nginx
        """,
    ),
    case(
        "commented entry in a list that is there",
        "uncommented",
        """
        services:
          db:
            image: postgres:14
            volumes:
              - ./init:/docker-entrypoint-initdb.d:ro
              # - ./postgres:/var/lib/postgresql/data
        """,
        """
        services:
          db:
            image: postgres:14
            volumes:
              - ./init:/docker-entrypoint-initdb.d:ro
              - ./postgres:/var/lib/postgresql/data
        """,
    ),
    case(
        "a commented service behind is none of ours",
        "added volumes key",
        """
        services:
          db:
            image: postgres:14

        #  db2:
        #    image: postgres:13
        #
        #    volumes:
        #      - ./postgres13:/var/lib/postgresql/data

          # db3:
          #   volumes:
          #     - ./postgres12:/var/lib/postgresql/data
        """,
        """
        services:
          db:
            image: postgres:14
            volumes:
              - ./postgres:/var/lib/postgresql/data

        #  db2:
        #    image: postgres:13
        #
        #    volumes:
        #      - ./postgres13:/var/lib/postgresql/data

          # db3:
          #   volumes:
          #     - ./postgres12:/var/lib/postgresql/data
        """,
    ),
    case(
        "a commented block that would break the file is left alone",
        "added volumes key",
        """
        services:
          db:
            image: postgres:14
            environment:
              A: b
        #    volumes:
        #      - ./postgres:/var/lib/postgresql/data
              C: d
        """,
        """
        services:
          db:
            image: postgres:14
            environment:
              A: b
        #    volumes:
        #      - ./postgres:/var/lib/postgresql/data
              C: d
            volumes:
              - ./postgres:/var/lib/postgresql/data
        """,
    ),
    case(
        "append to a short list",
        "appended",
        """
        services:
          db:
            image: postgres:14
            volumes:
              - ./init:/docker-entrypoint-initdb.d:ro   # scripts
              # the end of the list
            restart: always
        """,
        """
        services:
          db:
            image: postgres:14
            volumes:
              - ./init:/docker-entrypoint-initdb.d:ro   # scripts
              - ./postgres:/var/lib/postgresql/data
              # the end of the list
            restart: always
        """,
    ),
    case(
        "append to a list without indentation, quoted",
        "appended",
        """
        services:
          db:
            image: postgres:14
            volumes:
            - './init:/docker-entrypoint-initdb.d'
        """,
        """
        services:
          db:
            image: postgres:14
            volumes:
            - './init:/docker-entrypoint-initdb.d'
            - './postgres:/var/lib/postgresql/data'
        """,
    ),
    case(
        "append to a four-space list with a wide dash",
        "appended",
        """
        services:
            db:
                image: postgres:14
                volumes:
                    -   ./init:/docker-entrypoint-initdb.d
        """,
        """
        services:
            db:
                image: postgres:14
                volumes:
                    -   ./init:/docker-entrypoint-initdb.d
                    -   ./postgres:/var/lib/postgresql/data
        """,
    ),
    case(
        "append to a long list",
        "appended",
        """
        services:
          db:
            image: postgres:14
            volumes:
              - type: bind
                source: ./init
                target: /docker-entrypoint-initdb.d
                read_only: true
        """,
        """
        services:
          db:
            image: postgres:14
            volumes:
              - type: bind
                source: ./init
                target: /docker-entrypoint-initdb.d
                read_only: true
              - type: bind
                source: ./postgres
                target: /var/lib/postgresql/data
        """,
    ),
    case(
        "append to a flow list",
        "appended",
        """
        services:
          db: {image: postgres:14, volumes: ['./a:/a', "./b:/b"], init: true} # a
        """,
        """
        services:
          db: {image: postgres:14, volumes: ['./a:/a', "./b:/b", "./postgres:/var/lib/postgresql/data"], init: true} # a
        """,
    ),
    case(
        "append to a flow list over several lines",
        "appended",
        """
        services:
          db:
            image: postgres:14
            volumes: [
              "./a:/a",
              "./b:/b",  # b
            ]
        """,
        """
        services:
          db:
            image: postgres:14
            volumes: [
              "./a:/a",
              "./b:/b",
              "./postgres:/var/lib/postgresql/data",  # b
            ]
        """,
    ),
    case(
        "append to an empty flow list and a flow list of long entries",
        "appended",
        """
        services:
          db:
            image: postgres:14
            volumes: []
          redis:
            image: redis
            volumes: [{type: bind, source: ./a, target: /a}]
        """,
        """
        services:
          db:
            image: postgres:14
            volumes: ["./postgres:/var/lib/postgresql/data"]
          redis:
            image: redis
            volumes: [{type: bind, source: ./a, target: /a}, {"type": "bind", "source": "./redis", "target": "/data"}]
        """,
        DB,
        Mount("redis", "/data", "redis"),
    ),
    case(
        "a key without a list",
        "added volumes key",
        """
        services:
          db:
            volumes:
            image: postgres:14
          redis:
            image: redis
            volumes: ~
        """,
        """
        services:
          db:
            volumes:
              - ./postgres:/var/lib/postgresql/data
            image: postgres:14
          redis:
            image: redis
            volumes: ["./redis:/data"]
        """,
        DB,
        Mount("redis", "/data", "redis"),
    ),
    case(
        "no key: written as the other services write theirs",
        "added volumes key",
        """
        services:
          db:
            image: postgres:14
            ports: ["5432:5432"]   # why

          web:
            image: nginx
            volumes:
            - "./html:/usr/share/nginx/html"
        """,
        """
        services:
          db:
            image: postgres:14
            ports: ["5432:5432"]   # why
            volumes:
            - "./postgres:/var/lib/postgresql/data"

          web:
            image: nginx
            volumes:
            - "./html:/usr/share/nginx/html"
        """,
    ),
    case(
        "no key and no list anywhere, four spaces",
        "added volumes key",
        """
        services:
            db:
                image: postgres:14
                command: |
                    postgres
                    -c fsync=on

            # the end
        """,
        """
        services:
            db:
                image: postgres:14
                command: |
                    postgres
                    -c fsync=on
                volumes:
                    - ./postgres:/var/lib/postgresql/data

            # the end
        """,
    ),
    case(
        "no key in a service in flow form",
        "added volumes key",
        """
        services:
          db: {image: postgres:14}
        """,
        """
        services:
          db: {image: postgres:14, volumes: ["./postgres:/var/lib/postgresql/data"]}
        """,
    ),
    case(
        "JSON is YAML",
        "added volumes key",
        """
        {"services": {"db": {"image": "postgres:14"}}}
        """,
        """
        {"services": {"db": {"image": "postgres:14", "volumes": ["./postgres:/var/lib/postgresql/data"]}}}
        """,
    ),
    case(
        "replace a bind mount, options kept",
        "replaced",
        """
        services:
          db:
            image: postgres:14
            volumes:
              - ./init:/docker-entrypoint-initdb.d
              - "${DATA_DIR:-./data}/pg:/var/lib/postgresql/data/:Z,nocopy"   # the data
              - ./x:/x
        """,
        """
        services:
          db:
            image: postgres:14
            volumes:
              - ./init:/docker-entrypoint-initdb.d
              - "./postgres:/var/lib/postgresql/data:Z"   # the data
              - ./x:/x
        """,
    ),
    case(
        "replace a named volume that others still use",
        "replaced",
        """
        services:
          db:
            image: postgres:14
            volumes:
              - pgdata:/var/lib/postgresql/data
          backup:
            image: backup
            volumes:
              - pgdata:/backup:ro
        volumes:
          pgdata:
        """,
        """
        services:
          db:
            image: postgres:14
            volumes:
              - ./postgres:/var/lib/postgresql/data
          backup:
            image: backup
            volumes:
              - pgdata:/backup:ro
        volumes:
          pgdata:
        """,
    ),
    case(
        "replace named volumes that nothing uses any more: the key goes too",
        "replaced",
        """
        services:
          db:
            image: postgres:14
            volumes:
              - pgdata:/var/lib/postgresql/data
            environment:
              POSTGRES_PASSWORD: hunter2

        volumes:
          pgdata:
            driver: local

        networks:
          default:
        """,
        """
        services:
          db:
            image: postgres:14
            volumes:
              - ./postgres:/var/lib/postgresql/data
            environment:
              POSTGRES_PASSWORD: hunter2

        networks:
          default:
        """,
    ),
    case(
        "top-level volumes first, at the end, or between comments",
        "replaced",
        """
        volumes:
          # the data
          pgdata:
            external: true
          other:
            external: true
        services:
          db:
            image: postgres:14
            volumes: [ pgdata:/var/lib/postgresql/data ]
        """,
        """
        volumes:
          # the data
          other:
            external: true
        services:
          db:
            image: postgres:14
            volumes: [ "./postgres:/var/lib/postgresql/data" ]
        """,
    ),
    case(
        "two stores of one file, both volumes dropped",
        "replaced",
        """
        services:
          db:
            image: postgres:14
            volumes: ["pgdata:/var/lib/postgresql/data"]
          redis:
            image: redis
            volumes:
              - type: volume
                source: redisdata
                target: /data
                volume:
                  nocopy: true
              - /tmp
        volumes: {pgdata: {}, redisdata: {}}
        """,
        """
        services:
          db:
            image: postgres:14
            volumes: ["./postgres:/var/lib/postgresql/data"]
          redis:
            image: redis
            volumes:
              - type: bind
                source: ./redis
                target: /data
              - /tmp
        """,
        DB,
        Mount("redis", "/data", "./redis"),
    ),
    case(
        "replace an anonymous volume, short and long",
        "replaced",
        """
        services:
          db:
            image: postgres:14
            volumes:
              - /var/lib/postgresql/data
          redis:
            image: redis
            volumes:
              - target: /data
                type: volume
        """,
        """
        services:
          db:
            image: postgres:14
            volumes:
              - ./postgres:/var/lib/postgresql/data
          redis:
            image: redis
            volumes:
              - target: /data
                source: ./redis
                type: bind
        """,
        DB,
        Mount("redis", "/data", "./redis"),
    ),
    case(
        "replace a long entry in flow form",
        "replaced",
        """
        services:
          db:
            image: postgres:14
            volumes:
              - {type: volume, source: pg, target: /var/lib/postgresql/data, volume: {nocopy: true}}
        """,
        """
        services:
          db:
            image: postgres:14
            volumes:
              - {type: "bind", source: "./postgres", target: /var/lib/postgresql/data}
        """,
    ),
    case(
        "paths that need quotes",
        "replaced",
        """
        services:
          db:
            image: postgres:14
            volumes:
              - ./postgres:/var/lib/postgresql/data
        """,
        """
        services:
          db:
            image: postgres:14
            volumes:
              - "./meine Dätén #1/$$HOME:/var/lib/postgresql/data"
        """,
        Mount("db", PGDATA, "meine Dätén #1/$HOME"),
    ),
    case(
        "a colon in the path asks for the long form",
        "replaced, appended",
        """
        services:
          db:
            image: postgres:14
            volumes:
              - ./postgres:/var/lib/postgresql/data:ro
          redis:
            image: redis
            volumes: ["./x:/x"]
          web:
            image: nginx
            volumes:
            -  ./x:/x
        """,
        """
        services:
          db:
            image: postgres:14
            volumes:
              - type: bind
                source: /srv/a:b
                target: /var/lib/postgresql/data
                read_only: true
          redis:
            image: redis
            volumes: ["./x:/x", {"type": "bind", "source": "/srv/c:d", "target": "/data"}]
          web:
            image: nginx
            volumes:
            -  ./x:/x
            -  type: bind
               source: /srv/e:f
               target: /data
        """,
        Mount("db", PGDATA, "/srv/a:b"),
        Mount("redis", "/data", "/srv/c:d"),
        Mount("web", "/data", "/srv/e:f"),
    ),
    case(
        "read-only",
        "appended",
        """
        services:
          db:
            image: postgres:14
            volumes:
              - ./x:/x
        """,
        """
        services:
          db:
            image: postgres:14
            volumes:
              - ./x:/x
              - ./postgres:/var/lib/postgresql/data:ro
        """,
        Mount("db", PGDATA, "./postgres", read_only=True),
    ),
    case(
        "already there, in other words",
        "already there",
        """
        services:
          db:
            image: postgres:14
            volumes:
              - type: bind
                source: ./postgres/
                target: /var/lib/postgresql/data/
        """,
        """
        services:
          db:
            image: postgres:14
            volumes:
              - type: bind
                source: ./postgres/
                target: /var/lib/postgresql/data/
        """,
    ),
    case(
        "a merge key that brings no volumes, and anchors elsewhere",
        "replaced",
        """
        x-base: &base
          restart: always
        x-log: &log {driver: json-file}
        services:
          db:
            <<: *base
            image: postgres:14
            logging: *log
            volumes:
              - &data pgdata:/srv
              - pgdata:/var/lib/postgresql/data
        """,
        """
        x-base: &base
          restart: always
        x-log: &log {driver: json-file}
        services:
          db:
            <<: *base
            image: postgres:14
            logging: *log
            volumes:
              - &data pgdata:/srv
              - ./postgres:/var/lib/postgresql/data
        """,
    ),
    case(
        "volumes of its own win over those of a merge key",
        "appended",
        """
        x-base: &base
          volumes: [./a:/a]
        services:
          db:
            <<: *base
            image: postgres:14
            volumes:
              - ./b:/b
        """,
        """
        x-base: &base
          volumes: [./a:/a]
        services:
          db:
            <<: *base
            image: postgres:14
            volumes:
              - ./b:/b
              - ./postgres:/var/lib/postgresql/data
        """,
    ),
    case(
        "extends, with an entry of its own",
        "replaced",
        """
        services:
          db:
            extends: {file: base.yml, service: db}
            volumes:
              - ./old:/var/lib/postgresql/data
        """,
        """
        services:
          db:
            extends: {file: base.yml, service: db}
            volumes:
              - ./postgres:/var/lib/postgresql/data
        """,
    ),
    case(
        "an interpolated target that is surely another",
        "appended",
        """
        services:
          db:
            image: postgres:14
            volumes:
              - ./x:/etc/${NAME:-x}/conf
        """,
        """
        services:
          db:
            image: postgres:14
            volumes:
              - ./x:/etc/${NAME:-x}/conf
              - ./postgres:/var/lib/postgresql/data
        """,
    ),
    case(
        "tabs in comments, a document start, odd spacing",
        "replaced",
        """
        ---
        #\ttabbed\tcomment
        services:
          "db" :
            image:   'postgres:14'\t# image
            volumes:\t# volumes
              -     ./old:/var/lib/postgresql/data\t# data

        # end
        """,
        """
        ---
        #\ttabbed\tcomment
        services:
          "db" :
            image:   'postgres:14'\t# image
            volumes:\t# volumes
              -     ./postgres:/var/lib/postgresql/data\t# data

        # end
        """,
    ),
]

SHAPES = {
    "as it is": lambda text: text,
    "CRLF": lambda text: text.replace("\n", "\r\n"),
    "no final newline": lambda text: text.rstrip("\n"),
    "CRLF and no final newline": lambda text: text.rstrip("\n").replace("\n", "\r\n"),
    "byte order mark": lambda text: "\ufeff" + text,
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_edit_is_exact_and_reverses(case: Case, shape: str) -> None:
    before, after = SHAPES[shape](case.before), SHAPES[shape](case.after)
    result = set_bind_mounts(before, case.mounts)
    assert result.text == after
    assert result.how == case.how
    assert result.changed == (before != after)
    assert bool(result.hunks) == result.changed
    assert not set_bind_mounts(after, case.mounts).changed
    journaled = [Hunk.from_dict(hunk.as_dict()) for hunk in result.hunks]
    assert reverse(result.text, journaled).text == before
    for mount in case.mounts:
        assert has_mount(after, mount)
        assert decides_mount(after, mount.service, mount.target)


REFUSED = [
    ("volumes by alias", "services:\n  db:\n    image: x\n    volumes: *v\n", "x-v: &v [./a:/a]\n"),
    ("volumes by merge key", "services:\n  db:\n    <<: *b\n    image: x\n", "x-b: &b\n  volumes: [./a:/a]\n"),
    (
        "volumes by a merge of merges",
        "services:\n  db:\n    <<: [*c, *b]\n    image: x\n",
        "x-a: &a {volumes: []}\nx-b: &b {<<: *a}\nx-c: &c {}\n",
    ),
    ("service by alias", "services:\n  db: *db\n", "x-db: &db {image: x}\n"),
    ("service shared", "services:\n  db: &db\n    image: x\n  db2:\n    <<: *db\n", ""),
    ("volumes shared", "services:\n  db:\n    image: x\n    volumes: &v [./a:/a]\n  b:\n    volumes: *v\n", ""),
    ("extends a file", "services:\n  db:\n    extends: {file: a.yml, service: db}\n", ""),
    ("extends a service", "services:\n  a:\n    image: x\n  db:\n    extends: a\n    volumes: [./a:/a]\n", ""),
    ("is extended", "services:\n  db:\n    image: x\n  db2:\n    extends:\n      service: db\n", ""),
    ("include", "include:\n  - db.yml\n", ""),
    ("include beside services", "include: [db.yml]\nservices:\n  web:\n    image: x\n", ""),
    ("entry by alias", "services:\n  db:\n    image: x\n    volumes: [*e]\n", f'x-e: &e "pg:{PGDATA}"\n'),
    ("entry shared", f'services:\n  db:\n    image: x\n    volumes: [&e "pg:{PGDATA}"]\n  b:\n    volumes: [*e]\n', ""),
    ("interpolated target", "services:\n  db:\n    image: x\n    volumes:\n      - pg:${PGDATA:-/data}\n", ""),
    (
        "a password on the line",
        "services:\n  db: {image: x, environment: {PASSWORD: hunter2}, volumes: [./a:/a]}\n",
        "",
    ),
    ("interpolated entry", "services:\n  db:\n    image: x\n    volumes:\n      - ${MOUNT}\n", ""),
    ("half interpolated target", "services:\n  db:\n    image: x\n    volumes:\n      - pg:/var/lib/$KIND/data\n", ""),
]


@pytest.mark.parametrize("name, services, head", REFUSED, ids=[each[0] for each in REFUSED])
def test_what_is_shared_is_refused_and_names_the_override_file(name: str, services: str, head: str) -> None:
    with pytest.raises(CannotEditInPlace) as caught:
        set_bind_mounts(head + services, [DB])
    assert "rewrite: override" in caught.value.msg
    assert caught.value.facts["way"] == "override"
    assert "override" in caught.value.next_command
    assert "hunter2" not in str(caught.value.as_result())


INVALID = [
    ("services:\n  db:\n\timage: x\n", "line 3"),
    ("services:\n  db:\n    image: x\n  db:\n    image: y\n", "line 4"),
    ("services:\n  db:\n    image: x\n    image: y\n", "first in line 3"),
    ("services:\n  db:\n    image: x\n---\nservices: {}\n", "line 4"),
    ("services:\n  db:\n    image: [x\n", "line 4"),
    ("services:\n  db:\n    image: *nowhere\n", "line 3"),
    ("services:\n  db:\n    image: x\x07\n", "line 3"),
    ("services:\r  db:\r    image: x\r", "carriage return"),
    ("", "empty"),
    ("# nothing\n", "empty"),
    ("- a\n", "not a mapping"),
    ("db:\n  image: x\n", "no 'services:'"),
    ("services:\n  - db\n", "line 2"),
    ("services:\n  web:\n    image: x\n", "services: web"),
    ("services:\n  db:\n", "line 2"),
    ("services:\n  db:\n    image: x\n    volumes: ./a:/a\n", "line 4"),
    (f"services:\n  db:\n    image: x\n    volumes:\n      - pg:{PGDATA}\n      - ./x:{PGDATA}/\n", "lines 5 and 6"),
    (f"services:\n  db:\n    image: x\n    tmpfs:\n      - {PGDATA}:size=1g\n", "tmpfs"),
]


@pytest.mark.parametrize("text, telling", INVALID, ids=range(len(INVALID)))
def test_a_file_that_cannot_be_worked_with_is_told_with_its_line(text: str, telling: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        set_bind_mounts(text, [DB])
    assert telling in caught.value.msg
    assert caught.value.state == "nothing was changed"


@pytest.mark.parametrize(
    "mounts",
    [
        [Mount("db", "data", "./x")],
        [Mount("db", "/", "./x")],
        [Mount("db", "/data", "")],
        [Mount("db", "/data", "./a\nb")],
        [Mount("db", "/data", "./a"), Mount("db", "/data/", "./b")],
    ],
    ids=["relative target", "root", "empty source", "newline", "two at one place"],
)
def test_a_request_that_makes_no_sense_is_refused(mounts: list[Mount]) -> None:
    with pytest.raises(InvalidInput):
        set_bind_mounts("services:\n  db:\n    image: x\n", mounts)


def test_the_same_place_in_other_words_is_known_by_the_project_directory() -> None:
    text = "services:\n  db:\n    image: x\n    volumes:\n      - ./postgres:/data\n"
    mount = Mount("db", "/data", "/srv/app/postgres")
    assert not set_bind_mounts(text, [mount], project_dir="/srv/app").changed
    assert set_bind_mounts(text, [mount], project_dir="/srv/other").changed


def test_a_volume_that_another_file_uses_stays_declared() -> None:
    text = "services:\n  db:\n    image: x\n    volumes: [pg:/data]\nvolumes:\n  pg:\n"
    mount = Mount("db", "/data", "./pg")
    assert "volumes:\n  pg:\n" in set_bind_mounts(text, [mount], volumes_elsewhere={"pg"}).text
    assert "\n  pg:\n" not in set_bind_mounts(text, [mount]).text


def test_a_declaration_with_a_password_stays_where_it_is() -> None:
    declared = 'volumes:\n  pg:\n    driver_opts:\n      o: "username=me,password=hunter2"\n'
    text = "services:\n  db:\n    image: x\n    volumes: [pg:/data]\n" + declared
    result = set_bind_mounts(text, [Mount("db", "/data", "./pg")])
    assert result.text.endswith(declared)
    assert "hunter2" not in str([hunk.as_dict() for hunk in result.hunks])
