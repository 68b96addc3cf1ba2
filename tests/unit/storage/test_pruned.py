# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A prune between two runs: what it cannot take, and what is said of what it took."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container, EngineMount
from ansible_collections.selfhost.stateful.plugins.module_utils._operation import execute
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import DONE, ROLLED_BACK
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.steps.volumes import HOLDER, HOLDING
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import transfers_of_plan
from tests.support import fake_store
from tests.support.dying import KINDS
from tests.support.memory_engine import Program
from tests.support.storage_lab import PROJECT, TARGET, Lab

WARM = "prepare db:/data"
ANONYMOUS_RENAME, ANONYMOUS_COPY, LAYER_COPY = KINDS[0], KINDS[2], KINDS[5]


def volume_of(lab: Lab) -> EngineMount:
    """Return the volume that the database has its data in before anything is moved."""
    volume = lab.container("db").mount_at(TARGET)
    assert volume is not None
    return volume


def holders(lab: Lab) -> list[Container]:
    return [each for each in lab.engine.held.values() if HOLDER in each.labels.values()]


def test_the_last_copy_is_kept_where_the_original_is_gone(tmp_path: Path) -> None:
    """Whoever held the volume was removed too, and the service does not come up on the copy."""
    lab = ANONYMOUS_COPY.lab(tmp_path)
    volume = volume_of(lab)
    operation = lab.begin()
    lab.burning("journal evidence create the containers", lambda: lab.run(operation))
    for container in holders(lab):
        lab.engine.drop(container.id)
    lab.engine.prune(keeping=("db", "web"))
    assert not Path(volume.source).exists()
    lab.store.never_ready.add(lab.goal("db"))

    with pytest.raises(execute.UndoRefused, match="nothing is undone") as refused:
        lab.run(operation)

    assert lab.goal("db") in refused.value.state
    assert fake_store.rows_of(lab.goal("db")) == lab.acknowledged["db"]
    lab.store.never_ready.clear()
    assert lab.run(operation) == DONE
    assert fake_store.rows_of(lab.goal("db")) == lab.acknowledged["db"]
    (told,) = operation.history().evidence["retain the original of db:/data"]["warnings"]
    assert "is gone" in told


def test_a_half_made_copy_is_kept_where_the_original_is_gone(tmp_path: Path) -> None:
    lab = ANONYMOUS_COPY.lab(tmp_path)
    volume = volume_of(lab)
    operation = lab.begin()
    lab.burning("journal intent move db:/data", lambda: lab.run(operation))
    shutil.rmtree(volume.source)

    with pytest.raises(execute.UndoRefused, match="nothing is undone"):
        lab.run(operation)

    staged = next(Path(lab.project_dir).glob(".db-data.partial-*"))
    assert fake_store.rows_of(str(staged)) == lab.acknowledged["db"]


def pruned_web(lab: Lab) -> None:
    for container in lab.world.containers_of("web"):
        lab.engine.drop(container.id)


def test_an_application_that_lost_its_container_is_no_success(tmp_path: Path) -> None:
    lab = ANONYMOUS_RENAME.lab(tmp_path)
    operation = lab.begin()
    lab.burning("journal evidence stop the stores", lambda: lab.run(operation))
    pruned_web(lab)

    with pytest.raises(execute.ProvedFailure, match="web ran, was stopped for this") as failed:
        lab.run(operation)

    assert failed.value.next_command.startswith("cd ")
    assert "up -d --no-deps web; then run the same task again" in failed.value.next_command
    lab.compose.up(["web"])
    assert lab.run(operation) == DONE
    lab.check_served()


def test_an_application_that_was_taken_out_of_the_file_is_not_waited_for(tmp_path: Path) -> None:
    """No command could make it anew, and the operation would never end."""
    lab = ANONYMOUS_RENAME.lab(tmp_path)
    operation = lab.begin()
    lab.burning("journal evidence stop the stores", lambda: lab.run(operation))
    pruned_web(lab)
    text = lab.file.read_text(encoding="utf-8")
    lab.file.write_text(text[: text.index("  web:")], encoding="utf-8")

    assert lab.run(operation) == DONE


def test_an_undo_tells_of_an_application_that_lost_its_container(tmp_path: Path) -> None:
    lab = ANONYMOUS_RENAME.lab(tmp_path)
    lab.store.never_ready.add(lab.goal("db"))
    operation = lab.begin()
    lab.burning("journal evidence stop the stores", lambda: lab.run(operation))
    pruned_web(lab)

    with pytest.raises(execute.UndoneFailure) as undone:
        lab.run(operation)

    assert operation.history().state == ROLLED_BACK
    assert "; web has no container any more: cd " in undone.value.state
    assert execute.told_by_undo(operation)


