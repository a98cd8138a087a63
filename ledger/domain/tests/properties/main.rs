//! Random lives of one card holder, held against a plain model and against the rules themselves:
//! after every command A2, A4, A5, A6, P3, P9 and P10 hold, a decision is the same each time it is
//! made, and an account folded from the recorded lines is the account that was kept live.
//!
//! Amounts are a few øre and limits not much more, so that the limit is met all the time.

mod convert;
mod days;
mod model;
mod run;

use proptest::{prelude::*, test_runner::Config};

use model::Stated;
use run::{Op, Run};

/// Two years, 2024 and 2025; most dates early in 2024 or around the turn of the year.
fn day() -> impl Strategy<Value = usize> {
    prop_oneof![2 => 0..40_usize, 3 => 355..377_usize, 1 => 0..730_usize]
}

fn stated() -> impl Strategy<Value = Stated> {
    let work = prop_oneof![
        3 => Just(None),
        2 => (0..20_usize, 0..4_usize, any::<bool>()).prop_map(Some),
    ];
    (1..30_u32, day(), work).prop_map(|(oere, paid, work)| {
        let work = work.map(|(distance, length, in_advance)| {
            let first = if in_advance { paid + distance } else { paid.saturating_sub(distance) };
            (first, first + length)
        });
        Stated { oere, paid, work }
    })
}

/// Two employers with five references each; every second statement is a plain one, so that
/// repeats and twins are met.
fn statement() -> impl Strategy<Value = Stated> {
    prop_oneof![4 => stated(), 1 => Just(Stated { oere: 7, paid: 10, work: None })]
}

fn key() -> impl Strategy<Value = (usize, usize)> {
    (0..2_usize, 0..5_usize)
}

fn op() -> impl Strategy<Value = Op> {
    let unit = prop_oneof![4 => Just(None), 1 => Just(Some(1)), 1 => Just(Some(2))];
    let report = (key(), statement(), unit, 0..20_u8).prop_map(|(key, stated, unit, dice)| {
        let (ordinary, strict) = (dice != 0, dice == 1 || dice == 2);
        Op::Report { key, stated, unit, ordinary, strict }
    });
    let correct = (key(), statement(), 0..8_u32).prop_map(|(key, stated, stale)| Op::Correct {
        key,
        stated,
        stale: stale == 0,
    });
    let amount = (key(), 1..30_u32).prop_map(|(key, oere)| Op::CorrectAmount { key, oere });
    let cancel = (key(), 0..3_usize, 0..8_u32).prop_map(|(key, reason, stale)| Op::Cancel {
        key,
        reason,
        stale: stale == 0,
    });
    let limit = (2024..2026_i32, prop_oneof![4 => Just(None), 1 => (1..300_usize).prop_map(Some)])
        .prop_flat_map(|(year, later)| (Just(year), Just(later), 0..90_u32))
        .prop_map(|(year, later, oere)| Op::Limit { year, later, oere });
    prop_oneof![
        12 => report,
        4 => correct,
        4 => amount,
        3 => cancel,
        3 => limit,
        2 => (2024..2026_i32, 0..30_u32, 20..60_u32).prop_map(|(year, lowered, raised)| {
            Op::LimitTwice { year, lowered, raised }
        }),
        1 => (1..60_usize).prop_map(|days| Op::Wait { days }),
        1 => (0..2_usize, day()).prop_map(|(municipality, from)| Op::Grant { municipality, from }),
        1 => (0..2_usize, day()).prop_map(|(municipality, last_day)| {
            Op::Deactivate { municipality, last_day }
        }),
        2 => (0..2_usize, day()).prop_map(|(municipality, from)| {
            Op::Reactivate { municipality, from }
        }),
    ]
}

/// A card and limits to begin with, as nearly every holder has, then anything.
fn life() -> impl Strategy<Value = Vec<Op>> {
    let first = (0..30_usize, 20..60_u32, 20..60_u32).prop_map(|(from, this, next)| {
        vec![
            Op::Limit { year: 2024, later: None, oere: this },
            Op::Limit { year: 2025, later: None, oere: next },
            Op::Grant { municipality: 0, from },
        ]
    });
    let begin = prop_oneof![9 => first, 1 => Just(Vec::new())];
    (begin, prop::collection::vec(op(), 1..40)).prop_map(|(begin, rest)| [begin, rest].concat())
}

proptest! {
    // A failure that is found becomes a test by name, not a line in a file of seeds.
    #![proptest_config(Config { cases: 400, failure_persistence: None, ..Config::default() })]

    #[test]
    fn whatever_happens_the_rules_hold_after_every_command(
        ops in life(),
        payments_per_year in prop_oneof![2 => Just(10_usize), 1 => 1..5_usize],
    ) {
        let mut run = Run::new(payments_per_year);
        for op in ops {
            run.happen(&op);
        }
    }
}
