//! How the continuous check and the projection stand, for people and programs: VerificationService,
//! and GET /metrics as Prometheus text. What must stay out: checking.

use std::{collections::BTreeMap, fmt::Write, sync::Arc};

use frikort_check::{Finding, Kind};
use frikort_event_store::EventStore;
use frikort_process::clock::Clock;
use frikort_proto::{
    timestamp,
    v1::{
        CheckFinding, CheckRound, GetVerificationRequest, GetVerificationResponse,
        PartitionVerification, verification_service_server::VerificationService,
    },
};
use time::OffsetDateTime;
use tonic::{Request, Response, Status};

use crate::{
    state::State,
    verify::{Inner, Round, Verified},
};

/// What is told from.
#[derive(Clone)]
pub(crate) struct Verifications {
    pub(crate) verified: Arc<Verified>,
    pub(crate) states: BTreeMap<i32, Arc<State>>,
    pub(crate) store: EventStore,
    pub(crate) clock: Clock,
    /// When the process began to check.
    pub(crate) started: OffsetDateTime,
}

#[tonic::async_trait]
impl VerificationService for Verifications {
    async fn get_verification(
        &self,
        _request: Request<GetVerificationRequest>,
    ) -> Result<Response<GetVerificationResponse>, Status> {
        let Inner { turned_off, partitions, last_round, current, .. } = self.verified.now();
        let partitions = self.states.keys().map(|partition| {
            let verified = partitions.get(partition);
            PartitionVerification {
                partition: *partition,
                last_fully_verified_position: verified.map_or(0, |at| at.seen.position),
                verified_time: verified.map(|at| timestamp(at.since)),
            }
        });
        Ok(Response::new(GetVerificationResponse {
            partitions: partitions.collect(),
            last_round: last_round.map(round),
            current: current.map(Into::into),
            turned_off,
        }))
    }
}

fn round(round: Round) -> CheckRound {
    let Round { started, ended, told, concluded } = round;
    CheckRound {
        started_time: Some(timestamp(started)),
        ended_time: Some(timestamp(ended)),
        findings: i64::try_from(concluded.findings).unwrap_or(i64::MAX),
        told: told.into_iter().map(CheckFinding::from).collect(),
        not_checked: concluded.not_checked,
    }
}

/// Metrics in Prometheus' text form, a family after another.
#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, label: Option<(&str, &str)>, value: impl std::fmt::Display) {
        let _ = match label {
            Some((label, of)) => writeln!(self.0, "{name}{{{label}=\"{of}\"}} {value}"),
            None => writeln!(self.0, "{name} {value}"),
        };
    }

    /// One sample for each partition.
    fn partitions(&mut self, name: &str, help: &str, values: &[(i32, impl std::fmt::Display)]) {
        self.family(name, "gauge", help);
        for (partition, value) in values {
            self.sample(name, Some(("partition", &partition.to_string())), value);
        }
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, "gauge", help);
        self.sample(name, None, value);
    }
}

impl Verifications {
    /// What Prometheus is told.
    pub(crate) async fn metrics(&self) -> String {
        let inner = self.verified.now();
        let mut text = Text::default();
        self.verified_positions(&inner, &mut text);
        rounds(&inner, &mut text);
        self.projection(&mut text).await;
        text.0
    }

    fn verified_positions(&self, inner: &Inner, text: &mut Text) {
        let known = |partition: &i32| inner.partitions.get(partition);
        let position =
            |partition: &i32| (*partition, known(partition).map_or(0, |at| at.seen.position));
        text.partitions(
            "frikort_last_fully_verified_position",
            "Up to here everything was checked and nothing found; 0 before the first such round.",
            &self.states.keys().map(position).collect::<Vec<_>>(),
        );
        let now = self.clock.now();
        let age = |partition: &i32| {
            let since = known(partition).map_or(self.started, |at| at.since);
            (*partition, (now - since).as_seconds_f64().max(0.0))
        };
        text.partitions(
            "frikort_last_fully_verified_age_seconds",
            "Since the round began that verified the position; before the first such round since \
             the start of the process. Absent where it does not check.",
            &self.states.keys().filter(|_| !inner.turned_off).map(age).collect::<Vec<_>>(),
        );
    }

    /// How far the projection is, and how far behind the head.
    async fn projection(&self, text: &mut Text) {
        let position = |state: &State| state.applied().borrow().position;
        let positions: Vec<(i32, i64)> =
            self.states.iter().map(|(partition, state)| (*partition, position(state))).collect();
        let mut behind = Vec::new();
        for (partition, position) in &positions {
            // Without the database nobody knows; the sample is absent then.
            if let Ok(head) = self.store.head(*partition).await {
                behind.push((*partition, (head.position - position).max(0)));
            }
        }
        text.partitions(
            "frikort_projection_position",
            "Position up to which events are folded into the totals.",
            &positions,
        );
        text.partitions(
            "frikort_projection_lag_events",
            "Events that are recorded and not folded yet; absent while the head cannot be read.",
            &behind,
        );
    }
}

/// What the rounds came to.
fn rounds(inner: &Inner, text: &mut Text) {
    let name = "frikort_check_findings";
    text.family(name, "gauge", "Findings of the last round, of those that it told (at most 1000).");
    let told: &[Finding] = inner.last_round.as_ref().map_or(&[], |round| &round.told);
    for kind in Kind::ALL {
        let count = told.iter().filter(|finding| finding.kind == kind).count();
        text.sample(name, Some(("kind", kind.name())), count);
    }
    let last = inner.last_round.as_ref();
    text.gauge(
        "frikort_check_findings_counted",
        "All findings of the last round.",
        last.map_or(0, |round| round.concluded.findings),
    );
    text.gauge(
        "frikort_check_not_checked",
        "What the last round could not check; anything but 0 means that it verified nothing.",
        last.map_or(0, |round| round.concluded.not_checked.len()),
    );
    if let Some(round) = last {
        let seconds = (round.ended - round.started).as_seconds_f64();
        text.gauge("frikort_check_round_seconds", "How long the last round took.", seconds);
    }
    let name = "frikort_check_rounds_total";
    text.family(name, "counter", "Rounds since the start, by what they came to.");
    for (result, count) in [
        ("verified", inner.passed),
        ("contradiction", inner.contradicted),
        ("incomplete", inner.incomplete),
    ] {
        text.sample(name, Some(("result", result)), count);
    }
    let (done, total) = inner.current.map_or((0, 0), |far| (far.done, far.total));
    let help = "Steps of the round under way; 0 between two rounds.";
    text.gauge("frikort_check_steps", help, total);
    text.gauge("frikort_check_steps_done", "Those of them that are done.", done);
    let enabled = u8::from(!inner.turned_off);
    text.gauge("frikort_check_enabled", "1 where this process checks.", enabled);
}
