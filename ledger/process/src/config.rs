//! Settings: a flag, else the environment, else the TOML file, else the default. A key that the
//! program does not know is an error, since a misspelt setting that is ignored is a lie.

use std::path::Path;

use anyhow::Context;
use serde::de::DeserializeOwned;

/// Reads the settings file; without one, everything is unset.
pub fn load<T: DeserializeOwned + Default>(file: Option<&Path>) -> anyhow::Result<T> {
    let Some(file) = file else { return Ok(T::default()) };
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("cannot read the settings file {}", file.display()))?;
    toml::from_str(&text).with_context(|| format!("in the settings file {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize, Default)]
    #[serde(deny_unknown_fields, default)]
    struct Settings {
        listen: Option<String>,
    }

    #[test]
    fn without_a_file_everything_is_unset() {
        assert!(load::<Settings>(None).unwrap().listen.is_none());
    }

    #[test]
    fn a_missing_file_is_an_error_that_names_it() {
        let error = load::<Settings>(Some(Path::new("/nowhere.toml"))).err().unwrap();
        assert!(error.to_string().contains("/nowhere.toml"));
    }
}
