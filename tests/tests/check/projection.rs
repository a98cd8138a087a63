//! The projection, held against a replay of the records.

use frikort_check::Kind;

use crate::ground::Copy;

/// A change of one row of `$one` person, and what must be said of it.
const CHANGES: &[(&str, &str)] = &[
    ("UPDATE projection.annual_total SET total = total + 0.01 WHERE person_id = $one", "total"),
    ("UPDATE projection.annual_total SET payments = 1 WHERE person_id = $one", "payments"),
    ("UPDATE projection.annual_total SET applied_limit = 1 WHERE person_id = $one", "limit"),
    ("UPDATE projection.annual_total SET position = 1 WHERE person_id = $one", "position"),
    ("DELETE FROM projection.annual_total WHERE person_id = $one", "missing"),
    (
        "INSERT INTO projection.annual_total (partition, person_id, year, total, payments,
                 position, applied_limit, generation) SELECT 0, $one, 2031, 1, 1, 1, 1, 1",
        "2031",
    ),
    (
        "UPDATE projection.payment SET exempt = exempt - 0.01
             WHERE person_id = $one AND reference = 'payment 3'",
        "exempt part",
    ),
    (
        "UPDATE projection.payment SET amount = amount + 1
             WHERE person_id = $one AND reference = 'payment 3'",
        "amount",
    ),
    (
        "UPDATE projection.payment SET hours = 1
             WHERE person_id = $one AND reference = 'payment 3'",
        "hours",
    ),
    (
        "UPDATE projection.payment SET drawn = 1
             WHERE person_id = $one AND reference = 'payment 3'",
        "drawing",
    ),
    (
        "DELETE FROM projection.payment WHERE person_id = $one AND reference = 'payment 3'",
        "missing",
    ),
    (
        "UPDATE projection.payment SET reference = 'another'
             WHERE person_id = $one AND reference = 'payment 3'",
        "and 1 more",
    ),
    ("UPDATE projection.card SET active = NOT active WHERE person_id = $one", "status"),
    ("UPDATE projection.card SET municipality = 147 WHERE person_id = $one", "municipality"),
    ("UPDATE projection.card SET controlled_in = 1 WHERE person_id = $one", "control"),
    ("DELETE FROM projection.card WHERE person_id = $one", "card is missing"),
    (
        "INSERT INTO projection.card (partition, person_id, frikort_tags, municipality, active,
                 controlled_in, position, generation)
         SELECT 0, gen_random_uuid(), '{}', 101, true, 1, 1, 1",
        "no record is about",
    ),
    ("UPDATE projection.annual_limit SET amount = 1 WHERE year = 2023", "limit of 2023"),
    ("DELETE FROM projection.annual_limit WHERE year = 2023", "limit of 2023"),
    (
        "INSERT INTO projection.annual_limit (partition, year, in_force_from, amount, citation,
                 position, generation) VALUES (0, 2044, '2044-01-01', 1, 'none', 1, 1)",
        "limit of 2044",
    ),
];

/// Each change of one row is found, as of where the projection stands, with words that say what.
#[tokio::test(flavor = "multi_thread")]
async fn every_change_of_the_projection_is_found() {
    for (change, says) in CHANGES {
        let copy = Copy::new().await;
        let one: String = sqlx::query_scalar(
            "SELECT min(person_id::text) FROM projection.annual_total WHERE payments > 40",
        )
        .fetch_one(&copy.pool)
        .await
        .unwrap();
        let changed = copy.tamper(&change.replace("$one", &format!("'{one}'")), 0).await;
        assert_eq!(changed, 1, "{change}");
        let (findings, concluded) = copy.check_with(&[]).await;
        let [finding] = findings.as_slice() else { panic!("{change}: {findings:?}") };
        assert_eq!((finding.kind, finding.position), (Kind::Projection, copy.filled.head));
        assert!(finding.description.contains(says), "{change}: {finding:?}");
        if change.contains("$one") {
            assert_eq!(finding.person_id.unwrap().to_string(), one);
        }
        assert_eq!(concluded.not_checked, [""; 0], "the records are sound");
        assert_eq!(concluded.checked[0].position, copy.filled.head);
        copy.pool.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn decisions_about_applications_are_held_too() {
    let copy = Copy::new().await;
    let position: i64 = sqlx::query_scalar("SELECT min(position) FROM projection.application")
        .fetch_one(&copy.pool)
        .await
        .unwrap();
    for change in [
        "UPDATE projection.application SET days = days + 1 WHERE position = $p",
        "DELETE FROM projection.application WHERE position = $p",
    ] {
        assert_eq!(copy.tamper(change, position).await, 1);
        assert_eq!(copy.check().await.0, [(Kind::Projection, position)]);
    }
    for place in [copy.filled.head - 5, copy.filled.head + 5] {
        let copy = Copy::new().await;
        let more = "INSERT INTO projection.application VALUES (0, $p, 101, '2022-01-01', 1, 1)";
        assert_eq!(copy.tamper(more, place).await, 1);
        assert_eq!(copy.check().await.0, [(Kind::Projection, place)]);
    }
}

/// A projection that is behind is compared as of where it stands.
#[tokio::test(flavor = "multi_thread")]
async fn a_projection_that_is_behind_is_no_contradiction() {
    let copy = Copy::new().await;
    for begin_again in [
        "TRUNCATE projection.annual_total, projection.payment, projection.card,
             projection.annual_limit, projection.application",
        "UPDATE projection.checkpoint SET position = 0, recorded_at = NULL",
    ] {
        copy.tamper(begin_again, 0).await;
    }
    assert!(copy.check().await.1.passed());
    copy.tamper("UPDATE projection.checkpoint SET position = 100", 0).await;
    let (found, _) = copy.check().await;
    assert!(
        !found.is_empty()
            && found.iter().all(|(kind, at)| (*kind, *at) == (Kind::Projection, 100)
                || *kind == Kind::Projection && *at < 100),
        "{found:?}"
    );
}
