# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options that name one container."""

from __future__ import annotations


class ModuleDocFragment:
    """Documentation of ``_compose/subject.py``. Named before ``project``, it has the last word on project_src."""

    DOCUMENTATION = r"""
options:
  project_src:
    description:
      - The directory of the project whose O(service) is meant, where C(docker compose) is run.
      - Either O(project_src) and O(service) are given, or O(container).
    type: path
    required: false
    default: ""
  service:
    description:
      - The service of the project that is meant. It has to have one container, and that has to run.
    type: str
    default: ""
  container:
    description:
      - The name or the id of a container, for one that no compose project runs, and for one of
        several replicas.
    type: str
    default: ""
"""
