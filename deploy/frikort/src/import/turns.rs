//! Whose turn it is: rows of one person one after the other, in the order of the file; persons
//! beside each other. What must stay out: calls and time.

use std::collections::{HashMap, VecDeque};

use super::Entry;

/// Rows that wait.
#[derive(Default)]
pub(super) struct Turns {
    /// Rows that may be sent now, at most one a person.
    ready: VecDeque<Entry>,
    /// For each person with a row that is ready or under way: the rows behind it.
    behind: HashMap<Box<str>, VecDeque<Entry>>,
}

impl Turns {
    /// Queues a row, the next of the file.
    pub(super) fn offer(&mut self, entry: Entry) {
        if let Some(queue) = self.behind.get_mut(&entry.person) {
            queue.push_back(entry);
        } else {
            self.behind.insert(entry.person.clone(), VecDeque::new());
            self.ready.push_back(entry);
        }
    }

    /// The next row to send.
    pub(super) fn next(&mut self) -> Option<Entry> {
        self.ready.pop_front()
    }

    /// The person's row under way was answered: the one behind it may go.
    pub(super) fn finished(&mut self, person: &str) {
        let Some(queue) = self.behind.get_mut(person) else { return };
        match queue.pop_front() {
            Some(entry) => self.ready.push_back(entry),
            None => {
                self.behind.remove(person);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::rows::Row, *};

    fn entry(number: u64, person: &str) -> Entry {
        let row = Row { number, line: number + 1, end_byte: 0 };
        Entry { row, person: person.into(), command: Err(vec![]) }
    }

    #[test]
    fn one_persons_rows_go_one_by_one_and_others_beside_them() {
        let mut turns = Turns::default();
        for (number, person) in [(1, "a"), (2, "a"), (3, "b"), (4, "a")] {
            turns.offer(entry(number, person));
        }
        let mut next = || turns.next().map(|entry| entry.row.number);
        assert_eq!((next(), next(), next()), (Some(1), Some(3), None));
        turns.finished("a");
        turns.finished("b");
        assert_eq!(turns.next().map(|entry| entry.row.number), Some(2));
        assert!(turns.next().is_none());
        turns.finished("a");
        assert_eq!(turns.next().map(|entry| entry.row.number), Some(4));
        turns.finished("a");
        assert!(turns.behind.is_empty() && turns.ready.is_empty());
    }
}
