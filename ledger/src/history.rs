//! What this process knows to have been acknowledged or signed of a partition's history: the evidence
//! that the history must still hold before anything more is appended (H1).
//!
//! Not here: asking the database, and stopping; the sequencer does both.

use std::collections::VecDeque;

use frikort_event_store::{EventHash, Head, Incident};

/// Events that are remembered to tell how much is lost.
const REMEMBERED_EVENTS: usize = 4096;

/// An event that was acknowledged or signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KnownEvent {
    pub(crate) position: i64,
    pub(crate) hash: EventHash,
}

/// What was signed of a partition, as far as this process knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SignedEvidence {
    /// Events that the last checkpoint covers, by position: those after the last full tile, and the
    /// last one.
    pub(crate) marks: Vec<KnownEvent>,
    /// The checkpoint.
    pub(crate) checkpoint: Option<String>,
    /// An event whose record was changed in its place.
    pub(crate) changed: Option<KnownEvent>,
}

/// All that this process knows.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    /// The last event that this process has acknowledged.
    acknowledged: Option<KnownEvent>,
    /// Events that were at the head at some time, by position: acknowledged here, or by others.
    known: VecDeque<KnownEvent>,
    pub(crate) signed: SignedEvidence,
}

impl Evidence {
    /// A batch is about to be acknowledged, and the head is there now.
    pub(crate) fn acknowledge(&mut self, head: Head) {
        self.note(head);
        self.acknowledged = self.known.back().copied();
    }

    /// The head was there.
    pub(crate) fn note(&mut self, head: Head) {
        let mark = KnownEvent { position: head.position, hash: head.event_hash };
        if mark.position == 0 || self.known.back() == Some(&mark) {
            return;
        }
        // What is behind it is of a history that was left.
        while self.known.back().is_some_and(|known| known.position >= mark.position) {
            self.known.pop_back();
        }
        if self.known.len() == REMEMBERED_EVENTS {
            self.known.pop_front();
        }
        self.known.push_back(mark);
    }

    /// The events that tell whether anything is lost.
    pub(crate) fn newest(&self) -> Vec<KnownEvent> {
        let newest =
            [self.acknowledged.as_ref(), self.signed.marks.last(), self.signed.changed.as_ref()];
        newest.into_iter().flatten().copied().collect()
    }

    /// All of them, by position: what tells how much is lost.
    pub(crate) fn all(&self) -> Vec<(i64, EventHash)> {
        let marks = self.known.iter().chain(&self.acknowledged).chain(&self.signed.marks);
        let mut all: Vec<_> = marks.map(|mark| (mark.position, mark.hash)).collect();
        all.sort_unstable_by_key(|(position, _)| *position);
        all
    }

    /// The loss of what `lost` and the events before it stand for, where `common` is the last position
    /// of [`Evidence::all`] whose event is in the history still.
    pub(crate) fn incident(&self, lost: KnownEvent, common: Option<i64>, head: Head) -> Incident {
        let first_lost_position = match common {
            _ if self.signed.changed == Some(lost) => lost.position,
            Some(common) if common < lost.position => common + 1,
            // Nothing that is remembered is there: what is there now is taken for the rest.
            _ => {
                let all = self.all();
                let first = all.first().map_or(lost.position, |(position, _)| *position);
                first.min(head.position + 1).min(lost.position)
            }
        };
        let is_signed =
            self.signed.marks.last() == Some(&lost) || self.signed.changed == Some(lost);
        Incident {
            evidence_position: lost.position,
            evidence_hash: lost.hash,
            first_lost_position,
            head_position: head.position,
            checkpoint: self.signed.checkpoint.clone().filter(|_| is_signed),
        }
    }

