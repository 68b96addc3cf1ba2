# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Migrations that lie on the controller are read there, and given to the module in place of files."""

from __future__ import annotations

import os
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations import files


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core ships no types
    """The controller's half of ``postgresql_migrations``."""

    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Read ``src`` where it is the controller's, and run the module."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        del tmp
        arguments = dict(self._task.args)
        if arguments.get("src") and arguments.get("src_on", "controller") == "controller":
            if arguments.get("migrations"):
                raise AnsibleActionFail("Migrations are given by src or by migrations, not by both.")
            arguments["migrations"] = self._read(arguments.pop("src"))
        result.update(self._execute_module(module_args=arguments, task_vars=task_vars, wrap_async=self._task.async_val))
        return result

    def _read(self, src: str) -> list[dict[str, str]]:
        try:
            place = self._find_needle("files", src)
        except AnsibleError as error:
            raise AnsibleActionFail(str(error)) from error
        if not os.path.isdir(place):
            raise AnsibleActionFail(f"{place} is no directory on the controller.")
        try:
            return files.as_list(files.of_directory(place))
        except StatefulError as error:
            raise AnsibleActionFail(error.msg) from error
