//! What differs is found, shown and not switched to, unless that is wanted.

use std::collections::BTreeMap;

use frikort_proto::v1::RejectApplicationRequest;
use frikort_tests::{
    audit::assert_projection_is_the_fold,
    client::{by_cpr, date, new_cpr},
    stack::Stack,
};
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

use crate::ground::{asking, fill, generations, rebuild, serving};

#[tokio::test(flavor = "multi_thread")]
async fn a_tampered_total_is_shown_and_not_switched_to() {
    let stack = Stack::start(1).await.unwrap();
    let pool = stack.database.pool().await.unwrap();
    let (cprs, last) = fill(&stack, 5, 3).await;
    let person: Uuid = sqlx::query_scalar(
        "UPDATE projection.annual_total SET total = total + 1
         WHERE person_id = (SELECT min(person_id::text)::uuid FROM projection.annual_total)
         RETURNING person_id",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    let (code, told, log) = rebuild(&stack.database, &[]).await;
    assert_eq!((code, &told["verdict"]), (1, &"differs".into()), "{log}");
    assert_eq!((&told["differing_persons"], &told["differing_others"]), (&1.into(), &0.into()));
    assert_eq!(told["differences"].as_array().unwrap().len(), 1, "{told}");
    let row = &told["differences"][0];
    assert_eq!(row["person_id"], person.to_string());
    assert_eq!((&row["table"], &row["key"]), (&"annual_total".into(), &"2022".into()));
    assert_eq!(
        (&row["serving"]["total"], &row["rebuilt"]["total"]),
        (&301.0.into(), &300.0.into())
    );
    assert!(log.contains("a row differs") && log.contains(&person.to_string()), "{log}");
    // As before, and what was built is kept to be looked at.
    assert_eq!(serving(&pool).await, 1);
    let kept = [(1, "serving".to_owned(), 1), (2, "building".to_owned(), 1)];
    assert_eq!(generations(&stack.database, &[]).await, kept);
    // The same again, of what is kept; then it is wanted.
    let (code, told, _) = rebuild(&stack.database, &[]).await;
    assert_eq!((code, &told["generation"], &told["events"]), (1, &2.into(), &0.into()), "{told}");
    let (code, told, log) = rebuild(&stack.database, &["--accept-differences"]).await;
    assert_eq!((code, &told["verdict"]), (0, &"switched_with_differences".into()), "{log}");
    assert_eq!((&told["generation"], &told["differing_persons"]), (&2.into(), &1.into()));
    let mut allowances = stack.allowances().await.unwrap();
    for cpr in &cprs {
        let answer = allowances.get_allowance(asking(cpr, last)).await.unwrap().into_inner();
        assert_eq!(answer.allowance.unwrap().total_oere, 30_000);
    }
    assert_projection_is_the_fold(&pool).await;
    let (code, told, log) = rebuild(&stack.database, &[]).await;
    assert_eq!((code, &told["verdict"]), (0, &"switched".into()), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_missing_or_too_many_differs_and_so_do_limits_and_applications() {
    let stack = Stack::start(1).await.unwrap();
    let pool = stack.database.pool().await.unwrap();
    fill(&stack, 4, 2).await;
    let mut ledger = stack.ledger().await.unwrap();
    let rejected = RejectApplicationRequest {
        person: by_cpr(&new_cpr()),
        municipality_code: "101".to_owned(),
        reference: "R-1".to_owned(),
        application_date: Some(date(2022, 1, 1)),
        decision_date: Some(date(2022, 1, 9)),
        ..RejectApplicationRequest::default()
    };
    let answer = ledger.visitations.reject_application(rejected).await.unwrap().into_inner();
    let position = answer.position.unwrap().position;
    let (cpr, mut allowances) = (new_cpr(), stack.allowances().await.unwrap());
    // Nobody, but not before that is folded.
    allowances.get_allowance(asking(&cpr, position)).await.unwrap_err();
    let persons: Vec<Uuid> =
        sqlx::query_scalar("SELECT person_id FROM projection.card ORDER BY person_id")
            .fetch_all(&pool)
            .await
            .unwrap();
    for (statement, person) in [
        ("DELETE FROM projection.payment WHERE person_id = $1 AND reference = 'p0'", persons[0]),
        ("DELETE FROM projection.annual_total WHERE person_id = $1", persons[1]),
        ("DELETE FROM projection.card WHERE person_id = $1", persons[2]),
        (
            "INSERT INTO projection.annual_total (partition, generation, person_id, year, total,
                 applied_limit, payments, position)
             VALUES (0, 1, $1, 2022, 1, 20000, 1, 1)",
            Uuid::from_u128(7),
        ),
    ] {
        let done = sqlx::query(statement).bind(person).execute(&pool).await.unwrap();
        assert_eq!(done.rows_affected(), 1, "{statement}");
    }
    let others = "UPDATE projection.application SET days = days + 1;
                  UPDATE projection.annual_limit SET amount = amount + 1";
    sqlx::raw_sql(others).execute(&pool).await.unwrap();
    let (code, told, log) = rebuild(&stack.database, &[]).await;
    assert_eq!((code, &told["verdict"]), (1, &"differs".into()), "{log}");
    assert_eq!((&told["differing_persons"], &told["differing_others"]), (&4.into(), &2.into()));
    let shown: BTreeMap<String, &Value> = told["differences"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (format!("{} {}", row["table"], row["person_id"]), row))
        .collect();
    let of = |table: &str, person: Uuid| shown[&format!("\"{table}\" \"{person}\"")];
    assert!(of("payment", persons[0])["serving"].is_null());
    assert!(of("annual_total", persons[1])["serving"].is_null());
    assert!(of("card", persons[2])["serving"].is_null());
    assert!(of("annual_total", Uuid::from_u128(7))["rebuilt"].is_null());
    assert_eq!(shown["\"application\" null"]["serving"]["days"], 9);
    assert_eq!(shown["\"annual_limit\" null"]["rebuilt"]["amount"], 20_000.0);
    // What nobody builds any more is dropped, and the next one finds the same.
    assert_eq!(generations(&stack.database, &["--drop-old"]).await, [(1, "serving".into(), 1)]);
    let (code, told, _) = rebuild(&stack.database, &["--accept-differences"]).await;
    assert_eq!(
        (code, &told["differing_persons"], &told["differing_others"]),
        (0, &4.into(), &2.into())
    );
    assert_projection_is_the_fold(&pool).await;
}

/// Every column of the tables of persons, with another value for it.
async fn columns(pool: &PgPool) -> Vec<(String, String, String)> {
    let columns: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT table_name::text, column_name::text, data_type::text
         FROM information_schema.columns
         WHERE table_schema = 'projection' AND table_name IN ('annual_total', 'payment', 'card')
           AND column_name NOT IN ('partition', 'generation', 'person_id')
         ORDER BY 1, 2",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    let another = |column: &str, kind: &str| match kind {
        "boolean" => format!("NOT {column}"),
        "text" => format!("{column} || 'x'"),
        "ARRAY" => format!("{column} || gen_random_uuid()"),
        "date" => format!("coalesce({column} + 1, '2022-01-01')"),
        // Within what the constraints allow.
        _ if column == "exempt" => format!("{column} - 1"),
        "numeric" | "integer" | "bigint" | "smallint" => format!("coalesce({column}, 0) + 1"),
        other => panic!("{column}: another value of {other}?"),
    };
    columns
        .into_iter()
        .map(|(table, column, kind)| {
            let value = another(&column, &kind);
            (table, column, value)
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_column_is_left_out_of_the_comparison() {
    let stack = Stack::start(1).await.unwrap();
    let pool = stack.database.pool().await.unwrap();
    let columns = columns(&pool).await;
    assert!(columns.len() > 20, "{columns:?}");
    fill(&stack, columns.len(), 1).await;
    let persons: Vec<Uuid> =
        sqlx::query_scalar("SELECT person_id FROM projection.card ORDER BY person_id")
            .fetch_all(&pool)
            .await
            .unwrap();
    for ((table, column, value), person) in columns.iter().zip(&persons) {
        let statement =
            format!("UPDATE projection.{table} SET {column} = {value} WHERE person_id = $1");
        let done = sqlx::query(AssertSqlSafe(statement)).bind(person).execute(&pool).await.unwrap();
        assert_eq!(done.rows_affected(), 1, "{table}.{column}");
    }
    let (code, told, log) = rebuild(&stack.database, &[]).await;
    assert_eq!(code, 1, "{log}");
    assert_eq!(told["differing_persons"], columns.len(), "{log}");
    assert_eq!(told["differing_others"], 0);
}
