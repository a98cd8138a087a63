//! Every statement of the services reads by key, whatever the planner takes the tables for: they
//! are empty here, as when a service has just been installed and makes the plans that it keeps.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{fs, path::Path};

use frikort_process::database;
use frikort_tests::database::Database;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};

/// Tables that grow with the history.
const GROWING: [&str; 10] = [
    "event",
    "tile",
    "checkpoint_of_log",
    "person",
    "forgetting",
    "forgotten",
    "payment",
    "annual_total",
    "card",
    "application",
];

/// The statements in the code, as the committed query metadata has them, and their parameters.
fn statements() -> Vec<(String, usize)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.sqlx");
    let read = |entry: std::io::Result<fs::DirEntry>| {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        let described: serde_json::Value = serde_json::from_str(&text).unwrap();
        let query = described["query"].as_str().unwrap().to_owned();
        (query, described["describe"]["parameters"]["Left"].as_array().unwrap().len())
    };
    fs::read_dir(dir).unwrap().map(read).collect()
}

#[tokio::test]
async fn every_statement_reads_by_key() {
    let created = Database::create(1).await.unwrap();
    let url = created.url(frikort::postgres::OWNER);
    let options = database::service(&url, "frikort-plans").unwrap();
    let mut connection = PgConnection::connect_with(&options).await.unwrap();
    let statements = statements();
    assert!(statements.len() > 50, "the metadata has gone");
    let mut bad = Vec::new();
    for (query, parameters) in statements {
        let nulls = vec!["NULL"; parameters].join(", ");
        let arguments = if parameters == 0 { String::new() } else { format!("({nulls})") };
        connection.execute(AssertSqlSafe(format!("PREPARE s AS {query}"))).await.unwrap();
        let explain = AssertSqlSafe(format!("EXPLAIN EXECUTE s{arguments}"));
        let rows = sqlx::raw_sql(explain).fetch_all(&mut connection).await.unwrap();
        connection.execute("DEALLOCATE s").await.unwrap();
        let plan: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        println!("{query}\n{}\n", plan.join("\n"));
        for table in GROWING {
            let whole = ["Seq Scan on", "Bitmap Heap Scan on"].map(|how| format!("{how} {table} "));
            if plan.iter().any(|line| whole.iter().any(|how| line.contains(how.as_str()))) {
                bad.push(format!("{table}, read whole by:\n{query}\n{}", plan.join("\n")));
            }
        }
        // Also within an index: whoever filters by persons, or joins after reading, reads everybody.
        let everybody = |line: &String| {
            let filtered = line.contains("Filter: ") && line.contains("person_id = ANY");
            filtered || line.contains("Join Filter: ") && line.contains("person_id = ")
        };
        if plan.iter().any(everybody) {
            bad.push(format!("everybody, read by:\n{query}\n{}", plan.join("\n")));
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n\n"));
}
