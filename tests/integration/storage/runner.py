# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run a module with faults: ``python -m tests.integration.storage.runner <specification>``.

The specification names the ``module``, and what :class:`Faults` reads.

The product has no hooks. What is hooked is the interpreter (``sys.addaudithook`` sees every
file opened for writing, every rename, every process started and every request sent) and
the journal's own methods, which mark where a step begins and ends.

Between a warm copy and its proof lies no journal record: ``prove`` is its name as a moment.

The moments of a step: ``before`` (its intent is on disk, nothing is done), ``in`` (n of its
effects are done), ``applied`` (all is done, the evidence is not written) and ``after`` (it is).
A sweep over ``in`` takes ``applied`` for it in a step that has fewer effects. ``helper`` is the
moment at which a helper of the step has started; that helper never ends by itself.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.docker import DockerEngine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Helper
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation import execute
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.journal import Journal
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import libc, prove

EFFECTS = frozenset(
    (
        "os.rename", "os.link", "os.mkdir", "os.rmdir", "os.remove", "os.truncate", "os.chmod", "os.chown",
        "os.symlink", "os.setxattr", "os.fork", "subprocess.Popen", "fcntl.ioctl",
    )
)  # fmt: skip
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
# Read only, or the journal's own: no effects of a step.
QUIET = ("/dev/", "/proc/")
OWN_FILES = ("journal.jsonl", "result.json.draft", "worker.log")


class Faults:
    """Knows where the worker is, and strikes there.

    The specification: ``faults`` (each with ``step``, ``moment``, ``effect``, ``undoing`` and what
    to ``do``: kill, fail, pause), and ``sweep`` (``steps``, ``moments``, ``effects``, ``undoing``):
    a kill at each point that no earlier run was killed at. ``log`` is a file of points, one a line;
    ``waiting`` is a file that is made when the run begins to wait for another.
    """

    def __init__(self, specification: Mapping[str, Any]) -> None:
        self._faults = [dict(fault) for fault in specification.get("faults", ())]
        self._sweep = specification.get("sweep")
        self._log = specification["log"]
        self._lock = threading.RLock()
        self._step, self._undoing, self._effects, self._worker = "", False, 0, 0
        self._struck = self._read()

    def _read(self) -> set[tuple[Any, ...]]:
        try:
            with open(self._log, encoding="utf-8") as handle:
                return {tuple(json.loads(line)) for line in handle}
        except FileNotFoundError:
            return set()

    def begin(self, step: str, *, undoing: bool) -> None:
        """Note that ``step`` begins."""
        self._step, self._undoing, self._effects, self._worker = step, undoing, 0, os.getpid()
        self.reached("before")

    def end(self, step: str, moment: str, *, undoing: bool) -> None:
        """Note that ``step`` is done."""
        self._step, self._undoing, self._worker = step, undoing, os.getpid()
        self.reached(moment)
        if moment == "after":
            self._step = ""

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Count the effects of the step that is being made."""
        if not self._step or not _is_effect(event, arguments):
            return
        self.effect()

    def effect(self) -> None:
        """Count one effect; what is struck is the effect before which this is called."""
        if not self._step:
            return
        with self._lock:
            done, self._effects = self._effects, self._effects + 1
            if done:
                self.reached("in", done)

    def reached(self, moment: str, effect: int = 0) -> None:
        """Strike if this is a point where a fault is wanted."""
        for fault in self._faults:
            wanted = (fault["step"], fault["moment"], fault.get("effect", 0), fault.get("undoing", False))
            if wanted == (self._step, moment, effect, self._undoing):
                self._strike(fault.get("do", "kill"), moment, effect, fault)
        sweep = self._sweep
        if (
            sweep is not None
            and bool(sweep.get("undoing")) == self._undoing
            and (moment in sweep["moments"] or self._stands_in(moment))
            and (not effect or effect in sweep["effects"])
            and (not sweep.get("steps") or self._step in sweep["steps"])
        ):
            self._strike("kill", moment, effect, {})

    def wants(self, moment: str) -> bool:
        """Tell whether a fault is still to strike at ``moment`` of the step that is being made."""
        place = (self._step, moment, 0, self._undoing)
        wanted = [(f["step"], f["moment"], f.get("effect", 0), f.get("undoing", False)) for f in self._faults]
        return place in wanted and place not in self._struck

    def _stands_in(self, moment: str) -> bool:
        inside = ("in", self._step, self._undoing)
        return (
            moment == "applied"
            and self._sweep is not None
            and "in" in self._sweep["moments"]
            and not any((point[1], point[0], point[3]) == inside for point in self._struck)
        )

    def _strike(self, do: str, moment: str, effect: int, fault: Mapping[str, Any]) -> None:
        point = (self._step, moment, effect, self._undoing)
        if point in self._struck:
            return
        step, self._step = self._step, ""  # what follows is no effect of the step
        self._struck.add(point)
        with open(self._log, "a", encoding="utf-8") as handle:
            handle.write(json.dumps(point) + "\n")
        if do == "kill":
            os.kill(self._worker, signal.SIGKILL)
            if os.getpid() == self._worker:
                time.sleep(60)  # for as long as the signal takes; a child of the worker goes on
        elif do == "fail":
            raise StatefulError("A fault was injected.")
        elif do == "pause":
            with open(fault["paused"], "w", encoding="utf-8") as handle:
                handle.write(str(self._worker))
            while not os.path.exists(fault["go"]):
                time.sleep(0.01)
        self._step = step


def _is_effect(event: str, arguments: tuple[Any, ...]) -> bool:
    if event == "open":
        path, _mode, flags = arguments
        name = os.fsdecode(path) if isinstance(path, (str, bytes)) else ""
        return bool(name and flags & WRITING) and not name.startswith(QUIET) and not name.endswith(OWN_FILES)
    if event == "http.client.send":
        return not bytes(arguments[1][:5]).startswith((b"GET ", b"HEAD "))
    return event in EFFECTS


def install(faults: Faults) -> None:
    """Put ``faults`` around the journal, the handlers' undo, and every effect."""
    intent, evidence, undone, undo = Journal.intent, Journal.evidence, Journal.undone, execute.undo

    def watched_intent(self: Journal, step: str) -> None:
        intent(self, step)
        faults.begin(step, undoing=False)

    def watched_evidence(self: Journal, step: str, data: Any, *, durable: bool = False) -> None:
        faults.end(step, "applied", undoing=False)
        evidence(self, step, data, durable=durable)
        faults.end(step, "after", undoing=False)

    def watched_undone(self: Journal, step: str, data: Any) -> None:
        faults.end(step, "applied", undoing=True)
        undone(self, step, data)
        faults.end(step, "after", undoing=True)

    def watched_undo(operation: Any, handlers: Mapping[str, Any], world: Any, *, reason: str) -> None:
        watched: dict[str, Any] = {kind: Watched(handler, faults) for kind, handler in handlers.items()}
        undo(operation, watched, world, reason=reason)

    Journal.intent = watched_intent  # type: ignore[method-assign]
    Journal.evidence = watched_evidence  # type: ignore[method-assign]
    Journal.undone = watched_undone  # type: ignore[method-assign]
    execute.undo = watched_undo
    _make_helpers_endless(faults)
    libc.rename_no_replace = _counted(libc.rename_no_replace, faults)
    prove.prove_warm = _announced(prove.prove_warm, faults)
    sys.addaudithook(faults.audit)


