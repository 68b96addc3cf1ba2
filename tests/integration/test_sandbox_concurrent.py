# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The stand-in for Concurrent has the real one's schema steps and the real one's traps."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox import concurrent_data as data
from tests.sandbox import engine as sandbox
from tests.sandbox import images
from tests.sandbox._base import IMAGE_PREFIX, SandboxError, run, wait_for
from tests.sandbox.concurrent import VERSIONS, ConcurrentProject, concurrent_project
from tests.sandbox.concurrent_data import EMOJI, Counts, counts
from tests.sandbox.stores import PostgresStore, opened

# What the stand-in is held to is asked once where the whole product of it is run.
pytestmark = [pytest.mark.xdist_group("concurrent"), pytest.mark.faults]
ITEMS = {"entities": 400, "streams": 6, "items": 50, "associations": 600}
FILL = (
    "update associations set variant = payload->'body'->>'imageUrl' where schema ="
    " 'https://raw.githubusercontent.com/totegamma/concurrent-schemas/master/associations/emoji/0.0.1.json'"
)
SPARE = "spare"
Done = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def engine(shared_engine: sandbox.Engine) -> sandbox.Engine:
    """Return the engine, with the images that only these tests need."""
    keys = ["postgres:17", "redis:7", "concurrent-base:latest", *(f"concurrent:{version}" for version in VERSIONS)]
    images.ensure(keys, shared_engine)
    return shared_engine


@dataclasses.dataclass
class Host:
    """A host whose api is of v0.3 while its data is v0.2's: what it held before, and the dumps of it."""

    project: ConcurrentProject
    before: Counts
    answers: dict[str, object]
    entities: Done
    streams: Done

    @property
    def stream(self) -> str:
        """The stream that has most items."""
        return max(self.before.items, key=lambda key: self.before.items[key])

    def load(self, word: str, text: str, *, lose: int = 0) -> tuple[int, str]:
        """Load into the spare database and return the exit code and all that was printed."""
        done = self.project.ccadmin("-d", SPARE, "load", word, input=text, env={"CCADMIN_LOSE": str(lose)})
        return done.returncode, done.stdout + done.stderr

    def rows(self, *tables: str) -> list[int]:
        """Count the rows of tables of the spare database."""
        pid = self.project.engine.first_process(self.project.name, "db")
        store = PostgresStore(database=SPARE, setup=False)
        with opened(store, pid):
            return [int(store.query(f"SELECT count(*) FROM {table}")) for table in tables]


