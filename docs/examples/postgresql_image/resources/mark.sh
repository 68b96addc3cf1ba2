#!/usr/bin/env bash
# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# mark.sh read|set|remove NAME: the mark of completion of a migration, in the database that it was made in.
set -o errexit -o nounset -o pipefail

sql() { psql -XAtq -v ON_ERROR_STOP=1 -v name="$2" -U "${POSTGRES_USER:-postgres}" -d postgres <<<"$1"; }
sql "SET client_min_messages = warning; CREATE TABLE IF NOT EXISTS image_marks (name text PRIMARY KEY, at timestamptz)" ""
case $1 in
read) sql "SELECT 'done' FROM image_marks WHERE name = :'name'" "$2" ;;
set) sql "INSERT INTO image_marks VALUES (:'name', now()) ON CONFLICT DO NOTHING" "$2" ;;
remove) sql "DELETE FROM image_marks WHERE name = :'name'" "$2" ;;
esac
