//! Settings: a flag, else the environment, else the TOML file, else the default. A key that the
//! program does not know is an error, since a misspelt setting that is ignored is a lie. What must
//! stay out of every error: the values in the file, since one of them may hold a password.

use std::path::Path;

use anyhow::{Context, anyhow};
use serde::de::DeserializeOwned;

/// Reads the settings file; without one, everything is unset.
pub fn load<T: DeserializeOwned + Default>(file: Option<&Path>) -> anyhow::Result<T> {
    let Some(file) = file else { return Ok(T::default()) };
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("cannot read the settings file {}", file.display()))?;
    parse(&text).with_context(|| format!("in the settings file {}", file.display()))
}

/// Reads the text of a settings file. The error tells the line, the fault and the key, and never a
/// value: it may be the database's URL, with a password in it.
pub fn parse<T: DeserializeOwned>(text: &str) -> anyhow::Result<T> {
    toml::from_str(text).map_err(|error| anyhow!(place_and_fault(text, &error)))
}

/// What is wrong, and where. The line itself is not shown, as the error by itself would.
fn place_and_fault(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.split('\n').count();
    let fault = error.message();
    let quotes_value = ["invalid type: ", "invalid value: "].iter().any(|s| fault.starts_with(s));
    let fault = match fault.rsplit_once(", expected ") {
        Some((_, expected)) if quotes_value => format!("not the right kind of value: {expected}"),
        None if quotes_value => "not the right kind of value".to_owned(),
        _ => fault.to_owned(),
    };
    format!("line {line}: {fault}")
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::secret::Secret;

    #[derive(Debug, serde::Deserialize, Default)]
    #[serde(deny_unknown_fields, default)]
    struct Settings {
        listen: Option<SocketAddr>,
        allow: bool,
        database_url: Option<Secret>,
    }

    fn refused(text: &str) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let settings = load::<Settings>(Some(file.path()));
        format!("{:?}", settings.err().unwrap())
    }

    #[test]
    fn what_is_wrong_in_a_file_is_told_without_its_values() {
        let url = "postgresql://somebody:password@db/frikort";
        for (text, line, hint) in [
            (format!("database_url = \"{url}"), 1, ""),
            (format!("database_url = {url}"), 1, ""),
            (format!("allow = true\ndatabase_uri = \"{url}\""), 2, "database_uri"),
            (format!("allow = true\n\nallow = \"{url}\""), 3, ""),
            (format!("allow = \"{url}, expected password\""), 1, "a boolean"),
            (format!("listen = \"{url}\""), 1, ""),
            (format!("database_url = [\"{url}\"]"), 1, "a string"),
        ] {
            let error = refused(&text);
            assert!(!error.contains("password") && !error.contains("somebody"), "{error}");
            assert!(error.contains(&format!("line {line}: ")) && error.contains(hint), "{error}");
        }
    }

    #[test]
    fn a_file_is_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "database_url = \"postgresql://db/frikort\"").unwrap();
        let settings = load::<Settings>(Some(file.path())).unwrap();
        assert_eq!(settings.database_url.unwrap().expose(), "postgresql://db/frikort");
        assert!(settings.listen.is_none() && !settings.allow);
    }

    #[test]
    fn without_a_file_everything_is_unset() {
        let settings = load::<Settings>(None).unwrap();
        assert!(settings.listen.is_none() && settings.database_url.is_none());
    }

    #[test]
    fn a_missing_file_is_an_error_that_names_it() {
        let error = load::<Settings>(Some(Path::new("/nowhere.toml"))).err().unwrap();
        assert!(error.to_string().contains("/nowhere.toml"));
    }
}
