//! Finds the event of a page that the projection cannot take in, and has those before it written.
//!
//! A page is written in one transaction, so an error of the database says that some event of it
//! contradicts the tables, and not which. Halves are written until one event is left: that is the
//! poison event, which stops its partition and is named by its position.
//!
//! Not here: writing.

use frikort_event_store::StoredEvent;

use crate::{
    fold::{Changes, Poison},
    tables::WriteError,
};

/// The events of a page that are not written yet, and how many of them are written next.
pub(crate) struct Isolation<'a> {
    rest: &'a [StoredEvent],
    count: usize,
}

impl<'a> Isolation<'a> {
    /// Of a page that was refused. The first event comes by itself: that is the one when the
    /// partition has stopped at it before.
    pub(crate) fn of(page: &'a [StoredEvent]) -> Self {
        Self { rest: page, count: 1 }
    }

    /// What must be written next; nothing where all is written.
    pub(crate) fn next(&self) -> Result<Option<Changes>, Poison> {
        let next = &self.rest[..self.count];
        (!next.is_empty()).then(|| Changes::of(next)).transpose()
    }

    /// It is written.
    pub(crate) fn written(&mut self) {
        self.rest = &self.rest[self.count..];
        self.count = self.rest.len().div_ceil(2);
    }

    /// It was refused.
    ///
    /// # Errors
    /// The poison event, once it is found; and what says nothing about an event, since it passes.
    pub(crate) fn refused<F: From<WriteError> + From<Poison>>(
        &mut self,
        error: WriteError,
    ) -> Result<(), F> {
        match self.rest.first() {
            Some(_) if !error.is_contradiction() => Err(error.into()),
            Some(event) if self.count == 1 => Err(Poison::Unwritable(event.position, error).into()),
            _ => {
                self.count /= 2;
                Ok(())
            }
        }
    }
}
