//! What an error of the database means for whoever sent the statement: whether to repeat it.
//!
//! One table for the whole workspace, by SQLSTATE (PostgreSQL, Appendix A). Every statement that
//! the services send is fixed when they are built, and has run against this schema. So an error
//! either comes from the state that the server, the session or the schema is in, and passes when
//! that is mended, or it comes from the values that were sent or stored, and comes again however
//! often the statement is repeated.
//!
//! Not here: what callers are told, and how often a statement is repeated.

/// Whether repeating a failed statement can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The state of the database: repeat later. Callers are told `UNAVAILABLE`.
    Passing,
    /// The request or what is stored contradicts the schema: repeating meets it again. Callers are
    /// told `INTERNAL`, and what depends on it stops.
    Contradiction,
}

use Meaning::{Contradiction, Passing};

/// Codes that mean something else than the rest of their class, and why.
const CODES: [(&str, Meaning, &str); 9] = [
    // Class 42, which is else about the text of a statement.
    ("42501", Passing, "rights are missing: after a restore without them, until `ledger migrate`"),
    ("42P01", Passing, "a table that was there is gone: the database is being restored"),
    ("42703", Passing, "the same of a column"),
    ("42883", Passing, "the same of a function"),
    ("42704", Passing, "the same of a type or role"),
    ("42P05", Passing, "the session has a prepared statement of another client: through a pooler"),
    ("42P07", Passing, "somebody else has just made it, such as another `ledger migrate`"),
    // Class XX, which is else a fault of the server itself.
    ("XX001", Contradiction, "a stored row is damaged"),
    ("XX002", Contradiction, "an index is damaged: what it finds cannot be believed"),
];

/// Every class of PostgreSQL's Appendix A, and why.
const CLASSES: [(&str, Meaning, &str); 43] = [
    ("00", Contradiction, "success is no error"),
    (
        "01",
        Contradiction,
        "a warning is no error; raised as one, it is by a function of the schema",
    ),
    ("02", Contradiction, "a row that must be there is not"),
    ("03", Contradiction, "the text of a statement"),
    ("08", Passing, "the connection was lost or refused"),
    ("09", Contradiction, "a trigger of the schema failed"),
    ("0A", Passing, "of statements that have run before: a cached plan is older than the schema"),
    ("0B", Contradiction, "the text of a statement that begins a transaction"),
    ("0F", Contradiction, "large objects, which are not used"),
    ("0L", Contradiction, "GRANT, which no service uses"),
    ("0P", Passing, "a role that was there is gone: the roles are being restored"),
    ("0Z", Contradiction, "the text of a function of the schema"),
    ("20", Contradiction, "CASE in a function of the schema met a value that it does not know"),
    ("21", Contradiction, "a subquery or an upsert met a row twice"),
    ("22", Contradiction, "a value that is sent or stored is outside its type's range"),
    ("23", Contradiction, "a row that is sent contradicts those that are stored"),
    ("24", Contradiction, "cursors, which are used within one function only"),
    (
        "25",
        Passing,
        "a standby or a read-only server (25006), or the session's transaction timed out",
    ),
    ("26", Passing, "the session has lost a prepared statement: a new one prepares it anew"),
    ("27", Contradiction, "a trigger changed the row that its statement changes"),
    (
        "28",
        Passing,
        "the login is refused before any statement: after a failover or a new password",
    ),
    ("2B", Contradiction, "DROP ROLE, which no service uses"),
    ("2D", Contradiction, "COMMIT in the text of a function of the schema"),
    ("2F", Contradiction, "the text of a function of the schema"),
    ("34", Contradiction, "cursors, which are used within one function only"),
    ("38", Contradiction, "external functions, which are not used"),
    ("39", Contradiction, "external functions, which are not used"),
    ("3B", Contradiction, "savepoints, which are not used"),
    ("3D", Passing, "the database is not there: it is being restored"),
    ("3F", Passing, "a schema is not there: the database is being restored"),
    (
        "40",
        Passing,
        "the transaction was rolled back for the sake of others, or its end is unknown",
    ),
    ("42", Contradiction, "the text of a statement"),
    ("44", Contradiction, "a row that is sent contradicts its view"),
    ("53", Passing, "disk, memory or connections are used up"),
    ("54", Contradiction, "the values that are sent are too large for one statement"),
    ("55", Passing, "somebody else uses the object; a lock was not had in time (55P03)"),
    (
        "57",
        Passing,
        "an operator or a timeout has ended the statement, or the server stops or starts",
    ),
    ("58", Passing, "the server's disk or operating system failed"),
    ("72", Passing, "the snapshot is too old: a new transaction has a new one"),
    ("F0", Passing, "the server's configuration file is wrong"),
    ("HV", Contradiction, "foreign tables, which are not used"),
    ("P0", Contradiction, "raised by a function of the schema"),
    (
        "XX",
        Passing,
        "the server failed within itself, such as for an object that is being replaced",
    ),
];

