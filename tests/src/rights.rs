//! What Postgres says about who may do what in a database, and what guards its tables.

use sqlx::{AssertSqlSafe, PgPool};

/// Who holds which right, in the form of `tests/roles/rights.txt`; `public` is everybody.
const RIGHTS: &str = "
WITH role AS (
    SELECT unnest(ARRAY['public', 'frikort_migrator', 'frikort_ledger', 'frikort_projector',
                        'frikort_auditor']) AS name
), place AS (
    SELECT oid, nspname FROM pg_namespace WHERE nspname IN ('ledger', 'register', 'projection', 'access')
), held AS (
    SELECT 'table ' || place.nspname || '.' || c.relname AS object, role.name AS role, p.ord,
           CASE WHEN has_table_privilege(role.name, c.oid, p.name) THEN p.name
                WHEN p.by_column AND has_any_column_privilege(role.name, c.oid, p.name)
                THEN p.name || (SELECT '(' || string_agg(attname, ',' ORDER BY attnum) || ')'
                                  FROM pg_attribute
                                 WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped
                                   AND has_column_privilege(role.name, c.oid, attnum, p.name))
           END AS held
      FROM pg_class AS c JOIN place ON place.oid = c.relnamespace, role,
           (VALUES (1, 'SELECT', true), (2, 'INSERT', true), (3, 'UPDATE', true),
                   (4, 'DELETE', false), (5, 'TRUNCATE', false), (6, 'REFERENCES', true),
                   (7, 'TRIGGER', false)) AS p (ord, name, by_column)
     WHERE c.relkind NOT IN ('i', 'I', 'S', 't', 'c')
       -- Of a month of the access log, what is not the owner's; there are none.
       AND NOT (c.relispartition AND role.name = 'frikort_migrator')
    UNION ALL
    SELECT 'function ' || place.nspname || '.' || f.proname, role.name, 1, 'EXECUTE'
      FROM pg_proc AS f JOIN place ON place.oid = f.pronamespace, role
     WHERE has_function_privilege(role.name, f.oid, 'EXECUTE')
    UNION ALL
    SELECT 'schema ' || s.nspname, role.name, p.ord, p.name
      FROM pg_namespace AS s, role, (VALUES (1, 'USAGE'), (2, 'CREATE')) AS p (ord, name)
     WHERE s.nspname IN ('ledger', 'register', 'projection', 'access', 'public')
       AND has_schema_privilege(role.name, s.oid, p.name)
    UNION ALL
    SELECT 'database', role.name, p.ord, p.name
      FROM role, (VALUES (1, 'CONNECT'), (2, 'CREATE'), (3, 'TEMPORARY')) AS p (ord, name)
     WHERE has_database_privilege(role.name, current_database(), p.name)
)
SELECT object || ' ' || role || ': ' || string_agg(held, ' ' ORDER BY ord)
  FROM held WHERE held IS NOT NULL GROUP BY object, role ORDER BY object, role";

/// Owners, triggers, policies and default privileges, a line each.
const GUARDS: &str = "
WITH place AS (
    SELECT oid, nspname, nspowner FROM pg_namespace
     WHERE nspname IN ('ledger', 'register', 'projection', 'access')
), relation AS (
    SELECT c.* FROM pg_class AS c
     WHERE c.relnamespace IN (SELECT oid FROM place) AND c.relkind IN ('r', 'p', 'v', 'i', 'I')
        OR c.oid = to_regclass('public._sqlx_migrations')
)
SELECT line FROM (
    SELECT 'owner of schema ' || nspname || ': ' || nspowner::regrole::text AS line FROM place
    UNION ALL
    SELECT 'owner of ' || oid::regclass::text || ': ' || relowner::regrole::text FROM relation
    UNION ALL
    SELECT 'owner of ' || oid::regprocedure::text || ': ' || proowner::regrole::text
      FROM pg_proc WHERE pronamespace IN (SELECT oid FROM place)
    UNION ALL
    SELECT 'trigger ' || tgenabled::text || ' ' || pg_get_triggerdef(oid)
      FROM pg_trigger WHERE NOT tgisinternal AND tgrelid IN (SELECT oid FROM relation)
    UNION ALL
    SELECT 'row security ' || relrowsecurity::text || ' ' || relforcerowsecurity::text || ' '
           || oid::regclass::text
      FROM relation WHERE relkind IN ('r', 'p')
    UNION ALL
    SELECT 'policy ' || p::text FROM pg_policies AS p
     WHERE schemaname IN (SELECT nspname FROM place)
    UNION ALL
    SELECT 'default ' || defaclrole::regrole::text || ' ' || defaclobjtype::text || ' ' || defaclacl::text
      FROM pg_default_acl
    UNION ALL
    SELECT 'role ' || rolname || ' ' || rolcanlogin::text || ' ' || rolsuper::text || ' '
           || rolcreaterole::text || ' ' || rolinherit::text
      FROM pg_roles WHERE rolname IN ('frikort_ledger', 'frikort_projector', 'frikort_auditor',
                                      'frikort_migrator')
) AS found ORDER BY line";

/// Who holds which right, a line for each object and role.
pub async fn rights(pool: &PgPool) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(AssertSqlSafe(RIGHTS)).fetch_all(pool).await
}

/// Who owns what, and what refuses changes.
pub async fn guards(pool: &PgPool) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(AssertSqlSafe(GUARDS)).fetch_all(pool).await
}
