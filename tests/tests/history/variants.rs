//! What is done after the copy, and while the services do not see the database.

use std::{collections::BTreeMap, sync::Arc};

use frikort_proto::v1::ErrorReason;
use frikort_tests::history::{Caller, Planned, Services, Site, reason_of, settled};

use crate::{
    between::{Projection, forget},
    checks::Ranges,
    ground::{Ground, PARTITIONS, PERSONS, YEAR},
};

/// Nothing is done while the services do not see the database.
pub(crate) const NOTHING: Option<fn(&mut Ground) -> std::future::Ready<()>> = None;

/// Goes back to the copy. From then on no answer is false, and nothing is written.
async fn go_back(
    ground: &mut Ground,
    meanwhile: Option<impl AsyncFnOnce(&mut Ground)>,
) -> BTreeMap<i32, (i64, i64)> {
    ground.until_signed().await;
    ground.until_answered_often().await;
    ground.go_back(meanwhile).await;
    let heads = ground.heads().await;
    ground.until_answered_often().await;
    ground.assert_no_false_answer().await;
    let lost = ground.lost().await;
    assert_eq!(lost.len(), usize::try_from(PARTITIONS).unwrap(), "both lose something: {lost:?}");
    ground.assert_writing_has_stopped(&lost).await;
    assert_eq!(ground.heads().await, heads, "something was written meanwhile");
    lost
}