/// What a code means. One that the table does not know, or an error without one, is passing: it
/// comes from an extension or from something between us and the server, of whose state the code
/// tells; nothing is recorded either way, and who repeats a call loses nothing.
pub fn meaning(code: Option<&str>) -> Meaning {
    let Some(code) = code else { return Passing };
    let exact = CODES.iter().find(|(known, ..)| *known == code);
    let class = || CLASSES.iter().find(|(class, ..)| code.starts_with(class));
    exact.or_else(class).map_or(Passing, |(_, meaning, _)| *meaning)
}

/// What an error means, wherever between us and the server it arose.
pub fn meaning_of(error: &sqlx::Error) -> Meaning {
    match error {
        sqlx::Error::Database(error) => meaning(error.code().as_deref()),
        // The connection, or what came over it: the next call has another one.
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::BeginFailed
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => Passing,
        // A row, column or value that is not as this program was built for, or its own settings.
        _ => Contradiction,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The classes in their order in Appendix A; Postgres 18 has no other.
    const APPENDIX_A: &str = "00 01 02 03 08 09 0A 0B 0F 0L 0P 0Z 20 21 22 23 24 25 26 27 28 2B 2D \
                              2F 34 38 39 3B 3D 3F 40 42 44 53 54 55 57 58 72 F0 HV P0 XX";

    #[test]
    fn every_class_is_in_the_table_once_and_says_why() {
        let classes: Vec<&str> = CLASSES.iter().map(|(class, ..)| *class).collect();
        assert_eq!(classes.join(" "), APPENDIX_A);
        for (code, _, reason) in CODES.iter().chain(&CLASSES) {
            assert!(!reason.is_empty(), "{code}");
        }
        for (code, meaning, _) in CODES {
            let class = CLASSES.iter().find(|(class, ..)| code.starts_with(class)).unwrap();
            assert_ne!(class.1, meaning, "{code} means what its class means");
        }
    }

    #[test]
    fn a_code_of_each_class_means_what_must_be_done() {
        let passing = "08000 08006 08P01 0A000 0P000 25006 25P03 25P04 26000 28000 28P01 3D000 \
                       3F000 40001 40P01 40003 42501 42P01 42883 42P05 53100 53200 53300 55006 \
                       55P03 57014 57P01 57P02 57P03 57P04 57P05 58000 58030 72000 F0001 XX000";
        for code in passing.split_whitespace() {
            assert_eq!(meaning(Some(code)), Passing, "{code}");
        }
        let contradictions = "00000 01000 02000 03000 09000 0B000 0F001 0L000 0Z002 20000 21000 \
                              22003 22012 22021 22P02 23502 23505 23514 24000 27000 2BP01 2D000 \
                              2F003 34000 38001 39004 3B001 42601 42804 44000 54000 54001 HV000 \
                              P0001 P0002 XX001 XX002";
        for code in contradictions.split_whitespace() {
            assert_eq!(meaning(Some(code)), Contradiction, "{code}");
        }
        let sampled: Vec<&str> =
            passing.split_whitespace().chain(contradictions.split_whitespace()).collect();
        for (class, ..) in CLASSES {
            assert!(sampled.iter().any(|code| code.starts_with(class)), "class {class}");
        }
    }

    #[test]
    fn a_code_that_is_not_known_or_missing_is_passing() {
        for code in [None, Some(""), Some("Z1234"), Some("9"), Some("æøå")] {
            assert_eq!(meaning(code), Passing, "{code:?}");
        }
    }

    #[test]
    fn errors_that_are_not_the_servers_answer_are_told_apart() {
        let io = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        for passing in [sqlx::Error::Io(io), sqlx::Error::PoolTimedOut, sqlx::Error::BeginFailed] {
            assert_eq!(meaning_of(&passing), Passing, "{passing:?}");
        }
        let decoding = sqlx::Error::Decode("no amount".into());
        for contradiction in [sqlx::Error::RowNotFound, decoding] {
            assert_eq!(meaning_of(&contradiction), Contradiction, "{contradiction:?}");
        }
    }
}
