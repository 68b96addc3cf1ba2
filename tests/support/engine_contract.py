# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every engine has to do, asked in the words of ``_engine.api`` alone.

A subclass gives the fixtures ``engine`` and ``image_id``: an image that has a shell,
``sleep``, ``cat`` and ``id``. Each test works under an operation of its own, so that
tests on one engine do not see each other.
"""

from __future__ import annotations

import io
import tarfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.docker import EngineRefused
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import (
    OPERATION_LABEL,
    ROLE_LABEL,
    Bind,
    Container,
    Helper,
    RestartPolicy,
)

STUBBORN = ("sleep", "600")
"""As a first process it has no handler for SIGTERM, and the kernel gives it none."""
POLITE = ("sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done")
"""It says when its handler is in place: a signal that comes before is lost on a first process."""
ENDS = ("sh", "-c", "exit 7")

Make = Callable[..., str]


class EngineContract:
    """Inherit, give the fixtures, and pytest runs it all."""

    @pytest.fixture
    def operation(self) -> str:
        return f"contract-{uuid.uuid4().hex[:12]}"

    @pytest.fixture
    def volume(self, engine: Engine, operation: str) -> Iterator[str]:
        engine.create_volume(operation, labels={"purpose": "contract"})
        yield operation
        for container in engine.containers(volume=operation):
            engine.remove_container(container.id, force=True)
        engine.remove_volume(operation)

    @pytest.fixture
    def make(self, engine: Engine, image_id: str, operation: str) -> Iterator[Make]:
        """Return what makes a helper of this test's operation; all of them are removed afterwards."""

        def made(argv: tuple[str, ...] = STUBBORN, *, start: bool = True, role: str = "test", **more: object) -> str:
            helper = Helper(
                operation=operation,
                role=role,
                image_id=image_id,
                argv=argv,
                tmpfs=("/data",),
                **more,  # type: ignore[arg-type]
            )
            return engine.create_helper(helper, start=start)

        yield made
        for container in engine.containers(labels={OPERATION_LABEL: operation}):
            engine.remove_container(container.id, force=True)

    # -- questions ---------------------------------------------------------

    def test_what_is_not_there_is_none(self, engine: Engine, operation: str) -> None:
        assert engine.container("f" * 64) is None
        assert engine.image(f"{operation}:none") is None
        assert engine.volume(operation) is None
        assert engine.containers(labels={OPERATION_LABEL: operation}) == []

    def test_a_helper_bears_its_operation_and_role(self, engine: Engine, make: Make, operation: str) -> None:
        container = seen(engine, make(labels={"colour": "blue"}))
        assert container.labels[OPERATION_LABEL] == operation
        assert container.labels[ROLE_LABEL] == "test"
        assert container.labels["colour"] == "blue"
        assert container.running
        assert container.pid > 0
        assert container.network_mode == "none"
        assert container.restart == RestartPolicy("no")

    def test_labels_filter_all_together_and_an_empty_value_takes_any(
        self, engine: Engine, make: Make, operation: str
    ) -> None:
        one, other = make(role="one", start=False), make(role="other", start=False)

        def found(**labels: str) -> set[str]:
            wanted = {OPERATION_LABEL: operation, **{f"selfhost.stateful.{key}": labels[key] for key in labels}}
            return {container.id for container in engine.containers(labels=wanted)}

        assert found() == {one, other}
        assert found(role="one") == {one}
        assert found(role="") == {one, other}
        assert found(role="none") == set()

    def test_stopped_containers_are_listed(self, engine: Engine, make: Make, operation: str) -> None:
        never_started = make(start=False)
        container = seen(engine, never_started)
        assert not container.running
        assert container.pid == 0
        assert container.started_at.startswith("0001-")
        assert [c.id for c in engine.containers(labels={OPERATION_LABEL: operation})] == [never_started]

    def test_a_volume_lists_who_mounts_it_stopped_or_not(self, engine: Engine, make: Make, volume: str) -> None:
        assert engine.containers(volume=volume) == []
        assert volume not in engine.volumes_in_use()
        holder = make(volumes=(volume,), start=False)
        make(start=False)
        assert [container.id for container in engine.containers(volume=volume)] == [holder]
        assert volume in engine.volumes_in_use()

    def test_a_helper_holds_a_volume_read_only_in_the_engines_own_words(
        self, engine: Engine, make: Make, volume: str
    ) -> None:
        mount = seen(engine, make(volumes=(volume,))).mount_at(f"/kept/{volume}")
        known = engine.volume(volume)
        assert mount is not None
        assert known is not None
        assert mount.as_inspect() == {
            "Type": "volume", "Source": known.mountpoint, "Destination": f"/kept/{volume}", "RW": False,
            "Name": volume,
        }  # fmt: skip

    def test_a_bind_is_read_only_unless_asked(self, engine: Engine, make: Make, tmp_path: Path) -> None:
        binds = (Bind(str(tmp_path), "/in"), Bind(str(tmp_path), "/out", read_only=False))
        container = seen(engine, make(binds=binds, start=False))
        modes = {mount.destination: mount.rw for mount in container.mounts if mount.type == "bind"}
        assert modes == {"/in": False, "/out": True}

    def test_a_bind_of_nothing_is_refused(self, make: Make, tmp_path: Path) -> None:
        with pytest.raises(EngineRefused):
            make(binds=(Bind(str(tmp_path / "none"), "/in"),))
        assert not (tmp_path / "none").exists()

    def test_an_image_is_found_by_id_and_by_tag(self, engine: Engine, image_id: str, operation: str) -> None:
        engine.tag(image_id, operation, "kept")
        try:
            found = engine.image(f"{operation}:kept")
            assert found is not None
            assert found.id == image_id
            assert f"{operation}:kept" in found.tags
        finally:
            engine.untag(f"{operation}:kept")
        assert engine.image(f"{operation}:kept") is None
        assert engine.image(image_id) is not None
        engine.untag(f"{operation}:kept")  # twice is no error

    # -- stopping and starting ---------------------------------------------

    def test_a_stop_waits_for_the_end_and_tells_its_exit_code(self, engine: Engine, make: Make) -> None:
        stopped = engine.stop(ready(engine, make(POLITE)), signal="SIGTERM", timeout=30)
        assert not stopped.running
        assert stopped.exit_code == 3

    def test_a_stop_never_kills_what_goes_on(self, engine: Engine, make: Make) -> None:
        container = make(STUBBORN)
        with pytest.raises(EngineRefused, match=r"still runs .*after SIGTERM"):
            engine.stop(container, signal="SIGTERM", timeout=1)
        assert seen(engine, container).running

    def test_a_stop_kills_only_where_that_was_asked_for(self, engine: Engine, make: Make) -> None:
        stopped = engine.stop(make(STUBBORN), signal="SIGTERM", timeout=1, kill=True)
        assert not stopped.running
        assert stopped.exit_code == 137

    def test_stopping_what_does_not_run_is_no_error(self, engine: Engine, make: Make) -> None:
        container = make(start=False)
        assert not engine.stop(container, signal="SIGTERM", timeout=1).running

    def test_stopping_what_is_not_there_is_an_error(self, engine: Engine) -> None:
        with pytest.raises(EngineRefused):
            engine.stop("f" * 64, signal="SIGTERM", timeout=1)

    def test_what_was_stopped_starts_again(self, engine: Engine, make: Make) -> None:
        container = ready(engine, make(POLITE))
        first = seen(engine, container).started_at
        engine.stop(container, signal="SIGTERM", timeout=30)
        engine.start(container)
        again = seen(engine, container)
        assert again.running
        assert again.started_at > first
        engine.start(container)  # twice is no error
        assert seen(engine, container).pid == again.pid

    def test_starting_what_is_not_there_is_an_error(self, engine: Engine) -> None:
        with pytest.raises(EngineRefused):
            engine.start("f" * 64)

    def test_waiting_tells_the_exit_code(self, engine: Engine, make: Make) -> None:
        assert engine.wait(make(ENDS), timeout=30) == 7

    def test_waiting_has_an_end(self, engine: Engine, make: Make) -> None:
        container = make(STUBBORN)
        with pytest.raises(EngineRefused, match="has not ended"):
            engine.wait(container, timeout=1)
        assert seen(engine, container).running

    # -- what is kept ------------------------------------------------------

    @pytest.mark.parametrize(
        "policy",
        [RestartPolicy("always"), RestartPolicy("unless-stopped"), RestartPolicy("on-failure", 4), RestartPolicy("no")],
        ids=lambda policy: policy.name,
    )
    def test_a_restart_policy_is_read_back_as_it_was_set(
        self, engine: Engine, make: Make, policy: RestartPolicy
    ) -> None:
        container = make(start=False)
        engine.set_restart_policy(container, RestartPolicy("on-failure", 9))
        engine.set_restart_policy(container, policy)
        assert seen(engine, container).restart == policy

    def test_a_restart_policy_survives_a_stop(self, engine: Engine, make: Make) -> None:
        container = ready(engine, make(POLITE))
        engine.set_restart_policy(container, RestartPolicy("on-failure", 2))
        engine.set_restart_policy(container, RestartPolicy("no"))
        engine.stop(container, signal="SIGTERM", timeout=30)
        assert seen(engine, container).restart == RestartPolicy("no")

    def test_a_container_takes_another_name(self, engine: Engine, make: Make, operation: str) -> None:
        container = make(start=False)
        engine.rename(container, f"{operation}-renamed")
        assert seen(engine, container).name == f"{operation}-renamed"
        with pytest.raises(EngineRefused):
            engine.rename(make(start=False), f"{operation}-renamed")

    def test_removing_a_container_leaves_its_volumes(self, engine: Engine, make: Make, volume: str) -> None:
        container = make(volumes=(volume,), start=False)
        engine.remove_container(container)
        assert engine.container(container) is None
        assert engine.volume(volume) is not None
        engine.remove_container(container)  # twice is no error

    def test_a_running_container_is_removed_only_by_force(self, engine: Engine, make: Make) -> None:
        container = make(STUBBORN)
        with pytest.raises(EngineRefused):
            engine.remove_container(container)
        assert seen(engine, container).running
        engine.remove_container(container, force=True)
        assert engine.container(container) is None

    def test_a_volume_in_use_is_not_removed(self, engine: Engine, make: Make, volume: str) -> None:
        container = make(volumes=(volume,), start=False)
        with pytest.raises(EngineRefused):
            engine.remove_volume(volume)
        assert engine.volume(volume) is not None
        engine.remove_container(container)
        engine.remove_volume(volume)
        assert engine.volume(volume) is None
        engine.remove_volume(volume)  # twice is no error

    def test_a_volume_is_a_directory_on_this_host(self, engine: Engine, volume: str) -> None:
        found = engine.volume(volume)
        assert found is not None
        assert found.driver == "local"
        assert Path(found.mountpoint).is_dir()
        assert found.labels == {"purpose": "contract"}
        assert not found.anonymous
        assert volume in [each.name for each in engine.volumes()]

    def test_a_volume_whose_directory_is_gone_is_refused_and_not_made_anew(
        self, engine: Engine, make: Make, volume: str
    ) -> None:
        """So a service cannot come up on an empty volume after its directory was renamed away."""
        found = engine.volume(volume)
        assert found is not None
        container = make(volumes=(volume,), start=False)
        Path(found.mountpoint).rmdir()
        with pytest.raises(EngineRefused):
            engine.start(container)
        assert not Path(found.mountpoint).exists()

    def test_making_a_volume_again_changes_nothing(self, engine: Engine, volume: str) -> None:
        found = engine.volume(volume)
        assert found is not None
        Path(found.mountpoint, "kept").write_text("data")
        assert engine.create_volume(volume, labels={}).mountpoint == found.mountpoint
        assert Path(found.mountpoint, "kept").read_text() == "data"

    # -- commands and files inside -----------------------------------------

    def test_a_command_answers_on_both_streams_with_its_exit_code(self, engine: Engine, make: Make) -> None:
        answer = engine.execute(make(), ("sh", "-c", "echo out; echo err >&2; exit 5"))
        assert (answer.rc, answer.stdout, answer.stderr) == (5, b"out\n", b"err\n")

    def test_a_command_is_an_argument_list_and_no_shell_reads_it(self, engine: Engine, make: Make) -> None:
        answer = engine.execute(make(), ("echo", "$HOME; ls", "a  b", "ü"))
        assert answer.stdout.decode() == "$HOME; ls a  b ü\n"

    def test_a_command_gets_its_input_whole_and_to_its_end(self, engine: Engine, make: Make) -> None:
        sent = bytes(range(256)) * 4096
        answer = engine.execute(make(), ("cat",), stdin=sent)
        assert answer.rc == 0
        assert answer.stdout == sent

    def test_a_command_with_empty_input_sees_its_end(self, engine: Engine, make: Make) -> None:
        assert engine.execute(make(), ("cat",), stdin=b"").stdout == b""

    def test_a_command_gets_variables(self, engine: Engine, make: Make) -> None:
        answer = engine.execute(make(), ("sh", "-c", 'echo "$SECRET"'), environment={"SECRET": "it's $HOME"})
        assert answer.stdout == b"it's $HOME\n"

    def test_a_command_runs_as_another_user(self, engine: Engine, make: Make) -> None:
        assert engine.execute(make(), ("id", "-u"), user="4242").text().strip() == "4242"

    def test_a_command_in_a_stopped_container_is_refused(self, engine: Engine, make: Make) -> None:
        with pytest.raises(EngineRefused):
            engine.execute(make(start=False), ("true",))

    def test_files_go_in_and_come_out_of_a_container_that_never_ran(self, engine: Engine, make: Make) -> None:
        container = make(start=False)
        engine.put_archive(container, "/", iter([tar_of({"srv/own/deep/file": b"content"})]))
        assert files_of(engine.archive(container, "/srv/own")) == {"own/deep/file": b"content"}

    def test_what_is_not_there_cannot_be_read(self, engine: Engine, make: Make) -> None:
        with pytest.raises(EngineRefused):
            list(engine.archive(make(start=False), "/no/such/path"))

    def test_files_cannot_go_where_no_directory_is(self, engine: Engine, make: Make) -> None:
        with pytest.raises(EngineRefused):
            engine.put_archive(make(start=False), "/no/such/path", iter([tar_of({"file": b"x"})]))


def seen(engine: Engine, container_id: str) -> Container:
    """Return the container, which must be there."""
    found = engine.container(container_id)
    assert found is not None
    return found


def ready(engine: Engine, container_id: str) -> str:
    """Return when the polite program has its handler in place."""
    deadline = time.monotonic() + 30
    while "ready" not in engine.logs(container_id):
        assert time.monotonic() < deadline, "the container never said that it is ready"
        time.sleep(0.02)
    return container_id


def tar_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(mode="w", fileobj=buffer) as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def files_of(chunks: Iterator[bytes]) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
        members = [member for member in tar if member.isfile()]
        return {member.name: (tar.extractfile(member) or io.BytesIO()).read() for member in members}
