# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How every module ends: with a result, or with a failure that has the same five keys whatever went wrong."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError

UNFORESEEN_STATE = "as the last step left it; what was begun is journaled"
UNFORESEEN_COMMAND = (
    "look at the operations of this host (selfhost.stateful.operation_info), then run the same task again"
)
NAMING = ("project_src", "container", "id", "project")
"""Options by which one task of a module is told from another, the most telling first."""


def answer(module: AnsibleModule, work: Callable[[], Mapping[str, Any]]) -> None:
    """Do ``work`` and exit with what it returns; its ``warnings`` become warnings of the task."""
    try:
        result = dict(work())
    except StatefulError as error:
        module.fail_json(**told(error, module))
    except Exception as error:  # noqa: BLE001 - told with the five keys, which nobody needs more than now
        module.fail_json(exception=traceback.format_exc(), **told(unforeseen(error), module))
    for warning in result.pop("warnings", ()):
        module.warn(warning)
    module.exit_json(**result)


def told(error: StatefulError, module: AnsibleModule) -> dict[str, Any]:
    """Return the failure as it is read: with the task to run again by name, where no command leads further."""
    result = error.as_result()
    if not result["next_command"]:
        name = f"selfhost.stateful.{module._name.rpartition('.')[2]}"
        given = next((f", {option}: {module.params[option]}" for option in NAMING if module.params.get(option)), "")
        task = f"{name}{given}"
        result["next_command"] = (
            f"put right what msg names, then run the same task again ({task})"
            if result["safe_to_rerun"]
            else f"look at what msg and state name, and do not run the task again before that is clear ({task})"
        )
    return result


def unforeseen(error: Exception) -> StatefulError:
    """Return what an admin is told about an error that nothing below turned into a sentence."""
    if isinstance(error, PermissionError):
        return StatefulError(
            f"This user may not do what the task needs ({error}): run it with become: true.",
            state=UNFORESEEN_STATE,
            next_command="set become: true and run the same task again",
        )
    if isinstance(error, OSError):
        return StatefulError(f"The system refused: {error}.", state=UNFORESEEN_STATE, next_command=UNFORESEEN_COMMAND)
    return StatefulError(
        f"An error that was not foreseen, {type(error).__name__}: {error}.",
        state=UNFORESEEN_STATE,
        next_command=UNFORESEEN_COMMAND,
    )
