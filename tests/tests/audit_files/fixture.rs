//! A whole export made without any service: decisions by the domain, tiles and signatures by
//! `frikort-proof`, laid out as ledger/domain/EXPORT.md says.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use frikort_domain::{
    Account, Actor, Amount, CancelPayment, CancelReason, Command, CorrectPayment, Criteria,
    Decision, DecisionKey, Event, Facts, FrikortTag, GrantCard, LimitEntry, LimitSchedule,
    PaymentKey, PersonId, Record, ReportPayment, Role, decide,
};
use frikort_proof::{Checkpoint, Edge, Hash, KeyName, SigningKey, leaf_hash};
use time::{Date, Duration, macros::date, macros::datetime};
use uuid::Uuid;

const TODAY: Date = date!(2022 - 06 - 01);
const BAKERY: &str = "13748136";
const PERSONS: u128 = 40;

/// Records of this fixture: five tiles and a part of one.
pub(crate) const RECORDS: usize = 1500;

/// The records of a history of many kinds.
pub(crate) fn history() -> Vec<String> {
    let mut ledger = Ledger::default();
    ledger.limit("20000.00", date!(2022 - 01 - 01));
    for person in 0..PERSONS {
        ledger.decide(person, &grant(person));
    }
    let mut number = 0;
    while ledger.records.len() < RECORDS {
        number += 1;
        let (person, oere) = (number % PERSONS, 50_000 + i64::try_from(number).unwrap() * 17);
        ledger.decide(person, &report(number, oere));
        // Every third payment is corrected, every seventh cancelled.
        if number % 3 == 0 {
            ledger.decide(person, &correct(number, oere + 1));
        } else if number % 7 == 0 {
            ledger.decide(person, &cancel(number));
        }
        // A limit is raised on the way, and reaches everybody by and by.
        if number == 900 {
            ledger.limit("21000.00", TODAY);
            for person in 0..PERSONS {
                ledger.decide(person, &Command::Recalculate { year: 2022 });
            }
        }
    }
    ledger.records.truncate(RECORDS);
    ledger.records
}

fn grant(person: u128) -> Command {
    Command::GrantCard(GrantCard {
        key: DecisionKey {
            municipality: "751".parse().unwrap(),
            reference: format!("grant {person}").parse().unwrap(),
        },
        frikort: FrikortTag([7; 16]),
        decided_on: TODAY,
        effective_from: date!(2022 - 01 - 01),
        born: date!(1870 - 05 - 17),
        criteria: Criteria::default(),
        applied_on: None,
    })
}

fn report(number: u128, oere: i64) -> Command {
    Command::ReportPayment(ReportPayment {
        key: payment(number),
        facts: facts(oere),
        production_unit: None,
        frikort: None,
        ordinary_work: true,
        reject_if_exceeds: false,
    })
}

fn correct(number: u128, oere: i64) -> Command {
    let (key, facts) = (payment(number), facts(oere));
    Command::CorrectPayment(CorrectPayment { key, facts, frikort: None, expected_revision: 1 })
}

fn cancel(number: u128) -> Command {
    let (key, reason) = (payment(number), CancelReason::NotPaid);
    Command::CancelPayment(CancelPayment { key, reason, frikort: None, expected_revision: 1 })
}

fn payment(number: u128) -> PaymentKey {
    PaymentKey {
        employer_cvr: BAKERY.parse().unwrap(),
        reference: format!("p {number}").parse().unwrap(),
    }
}

fn facts(oere: i64) -> Facts {
    let amount = Amount::from_oere(oere).unwrap();
    Facts { amount, payment_date: TODAY, work: None, hours: None, components: None }
}

#[derive(Default)]
struct Ledger {
    records: Vec<String>,
    accounts: BTreeMap<u128, Account>,
    limits: LimitSchedule,
    limits_version: i64,
}

impl Ledger {
    fn limit(&mut self, limit: &str, in_force_from: Date) {
        let limit = limit.parse().unwrap();
        let entry = LimitEntry { year: 2022, limit, in_force_from, citation: "LOV 1".to_owned() };
        self.limits.set(entry.clone());
        self.limits_version += 1;
        let record = self.record(None, self.limits_version, Event::AnnualLimitSet(entry));
        self.records.push(record.encode());
    }

    /// Decides, and records what comes of it, if anything does.
    fn decide(&mut self, person: u128, command: &Command) {
        let mut account = self.accounts.remove(&person).unwrap_or_default();
        if let Decision::Record(event) = decide(&account, &self.limits, command, TODAY).unwrap() {
            let version = account.version() + 1;
            let record = self.record(Some(PersonId(Uuid::from_u128(person + 1))), version, event);
            let (position, at) = (record.position, record.recorded_at);
            account.apply(&record.event, version, position, at).unwrap();
            self.records.push(record.encode());
        }
        self.accounts.insert(person, account);
    }

    fn record(&self, person_id: Option<PersonId>, version: i64, event: Event) -> Record {
        let position = i64::try_from(self.records.len()).unwrap() + 1;
        Record {
            partition: 0,
            position,
            person_id,
            version,
            recorded_at: datetime!(2022-06-01 08:00 UTC) + Duration::seconds(position),
            actor: Actor { role: Role::Operator, organisation: "fixture".to_owned() },
            trace_id: None,
            event,
        }
    }
}