class Watched:
    """A handler that says which step it is about to undo."""

    def __init__(self, handler: Any, faults: Faults) -> None:
        self._handler, self._faults = handler, faults

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handler, name)

    def undo(self, step: Any, context: Any) -> Any:
        """Undo, watched."""
        self._faults.begin(step.name, undoing=True)
        return self._handler.undo(step, context)


def _make_helpers_endless(faults: Faults) -> None:
    """Let the helper at which a fault is wanted wait for ever, and strike when it has started."""
    create, start_container = DockerEngine.create_helper, DockerEngine.start
    endless: set[str] = set()

    def watched_create(self: DockerEngine, helper: Helper, *, start: bool = True) -> str:
        if not faults.wants("helper"):
            return create(self, helper, start=start)
        made = create(self, replace(helper, argv=("sleep", "infinity")), start=False)
        endless.add(made)
        if start:
            self.start(made)
        return made

    def watched_start(self: DockerEngine, container_id: str) -> None:
        start_container(self, container_id)
        if container_id in endless:
            faults.reached("helper")

    DockerEngine.create_helper = watched_create  # type: ignore[method-assign]
    DockerEngine.start = watched_start  # type: ignore[method-assign]


def _counted(call: Callable[..., Any], faults: Faults) -> Callable[..., Any]:
    """Return ``call``, which no audit event tells of, as an effect: struck before it and right after it."""

    def counted(*arguments: Any) -> Any:
        faults.effect()
        answer = call(*arguments)
        faults.effect()
        return answer

    return counted


def announce_waiting(place: str) -> None:
    """Make the file ``place`` when the run begins to wait for another one."""
    wait = OperationStore.wait_until_free

    def announced(self: OperationStore, project: str, **named: Any) -> None:
        with open(place, "w", encoding="utf-8"):
            pass
        wait(self, project, **named)

    OperationStore.wait_until_free = announced  # type: ignore[method-assign]


def _announced(call: Callable[..., Any], faults: Faults) -> Callable[..., Any]:
    """Return ``call`` with the moment ``prove`` before it."""

    def announced(*arguments: Any, **named: Any) -> Any:
        faults.reached("prove")
        return call(*arguments, **named)

    return announced


def main() -> None:
    """Run the module that the specification names, with its faults."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, and that is inherited
    with open(sys.argv.pop(1), encoding="utf-8") as source:
        given = json.load(source)
    if "waiting" in given:
        announce_waiting(given["waiting"])
    # What is compiled late would count as an effect of the step that imports it.
    sys.dont_write_bytecode = True
    install(Faults(given))
    importlib.import_module(given["module"]).main()


if __name__ == "__main__":
    main()
