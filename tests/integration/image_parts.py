# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a cluster may hold that an image swap has to keep, as data: how it is made, and how one asks for it.

The questions are plain SQL of the tests' own. What they answer must be the same on every
major and every libc, so they name no version, no size and no order that a locale decides.
"""

from __future__ import annotations

from dataclasses import dataclass

TABLESPACE = "/var/lib/tablespace"


@dataclass(frozen=True)
class Part:
    """Statements that make it, each a transaction of its own; and the questions, all in ``database``."""

    make: tuple[str, ...]
    ask: tuple[str, ...]
    database: str = "postgres"
    # Extensions without which the part cannot be.
    needs: tuple[str, ...] = ()


# Text whose order by bytes, by musl, and by each glibc differs, with what compares as equal nowhere.
_WORDS = (
    "SELECT (ARRAY['a', 'B', 'ä', 'Ä', 'ß', 'ss', 'é', 'e-f', 'ef', 'e f', 'ёж', 'Ель', '日本', '日-本', '🐘', 'ǆ'])"
    "[1 + g % 16] || '-' || md5(g::text) || chr(192 + g % 400) AS word FROM generate_series(1, 2000) g"
)
# Each index is walked, in the order that the libc of now gives, and each row looked up in it.
_SOUND_INDEXES = (
    "SELECT count(bt_index_check(i.indexrelid, true)) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
    " JOIN pg_am a ON a.oid = c.relam"
    " WHERE a.amname = 'btree' AND c.relkind = 'i' AND i.indisvalid AND i.indrelid = 'words'::regclass"
)

PARTS: dict[str, Part] = {
    "databases": Part(
        make=(
            "CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'",
            "CREATE DATABASE bytes TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'"
            " CONNECTION LIMIT 7",
            'CREATE DATABASE "Größe mit Leerzeichen" TEMPLATE template0 ENCODING \'UTF8\' LC_COLLATE \'C\''
            ' LC_CTYPE \'C\'',
            "COMMENT ON DATABASE bytes IS 'as it came'",
        ),
        ask=(
            "SELECT datname, pg_encoding_to_char(encoding), datcollate, datctype, datconnlimit, datistemplate,"
            " pg_get_userbyid(datdba), shobj_description(oid, 'pg_database') FROM pg_database"
            ' ORDER BY datname COLLATE "C"',
        ),
    ),
    "latin text": Part(
        database="latin",
        make=(
            "SET client_encoding = 'UTF8'; CREATE TABLE texts (id int PRIMARY KEY, t text UNIQUE);"
            " INSERT INTO texts SELECT g, 'Straße ' || g || chr(192 + g % 60) FROM generate_series(1, 500) g",
        ),
        ask=("SELECT count(*), md5(string_agg(encode(convert_to(t, 'UTF8'), 'hex'), ',' ORDER BY id)) FROM texts",),
    ),
    "raw bytes": Part(
        database="bytes",
        make=(
            "CREATE TABLE texts (id int PRIMARY KEY, t text)",
            r"INSERT INTO texts VALUES (1, E'\xff\xfe broken \xe4')",
        ),
        ask=("SELECT md5(string_agg(textsend(t)::text, ',' ORDER BY id)) FROM texts",),
    ),
    "roles": Part(
        make=(
            "SET password_encryption = 'scram-sha-256'; CREATE ROLE lab_scram LOGIN CREATEDB PASSWORD 'scram secret'",
            "SET password_encryption = 'md5'; CREATE ROLE lab_md5 LOGIN CONNECTION LIMIT 5 PASSWORD 'md5 secret'",
            "CREATE ROLE lab_group NOINHERIT VALID UNTIL '2099-01-01 00:00:00+00';"
            " GRANT lab_group TO lab_md5 WITH ADMIN OPTION",
            "COMMENT ON ROLE lab_group IS 'Gruppe'",
            "CREATE SCHEMA lab_schema AUTHORIZATION lab_scram; CREATE TABLE lab_schema.granted (id int, secret text);"
            " GRANT SELECT (id) ON lab_schema.granted TO lab_md5;"
            " GRANT ALL ON lab_schema.granted TO lab_group WITH GRANT OPTION;"
            " ALTER TABLE lab_schema.granted ENABLE ROW LEVEL SECURITY;"
            " CREATE POLICY own ON lab_schema.granted TO lab_md5 USING (id > 0);"
            " ALTER DEFAULT PRIVILEGES FOR ROLE lab_scram IN SCHEMA lab_schema GRANT SELECT ON TABLES TO lab_group",
        ),
        ask=(
            "SELECT rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolconnlimit, rolpassword,"
            " rolvaliduntil AT TIME ZONE 'UTC', shobj_description(oid, 'pg_authid')"
            " FROM pg_authid WHERE rolname LIKE 'lab%' ORDER BY 1",
            "SELECT pg_get_userbyid(roleid), pg_get_userbyid(member), admin_option FROM pg_auth_members"
            " WHERE pg_get_userbyid(roleid) LIKE 'lab%' ORDER BY 1, 2",
            "SELECT r, p, has_table_privilege(r, 'lab_schema.granted', p) FROM unnest(ARRAY['lab_md5', 'lab_group']) r,"
            " unnest(ARRAY['SELECT', 'INSERT WITH GRANT OPTION']) p ORDER BY 1, 2",
            "SELECT has_column_privilege('lab_md5', 'lab_schema.granted', 'id', 'SELECT'), polname,"
            " pg_get_expr(polqual, polrelid) FROM pg_policy",
            "SELECT pg_get_userbyid(defaclrole), defaclobjtype, count(*) FROM pg_default_acl GROUP BY 1, 2",
        ),
    ),
    "bootstrap role": Part(make=(), ask=("SELECT rolname, rolsuper FROM pg_roles WHERE oid = 10",)),
    "tablespace": Part(
        make=(
            f"CREATE TABLESPACE lab_space LOCATION '{TABLESPACE}'",
            "CREATE TABLE spaced (id int PRIMARY KEY USING INDEX TABLESPACE lab_space, t text) TABLESPACE lab_space;"
            " INSERT INTO spaced SELECT g, md5(g::text) FROM generate_series(1, 1000) g",
        ),
        ask=(
            "SELECT c.relname, t.spcname FROM pg_class c JOIN pg_tablespace t ON t.oid = c.reltablespace"
            " WHERE c.relname LIKE 'spaced%' ORDER BY 1",
            "SELECT count(*), md5(string_agg(t, '' ORDER BY id)) FROM spaced",
        ),
    ),
    "large objects": Part(
        make=(
            "SELECT lo_from_bytea(700000 + g, decode(repeat(md5(g::text), 1000), 'hex')) FROM generate_series(1, 20) g",
            "COMMENT ON LARGE OBJECT 700001 IS 'Bild'; GRANT SELECT ON LARGE OBJECT 700001 TO PUBLIC",
        ),
        ask=(
            "SELECT oid, md5(lo_get(oid)), obj_description(oid, 'pg_largeobject'), lomacl IS NULL"
            " FROM pg_largeobject_metadata ORDER BY oid",
        ),
    ),
    "sequences": Part(
        make=(
            "CREATE TABLE numbered (id bigserial PRIMARY KEY, other int GENERATED ALWAYS AS IDENTITY, t text);"
            " INSERT INTO numbered (t) SELECT 'row' FROM generate_series(1, 123)",
            "CREATE SEQUENCE lab_down INCREMENT -3 MINVALUE -1000 MAXVALUE 9 START 9 CYCLE CACHE 4;"
            " SELECT nextval('lab_down')",
            "CREATE SEQUENCE lab_untouched START 42",
        ),
        ask=(
            "SELECT sequencename, data_type, start_value, min_value, max_value, increment_by, cycle,"
            " cache_size, last_value FROM pg_sequences WHERE schemaname = 'public'"
            " AND sequencename IN ('numbered_id_seq', 'numbered_other_seq', 'lab_down', 'lab_untouched') ORDER BY 1",
            "SELECT count(*), sum(id), sum(other) FROM numbered",
        ),
    ),
    "partitions": Part(
        make=(
            "CREATE TABLE customers (id int, region int, name text, PRIMARY KEY (id, region))"
            " PARTITION BY LIST (region);"
            " CREATE TABLE customers_1 PARTITION OF customers FOR VALUES IN (1);"
            " CREATE TABLE customers_2 PARTITION OF customers FOR VALUES IN (2);"
            " CREATE TABLE customers_rest PARTITION OF customers DEFAULT",
            "CREATE TABLE orders (id int PRIMARY KEY, customer int NOT NULL, region int NOT NULL, at date NOT NULL,"
            " FOREIGN KEY (customer, region) REFERENCES customers ON DELETE CASCADE)",
            "CREATE TABLE visits (customer int, region int, at date,"
            " FOREIGN KEY (customer, region) REFERENCES customers) PARTITION BY RANGE (at);"
            " CREATE TABLE visits_old PARTITION OF visits FOR VALUES FROM (MINVALUE) TO ('2025-01-01');"
            " CREATE TABLE visits_new PARTITION OF visits FOR VALUES FROM ('2025-01-01') TO (MAXVALUE)",
            "INSERT INTO customers SELECT g, 1 + g % 3, 'Kundin ' || g FROM generate_series(1, 300) g;"
            " INSERT INTO orders SELECT g, 1 + g % 300, 1 + (1 + g % 300) % 3, date '2024-06-01' + g"
            " FROM generate_series(1, 900) g;"
            " INSERT INTO visits SELECT customer, region, at FROM orders",
        ),
        ask=(
            "SELECT relname, count(*), sum(t.id) FROM customers t JOIN pg_class c ON c.oid = t.tableoid"
            " GROUP BY 1 ORDER BY 1",
            "SELECT relname, count(*), sum(customer) FROM visits t JOIN pg_class c ON c.oid = t.tableoid"
            " GROUP BY 1 ORDER BY 1",
            "SELECT conname, confrelid::regclass, convalidated, confdeltype, count(*) FROM pg_constraint"
            " WHERE contype = 'f' AND conparentid = 0 GROUP BY 1, 2, 3, 4 ORDER BY 1",
            "SELECT count(*) FROM orders o WHERE NOT EXISTS"
            " (SELECT FROM customers c WHERE (c.id, c.region) = (o.customer, o.region))",
        ),
    ),
    "text indexes": Part(
        needs=("amcheck",),
        make=(
            "CREATE EXTENSION amcheck",
            f"CREATE TABLE words AS {_WORDS}",
            "ALTER TABLE words ADD CONSTRAINT words_once UNIQUE (word);"
            ' CREATE INDEX words_lower ON words (lower(word)); CREATE INDEX words_bytes ON words (word COLLATE "C");'
            " CREATE INDEX words_pattern ON words (word text_pattern_ops);"
            " CREATE INDEX words_long ON words (word) WHERE length(word) > 36",
        ),
        ask=(
            _SOUND_INDEXES,
            'SELECT count(*), count(DISTINCT word COLLATE "C"),'
            ' md5(string_agg(word, \',\' ORDER BY word COLLATE "C")) FROM words',
            "SELECT relname, indisvalid, indisready, indisunique FROM pg_index JOIN pg_class c ON c.oid = indexrelid"
            " WHERE indrelid = 'words'::regclass ORDER BY 1",
        ),
    ),
    "pgcrypto": Part(
        needs=("pgcrypto",),
        make=("CREATE EXTENSION pgcrypto", "CREATE TABLE digests AS SELECT digest('x', 'sha256') AS digest"),
        ask=("SELECT encode(digest, 'hex'), digest = digest('x', 'sha256') FROM digests",),
    ),
    "hstore and citext": Part(
        needs=("hstore", "citext"),
        make=(
            "CREATE SCHEMA ext; CREATE EXTENSION hstore SCHEMA ext; CREATE EXTENSION citext SCHEMA ext",
            "CREATE TABLE mixed (id int PRIMARY KEY, h ext.hstore, c ext.citext UNIQUE);"
            " CREATE INDEX mixed_h ON mixed USING gin (h);"
            " INSERT INTO mixed SELECT g, ext.hstore('k', g::text), ('Wört' || g)::ext.citext"
            " FROM generate_series(1, 200) g",
        ),
        ask=(
            "SELECT count(*), md5(string_agg(h::text || c::text, ',' ORDER BY id)) FROM mixed",
            "SELECT e.extname, n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace"
            " WHERE extname IN ('hstore', 'citext') ORDER BY 1",
        ),
    ),
    # In the first database alone the image makes the extension by itself.
    "postgis": Part(
        needs=("postgis",),
        make=(
            "CREATE EXTENSION IF NOT EXISTS postgis",
            "CREATE TABLE places (id int PRIMARY KEY, at geometry(Point, 4326));"
            " CREATE INDEX places_at ON places USING gist (at);"
            " INSERT INTO places SELECT g, ST_SetSRID(ST_Point(g % 180, g % 90), 4326) FROM generate_series(1, 1000) g",
        ),
        ask=(
            "SELECT count(*), md5(string_agg(ST_AsText(at), ',' ORDER BY id)) FROM places",
            "SELECT count(*) FROM places WHERE at && ST_MakeEnvelope(0, 0, 10, 10, 4326)",
        ),
    ),
    "settings": Part(
        make=(
            "CREATE ROLE lab_settings; ALTER ROLE lab_settings SET statement_timeout = '77s';"
            " ALTER ROLE lab_settings IN DATABASE postgres SET search_path = 'lab', 'public'",
            "ALTER DATABASE postgres SET lock_timeout = '55s'",
            "ALTER SYSTEM SET random_page_cost = 1.5",
            "SELECT pg_reload_conf()",
        ),
        ask=(
            "SELECT coalesce(d.datname, ''), coalesce(pg_get_userbyid(nullif(s.setrole, 0)), ''), s.setconfig"
            " FROM pg_db_role_setting s LEFT JOIN pg_database d ON d.oid = s.setdatabase ORDER BY 1, 2",
            "SELECT name, setting FROM pg_settings"
            " WHERE name IN ('random_page_cost', 'work_mem', 'max_connections', 'lock_timeout') ORDER BY 1",
        ),
    ),
    # Of an unlogged table the rows may be lost, as after a crash; the table may not, nor its kind.
    "unlogged table": Part(
        make=(
            "CREATE UNLOGGED TABLE passing (id int PRIMARY KEY)",
            "INSERT INTO passing SELECT generate_series(1, 100)",
        ),
        ask=("SELECT relname, relpersistence FROM pg_class WHERE relname LIKE 'passing%' ORDER BY 1",),
    ),
    "code": Part(
        make=(
            "CREATE TABLE audited (id int PRIMARY KEY, changed int DEFAULT 0, twice int GENERATED ALWAYS AS (id *"
            " 2) STORED);"
            " CREATE TYPE mood AS ENUM ('froh', 'müde'); CREATE DOMAIN even AS int CHECK (VALUE % 2 = 0)",
            "CREATE FUNCTION count_change() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN NEW.changed := OLD.changed + 1; RETURN NEW; END';"
            " CREATE TRIGGER counted BEFORE UPDATE ON audited FOR EACH ROW EXECUTE FUNCTION count_change()",
            "CREATE VIEW seen AS SELECT id, twice FROM audited WHERE changed > 0;"
            " CREATE MATERIALIZED VIEW summed AS SELECT sum(g) FROM generate_series(1, 10) g",
            "INSERT INTO audited SELECT generate_series(1, 10); UPDATE audited SET id = id + 100 WHERE id > 5",
        ),
        ask=(
            "SELECT * FROM seen ORDER BY id",
            "SELECT sum FROM summed",
            "SELECT enum_range(NULL::mood)",
            "SELECT tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal AND tgrelid = 'audited'::regclass",
        ),
    ),
}  # fmt: skip
