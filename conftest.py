# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make ``ansible_collections.selfhost.stateful`` importable for a plain ``pytest``, and time no example.

Examples are the same in every run."""

from __future__ import annotations

import hypothesis

from tests.tools import tree

# How long an example takes says more about the machine's other work than about the code; and what fails is to fail
# again, here as there.
hypothesis.settings.register_profile("untimed", deadline=None, derandomize=True)
hypothesis.settings.load_profile("untimed")

# Under ansible-test, and in an installed collection, the loader of ansible does it.
if tree.ROOT.parts[-3:] != tree.PACKAGE.parts:
    tree.link()