/// The records numbered anew as they stand, as somebody would who hides what he did: positions,
/// event ids, instants and versions fit.
pub(crate) fn renumbered(records: &[String]) -> Vec<String> {
    let mut versions: BTreeMap<Option<Uuid>, i64> = BTreeMap::new();
    let numbered = records.iter().zip(1_i64..).map(|(line, position)| {
        let mut record = Record::decode(line).unwrap();
        let version = versions.entry(record.person_id.map(|person| person.0)).or_default();
        *version += 1;
        record.version = *version;
        record.position = position;
        record.recorded_at = datetime!(2022-06-01 08:00 UTC) + Duration::seconds(position);
        record.encode()
    });
    numbered.collect()
}

pub(crate) fn log_name() -> KeyName {
    "test.example/frikort/partition/0".parse().unwrap()
}

pub(crate) fn signing_key() -> SigningKey {
    SigningKey::new(&[42; 32])
}

/// The checkpoint of these records.
pub(crate) fn signed(records: &[String], key: &SigningKey) -> String {
    let mut edge = Edge::default();
    for record in records {
        edge.push(leaf_hash(record.as_bytes()));
    }
    key.sign(&Checkpoint { origin: log_name(), size: edge.size(), root: edge.root() })
}

/// An export of a history, and what an auditor has elsewhere.
pub(crate) struct Export {
    pub(crate) dir: PathBuf,
}

impl Export {
    /// Writes the whole export of a history.
    pub(crate) fn write(dir: &Path, records: &[String]) -> Self {
        let export = Self { dir: dir.to_owned() };
        fs::create_dir_all(dir).unwrap();
        export.write_records(records);
        export.write_log(records);
        export.write_totals(records, records.len() - 100);
        export
    }

    pub(crate) fn path(&self, end: &str) -> PathBuf {
        self.dir.join(format!("partition-0.{end}"))
    }

    pub(crate) fn write_records(&self, records: &[String]) {
        let lines: String = records.iter().map(|record| format!("{record}\n")).collect();
        fs::write(self.path("jsonl"), lines).unwrap();
    }

    /// Tiles, keys and checkpoint of these records.
    pub(crate) fn write_log(&self, records: &[String]) {
        let (mut edge, mut tiles) = (Edge::default(), Vec::new());
        for record in records {
            for tile in edge.push(leaf_hash(record.as_bytes())) {
                tiles.push((format!("{}/{:03}", tile.level, tile.number), tile.hashes));
            }
        }
        for (level, hashes) in edge.levels().iter().enumerate().filter(|(_, h)| !h.is_empty()) {
            let number = records.len() >> (8 * (level + 1));
            tiles.push((format!("{level}/{number:03}.p/{}", hashes.len()), hashes.clone()));
        }
        for (name, hashes) in tiles {
            let path = self.path("tiles").join("tile").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, hashes.concat()).unwrap();
        }
        let key = signing_key();
        fs::write(self.path("keys"), format!("{}\n", key.verifier(&log_name()))).unwrap();
        fs::write(self.path("checkpoint"), signed(records, &key)).unwrap();
    }

    /// The totals after so many records, added up here from what the records state.
    pub(crate) fn write_totals(&self, records: &[String], position: usize) {
        let mut accounts: BTreeMap<PersonId, Account> = BTreeMap::new();
        for line in &records[..position] {
            let record = Record::decode(line).unwrap();
            let Some(person) = record.person_id else { continue };
            let Record { version, position, recorded_at, event, .. } = &record;
            let account = accounts.entry(person).or_default();
            account.apply(event, *version, *position, *recorded_at).unwrap();
        }
        let mut lines = vec![format!("{{\"partition\":0,\"position\":{position}}}")];
        for (person, account) in &accounts {
            let (total, payments) = account.year_total(2022);
            let exempt: Amount = account.payments().map(|(_, payment)| payment.exempt).sum();
            lines.push(format!(
                "{{\"person_id\":\"{person}\",\"year\":2022,\"total\":\"{total}\",\
                 \"payments\":{payments},\"exempt\":\"{exempt}\"}}"
            ));
        }
        lines.push(format!("{{\"lines\":{}}}", accounts.len()));
        fs::write(self.path("totals.jsonl"), lines.join("\n") + "\n").unwrap();
    }
}

/// The inclusion proof of a leaf by its definition (RFC 6962 § 2.1.1), and the root.
pub(crate) fn proof(leaves: &[Hash], at: usize) -> (Vec<Hash>, Hash) {
    match leaves {
        [leaf] => (Vec::new(), *leaf),
        _ => {
            let middle = leaves.len().next_power_of_two() / 2;
            let (left, right) = leaves.split_at(middle);
            let in_left = at < middle;
            let (near, far) = if in_left { (left, right) } else { (right, left) };
            let (mut path, root) = proof(near, if in_left { at } else { at - middle });
            let (_, other) = proof(far, 0);
            path.push(other);
            let (left, right) = if in_left { (root, other) } else { (other, root) };
            (path, frikort_proof::node_hash(&left, &right))
        }
    }
}
