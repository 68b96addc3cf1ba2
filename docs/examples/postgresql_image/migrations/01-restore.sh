#!/usr/bin/env bash
# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Restores the dump that post-upgrade.sh has named. A cluster for which it named none has nothing to restore.
set -o errexit -o nounset -o pipefail

user=${POSTGRES_USER:-postgres}
if [ ! -e "$IMAGE_VOLUME/restoring" ]; then
	exit 0
fi
dump=$(<"$IMAGE_VOLUME/restoring")
# The role that restores does not drop itself. An error ends it, and with it the start; startup.sh serves nobody as long
# as the note is there.
sed -e "/^DROP ROLE IF EXISTS $user;/d" -e "/^CREATE ROLE $user;/d" "$dump" |
	psql -Xq -v ON_ERROR_STOP=1 -U "$user" -d postgres >/dev/null
mv "$dump" "$dump.restored"
rm "$IMAGE_VOLUME/restoring"
