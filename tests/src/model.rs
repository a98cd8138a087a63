//! The rules once more, told plainly: what each call must be answered with, and what each question
//! must come to, of any moment. Slow where plain is slow: a question folds the whole history again,
//! and coverage is walked day by day.
//!
//! It is worth what it is worth because it shares nothing with the program but RULES.md: amounts are
//! integers in øre, days are [`Day`], and nothing of `frikort-domain` may be used below this module.
//!
//! ```text
//!   Log: what was recorded about one person, with positions ──fold──▶ Person ──decide──▶ Answer
//!   Limits: what was recorded of the yearly limits           ─────────┘ └──────look────▶ Statement
//! ```

mod answer;
mod card;
mod command;
mod day;
mod limits;
mod log;
mod payment;
mod person;
mod statement;

pub use answer::{Allowance, Answer, CardAnswer, PaymentAnswer, Refusal, Standing};
pub use card::Card;
pub use command::{Command, Decision, Employer, Facts, Kind, Municipality, PaymentKey};
pub use day::{Day, Instant};
pub use limits::{Limit, Limits};
pub use log::{AsOf, Entry, Known, Log, Recorded};
pub use payment::Payment;
pub use person::{OnRecord, PAYMENTS_PER_YEAR, Person};
pub use statement::{Hours, Month, Statement};
