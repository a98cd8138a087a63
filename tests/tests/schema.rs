//! The catalog, held against the rules that keep the schema fit for being distributed by
//! partition: the column in every table, first in every key; nothing that counts by itself;
//! every constraint with a name of ours.
//!
//! What must stay out: what the tables mean.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails where it stands")]

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use frikort_tests::database::Database;

/// Our schemas.
const OURS: &str = "('ledger', 'register', 'projection', 'access')";

/// Where the schema comes from.
const MIGRATIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ledger/event-store/migrations");

/// Every constraint by table and name. A new one is added here by whoever names it.
const CONSTRAINTS: &str = include_str!("schema/constraints.txt");

async fn rows(database: &Database, query: &str) -> Vec<String> {
    let query = sqlx::AssertSqlSafe(query.replace("$ours", OURS));
    let pool = database.pool().await.unwrap();
    sqlx::query_scalar(query).fetch_all(&pool).await.unwrap()
}

/// Tables of the schemas that are distributed, all or only those without `partition integer`.
fn tables(condition: &str) -> String {
    format!(
        "SELECT n.nspname || '.' || c.relname
           FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
          WHERE n.nspname IN ('ledger', 'projection') AND c.relkind IN ('r', 'p') AND {condition}
          ORDER BY 1"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_of_events_and_totals_has_the_partition() {
    let database = Database::create(1).await.unwrap();
    let without = "NOT EXISTS (
        SELECT FROM pg_attribute AS a
         WHERE a.attrelid = c.oid AND a.attname = 'partition'
           AND a.atttypid = 'integer'::regtype AND a.attnotnull)";
    assert_eq!(rows(&database, &tables(without)).await, [""; 0]);
    let all = rows(&database, &tables("true")).await;
    assert!(all.contains(&"ledger.event".to_owned()), "{all:?}");
    assert!(all.contains(&"projection.annual_total".to_owned()), "{all:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_key_begins_with_the_partition() {
    let database = Database::create(1).await.unwrap();
    // Indexes that are unique, of tables that have the column, with another one first.
    let indexes = "
        SELECT n.nspname || '.' || t.relname || ': ' || i.relname
          FROM pg_index AS x
          JOIN pg_class AS i ON i.oid = x.indexrelid
          JOIN pg_class AS t ON t.oid = x.indrelid
          JOIN pg_namespace AS n ON n.oid = t.relnamespace
          JOIN pg_attribute AS p ON p.attrelid = t.oid AND p.attname = 'partition'
         WHERE n.nspname IN $ours AND x.indisunique AND x.indkey[0] <> p.attnum
         ORDER BY 1";
    // A person is looked for by CPR tag before a partition is known, so that one table is keyed
    // by the tag, and is not distributed by partition.
    assert_eq!(rows(&database, indexes).await, ["register.person: person_pkey"]);
    let foreign = "
        SELECT k.conrelid::regclass || ': ' || k.conname
          FROM pg_constraint AS k
          JOIN pg_namespace AS n ON n.oid = k.connamespace
          LEFT JOIN pg_attribute AS p ON p.attrelid = k.conrelid AND p.attname = 'partition'
          LEFT JOIN pg_attribute AS f ON f.attrelid = k.confrelid AND f.attname = 'partition'
         WHERE n.nspname IN $ours AND k.contype = 'f'
           AND (p.attnum IS DISTINCT FROM k.conkey[1] OR f.attnum IS DISTINCT FROM k.confkey[1])";
    assert_eq!(rows(&database, foreign).await, [""; 0]);
    let exclusion = "
        SELECT conname::text FROM pg_constraint AS k JOIN pg_namespace AS n ON n.oid = connamespace
         WHERE n.nspname IN $ours AND contype = 'x'";
    assert_eq!(rows(&database, exclusion).await, [""; 0]);
    let keyless = tables(
        "NOT EXISTS (
        SELECT FROM pg_index AS x WHERE x.indrelid = c.oid AND x.indisprimary)",
    );
    assert_eq!(rows(&database, &keyless).await, [""; 0], "tables without a primary key");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_counts_by_itself() {
    let database = Database::create(1).await.unwrap();
    let sequences = "
        SELECT n.nspname || '.' || c.relname
          FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
         WHERE n.nspname IN $ours AND c.relkind = 'S'";
    assert_eq!(rows(&database, sequences).await, [""; 0]);
    let columns = "
        SELECT table_schema || '.' || table_name || '.' || column_name
          FROM information_schema.columns
         WHERE table_schema IN $ours AND (is_identity = 'YES' OR column_default LIKE '%nextval%')";
    assert_eq!(rows(&database, columns).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_constraint_has_a_name_of_ours() {
    let database = Database::create(1).await.unwrap();
    // NOT NULL is named by newer servers only, and by them alone.
    let constraints = "
        SELECT n.nspname || '.' || t.relname || ' ' || k.conname
          FROM pg_constraint AS k
          JOIN pg_class AS t ON t.oid = k.conrelid
          JOIN pg_namespace AS n ON n.oid = k.connamespace
         WHERE n.nspname IN $ours AND NOT t.relispartition AND k.contype IN ('c', 'u', 'p', 'f', 'x')
         ORDER BY 1";
    let expected: Vec<&str> = CONSTRAINTS.lines().collect();
    let found = rows(&database, constraints).await;
    assert_eq!(found, expected, "name each in the migration, then write it into constraints.txt");
    // A name that the database made up stands in no migration.
    let files = std::fs::read_dir(MIGRATIONS).unwrap();
    let text: String =
        files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    let named: HashSet<&str> = text
        .split("CONSTRAINT ")
        .skip(1)
        .filter_map(|rest| rest.split_ascii_whitespace().next())
        .collect();
    for line in &found {
        let name = line.split(' ').nth(1).unwrap();
        assert!(named.contains(name), "{line} is named by nobody");
        // The nodes put a number behind it, which must fit into 63 bytes.
        assert!(name.len() <= 48, "{line} is too long");
    }
}

/// The files of a directory and of those below it whose names end like this.
fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
    found
}

/// The text of a query: the first string literal, raw or not.
fn literal(code: &str) -> &str {
    let begin = code.find('"').unwrap();
    let end = if code[..begin].ends_with("r#") { "\"#" } else { "\"" };
    code[begin + 1..].split(end).next().unwrap()
}

/// A query that does not say so reads two generations while one is built beside the other, and what
/// it counts, it counts twice.
#[test]
fn every_query_of_the_projection_says_of_which_generation() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut queries = 0;
    for file in
        ["ledger", "projector", "deploy"].iter().flat_map(|dir| files(&root.join(dir), ".rs"))
    {
        let code = std::fs::read_to_string(&file).unwrap();
        for query in code.split("sqlx::query").skip(1).map(literal) {
            if query.contains("projection.") {
                queries += 1;
                let says = query.contains("generation") || query.contains("state = 'serving'");
                assert!(says, "in {}:\n{query}", file.display());
            }
        }
    }
    assert!(queries > 20, "{queries} queries of the projection were found");
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_that_touch_tables_take_the_partition_first() {
    let database = Database::create(1).await.unwrap();
    let functions = "
        SELECT n.nspname || '.' || f.proname
               || coalesce(' ' || f.proargnames[1] || ' ' || f.proargtypes[0]::regtype, '')
          FROM pg_proc AS f JOIN pg_namespace AS n ON n.oid = f.pronamespace
         WHERE n.nspname IN $ours ORDER BY 1";
    // Neither the trigger nor the version touches a table.
    let expected = [
        // The access log is of both services and of no partition.
        "access.add_months p_from date",
        "access.refuse_change",
        "ledger.append p_partition integer",
        "ledger.event_hash p_partition integer",
        "ledger.refuse_change",
        "ledger.refuse_incident_change",
        "ledger.schema_version",
        "register.refuse_change",
    ];
    assert_eq!(rows(&database, functions).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_trigger_is_there_but_the_one_that_refuses() {
    let database = Database::create(1).await.unwrap();
    let triggers = "
        SELECT n.nspname || '.' || t.relname || ': ' || g.tgname
          FROM pg_trigger AS g
          JOIN pg_class AS t ON t.oid = g.tgrelid
          JOIN pg_namespace AS n ON n.oid = t.relnamespace
         WHERE n.nspname IN $ours AND NOT t.relispartition AND NOT g.tgisinternal
         ORDER BY 1";
    let expected = [
        "access.lookup: lookup_append_only",
        "ledger.checkpoint: checkpoint_append_only",
        "ledger.event: event_append_only",
        "ledger.history_incident: history_incident_kept",
        "ledger.history_incident: history_incident_never_emptied",
        "ledger.tile: tile_append_only",
        "register.forgetting: forgetting_append_only",
        "register.forgotten: forgotten_append_only",
    ];
    assert_eq!(rows(&database, triggers).await, expected);
    // Every month of the access log has its own, and there are months to come.
    let months = "
        SELECT count(*) FILTER (WHERE g.tgname = 'lookup_append_only')::text || ' of ' || count(*)
          FROM pg_class AS t LEFT JOIN pg_trigger AS g ON g.tgrelid = t.oid
         WHERE t.relispartition AND t.relkind = 'r'";
    let counted = rows(&database, months).await;
    let (guarded, all) = counted[0].split_once(" of ").unwrap();
    assert_eq!(guarded, all);
    // A new month adds one to those of the month of the first release.
    assert!(all.parse::<u32>().unwrap() >= 26, "{all}");
}
