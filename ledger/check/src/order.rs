//! The records of a partition in order of position: each in its form, at its place, later than the
//! one before. What must stay out: streams, hashes, reading.

use frikort_domain::{PersonId, Record, RecordError};
use frikort_event_store::PARTITION_STREAM;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::finding::{Kind, Notes};

/// A row of the event table.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) position: i64,
    pub(crate) person_id: Uuid,
    pub(crate) version: i64,
    pub(crate) recorded_at: OffsetDateTime,
    pub(crate) record: String,
}

impl Row {
    /// Whose it is by its column.
    pub(crate) fn person(&self) -> Option<PersonId> {
        (self.person_id != PARTITION_STREAM).then_some(PersonId(self.person_id))
    }

    /// The columns that are not what the record says.
    pub(crate) fn faults(&self, partition: i32, record: &Record) -> Vec<&'static str> {
        let columns = [
            (record.partition == partition, "its partition is not the one that the record names"),
            (record.position == self.position, "its position is not the one that the record names"),
            (record.person_id == self.person(), "its person is not the one that the record names"),
            (record.version == self.version, "its version is not the one that the record names"),
            (
                record.recorded_at == self.recorded_at,
                "its instant is not the one that the record names",
            ),
        ];
        columns.into_iter().filter(|(same, _)| !same).map(|(_, what)| what).collect()
    }

    /// The record, where it is one and its columns are those of it.
    pub(crate) fn sound(&self, partition: i32) -> Option<Record> {
        let record = Record::decode(&self.record).ok()?;
        self.faults(partition, &record).is_empty().then_some(record)
    }
}

/// One partition so far.
#[derive(Debug)]
pub(crate) struct Order {
    partition: i32,
    last: Option<OffsetDateTime>,
    unknown: u64,
    first_unknown: Option<(i64, String)>,
}

impl Order {
    pub(crate) fn new(partition: i32) -> Self {
        Self { partition, last: None, unknown: 0, first_unknown: None }
    }

    /// When the last record was recorded.
    pub(crate) fn last(&self) -> Option<OffsetDateTime> {
        self.last
    }

    /// Takes the record at the next position. The record itself where it reads.
    pub(crate) fn take(&mut self, row: &Row, notes: &mut Notes) -> Option<Record> {
        let (at, person) = ((row.position, row.position), row.person());
        let record = match Record::decode(&row.record) {
            Ok(record) => Some(record),
            Err(error @ (RecordError::UnknownSchema(_) | RecordError::UnknownType(_))) => {
                self.unknown += 1;
                self.first_unknown.get_or_insert_with(|| (row.position, unknown(&error)));
                None
            }
            Err(RecordError::Malformed(_) | RecordError::WrongParts(_)) => {
                notes.find_run(at, Kind::Form, person, "it is no record");
                None
            }
        };
        let recorded_at = record.as_ref().map_or(row.recorded_at, |record| record.recorded_at);
        if self.last.is_some_and(|last| recorded_at <= last) {
            let what = "it was recorded no later than the record before";
            notes.find_run(at, Kind::Instant, person, what);
        }
        self.last = Some(recorded_at);
        let record = record?;
        let faults = row.faults(self.partition, &record);
        for what in faults.into_iter().chain(record.fault_of_form(&row.record)) {
            notes.find_run(at, Kind::Form, person, what);
        }
        Some(record)
    }

    /// Says what of all the records could not be read by this program.
    pub(crate) fn conclude(&mut self, notes: &mut Notes) {
        let Some((position, what)) = self.first_unknown.take() else { return };
        let (count, partition) = (self.unknown, self.partition);
        notes.leave_out(
            Some(position),
            format!(
                "partition {partition}: {count} records of a form that this program does not \
                 know, the first at position {position}: {what}"
            ),
        );
    }
}

/// What is not known; a name only where it can be one.
fn unknown(error: &RecordError) -> String {
    let name =
        |name: &str| name.len() <= 64 && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    match error {
        RecordError::UnknownType(text) if !name(text) => "record of unknown type".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A golden line, and the row that it stands in.
    fn row() -> Row {
        let golden = include_str!("../../domain/tests/golden/records.jsonl");
        let with_person = |line: &&str| line.contains("\"person_id\"");
        let line = golden.lines().find(with_person).expect("golden lines have persons");
        let record = Record::decode(line).expect("golden lines decode");
        Row {
            position: record.position,
            person_id: record.person_id.expect("it has a person").0,
            version: record.version,
            recorded_at: record.recorded_at,
            record: line.to_owned(),
        }
    }

    /// What is found when the row is taken after an instant long ago.
    fn found(row: &Row) -> Vec<(i64, Kind)> {
        let partition = Record::decode(&self::row().record).expect("it decodes").partition;
        let mut notes = Notes::new(partition);
        Order::new(partition).take(row, &mut notes);
        notes.end_runs(i64::MAX);
        notes.take().iter().map(|finding| (finding.position, finding.kind)).collect()
    }

    #[test]
    fn each_column_is_held_against_the_record() {
        let sound = row();
        assert_eq!(found(&sound), []);
        let changed = |change: fn(&mut Row)| {
            let mut row = sound.clone();
            change(&mut row);
            found(&row)
        };
        let at = sound.position;
        assert_eq!(changed(|row| row.position += 1), [(at + 1, Kind::Form)]);
        assert_eq!(changed(|row| row.person_id = Uuid::max()), [(at, Kind::Form)]);
        assert_eq!(changed(|row| row.person_id = Uuid::nil()), [(at, Kind::Form)]);
        assert_eq!(changed(|row| row.version += 1), [(at, Kind::Form)]);
        assert_eq!(
            changed(|row| row.recorded_at += time::Duration::MICROSECOND),
            [(at, Kind::Form)]
        );
    }

    #[test]
    fn every_byte_of_a_record_counts() {
        let sound = row();
        let unchanged = frikort_proof::leaf_hash(sound.record.as_bytes());
        for at in 0..sound.record.len() {
            let mut row = sound.clone();
            let mut bytes = row.record.into_bytes();
            bytes[at] ^= 1;
            let Ok(text) = String::from_utf8(bytes) else { continue };
            row.record = text;
            // What this room cannot see, such as another amount, the tree does.
            assert_ne!(frikort_proof::leaf_hash(row.record.as_bytes()), unchanged);
            // Whatever it is, it is taken without a panic.
            found(&row);
        }
    }

    #[test]
    fn a_record_of_the_future_is_left_out_and_is_no_finding() {
        let mut row = row();
        let schema = "\"schema\":1";
        assert!(row.record.contains(schema));
        row.record = row.record.replacen(schema, "\"schema\":2", 1);
        assert_eq!(found(&row), []);
        let mut order = Order::new(0);
        let mut notes = Notes::new(0);
        order.take(&row, &mut notes);
        order.conclude(&mut notes);
        assert_eq!(notes.not_checked.len(), 1);
        assert_eq!(notes.unchecked_from, Some(row.position));
    }
}
