//! `projector rebuild`: a new generation of the projection under appends and questions, proved,
//! switched to, refused, cut off, and dropped.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod ground;

mod beside;
mod cut_off;
mod differences;
mod versions;
