#!/usr/bin/env bash
# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Keeps the contract of the postgis/postgis image: a template, and the extensions in it
# and in the database of the first start.
set -e

export PGUSER=$POSTGRES_USER
psql -X --dbname "$POSTGRES_DB" -c "CREATE DATABASE template_postgis IS_TEMPLATE true"
for database in template_postgis "$POSTGRES_DB"; do
	psql -X -v ON_ERROR_STOP=1 --dbname "$database" <<- 'END'
		CREATE EXTENSION IF NOT EXISTS postgis;
		CREATE EXTENSION IF NOT EXISTS postgis_topology;
		CREATE EXTENSION IF NOT EXISTS fuzzystrmatch;
		CREATE EXTENSION IF NOT EXISTS postgis_tiger_geocoder;
	END
done
