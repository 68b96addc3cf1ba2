# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A sandbox project whose data is moved, what is asserted of it afterwards, and how the module is called."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tests.sandbox import projects
from tests.sandbox.engine import OPERATION_LABEL, Engine
from tests.sandbox.prober import Prober, Report
from tests.tools import tree

from . import preloaded
from .preloaded import MODULES, RUNNER, Forked

ROLE_LABEL = "selfhost.stateful.role"
Run = subprocess.Popen[str] | Forked
ROWS, KEYS = 500, 100
# Seconds after which a run counts as hung; no test waits for it in the good case.
HUNG = 300.0

# A service that uses both stores and is stopped and started with them. It is its own first
# process, which ignores every signal that it has no handler for.
DEPENDENT = """\
  web:
    image: selfhost-sandbox/mastodon-base
    entrypoint: [sleep, infinity]
    stop_signal: SIGKILL
    environment: {{DATABASE_URL: "postgres://app:secret@db/postgres"}}
    restart: always
    tmpfs: [/data]
    depends_on: [{stores}]
"""


@dataclass(frozen=True)
class Answer:
    """What one run of the module answered; ``data`` is empty where its process was killed."""

    code: int
    data: Mapping[str, Any]
    stderr: str

    @property
    def failed(self) -> bool:
        return self.code != 0

    def ok(self) -> Mapping[str, Any]:
        """Return the result of a run that must have succeeded."""
        assert not self.failed, f"{self.data.get('msg', '')}\n{json.dumps(dict(self.data), indent=1)}\n{self.stderr}"
        return self.data

    def refusal(self) -> str:
        """Return the message of a run that must have failed by our own words, not by a traceback."""
        assert self.failed, json.dumps(dict(self.data), indent=1)
        assert {"msg", "state", "copies", "safe_to_rerun", "next_command"} <= set(self.data), (self.data, self.stderr)
        assert "Traceback" not in self.stderr + self.data["msg"], self.stderr
        return str(self.data["msg"])


