//! Where a file's line feeds are, so that a row is named with the line on which it begins. The CSV
//! reader tells the line on which it begins to look: that of an empty line before the row, and in a
//! file with CR LF the line of the row before. What must stay out: what is between the line feeds.

use std::{
    collections::VecDeque,
    io::{self, Read},
};

/// A file that is read, with the places of the line feeds behind the last row.
pub(super) struct Feeds<R> {
    file: R,
    /// Bytes read.
    read: u64,
    /// Line feeds before `places`.
    passed: u64,
    places: VecDeque<u64>,
}

impl<R> Feeds<R> {
    pub(super) fn new(file: R) -> Self {
        Self { file, read: 0, passed: 0, places: VecDeque::new() }
    }

    /// The line, from 1, of a row that ends before the byte `end` and holds so many line feeds; rows
    /// are asked about in their order.
    pub(super) fn line_of(&mut self, end: u64, held: u64) -> u64 {
        let mut ended_by_feed = 0;
        while let Some(place) = self.places.pop_front_if(|place| *place < end) {
            self.passed += 1;
            ended_by_feed = u64::from(place + 1 == end);
        }
        (self.passed + 1).saturating_sub(held + ended_by_feed)
    }
}

impl<R: Read> Read for Feeds<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read(buffer)?;
        for (place, byte) in (self.read..).zip(&buffer[..length]) {
            if *byte == b'\n' {
                self.places.push_back(place);
            }
        }
        self.read += length as u64;
        Ok(length)
    }
}
