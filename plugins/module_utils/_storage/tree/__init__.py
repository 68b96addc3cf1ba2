# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The seam to the file tree: ways to carry a directory to another place on the same host.

Everything here needs Linux and the standard library alone, and works on directory
descriptors with ``O_NOFOLLOW``: the data belongs to a container, which may swap a directory for a
symbolic link while root walks through it.

A partial copy never bears the final name. The caller names a staging directory
(``durable.staging_path``), every function here builds there, and ``rename.rename_directory``
publishes it in one step.
"""