    /// The loss of what `lost` stands for was accepted.
    pub(crate) fn drop_accepted(&mut self, lost: KnownEvent) {
        if self.acknowledged == Some(lost) {
            self.acknowledged = None;
        }
        if self.signed.marks.last() == Some(&lost) {
            self.signed.marks.clear();
        }
        if self.signed.changed == Some(lost) {
            self.signed.changed = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(position: i64, history: u8) -> KnownEvent {
        let byte = u8::try_from(position).unwrap() ^ history;
        KnownEvent { position, hash: EventHash([byte; 32]) }
    }

    fn head(position: i64) -> Head {
        Head { position, event_hash: mark(position, 0).hash, ..Head::EMPTY }
    }

    fn evidence(acknowledged: &[i64], signed: &[i64]) -> Evidence {
        let mut evidence = Evidence::default();
        acknowledged.iter().for_each(|position| evidence.acknowledge(head(*position)));
        evidence.signed.marks = signed.iter().map(|position| mark(*position, 0)).collect();
        evidence.signed.checkpoint = Some("note".to_owned());
        evidence
    }

    #[test]
    fn h1_the_loss_begins_after_the_last_batch_that_is_there() {
        let evidence = evidence(&[3, 5, 9], &[]);
        let incident = evidence.incident(mark(9, 0), Some(5), head(6));
        assert_eq!((incident.first_lost_position, incident.lost_events()), (6, 4));
        assert_eq!(incident.checkpoint, None);
    }

    #[test]
    fn h1_where_nothing_remembered_is_there_the_loss_begins_after_the_head() {
        let signed = evidence(&[], &[7, 8, 9]);
        let incident = signed.incident(mark(9, 0), None, head(2));
        assert_eq!((incident.first_lost_position, incident.lost_events()), (3, 7));
        assert_eq!(incident.checkpoint.as_deref(), Some("note"));
        // What others have appended meanwhile does not make it smaller.
        assert_eq!(signed.incident(mark(9, 0), None, head(12)).first_lost_position, 7);
    }

    #[test]
    fn h1_a_record_that_was_changed_is_lost_alone() {
        let mut evidence = evidence(&[20], &[19]);
        evidence.signed.changed = Some(mark(4, 0));
        let incident = evidence.incident(mark(4, 0), Some(20), head(20));
        assert_eq!((incident.first_lost_position, incident.lost_events()), (4, 1));
    }

    #[test]
    fn h1_an_accepted_loss_is_evidence_no_more() {
        let mut evidence = evidence(&[20], &[19]);
        assert_eq!(evidence.newest(), [mark(20, 0), mark(19, 0)]);
        evidence.drop_accepted(mark(20, 0));
        assert_eq!(evidence.newest(), [mark(19, 0)]);
        evidence.drop_accepted(mark(19, 0));
        assert_eq!(evidence.newest(), []);
    }

    #[test]
    fn h1_what_others_have_appended_tells_where_the_loss_begins() {
        let mut evidence = evidence(&[3], &[]);
        (4..=7).for_each(|position| evidence.note(head(position)));
        evidence.acknowledge(head(9));
        assert_eq!(
            evidence.all().iter().map(|(at, _)| *at).collect::<Vec<_>>(),
            [3, 4, 5, 6, 7, 9, 9]
        );
        assert_eq!(evidence.incident(mark(9, 0), Some(6), head(6)).first_lost_position, 7);
        // The history went back to 5, and on.
        evidence.note(head(5));
        assert_eq!(evidence.all().iter().map(|(at, _)| *at).collect::<Vec<_>>(), [3, 4, 5, 9]);
    }

    #[test]
    fn only_so_many_events_are_remembered() {
        let mut evidence = Evidence::default();
        for position in 1..=i64::try_from(REMEMBERED_EVENTS).unwrap() + 10 {
            evidence.note(Head { position, ..Head::EMPTY });
        }
        assert_eq!(evidence.all().len(), REMEMBERED_EVENTS);
        assert_eq!(evidence.all()[0].0, 11);
        assert_eq!(evidence.newest(), [], "nothing of it was acknowledged here");
    }
}
