# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whole journeys of an admin: each playbook, with what can go wrong between its tasks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.storage.lab import bare_python, remove
from tests.sandbox.compose_v1 import compose_v1
from tests.sandbox.engine import Engine
from tests.sandbox.projects import mastodon_project, simple_project

from .admin import Admin

ROWS, KEYS = 300, 50
UPLOADS = "/mastodon/public/system"
# This interpreter has the libraries; one play of each test asks all the same.
QUICKLY = ("--skip-tags", "requirements")
# Beside what Mastodon has: one whose image is here and in no registry, and one that nobody asked for.
FURTHER = """
  search:
    image: selfhost-sandbox/mastodon-base
    entrypoint: [sleep, infinity]
    stop_signal: SIGKILL

  debug:
    image: selfhost-sandbox/mastodon-base
    entrypoint: [sleep, infinity]
    profiles: [debug]
"""
TOLD = """
- name: Tell that it is over
  ansible.builtin.lineinfile:
    path: "{told}"
    line: over
    create: true
    mode: "0600"
"""


@pytest.fixture
def mastodon(tmp_path: Path, shared_engine: Engine) -> Iterator[Admin]:
    """Yield the admin of a Mastodon whose stores are ephemeral, as its first releases laid it out."""
    project = mastodon_project(tmp_path / "live", era="v1.4", engine=shared_engine)
    file = project.directory / "docker-compose.yml"
    file.write_text(file.read_text() + FURTHER)
    told, over = tmp_path / "told", tmp_path / "over.yml"
    over.write_text(TOLD.format(told=told))
    admin = Admin(project, tmp_path)
    admin.variables = {
        "mastodon_storage_project_src": str(project.directory),
        "mastodon_storage_docker_host": shared_engine.host,
        "mastodon_storage_compose_program": [str(admin.compose)],
        "mastodon_storage_operations_dir": str(admin.operations),
        "mastodon_storage_state_dir": str(tmp_path / "state" / "mastodon"),
        "mastodon_storage_before_hook": ["sh", "-c", f"echo begins >>{told}"],
        "mastodon_storage_after_hook": str(over),
        "operation_operations_dir": str(admin.operations),
        "operation_project": project.name,
    }
    try:
        project.compose("build")
        project.compose("up", "-d")
        project.wait_ready()
        project.fill_postgres(ROWS)
        project.fill_redis(KEYS)
        (project.directory / "public/system/picture.png").write_text("a picture")
        yield admin
    finally:
        remove(project)


def told(admin: Admin) -> list[str]:
    place = admin.directory / "told"
    return place.read_text().split() if place.exists() else []


def assert_data(admin: Admin) -> None:
    admin.project.wait_ready()
    assert admin.project.count_rows() == ROWS
    assert admin.project.count_keys() >= KEYS


@pytest.mark.faults
def test_a_mastodon_moves_whatever_gets_in_its_way(mastodon: Admin) -> None:
    admin, project = mastodon, mastodon.project
    containers = admin.containers()

    # Prepared: the build finds a port in its way, whose owner is named; no registry has an image; nothing stops.
    words = f"Error: Bind for 127.0.0.1:{project.web_port} failed: port is already allocated"
    admin.when("build", f"echo '{words}' >&2; exit 1", once=True)
    prepared = admin.play("persist_mastodon", "--tags", "prepare", *QUICKLY).ok()
    assert f"in its way: port {project.web_port}." in prepared.said()
    assert f"{project.name}-web-1" in prepared.said().partition("Held by: ")[2]
    assert "WARNING: selfhost-sandbox/mastodon-base could not be pulled" in prepared.said()
    assert [call.split()[-2:] for call in prepared.calls if "pull" in call.split()] == [["pull", "search"]]
    assert "No service was stopped" in prepared.said()
    assert admin.containers() == containers
    assert told(admin) == []

    # Switched, with a further path that was not asked for before, and killed in the downtime.
    admin.when("up", "kill -9 $PPID", once=True)
    admin.variables = {**admin.variables, "mastodon_storage_backup_paths": [{"service": "web", "path": UPLOADS}]}
    killed = admin.play("persist_mastodon", "--tags", "switch", *QUICKLY).failed()
    assert "Safe to run again:  yes" in killed.said()
    (copied,) = (admin.directory / "state/backups").glob("*/web_mastodon_public_system")
    assert [path.name for path in copied.rglob("*.png")] == ["picture.png"]
    assert told(admin) == ["begins"]

    # It goes on at once; the build comes when the stores run, and the migration fails.
    admin.when("db:migrate", "echo 'the migration broke' >&2; exit 1")
    resumed = admin.play("persist_mastodon", *QUICKLY).failed()
    assert resumed.verbs.index("up") < resumed.verbs.index("build") < resumed.verbs.index("run")
    assert "pull" not in resumed.verbs
    assert not resumed.ran("compose_storage_info")
    assert not resumed.ran("compose_storage_backup")
    assert "DONE and proved" in resumed.said()
    assert "FAILED after the move: In the web service" in resumed.said()
    assert "the migration broke" in resumed.said()
    assert told(admin) == ["begins"]
    moved = [("bind", str(project.directory / "postgres")), ("bind", str(project.directory / "redis"))]
    assert admin.sources("postgres", "redis") == moved
    assert_data(admin)

    # It goes on with the migration. A hook that fails then is all that is left to do.
    admin.calm()
    finished = admin.play("persist_mastodon", *QUICKLY, mastodon_storage_after_hook=["false"]).failed()
    assert [verb for verb in finished.verbs if verb in ("build", "run", "up")] == ["run", "run", "up"]
    assert "it does nothing but this hook" in finished.said()
    assert project.web_status("/") == 200
    assert "debug" not in admin.containers()

    last = admin.play("persist_mastodon", *QUICKLY).ok()
    assert not {"build", "pull", "up", "run"} & set(last.verbs)
    assert told(admin) == ["begins", "over"]
    assert admin.sources("postgres", "redis") == moved
    project.compose("up", "-d", "--force-recreate", "db", "redis")
    assert_data(admin)


