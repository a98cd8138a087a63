//! Settings: a flag, else the environment, else the TOML file, else the default. A key that the
//! program does not know is an error, since a misspelt setting that is ignored is a lie. What must
//! stay out of every error: the values in the file, since one of them may hold a password.

use std::path::Path;

use anyhow::Context;
use serde::de::DeserializeOwned;

/// Reads the settings file; without one, everything is unset.
pub fn load<T: DeserializeOwned + Default>(file: Option<&Path>) -> anyhow::Result<T> {
    let Some(file) = file else { return Ok(T::default()) };
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("cannot read the settings file {}", file.display()))?;
    parse(&text).with_context(|| format!("in the settings file {}", file.display()))
}

/// Reads the text of a settings file. The TOML reader's own error shows the line that it stopped at,
/// and so the address of the database with its password; ours tells its number.
pub fn parse<T: DeserializeOwned>(text: &str) -> anyhow::Result<T> {
    toml::from_str(text).map_err(|error| {
        let before = error.span().map_or(0, |span| span.start);
        let line = 1 + text.bytes().take(before).filter(|byte| *byte == b'\n').count();
        anyhow::anyhow!("line {line}: {}", without_value(error.message()))
    })
}

/// What is wrong, without the text that was found in the place of a number or a list.
fn without_value(message: &str) -> String {
    match (message.find('"'), message.rfind('"')) {
        (Some(first), Some(last)) if first < last => {
            format!("{}\"…\"{}", &message[..first], &message[last + 1..])
        }
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize, Default)]
    #[serde(deny_unknown_fields, default)]
    struct Settings {
        listen: Option<String>,
        check_pause: Option<u64>,
    }

    #[test]
    fn without_a_file_everything_is_unset() {
        let settings = load::<Settings>(None).unwrap();
        assert!(settings.listen.is_none() && settings.check_pause.is_none());
    }

    #[test]
    fn an_error_tells_the_line_and_never_a_value() {
        const SECRET: &str = "postgresql://owner:secret@db/frikort";
        for (text, said) in [
            (format!("\nlisten = \"{SECRET}"), "line 2: "),
            (format!("databse_url = '{SECRET}'"), "unknown field `databse_url`"),
            (format!("listen = ['{SECRET}']"), "line 1: "),
            (format!("check_pause = '{SECRET}'"), "line 1: invalid type: string \"…\""),
        ] {
            let error = format!("{:?}", parse::<Settings>(&text).err().unwrap());
            assert!(error.contains(said) && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_missing_file_is_an_error_that_names_it() {
        let error = load::<Settings>(Some(Path::new("/nowhere.toml"))).err().unwrap();
        assert!(error.to_string().contains("/nowhere.toml"));
    }
}