@dataclass
class Lab:
    """A project, the directory of its operations, and the state in which it has to end."""

    project: projects.Project
    directory: Path
    sources: dict[str, Path]
    options: dict[str, Any] = field(default_factory=dict)
    policies: dict[str, Any] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)
    running: dict[str, bool] = field(default_factory=dict)
    mounts: dict[str, list[tuple[str, ...]]] = field(default_factory=dict)
    module: str = "compose_storage"
    logs: int = 0
    pauses: list[Pause] = field(default_factory=list)

    # -- the project -------------------------------------------------------

    @property
    def engine(self) -> Engine:
        return self.project.engine

    @property
    def operations(self) -> Path:
        return self.directory / "state" / "operations"

    def up(self, *, save: bool = True) -> Lab:
        """Start the project, fill it, and note what has to be the same afterwards."""
        self.project.up()
        self.fill(save=save)
        self.remember()
        return self

    def fill(self, *, save: bool = True) -> None:
        """Put the seed into the stores that there are; unless ``save``, Redis has it in memory alone."""
        if "postgres" in self.project.services:
            self.project.fill_postgres(ROWS)
        if "redis" in self.project.services:
            self.project.fill_redis(KEYS)
            if save:
                self.project.redis("SAVE")

    def remember(self) -> None:
        """Note restart policies, images and who runs."""
        for service, inspected in self.inspected().items():
            self.policies[service] = inspected["HostConfig"]["RestartPolicy"]
            self.images[service] = inspected["Image"]
            self.running[service] = inspected["State"]["Running"]
            self.mounts[service] = mounts_of(inspected)

    def inspected(self) -> dict[str, dict[str, Any]]:
        """Return what the engine says of each service's one container."""
        found: dict[str, dict[str, Any]] = {}
        for container in self.project.containers(any_state=True):
            inspected = self.engine.api(f"/containers/{container['Id']}/json")
            service = inspected["Config"]["Labels"]["com.docker.compose.service"]
            assert service not in found, f"{service} has two containers"
            found[service] = inspected
        return found

    def prober(self) -> Prober:
        services = self.project.services
        return Prober(
            self.engine, self.project.name, postgres_service=services.get("postgres"),
            redis_service=services.get("redis"), postgres_user=self.project.postgres_user, interval=0.05,
        )  # fmt: skip

    # -- the module --------------------------------------------------------

    def arguments(self, *, check: bool = False, ending: str = "", **options: Any) -> dict[str, Any]:
        """Return the module's arguments as Ansible passes them."""
        wanted = [{"service": service, "source": str(source)} for service, source in self.sources.items()]
        asked: dict[str, Any] = {"project_src": str(self.project.directory), **self.options}
        if self.module == "compose_storage":
            asked.setdefault("mounts", wanted)
        if ending:
            asked = {"project": self.project.name, "state": ending}
        given: dict[str, Any] = {
            "docker_host": self.engine.host,
            "operations_dir": str(self.operations),
            **asked,
            **options,
            "_ansible_check_mode": check,
        }
        return {"ANSIBLE_MODULE_ARGS": {key: value for key, value in given.items() if value is not None}}

    def start(
        self,
        *,
        faults: Mapping[str, Any] | None = None,
        check: bool = False,
        ending: str = "",
        python: str = "",
        wrapper: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Run:
        """Start the lab's module in a process of its own, or for an ``ending`` (a state) ``operation``.

        It is forked unless the interpreter, its ``wrapper`` or its environment is what the test is about.
        """
        self.logs += 1
        module = f"{MODULES}.{'operation' if ending else self.module}"
        argv = [module]
        if faults is not None:
            specification = self.directory / f"faults-{self.logs}.json"
            specification.write_text(json.dumps({"module": module, "log": str(self.points_log), **faults}))
            argv = [RUNNER, str(specification)]
        path = os.pathsep.join([str(tree.link()), str(tree.ROOT)])
        if env and "PYTHONPATH" in env:
            env = {**env, "PYTHONPATH": os.pathsep.join([path, env["PYTHONPATH"]])}
        whole = {**os.environ, "PYTHONPATH": path, "PATH": f"/usr/bin:{os.environ['PATH']}", **(env or {})}
        process: Run
        # Not into pipes: a detached worker that is alive would keep them open.
        with (self.directory / f"run-{self.logs}.err").open("w") as errors:
            if python or wrapper or env:
                process = subprocess.Popen(
                    [*wrapper, python or sys.executable, "-m", *argv], stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE, stderr=errors, text=True, env=whole,
                )  # fmt: skip
            else:
                process = preloaded.start(argv, whole, errors)
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(self.arguments(check=check, ending=ending, **options)))
            process.stdin.close()
        return process

    def finish(self, process: Run, *, number: int | None = None) -> Answer:
        """Wait for a run and return its answer."""
        assert process.stdout is not None
        said = ""

        def read(stream: IO[str]) -> None:
            nonlocal said
            said = stream.read()

        # Beside the wait: an answer may be larger than what a pipe holds.
        reader = threading.Thread(target=read, args=(process.stdout,), daemon=True)
        reader.start()
        try:
            code = process.wait(HUNG)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"the module hung\n{self.story()}") from None
        reader.join(HUNG)
        process.stdout.close()
        errors = (self.directory / f"run-{number or self.logs}.err").read_text()
        try:
            return Answer(code, json.loads(said), errors)
        except ValueError:
            return Answer(code or 1, {}, said + errors)

    def run(self, **settings: Any) -> Answer:
        """Run the module to its end."""
        return self.finish(self.start(**settings))

    def end(self, state: str, **settings: Any) -> Answer:
        """Have the project's newest operation, or the one with the ``id``, committed or rolled back."""
        return self.run(ending=state, **settings)

    # -- faults ------------------------------------------------------------

    @property
    def points_log(self) -> Path:
        return self.directory / "points.jsonl"

    def points(self) -> list[tuple[str, str, int, bool]]:
        """Return the points at which faults struck: step, moment, effect, undoing."""
        if not self.points_log.exists():
            return []
        return [tuple(json.loads(line)) for line in self.points_log.read_text().splitlines()]

    def sweep(
        self,
        *,
        faults: Sequence[Mapping[str, Any]] = (),
        limit: int = 200,
        settings: Mapping[str, Any] | None = None,
        **sweep: Any,
    ) -> Mapping[str, Any]:
        """Run again and again, killed at each new point, until a run gets through; return its result.

        ``settings`` are those of each :meth:`run`.
        """
        struck = len(self.points())
        for _round in range(limit):
            answer = self.run(faults={"sweep": sweep, "faults": list(faults)}, **(settings or {}))
            now = len(self.points())
            if now == struck:
                return answer.ok()
            assert answer.failed, "a run whose worker was killed answered that all is well"
            assert answer.data, f"the process that waits for the worker broke\n{answer.stderr}"
            assert answer.data.get("safe_to_rerun", True), (answer.data, self.story())
            struck = now
        raise AssertionError(f"no end after {limit} kills: {self.points()}")

    def paused(self, step: str, moment: str, **settings: Any) -> Pause:
        """Start a run that halts at a moment of ``step``; it goes on when told to, and is gone with the lab."""
        place, go = self.directory / f"paused-{self.logs}", self.directory / f"go-{self.logs}"
        fault = {"step": step, "moment": moment, "do": "pause", "paused": str(place), "go": str(go)}
        process = self.start(faults={"faults": [fault]}, **settings)
        wait_until(lambda: bool(place.exists() and place.read_text()) or process.poll() is not None, "the run halts")
        assert process.poll() is None, self.finish(process)
        pause = Pause(self, process, int(place.read_text()), go, self.logs)
        self.pauses.append(pause)
        return pause

    # -- what must hold ----------------------------------------------------

    def states(self) -> list[str]:
        """Return the state of each operation, by its journal, oldest first."""
        found = []
        for journal in sorted(self.operations.glob("*/journal.jsonl")):
            records = [json.loads(line) for line in journal.read_text().splitlines()]
            found.append([r["data"]["state"] for r in records if r["what"] == "state"][-1])
        return found

    def story(self) -> str:
        """Return the journals and logs, for a failure's message."""
        told = []
        for path in sorted(self.operations.glob("*/*.jsonl")) + sorted(self.operations.glob("*/worker.log")):
            told += [f"--- {path}", path.read_text(errors="replace")[-6000:]]
        return "\n".join(told)

    def assert_moved(self, probe: Prober) -> Report:
        """Assert that all is where it is wanted, nothing is missing, and nothing is left over."""
        report = self.assert_nothing_lost(probe)
        self.assert_mounts()
        self.assert_as_before()
        self.assert_tidy()
        return report

    def assert_mounts(self) -> None:
        """Assert that the engine reports the wanted bind mounts, and nothing else that is new."""
        for service, inspected in self.inspected().items():
            if service not in self.sources:
                assert mounts_of(inspected) == self.mounts[service], service
                continue
            source = str(self.sources[service])
            ours = [m for m in inspected["Mounts"] if m["Type"] == "bind" and m["Source"] == source and m["RW"]]
            assert len(ours) == 1, (service, inspected["Mounts"])
            place = ours[0]["Destination"]
            rest = [mount for mount in mounts_of(inspected) if mount[0] != place]
            assert rest == [mount for mount in self.mounts[service] if mount[0] != place], service

    def assert_not_moved(self, probe: Prober) -> Report:
        """Assert that the services run where they ran, with all that was acknowledged."""
        report = self.assert_nothing_lost(probe)
        for service, inspected in self.inspected().items():
            assert mounts_of(inspected) == self.mounts[service], service
        self.assert_as_before()
        self.assert_tidy()
        for source in self.sources.values():
            assert not source.exists() or not any(source.iterdir()), f"{source} was left behind"
        return report

    def assert_nothing_lost(self, probe: Prober) -> Report:
        """Assert that every acknowledged write and the seed are there."""
        self.project.wait_ready()
        # A store that answers and takes no writes would lose none.
        probe.wait_written()
        report = probe.stop()
        lost = probe.missing(report)
        assert not any(lost.values()), {store: (len(ids), ids[:5]) for store, ids in lost.items()}
        self.assert_seed()
        return report

    def assert_seed(self) -> None:
        """Assert that what was filled in at the beginning is there."""
        if "postgres" in self.project.services:
            assert self.project.count_rows() == ROWS
        if "redis" in self.project.services:
            assert self.project.count_keys() >= KEYS

    def assert_as_before(self) -> None:
        """Assert that restart policies, images and who runs are as they were."""
        inspected = self.inspected()
        assert set(inspected) == set(self.running)
        assert {name: c["State"]["Running"] for name, c in inspected.items()} == self.running
        assert {name: c["HostConfig"]["RestartPolicy"] for name, c in inspected.items()} == self.policies
        assert {name: c["Image"] for name, c in inspected.items()} == self.images

    def assert_tidy(self) -> None:
        """Assert that no helper runs and no partial directory is left."""
        for container in self.engine.containers(OPERATION_LABEL, every=True):
            labels = container["Labels"]
            ours = labels[OPERATION_LABEL].startswith(self.project.name)
            # What keeps a retained volume from every prune stays until it is committed.
            assert not ours or labels[ROLE_LABEL] == "keeper", labels
        places = {source.parent for source in self.sources.values()} | {self.directory / "state" / "backups"}
        for place in places:
            partial = [path for path in place.rglob("*partial*") if "node_modules" not in path.parts]
            assert not partial, partial