/// After the acceptance, every lost payment is recorded by its repeat, and all is consistent.
async fn go_on(ground: Ground, accepted: &Ranges) {
    let epoch = ground.site.epoch.now() - 1;
    ground.repeat(&ground.lost_payments(epoch).await).await;
    ground.finish(accepted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_fewer_events() {
    let mut ground = Ground::start(true).await;
    let lost = go_back(&mut ground, NOTHING).await;
    let accepted = ground.accept(&lost).await;
    go_on(ground, &accepted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_fewer_events_where_one_ledger_signs_nothing() {
    let mut ground = Ground::start(false).await;
    let lost = go_back(&mut ground, NOTHING).await;
    let accepted = ground.accept(&lost).await;
    go_on(ground, &accepted).await;
}

/// Another ledger, which knows of nothing, records as many events as were lost in each partition.
pub(crate) async fn write_others(ground: &mut Ground, heads: &BTreeMap<i32, i64>) {
    let mut stranger = Services::stranger(&ground.site).await.unwrap();
    let projector = (0, &ground.services.projectors[0]);
    let caller = Caller::new((2, &stranger), projector, ground.journal.clone()).unwrap();
    let mut partitions: BTreeMap<i32, u32> = BTreeMap::new();
    for person in PERSONS {
        let answer = settled(async || caller.report(&ground.payroll.next(person, YEAR)).await)
            .await
            .unwrap();
        partitions.insert(answer.position.unwrap().partition, person);
    }
    for (partition, person) in partitions {
        loop {
            let planned = ground.payroll.next(person, YEAR);
            let at =
                settled(async || caller.report(&planned).await).await.unwrap().position.unwrap();
            assert_eq!(at.partition, partition);
            if at.position >= heads[&partition] {
                break;
            }
        }
    }
    assert!(stranger.stop().await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn with_as_many_events_but_others() {
    let mut ground = Ground::start(true).await;
    ground.until_signed().await;
    let meanwhile = async |ground: &mut Ground| {
        let heads = ground.heads_before().await;
        write_others(ground, &heads).await;
    };
    let lost = go_back(&mut ground, Some(meanwhile)).await;
    let accepted = ground.accept(&lost).await;
    go_on(ground, &accepted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_persons_who_were_granted_and_paid_after_the_copy() {
    let mut ground = Ground::start(true).await;
    let newcomers = [101, 102, 103, 104];
    for (person, caller) in newcomers.iter().zip(ground.callers.iter().cycle()) {
        settled(async || caller.grant(*person).await).await.unwrap();
        for caller in &ground.callers {
            settled(async || caller.report(&ground.payroll.next(*person, YEAR)).await)
                .await
                .unwrap();
        }
    }
    ground.until_at_projection().await;
    for caller in &ground.callers {
        for person in newcomers {
            settled(async || caller.allowance(person, YEAR).await).await.unwrap();
        }
    }
    let lost = go_back(&mut ground, NOTHING).await;
    // They are not found, and nothing of theirs can be recorded before they are granted again.
    for caller in &ground.callers {
        for person in newcomers {
            let refused = settled(async || caller.allowance(person, YEAR).await).await.unwrap_err();
            assert_eq!(reason_of(&refused), "NO_CARD");
        }
    }
    let accepted = ground.accept(&lost).await;
    for (person, caller) in newcomers.iter().zip(ground.callers.iter().cycle()) {
        let refused = settled(async || caller.report(&ground.payroll.next(*person, YEAR)).await)
            .await
            .unwrap_err();
        assert_eq!(reason_of(&refused), "NO_CARD");
        settled(async || caller.grant(*person).await).await.unwrap();
    }
    go_on(ground, &accepted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_limits_that_were_set_after_the_copy() {
    let next_year = YEAR + 1;
    let mut ground = Ground::start(true).await;
    settled(async || ground.callers[0].set_limit(YEAR, 4_000).await).await.unwrap();
    settled(async || ground.callers[1].set_limit(next_year, 3_000).await).await.unwrap();
    for person in PERSONS {
        for caller in &ground.callers {
            settled(async || caller.report(&ground.payroll.next(person, next_year)).await)
                .await
                .unwrap();
        }
    }
    ground.until_at_projection().await;
    for caller in &ground.callers {
        settled(async || caller.allowance(PERSONS[0], next_year).await).await.unwrap();
    }
    let lost = go_back(&mut ground, NOTHING).await;
    for caller in &ground.callers {
        let refused =
            settled(async || caller.allowance(PERSONS[0], next_year).await).await.unwrap_err();
        assert_eq!(reason_of(&refused), reason_name(ErrorReason::LimitNotSet));
    }
    let accepted = ground.accept(&lost).await;
    for caller in &ground.callers {
        let new = ground.payroll.next(PERSONS[0], next_year);
        let refused = settled(async || caller.report(&new).await).await.unwrap_err();
        assert_eq!(reason_of(&refused), reason_name(ErrorReason::LimitNotSet));
    }
    settled(async || ground.callers[1].set_limit(next_year, 3_000).await).await.unwrap();
    settled(async || ground.callers[0].set_limit(YEAR, 4_000).await).await.unwrap();
    go_on(ground, &accepted).await;
}

fn reason_name(reason: ErrorReason) -> String {
    reason.as_str_name().trim_start_matches("ERROR_REASON_").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_changed_cpr_number_and_a_forgotten_person_after_the_copy() {
    let mut ground = Ground::start(true).await;
    let (renumbered, new_number, forgotten) = (PERSONS[2], 203, PERSONS[3]);
    let [id, forgotten_id] = [renumbered, forgotten].map(|person| ground.person_id(person));
    settled(async || ground.callers[0].renumber(renumbered, new_number).await).await.unwrap();
    forget(&ground.site, &forgotten_id).await;
    ground.until_at_projection().await;
    for caller in &ground.callers {
        let found = settled(async || caller.allowance(new_number, YEAR).await).await.unwrap();
        assert_eq!(found.allowance.unwrap().person_id, id);
        let refused = settled(async || caller.allowance(forgotten, YEAR).await).await.unwrap_err();
        assert_eq!(reason_of(&refused), "NO_CARD");
    }
    let lost = go_back(&mut ground, NOTHING).await;
    for caller in &ground.callers {
        let refused = settled(async || caller.allowance(new_number, YEAR).await).await.unwrap_err();
        assert_eq!(reason_of(&refused), "NO_CARD", "the number leads to somebody");
        for (person, id) in [(renumbered, &id), (forgotten, &forgotten_id)] {
            let found = settled(async || caller.allowance(person, YEAR).await).await.unwrap();
            assert_eq!(&found.allowance.unwrap().person_id, id, "as the register says");
        }
    }
    let accepted = ground.accept(&lost).await;
    for caller in &ground.callers {
        let paid = settled(async || caller.report(&ground.payroll.next(forgotten, YEAR)).await)
            .await
            .unwrap();
        assert_eq!(paid.payment.unwrap().person_id, forgotten_id);
    }
    settled(async || ground.callers[1].renumber(renumbered, new_number).await).await.unwrap();
    for caller in &ground.callers {
        let new = Planned { person: new_number, ..ground.payroll.next(renumbered, YEAR) };
        let paid = settled(async || caller.report(&new).await).await.unwrap();
        assert_eq!(paid.payment.unwrap().person_id, id);
    }
    go_on(ground, &accepted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_projection_tables_beyond_the_head() {
    let mut ground = Ground::start(true).await;
    ground.until_signed().await;
    ground.until_at_projection().await;
    let newer = Arc::new(Projection::read(&ground.site.database).await.unwrap());
    let meanwhile = {
        let newer = newer.clone();
        async move |ground: &mut Ground| newer.write(&ground.site.database).await.unwrap()
    };
    let lost = go_back(&mut ground, Some(meanwhile)).await;
    let accepted = ground.accept(&lost).await;
    go_on(ground, &accepted).await;
}

/// Shows as well that what is judged false in the others is nothing that happens anyway.
#[tokio::test(flavor = "multi_thread")]
async fn with_nothing_lost_nothing_stops() {
    let mut ground = Ground::start(true).await;
    ground.until_signed().await;
    ground.until_answered_often().await;
    ground.go_back_to_the_same().await;
    ground.until_recorded("after a restart").await;
    ground.until_answered_often().await;
    let site: &Site = &ground.site;
    assert_eq!(site.epoch.now(), 1);
    assert!(ground.lost().await.is_empty());
    let stopped = ground.journal.count(|answer| {
        answer.is_refused_with("HISTORY_CHANGED") || answer.is_refused_with("RESUME_POSITION_LOST")
    });
    assert_eq!(stopped, 0);
    ground.finish(&BTreeMap::new()).await;
}
