//! Random operations against real processes that are killed meanwhile, every answer held against a
//! plain model of the rules; lists that have failed once; and that a wrong answer would be seen.
//!
//! `target/release/simulate --minutes 30` does the same for as long as asked.

use std::{fs, time::Duration};

use frikort_tests::{
    model::{Answer, Command, Decision, Kind},
    simulation::{Campaign, Difference, List, Op, generate, regressions, run, shrink, simulate},
};

/// What a minute meets many times over, also on a slow machine. Nobody here is under age.
const OUTCOMES: [&str; 23] = [
    "recorded",
    "recorded, taxable",
    "recorded, a twin",
    "recorded, with payments after",
    "recorded, still active",
    "replayed",
    "replayed, changed since",
    "dry",
    "INVALID_FIELD",
    "NO_CARD",
    "NO_ACTIVE_CARD",
    "CARD_ALREADY_ACTIVE",
    "CARD_NOT_DEACTIVATED",
    "NOT_RESPONSIBLE",
    "NOT_COVERED",
    "SUPPORTED_WORK",
    "LIMIT_NOT_SET",
    "TOO_MANY_PAYMENTS",
    "LIMIT_EXCEEDED",
    "REFERENCE_REUSED",
    "PAYMENT_NOT_FOUND",
    "PAYMENT_CANCELLED",
    "REVISION_MISMATCH",
];

#[tokio::test(flavor = "multi_thread")]
async fn for_a_minute_every_answer_is_the_models() {
    let seed = std::env::var("FRIKORT_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("FRIKORT_SEED={seed}");
    let campaign = Campaign { seed, length: Duration::from_secs(50), operations: 2000 };
    let (counts, _) = simulate(campaign, |line| println!("{line}")).await.unwrap();
    assert!(counts.answers > counts.operations / 2, "{counts:?}");
    assert!(counts.events > 0 && counts.restarts > 0, "{counts:?}");
    assert!(counts.past >= 1000, "{counts:?}");
    // A simulation that meets only what is usual would show little.
    for outcome in OUTCOMES {
        assert!(counts.outcomes.contains_key(outcome), "{outcome}: {:?}", counts.outcomes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_that_have_failed_once_pass() {
    let mut failed = Vec::new();
    for entry in fs::read_dir(regressions()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json")
            && let Err(error) = run(&List::read(&path).unwrap(), None).await
        {
            failed.push(format!("{}: {error:#}", path.display()));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// An øre too much of everything that is taxable.
fn an_oere_too_much(answer: &mut Answer) {
    if let Answer::Payment(answer) = answer
        && answer.payment.taxable > 0
    {
        answer.payment.taxable += 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_answer_is_seen() {
    let list = generate(1, 300);
    run(&list, None).await.unwrap();
    let error = run(&list, Some(an_oere_too_much)).await.unwrap_err();
    let difference = error.downcast::<Difference>().unwrap();
    let Op::Call(call) = &list.ops[difference.op.unwrap()] else { panic!("{difference}") };
    assert!(!matches!(call.command, Command::Decide(_)), "{difference}");
    assert!(difference.text.contains("taxable: "), "{difference}");
}

/// As a program that takes no second control of anybody.
async fn fails_at_a_second_control(list: &List) -> Option<Difference> {
    let mut controls = vec![0; list.persons()];
    for (at, op) in list.ops.iter().enumerate() {
        if let Op::Call(call) = op
            && let Command::Decide(Decision { kind: Kind::Control { .. }, .. }) = call.command
        {
            controls[call.person] += 1;
            if controls[call.person] == 2 {
                let text = "a second control".to_owned();
                return Some(Difference { op: Some(at), person: None, text });
            }
        }
    }
    None
}

#[tokio::test]
async fn a_long_list_shrinks_to_what_it_takes() {
    let list = generate(2, 3000);
    let found = fails_at_a_second_control(&list).await.unwrap();
    let small = shrink(&list, found, 1000, fails_at_a_second_control).await;
    assert_eq!(small.ops.len(), 2, "{:?}", small.ops);
    assert_eq!(small.difference, "operation 1: a second control");
    assert_eq!(small.seed, 2);
}

#[test]
fn the_same_seed_gives_the_same_list_and_it_survives_the_file() {
    let list = generate(3, 3000);
    assert_eq!(list, generate(3, 3000));
    assert_ne!(list.ops, generate(4, 3000).ops);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("list.json");
    list.write(&path).unwrap();
    assert_eq!(List::read(&path).unwrap(), list);
}
