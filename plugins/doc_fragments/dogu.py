# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options that the modules about a CES share."""

from __future__ import annotations


class ModuleDocFragment:
    """Documentation of ``_cloudogu/arguments.py``."""

    DOCUMENTATION = r"""
options:
  name:
    description: The dogu, which is also the name of its container.
    type: str
    default: postgresql
  dependents:
    description:
      - The dogus that use the database. V(auto) stands for those that have a service account in it, which is a role and
        a database called by the dogu's name and a random word; further ones are named beside it.
    type: list
    elements: str
    default: [auto]
  cesapp_program:
    description: The CES's own program, as a list of words.
    type: list
    elements: str
    default: [cesapp]
  operations_dir:
    description:
      - Where operations are journaled. Left out, C(/var/lib/selfhost-stateful/operations), or without root the XDG
        state directory.
    type: path
    default: ""
requirements:
  - root on the CES host
  - cesapp
  - docker (SDK for Python)
  - psycopg 3
  - PyYAML
"""