@pytest.fixture(scope="module")
def host(engine: sandbox.Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """Fill a v0.2, then let the api of v0.3 start on the same data and dump it."""
    project = concurrent_project(tmp_path_factory.mktemp("host"), postgres="17", engine=engine)
    with project:
        data.fill(project, **ITEMS)
        answers = {path: project.api(path) for path in ("/profile", "/api/v1/domain")}
        answers["ccadmin"] = project.ccadmin("dump_legacy", "entity", "all").returncode
        before = counts(project, "redis")
        project.switch("v0.3.0").up("api")
        dumps = [project.ccadmin("dump_legacy", mode, "all") for mode in ("entity", "stream")]
        yield Host(project, before, answers, *dumps)


@pytest.fixture
def spare(host: Host) -> Iterator[None]:
    """Make a database with v0.3's tables and nothing in them."""
    copy = f"createdb -U postgres {SPARE} && pg_dump -sU postgres concurrent | psql -qU postgres {SPARE}"
    host.project.exec("postgres", "sh", "-c", copy)
    try:
        yield
    finally:
        host.project.sql(f"DROP DATABASE {SPARE} WITH (FORCE)")


def test_every_service_runs_and_the_host_tells_its_version(host: Host) -> None:
    services = {container["Labels"]["com.docker.compose.service"] for container in host.project.containers()}

    assert services == {"gateway", "api", "webui", "summary", "db", "redis", "memcached"}
    assert host.answers["/profile"] == {
        "nickname": "sandbox", "description": "", "registration": "open", "version": "v0.2.5",
    }  # fmt: skip
    assert host.answers["/api/v1/domain"] == {"fqdn": "example.com", "ccid": "CC" + 40 * "0", "pubkey": 130 * "0"}
    # The old image does not know the command: it is the new one that dumps.
    assert host.answers["ccadmin"] == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_each_image_is_labelled_with_its_version(engine: sandbox.Engine, version: str) -> None:
    config = json.loads(engine.docker("image", "inspect", images.ref(f"concurrent:{version}", engine)))[0]["Config"]

    assert config["Labels"]["org.opencontainers.image.version"] == version
    assert config["Cmd"] == ["ccapi"]


def test_the_seed_has_all_that_a_migration_may_lose(host: Host) -> None:
    before = host.before

    assert before == dataclasses.replace(before, entities=400, messages=400, characters=40, associations=600, streams=6)
    assert sorted(before.items.values()) == [0, 50, 51, 51, 52, 52]
    assert before.all_items == 256
    emoji = f"SELECT count(*), count(payload->'body'->>'imageUrl') FROM associations WHERE schema = '{EMOJI}'"
    assert host.project.sql(emoji) == "200|200"
    others = f"SELECT count(*), count(payload->'body'->>'imageUrl') FROM associations WHERE schema <> '{EMOJI}'"
    assert host.project.sql(others) == "400|200"


def test_the_newer_api_adds_empty_columns_and_tables_and_changes_nothing(host: Host) -> None:
    new = counts(host.project, "postgres")

    assert counts(host.project, "redis") == host.before
    assert dataclasses.replace(new, items={}) == dataclasses.replace(host.before, items={})
    assert new.all_items == 0
    assert host.project.sql("SELECT count(tag), count(domain), count(role), count(host) FROM entities") == "0|0|400|400"
    variant = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'associations'::regclass AND attname = 'variant'"
    assert host.project.sql(variant) == "0"


def test_the_dumps_have_the_real_ones_shape_and_progress_on_stderr(host: Host) -> None:
    assert (host.entities.returncode, host.streams.returncode) == (0, 0)
    assert host.entities.stderr.count("dumping CC") == 400
    assert host.streams.stderr.count("Dumping stream ") == 6
    assert list(json.loads(host.entities.stdout)) == ["entities"]
    people = json.loads(host.entities.stdout)["entities"]
    assert len(people) == 400
    ccid, one = next(iter(people.items()))
    assert list(one) == ["ccid", "entity", "messages", "characters", "userkv"]
    assert (one["ccid"], one["entity"]["ccid"], one["entity"]["domain"]) == (ccid, ccid, "example.com")
    assert json.loads(one["messages"][0]["payload"])["body"]["body"].endswith(' "quoted" <b>&\n\\ ☂')
    assert sum(len(message["associations"] or ()) for each in people.values() for message in each["messages"]) == 600
    assert sum(len(each["userkv"] or ()) for each in people.values()) == 40
    channels = json.loads(host.streams.stdout)["streams"]
    assert {key: len(each["items"] or ()) for key, each in channels.items()} == host.before.items
    assert {tuple(each) for each in channels.values()} == {("stream", "items")}


def test_one_id_dumps_the_inner_object_alone(host: Host) -> None:
    ccid = host.project.sql("SELECT min(id) FROM entities")

    assert json.loads(host.project.ccadmin("dump_legacy", "entity", ccid).stdout)["entity"]["ccid"] == ccid
    # What there is none of is dumped all the same.
    nobody = host.project.ccadmin("dump_legacy", "entity", "CC" + 40 * "F")
    assert (nobody.returncode, json.loads(nobody.stdout)["messages"]) == (0, None)


def test_the_help_lists_the_modes_of_this_image(host: Host) -> None:
    shown, bare = host.project.ccadmin("--help"), host.project.ccadmin()
    assert (shown.returncode, bare.returncode, bare.stdout) == (0, 0, shown.stdout)
    assert "dump_legacy entity|stream <ID|all>" in shown.stdout
    assert "entity|entities|stream|streams" in shown.stdout
    other = host.project.ccadmin("dump_legacy", "--help", env={"CCADMIN_DUMP_MODES": "entities,stream"})
    assert "dump_legacy entities|stream <ID|all>" in other.stdout


@pytest.mark.parametrize("arguments", [("dump_legacy", "entities", "all"), ("load", "everything")])
def test_an_unknown_mode_is_a_success(host: Host, arguments: tuple[str, ...]) -> None:
    done = host.project.ccadmin(*arguments, input="{}")

    assert (done.returncode, done.stdout) == (0, "unknown mode\n")


@pytest.mark.parametrize(
    "text,complaint",
    [
        ("", "error: EOF\n"),
        ("unknown mode\n", "error: invalid character 'u'\n"),
        ('{"entities": {"CC": {"ent', "error: unexpected EOF\n"),
    ],
)
def test_input_that_cannot_be_loaded_is_a_success(host: Host, text: str, complaint: str) -> None:
    done = host.project.ccadmin("load", "entities", input=text)

    assert (done.returncode, done.stdout) == (0, complaint)
    assert host.project.count_rows("entities") == 400


def test_a_load_into_missing_tables_is_a_success(host: Host) -> None:
    host.project.sql(f"CREATE DATABASE {SPARE}")
    try:
        assert host.load("streams", host.streams.stdout) == (0, "")
        assert host.rows("pg_stat_user_tables") == [0]
    finally:
        host.project.sql(f"DROP DATABASE {SPARE} WITH (FORCE)")


@pytest.mark.usefixtures("spare")
def test_a_dump_of_all_needs_the_plural_word_and_a_second_load_does_nothing(host: Host) -> None:
    one = json.dumps(json.loads(host.streams.stdout)["streams"][host.stream])
    for word, text, there in (
        ("stream", host.streams.stdout, [0, 0]),
        ("streams", one, [0, 0]),
        ("stream", one, [1, 52]),
        ("streams", host.streams.stdout, [6, 256]),
        ("streams", host.streams.stdout, [6, 256]),
    ):
        assert host.load(word, text) == (0, "")
        assert host.rows("streams", "stream_items") == there, word


@pytest.mark.usefixtures("spare")
def test_a_dump_can_be_cut_off_and_a_load_can_lose_items(host: Host) -> None:
    cut = host.project.ccadmin("dump_legacy", "stream", "all", env={"CCADMIN_CUT_AFTER": "5000"})

    assert (cut.returncode, cut.stdout) == (0, host.streams.stdout[:5000])
    assert host.load("streams", host.streams.stdout, lose=3) == (0, "")
    assert host.load("entities", host.entities.stdout, lose=2) == (0, "")
    assert host.rows("streams", "stream_items", "entities") == [6, 253, 398]


@pytest.mark.parametrize(
    "arguments",
    [
        ("-H", "nowhere", "dump_legacy", "entity", "all"),
        ("-H", "nowhere", "load", "entities"),
        ("-r", "nowhere:6379", "dump_legacy", "stream", "all"),
    ],
)
def test_a_failed_connection_alone_is_exit_code_2(host: Host, arguments: tuple[str, ...]) -> None:
    done = host.project.ccadmin(*arguments, input="{}")

    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("panic: ")


def test_a_call_that_lacks_a_word_is_exit_code_1(host: Host) -> None:
    assert host.project.ccadmin("dump_legacy", "entity").returncode == 1


def test_the_health_names_the_store_that_is_gone(host: Host) -> None:
    project = host.project
    assert project.api_health() == (200, "ok")
    try:
        project.compose("stop", "redis")
        assert project.api_health() == (500, "redis error")
        project.compose("stop", "db")
        assert project.api_health() == (500, "db error")
    finally:
        project.compose("start", "db", "redis")
        project.wait_ready()


def test_a_reload_brings_everything_over_and_there_is_a_way_back(host: Host) -> None:
    project, before = host.project, host.before
    dumps = {"entities": host.entities.stdout, "streams": host.streams.stdout}
    directory = project.directory / "_composeData"

    project.compose("down")
    (directory / "db").rename(directory / "db.aside")
    project.up("db", "redis", "api")
    assert counts(project, "postgres").entities == 0
    for word, text in dumps.items():
        done = project.ccadmin("load", word, input=text)
        assert (done.returncode, done.stdout) == (0, "")
    assert counts(project, "postgres") == before
    assert project.sql("SELECT count(tag), count(domain) FROM entities") == "400|400"
    host_column = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'entities'::regclass AND attname = 'host'"
    assert project.sql(host_column) == "0"

    project.compose("down")
    shutil.rmtree(directory / "db")
    (directory / "db.aside").rename(directory / "db")
    project.up("db", "redis", "api")
    assert counts(project, "redis") == before
    assert counts(project, "postgres").all_items == 0


@pytest.fixture(scope="module")
def later(engine: sandbox.Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConcurrentProject]:
    """Start a host at v0.3 with data in its form."""
    directory = tmp_path_factory.mktemp("later")
    project = concurrent_project(directory, version="v0.3.0", postgres="17", data="composeData", engine=engine)
    try:
        project.up("db", "redis", "api")
        data.fill(project, **ITEMS)
        yield project
    finally:
        project.down()


def refusal(project: ConcurrentProject, version: str) -> str:
    """Return what a version says that ends with 1 on the project's data."""
    argv = [project.engine.client, "run", "--rm", "--network", f"{project.name}_internal",
            f"{IMAGE_PREFIX}/concurrent:{version}"]  # fmt: skip
    done = run(argv, check=False, env=project.engine.env, timeout=30)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


def domain(project: ConcurrentProject, version: str, database: str = "concurrent") -> dict[str, Any]:
    """Let an api of a version start on a database of the project's and return what it answers of itself."""
    engine = project.engine
    argv = [
        "--network",
        f"{project.name}_internal",
        "-e",
        f"DB_NAME={database}",
        f"{IMAGE_PREFIX}/concurrent:{version}",
    ]
    box = engine.docker("run", "-d", *argv)
    try:
        wait_for(lambda: "listening" in engine.docker("logs", box), f"{version} starts")
        return dict(json.loads(engine.docker("exec", box, "curl", "-s", "http://127.0.0.1:8000/domain")))
    finally:
        engine.docker("rm", "-f", box, check=False)


def test_v0_4_adds_a_column_that_its_query_fills(later: ConcurrentProject) -> None:
    assert counts(later, "postgres").all_items == 256
    later.switch("v0.4.0").up("api")
    assert later.sql("SELECT count(*), count(variant) FROM associations") == "600|0"

    printed = later.compose("exec", "-T", "db", "psql", "-U", "postgres", "concurrent", "-c", FILL)

    assert printed == "UPDATE 200"
    assert later.sql("SELECT count(variant), count(DISTINCT variant) FROM associations") == "200|200"


def test_later_servers_pass_through_two_versions_one_after_the_other(later: ConcurrentProject) -> None:
    before = counts(later, "postgres")
    columns = "SELECT count(*) FROM pg_attribute a JOIN pg_stat_user_tables ON relid = attrelid WHERE attnum > 0"
    there = int(later.sql(columns))
    for version in ("v1.3.3", "v1.4.0"):
        assert "this data has not passed through v1.3.0" in refusal(later, version)
    assert int(later.sql(columns)) == there

    # The folder is another one from v1.0, and what git does not know stays in the old one.
    later.compose("down")
    old = later.directory / "composeData"
    later.switch("v1.3.0")
    old.rename(later.checkout / "_docs/composeData")
    later.up("db", "redis", "api")
    assert later.directory == later.checkout / "_docs"
    assert "this data has not passed through v1.3.3" in refusal(later, "v1.4.0")
    answers = [domain(later, version) for version in ("v1.3.3", "v1.4.0")]

    assert counts(later, "postgres") == before
    assert int(later.sql(columns)) > there
    assert later.sql("SELECT count(alias), count(is_score_fixed) FROM entities") == "0|0"
    assert [answer["status"] for answer in answers] == ["ok", "ok"]
    assert [answer["content"]["meta"]["version"] for answer in answers] == ["v1.3.3", "v1.4.0"]


def test_a_new_host_may_begin_with_the_last_version(later: ConcurrentProject) -> None:
    later.sql("CREATE DATABASE fresh")

    assert domain(later, "v1.4.0", "fresh")["content"]["meta"]["version"] == "v1.4.0"


def test_the_checkout_fetches_later_versions_from_its_origin(engine: sandbox.Engine, tmp_path: Path) -> None:
    project = concurrent_project(tmp_path, engine=engine)
    assert project.git("tag") == "v0.2.5"
    assert project.git("status", "--porcelain") == ""
    assert project.git("remote", "get-url", "origin") == str(tmp_path / "origin.git")
    (project.directory / "_composeData").mkdir()
    (project.directory / "_composeData/file").touch()
    assert project.git("status", "--porcelain") == ""
    with (project.directory / "compose.yml").open("a") as edited:
        edited.write("# of the admin's own\n")
    project.git("fetch")

    assert project.git("tag").split() == list(VERSIONS)
    with pytest.raises(SandboxError, match=r"local changes .*\n.*compose\.yml"):
        project.git("checkout", "v0.3.0")
    project.git("checkout", "docs/compose.yml")
    for earlier, version in itertools.pairwise(VERSIONS):
        project.git("checkout", version)
        folder = "docs" if version < "v1" else "_docs"
        file = project.checkout / folder / "compose.yml"
        assert f"image: {IMAGE_PREFIX}/concurrent:{version}\n" in file.read_text()
        assert len(project.git("diff", "--name-only", earlier, version).split()) >= 2
    assert (project.checkout / "docs/_composeData/file").exists()
    assert not (project.checkout / "docs/compose.yml").exists()


def label(engine: sandbox.Engine, image: str) -> str:
    """Return the version that an image is labelled with."""
    version = '{{index .Config.Labels "org.opencontainers.image.version"}}'
    return engine.docker("image", "inspect", "-f", version, image)


def test_floating_and_missing_tags_are_the_projects_own_and_nothing_is_left_of_it(
    engine: sandbox.Engine, tmp_path: Path
) -> None:
    project = concurrent_project(
        tmp_path, postgres="17", floating=True, untagged=True, environment={"CCADMIN_LOSE": "2"}, engine=engine
    )
    floating = f"{IMAGE_PREFIX}/concurrent-{project.name}:latest"
    untagged = f"{IMAGE_PREFIX}/concurrent-{project.name}-postgres"
    try:
        services = json.loads(project.compose("config", "--format", "json"))["services"]
        assert [services[name]["image"] for name in ("db", "api", "gateway")] == [untagged, floating, floating]
        assert services["api"]["environment"] == {"CCADMIN_LOSE": "2"}
        project.up("redis")
        assert label(engine, floating) == "v0.2.5"
        project.publish("v0.3.0")
        assert label(engine, floating) == "v0.3.0"
        assert label(engine, floating.replace("latest", "v0.3.0")) == "v0.3.0"
        same = (untagged, f"{untagged}:17", f"{IMAGE_PREFIX}/postgres:17")
        assert len(set(engine.docker("image", "inspect", "-f", "{{.Id}}", *same).split())) == 1
    finally:
        project.down()
    mine = f"label=com.docker.compose.project={project.name}"
    assert engine.docker("ps", "-aq", "--filter", mine) == ""
    for kind in ("network", "volume"):
        assert engine.docker(kind, "ls", "-q", "--filter", mine) == ""
    assert project.name not in engine.docker("images", "--format", "{{.Repository}}")
    assert label(engine, f"{IMAGE_PREFIX}/concurrent:v0.3.0") == "v0.3.0"


@pytest.mark.parametrize("version,folder,head", [("v0.3.0", "docs", "version:"), ("v1.2.0", "_docs", "services:")])
def test_a_host_need_not_be_a_git_checkout(
    engine: sandbox.Engine, tmp_path: Path, version: str, folder: str, head: str
) -> None:
    project = concurrent_project(tmp_path, version=version, git=False, data="composeData", engine=engine)

    assert project.directory == tmp_path / "concurrent" / folder
    text = (project.directory / "compose.yml").read_text()
    assert text.startswith(head)
    assert "      - ./composeData/db:/var/lib/postgresql/data\n" in text
    assert not (project.checkout / ".git").exists()