@dataclass
class Pause:
    """A run that halts until it is told to go on."""

    lab: Lab
    process: Run
    worker: int
    go_file: Path
    number: int

    def go(self) -> None:
        self.go_file.touch()

    def give_up(self) -> None:
        """Kill what is left of a run that was never told to go on."""
        if not self.go_file.exists():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.worker, signal.SIGKILL)
            self.process.wait()

    def end(self) -> Answer:
        """Let the run go on, and return its answer."""
        self.go()
        return self.lab.finish(self.process, number=self.number)

    def kill(self, *, parent: bool = False, sig: signal.Signals = signal.SIGKILL) -> None:
        """Signal the worker, or the process that waits for it."""
        os.kill(self.process.pid if parent else self.worker, sig)


def bare_python(place: Path, *libraries: str) -> str:
    """Return an interpreter that has what Ansible sends along, ``libraries``, and nothing else."""
    for name in ("ansible", *libraries):
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        (place / name).symlink_to(Path(spec.origin).parent)
    base = Path(sys.base_prefix) / "bin" / "python3"
    script = place / "python3"
    script.write_text(f'#!/bin/sh\nPYTHONPATH="$PYTHONPATH:{place}" exec {base} "$@"\n')
    script.chmod(0o755)
    return str(script)


def mounts_of(inspected: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return what identifies a container's mounts, in order of their place."""
    return sorted((m["Destination"], m["Type"], m.get("Name", ""), m["Source"]) for m in inspected["Mounts"])


def wait_until(condition: Callable[[], bool], what: str, *, timeout: float = 120.0, every: float = 0.02) -> None:
    """Wait until ``condition`` holds."""
    ends = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < ends, f"{what}: not within {timeout:.0f} s"
        time.sleep(every)


def children(pid: int) -> list[int]:
    """Return the processes that any thread of ``pid`` started."""
    try:
        told = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return []
    return [int(child) for line in told for child in line.split()]


def snapshot(directory: Path) -> dict[str, tuple[Any, ...]]:
    """Return every entry below ``directory`` with what a change would show in."""
    found: dict[str, tuple[Any, ...]] = {}
    for top, names, files in os.walk(directory):
        for name in [*names, *files]:
            path = Path(top, name)
            status = path.lstat()
            content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
            found[str(path)] = (status.st_mode, status.st_uid, status.st_ino, status.st_mtime_ns, content)
    return found


@contextlib.contextmanager
def laid_out(
    directory: Path,
    *,
    services: Sequence[str] = ("db", "redis"),
    sources: Mapping[str, Path] | None = None,
    dependent: bool = False,
    options: Mapping[str, Any] | None = None,
    up: bool = True,
    edit: Callable[[str], str] = lambda text: text,
    folder: str = "project",
    save: bool = True,
    module: str = "compose_storage",
    **layout: Any,
) -> Iterator[Lab]:
    """Lay out a project with ``services`` below ``directory``, run it, and remove all of it at the end."""
    unwanted = {name: None for kind, name in (("db", "postgres"), ("redis", "redis")) if kind not in services}
    layout.setdefault("db_lines", ("  POSTGRES_INITDB_ARGS: --no-sync",))
    project = projects.simple_project(directory / folder, **{**layout, **unwanted})
    text = (project.directory / "docker-compose.yml").read_text()
    if dependent:
        head, volumes, rest = text.partition("\nvolumes:\n")
        text = head.rstrip("\n") + "\n" + DEPENDENT.format(stores=", ".join(services)) + volumes.lstrip("\n") + rest
    (project.directory / "docker-compose.yml").write_text(edit(text))
    places = sources or {name: project.directory / {"db": "postgres"}.get(name, name) for name in services}
    lab = Lab(project, directory, dict(places), dict(options or {}), module=module)
    try:
        yield lab.up(save=save) if up else lab
    finally:
        for pause in lab.pauses:
            pause.give_up()
        remove(project)


def remove(project: projects.Project) -> None:
    """Remove the project and what its operations left for their commit."""
    engine = project.engine
    engine.remove_helpers(project.name)
    project.down()
    engine.remove_kept_images(f"{project.name}-")


def fill(place: Path) -> Path:
    """Leave not one free block below ``place``."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as handle:
        end, size = 0, os.statvfs(place).f_bfree * os.statvfs(place).f_frsize
        while size >= 1024:
            try:
                os.posix_fallocate(handle.fileno(), end, size)
                end += size
            except OSError:
                size //= 2
    return filler