def test_an_image_without_the_program_holds_its_volume_all_the_same(tmp_path: Path) -> None:
    lab = ANONYMOUS_COPY.lab(tmp_path)
    volume = volume_of(lab)
    lab.engine.refuses = {HOLDING}
    operation = lab.begin()
    lab.burning("journal evidence create the containers", lambda: lab.run(operation))

    assert volume.name in lab.engine.volumes_in_use()
    assert lab.run(operation) == DONE
    assert not holders(lab)


def test_the_holder_sleeps_in_an_image_that_knows_no_infinity(tmp_path: Path) -> None:
    """As older Alpine images do not; and an engine that stops does not wait for it."""
    lab = ANONYMOUS_COPY.lab(tmp_path)
    lab.engine.programs[("sleep", "infinity")] = Program(says="sleep: invalid number 'infinity'", ends_with=1)
    operation = lab.begin()
    lab.burning("journal evidence arrange the stop", lambda: lab.run(operation))

    (holder,) = holders(lab)
    assert holder.running
    assert holder.stop_signal == "SIGKILL"


@pytest.mark.parametrize("at", ["before create_helper", "after create_helper", "journal evidence arrange the stop"])
def test_what_a_holder_made_goes_with_it_wherever_its_run_was_killed(tmp_path: Path, at: str) -> None:
    """The engine refuses to start a service on a volume without a directory, and would initialise an empty one."""
    lab = ANONYMOUS_RENAME.lab(tmp_path)
    volume = volume_of(lab)
    done = lab.begin()
    assert lab.run(done) == DONE
    assert not Path(volume.source).exists()
    back = lab.begin_rollback(done)
    assert lab.burning(at, lambda: lab.run(back))
    assert Path(volume.source).is_dir()
    for holder in holders(lab):
        lab.engine.drop(holder.id)
    lab.burning("journal evidence arrange the stop", lambda: lab.run(back))

    lab.undo(back)

    assert not Path(volume.source).exists()
    assert not holders(lab)
    lab.check_served()


def test_a_copy_that_somebody_removed_is_made_again_before_anything_stops(tmp_path: Path) -> None:
    """The directory of the volume that it is to become is there, because that is held; it is no copy."""
    lab = ANONYMOUS_COPY.lab(tmp_path)
    done = lab.begin()
    assert lab.run(done) == DONE
    back = lab.begin_rollback(done)
    lab.burning("journal evidence arrange the stop", lambda: lab.run(back))
    shutil.rmtree(transfers_of_plan(back.plan)[0].staging)

    assert lab.run(back) == DONE

    again = [record for record in back.journal.records() if (record.what, record.step) == ("intent", WARM)]
    assert len(again) == 2
    lab.check_at_origin()


def test_a_holder_is_no_container_of_the_service_that_its_image_was_built_for(tmp_path: Path) -> None:
    """Compose labels what it builds, and a container has the labels of its image."""
    lab = ANONYMOUS_COPY.lab(tmp_path)
    image = lab.engine.images[lab.container("db").image_id]
    labels = {"com.docker.compose.project": PROJECT, "com.docker.compose.service": "db"}
    lab.engine.images[image.id] = replace(image, labels={**labels, "com.docker.compose.version": "2.17.2"})
    done = lab.begin()

    assert lab.run(done) == DONE
    lab.check_served()
    assert lab.run(lab.begin_rollback(done)) == DONE
    lab.check_at_origin()


def test_an_undo_keeps_a_layer_until_the_service_runs_on_it_again(tmp_path: Path) -> None:
    """What does not run is a prune's, and its layer goes with it."""
    lab = LAYER_COPY.lab(tmp_path)
    operation = lab.begin()
    lab.burning("journal evidence move db:/data", lambda: lab.run(operation))
    links = Path(transfers_of_plan(operation.plan)[0].retained)
    assert lab.burning("journal undone keep the layer of db:/data", lambda: lab.undo(operation))
    lab.engine.prune(keeping=("web",))

    lab.undo(operation)

    lab.check_undone()
    assert links.is_dir()
    assert [copy.path for copy in operation.history().copies() if copy.role == "original"] == [str(links)]


def test_an_undo_leaves_no_second_names_of_a_layer_that_is_in_use_again(tmp_path: Path) -> None:
    lab = LAYER_COPY.lab(tmp_path)
    operation = lab.begin()
    lab.burning("journal evidence move db:/data", lambda: lab.run(operation))
    links = Path(transfers_of_plan(operation.plan)[0].retained)
    assert links.is_dir()

    lab.undo(operation)

    lab.check_undone()
    assert not links.exists()
    assert not [copy for copy in operation.history().copies() if copy.role == "original"]
