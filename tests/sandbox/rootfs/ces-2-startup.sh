#!/usr/bin/env bash
# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Second generation: the entrypoint of the postgres image, which runs the migrations on a fresh cluster.
set -o errexit -o nounset -o pipefail
. /ces-common.sh

wait_while_upgrading
trouble startup
install -d -o 999 -g 999 -m 3775 /run/postgresql
if [ ! -s "$PGDATA/PG_VERSION" ]; then
	doguctl state installing
	doguctl config user postgres
	[ "$(doguctl config -e -d none password)" != none ] || doguctl config -e password "$(doguctl random)"
	POSTGRES_PASSWORD=$(doguctl config -e password)
	export POSTGRES_PASSWORD POSTGRES_INITDB_ARGS=--no-sync
fi
doguctl state ready
exec docker-entrypoint.sh postgres