@pytest.mark.faults
def test_any_project_is_looked_at_rehearsed_moved_and_committed(tmp_path: Path, shared_engine: Engine) -> None:
    lines = ("  POSTGRES_USER: forum", "  POSTGRES_DB: posts", "  POSTGRES_INITDB_ARGS: --no-sync")
    project = simple_project(tmp_path / "forum", db_lines=lines, engine=shared_engine)
    admin = Admin(project, tmp_path)
    admin.variables = {
        "compose_storage_project_src": str(project.directory),
        "compose_storage_docker_host": shared_engine.host,
        "compose_storage_operations_dir": str(admin.operations),
        "compose_storage_mounts": [{"service": "redis", "source": "./data/redis"}],
        "compose_storage_rehearse_dir": str(tmp_path / "rehearsals"),
        "operation_operations_dir": str(admin.operations),
        "operation_project": project.name,
    }
    try:
        project.up()
        project.fill_redis(KEYS)
        seed = "CREATE TABLE seed AS SELECT generate_series(1, 1234) AS id"
        project.exec("postgres", "psql", "-XqU", "forum", "-d", "posts", "-c", seed)
        containers = admin.containers()

        report = admin.play("storage_report", *QUICKLY).ok()
        assert report.said().count("EPHEMERAL") == 2
        rehearsed = admin.play("rehearse", compose_storage_rehearse_keep="false").ok()
        (line,) = [line for line in rehearsed.said().splitlines() if "public.seed" in line]
        assert line.split() == ["posts", "public.seed", "1234"]
        assert not any((tmp_path / "rehearsals").iterdir())
        assert not shared_engine.docker("ps", "-aq", "--filter", f"name={project.name}-db-rehearsal")
        assert admin.containers() == containers

        moved = admin.play("persist_compose", "--diff", *QUICKLY).ok()
        assert "by    rename: " in moved.said()
        assert "+      - ./data/redis:/data" in moved.log
        assert f"-e operation_operations_dir={admin.operations}" in moved.said()
        assert f"-i {tmp_path}" in moved.said()
        assert admin.sources("redis") == [("bind", str(project.directory / "data/redis"))]
        assert admin.containers()["db"] == containers["db"]
        assert project.count_keys() == KEYS

        young = admin.play("operation_commit", *QUICKLY, operation_min_age_days="14").failed()
        assert "Options named above are set as operation_<option> here" in young.said()
        assert "committed" not in next(admin.operations.glob("*/journal.jsonl")).read_text()
        admin.play("operation_commit", *QUICKLY, operation_min_age_days="0").ok()
        assert '"committed"' in next(admin.operations.glob("*/journal.jsonl")).read_text()
        project.compose("up", "-d", "--force-recreate")
        project.wait_ready()
        assert project.count_keys() == KEYS
    finally:
        remove(project)


