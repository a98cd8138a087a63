//! The rules of RULES.md, each as sentences that read
//! `given(…).when(…).then(…)`.
//!
//! A test's name begins with the id of its rule. The numbers are those of the rules' own worked
//! examples, never taken from what the program answers. Where a test here and the program
//! disagree, the program is wrong.

mod allocation;
mod coverage;
mod days;
mod history;
mod identifiers;
mod payments;
mod payments_per_year;
mod refusals;
mod scenario;
mod steps;
mod visitation;
mod years;
