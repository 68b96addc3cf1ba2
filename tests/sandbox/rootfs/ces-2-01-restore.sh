#!/usr/bin/env bash
# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Restores what pre-upgrade.sh dumped.
set -o errexit -o nounset -o pipefail
. /ces-common.sh

file=$(doguctl config -d empty migration_backup_path)
if [ "$file" = empty ]; then
	echo "no dump to restore"
	exit 0
fi
trouble restoring
user=$(doguctl config user)
# The role that restores is not to drop itself.
sed -e "/^DROP ROLE IF EXISTS $user;/d" -e "/^CREATE ROLE $user;/d" -e "/^ALTER ROLE $user /d" "$file" |
	psql -q -v ON_ERROR_STOP=1 -U "$user" -d postgres >/dev/null
rm -f "$file"
doguctl config --rm migration_backup_path