@pytest.mark.faults
def test_a_bare_host_is_told_what_its_files_tell(tmp_path: Path, shared_engine: Engine) -> None:
    """In check mode alone: a run that would do nothing for want of libraries must not look like one that is done."""
    project = mastodon_project(tmp_path / "live", era="v1.4", engine=shared_engine)
    admin, file = Admin(project, tmp_path), project.directory / "docker-compose.yml"
    admin.variables = {
        "ansible_python_interpreter": bare_python(tmp_path, "yaml"),
        "mastodon_storage_project_src": str(project.directory),
        "mastodon_storage_docker_host": shared_engine.host,
        "mastodon_storage_compose_program": [str(admin.compose)],
        "mastodon_storage_state_dir": str(tmp_path / "state"),
        "mastodon_storage_backup_paths": [{"service": "web", "path": UPLOADS}],
    }
    before = file.read_text()
    planned = admin.play("persist_mastodon", "--check", "--diff", *QUICKLY).ok()
    assert "host_requirements installs them (docker" in planned.said()
    assert "db: at /var/lib/postgresql/data" in planned.said()
    assert "+      - ./postgres:/var/lib/postgresql/data" in planned.log
    refused = admin.play("persist_mastodon", "--tags", "switch", *QUICKLY).failed()
    assert "host_requirements installs them (docker" in refused.said()
    assert not (tmp_path / "state").exists()
    assert file.read_text() == before


FINISH = str(Path(__file__).with_name("finish.yml"))
# Of two stores, nothing may be started. The cache declares a volume of its own.
SERVICES: dict[str, dict[str, Any]] = {
    "db": {"image": "selfhost-sandbox/redis:8"},
    "redis": {"image": "selfhost-sandbox/redis:8"},
    "web": {"image": "selfhost-sandbox/mastodon-base", "entrypoint": ["python3", "-m", "http.server", "3000"]},
    "cache": {"image": "selfhost-sandbox/redis:8"},
    "day": {"image": "selfhost-sandbox/mastodon-base", "entrypoint": ["sleep", "infinity"], "profiles": ["day"]},
    "night": {"image": "selfhost-sandbox/mastodon-base", "entrypoint": ["sleep", "infinity"], "profiles": ["night"]},
}


def finishing(tmp_path: Path, engine: Engine, compose: Sequence[str] | None = None) -> Admin:
    """Return the admin of a project that is no Mastodon, of which only what follows a move is played."""
    project = simple_project(tmp_path / "live", postgres=None, redis=None, engine=engine, compose=compose)
    settings = project.directory / ".env"
    settings.write_text(f"{settings.read_text()}COMPOSE_PROFILES=day\n")
    write_services(project.directory, "before")
    admin = Admin(project, tmp_path)
    admin.variables = {
        "mastodon_storage_project_src": str(project.directory),
        "mastodon_storage_docker_host": engine.host,
        "mastodon_storage_compose_program": [str(admin.compose)],
        "mastodon_storage_state_dir": str(tmp_path / "state"),
        "mastodon_storage_tasks": [],
        "mastodon_storage_web_timeout": "60",
    }
    return admin


def write_services(directory: Path, setting: str) -> None:
    """Write the compose file with an environment by which every container differs from one made before."""
    services = {
        name: {**service, "environment": {"SETTING": setting}, "stop_signal": "SIGKILL"}
        for name, service in SERVICES.items()
    }
    (directory / "docker-compose.yml").write_text(yaml.safe_dump({"version": "3.9", "services": services}))


@pytest.mark.matrix
def test_compose_1_makes_room_and_loses_no_volume(tmp_path: Path, shared_engine: Engine) -> None:
    """It cannot replace a container on a newer engine; what would lose a volume by being made anew keeps its own."""
    admin = finishing(tmp_path, shared_engine, [str(compose_v1())])
    try:
        admin.project.compose("up", "-d", "web", "cache")
        before = admin.containers()
        write_services(admin.project.directory, "after")
        said = admin.play(FINISH).ok().said()
        after = admin.containers()
        assert set(after) == {"web", "cache", "day"}
        assert after["web"] != before["web"]
        assert after["cache"] == before["cache"]
        assert "Left as they are, on the image that they run: cache." in said
        # It publishes no port, so its container is asked.
        (network,) = shared_engine.api(f"/containers/{after['web']}/json")["NetworkSettings"]["Networks"].values()
        assert f"It answers 200 at http://{network['IPAddress']}:3000/." in said
    finally:
        remove(admin.project)


@pytest.mark.faults
def test_a_web_service_that_does_not_run_is_a_failure(tmp_path: Path, shared_engine: Engine) -> None:
    admin = finishing(tmp_path, shared_engine)
    try:
        admin.when("up", "exit 0")
        played = admin.play(FINISH).failed()
        assert "The service web does not run." in played.said()
        assert "it goes on with this step" in played.said()
        (up,) = [call for call in played.calls if "up" in call.split()]
        assert up.split()[up.split().index("--no-deps") + 1 :] == ["cache", "day", "web"]
    finally:
        remove(admin.project)
