#!/usr/bin/env bash
# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Restores what pre-upgrade.sh dumped. A cluster without a dump beside it has nothing to restore.
set -o errexit -o nounset -o pipefail

dump=$IMAGE_VOLUME/dump.sql user=${POSTGRES_USER:-postgres}
if [ ! -e "$dump" ]; then
	exit 0
fi
# The role that restores does not drop itself. An error ends it, and with it the start: a dump that is half restored
# serves nobody.
sed -e "/^DROP ROLE IF EXISTS $user;/d" -e "/^CREATE ROLE $user;/d" "$dump" |
	psql -Xq -v ON_ERROR_STOP=1 -U "$user" -d postgres >/dev/null
mv "$dump" "$dump.restored"
