//! The configuration file: TOML whose keys are flags, with dots (or tables) for their groups.
//!
//! `volume.size-limit`, `volume_size_limit` and a table `[volume]` with `size_limit` all mean
//! `--volume-size-limit`. Values become defaults of the command's own flags, so that one parser
//! reads and checks a setting wherever it stands, and flags and environment win by themselves.
//! A key that is no flag of the command is an error.

use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, Command};
use toml::{Table, Value};

/// Flags that make no sense in a file.
const NOT_SETTINGS: [&str; 3] = ["config", "help", "version"];

/// Settings read from a file, not yet checked.
#[derive(Debug)]
pub(crate) struct ConfigFile {
    path: PathBuf,
    settings: Vec<Setting>,
}

#[derive(Debug)]
struct Setting {
    /// As it stands in the file.
    key: String,
    /// The flag it means, without dashes.
    flag: String,
    values: Vec<String>,
}

impl Setting {
    /// Whether a value is one of its own, or a part of one that is a list separated by commas.
    fn has_value(&self, refused: &str) -> bool {
        self.values.iter().any(|value| value == refused || value.split(',').any(|v| v == refused))
    }
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("cannot read the configuration file {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("the configuration file {} is not TOML: {reason}", path.display())]
    NotToml { path: PathBuf, reason: String },
    #[error(
        "the configuration file {}: `{key}` is no setting of `dulse {command}`; the nearest is \
         `{nearest}`",
        path.display()
    )]
    UnknownKey { path: PathBuf, key: String, command: String, nearest: String },
    #[error("the configuration file {}: `{key}` is set twice", path.display())]
    Twice { path: PathBuf, key: String },
    #[error("the configuration file {}: `{key}` is neither text, number, true, false nor a list of them", path.display())]
    Kind { path: PathBuf, key: String },
    #[error("the configuration file {}: `{key}` is one value, not a list", path.display())]
    NoList { path: PathBuf, key: String },
}

impl ConfigFile {
    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let table: Table = text.parse().map_err(|error: toml::de::Error| ConfigError::NotToml {
            path: path.to_owned(),
            reason: describe(&error, text),
        })?;
        let mut file = Self { path: path.to_owned(), settings: Vec::new() };
        file.collect("", &table)?;
        Ok(file)
    }

    fn collect(&mut self, prefix: &str, table: &Table) -> Result<(), ConfigError> {
        for (name, value) in table {
            let key = format!("{prefix}{name}");
            match value {
                Value::Table(inner) => self.collect(&format!("{key}."), inner)?,
                value => self.add(key, value)?,
            }
        }
        Ok(())
    }

    fn add(&mut self, key: String, value: &Value) -> Result<(), ConfigError> {
        let path = self.path.clone();
        let values = match value {
            Value::Array(items) => items.iter().map(scalar).collect(),
            value => scalar(value).map(|value| vec![value]),
        };
        let Some(values) = values else {
            return Err(ConfigError::Kind { path, key });
        };
        let flag = key.replace(['.', '_'], "-");
        if self.settings.iter().any(|other| other.flag == flag) {
            return Err(ConfigError::Twice { path, key });
        }
        self.settings.push(Setting { key, flag, values });
        Ok(())
    }

    /// Makes the settings defaults of the flags of `root` and of the sub-command that `names` lead
    /// to.
    pub(crate) fn apply(&self, root: Command, names: &[&str]) -> Result<Command, ConfigError> {
        let mut root = root;
        for setting in &self.settings {
            let in_root = find(&root, &setting.flag).cloned();
            let sub = leaf(&root, names);
            let in_sub = sub.and_then(|sub| find(sub, &setting.flag)).cloned();
            let Some(arg) = in_sub.as_ref().or(in_root.as_ref()) else {
                return Err(self.unknown(setting, &root, names));
            };
            self.check_count(setting, arg)?;
            let id = arg.get_id().clone();
            let values = setting.values.clone();
            let set = |arg: Arg| arg.default_values(values);
            root = if in_sub.is_some() {
                in_leaf(root, names, &|sub| sub.mut_arg(id.clone(), set.clone()))
            } else {
                root.mut_arg(id, set)
            };
        }
        Ok(root)
    }

    fn check_count(&self, setting: &Setting, arg: &Arg) -> Result<(), ConfigError> {
        let takes_many = matches!(arg.get_action(), clap::ArgAction::Append);
        if setting.values.len() == 1 || takes_many {
            return Ok(());
        }
        Err(ConfigError::NoList { path: self.path.clone(), key: setting.key.clone() })
    }

    fn unknown(&self, setting: &Setting, root: &Command, names: &[&str]) -> ConfigError {
        let commands = [Some(root), leaf(root, names)];
        let known = commands.into_iter().flatten().flat_map(settings_of);
        let nearest = known.min_by_key(|known| edit_distance(known, &setting.flag));
        ConfigError::UnknownKey {
            path: self.path.clone(),
            key: setting.key.clone(),
            command: names.join(" "),
            nearest: nearest.unwrap_or_default().to_owned(),
        }
    }

    /// Says that a value clap refused stands in the file, if it is there that it stands.
    pub(crate) fn blame(&self, refused_flag: &str, refused_value: &str) -> Option<String> {
        let is_meant = |setting: &&Setting| {
            refused_flag.trim_start_matches('-').split(' ').next() == Some(&setting.flag)
                && setting.has_value(refused_value)
        };
        let setting = self.settings.iter().find(is_meant)?;
        Some(format!(
            "the configuration file {}: `{}` cannot be {refused_value:?}",
            self.path.display(),
            setting.key
        ))
    }
}

/// The path given with `--config`.
pub(crate) fn path_in(matches: &ArgMatches) -> Option<&PathBuf> {
    matches.get_one("config")
}

/// The sub-command that `names` lead to.
fn leaf<'a>(root: &'a Command, names: &[&str]) -> Option<&'a Command> {
    names.iter().try_fold(root, |command, name| command.find_subcommand(name))
}

/// `root` with that sub-command changed.
fn in_leaf(root: Command, names: &[&str], change: &dyn Fn(Command) -> Command) -> Command {
    match names {
        [] => change(root),
        [name, rest @ ..] => root.mut_subcommand(name, |sub| in_leaf(sub, rest, change)),
    }
}

fn settings_of(command: &Command) -> impl Iterator<Item = &str> {
    let names = command.get_arguments().filter_map(Arg::get_long);
    names.filter(|name| !NOT_SETTINGS.contains(name))
}

fn find<'a>(command: &'a Command, flag: &str) -> Option<&'a Arg> {
    settings_of(command).find(|name| *name == flag)?;
    command.get_arguments().find(|arg| arg.get_long() == Some(flag))
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Boolean(truth) => Some(truth.to_string()),
        Value::Datetime(_) | Value::Array(_) | Value::Table(_) => None,
    }
}

/// The parser's message in one line, with the line it is about.
fn describe(error: &toml::de::Error, text: &str) -> String {
    let message = error.message().replace('\n', " ");
    let Some(before) = error.span().and_then(|span| text.get(..span.start)) else {
        return message;
    };
    let line = before.matches('\n').count().saturating_add(1);
    format!("line {line}: {message}")
}

/// Letters to add, drop or change to make one word of the other.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        for (a, b, edits) in [("", "abc", 3), ("port", "prot", 2), ("rack", "racks", 1)] {
            assert_eq!(edit_distance(a, b), edits, "{a} {b}");
        }
    }

    #[test]
    fn dots_tables_and_underscores_name_the_same_flag() {
        for text in [
            "volume-size-limit = 1",
            "volume_size_limit = 1",
            "volume.size-limit = 1",
            "[volume]\nsize_limit = 1",
            "[volume.size]\nlimit = \"1\"",
        ] {
            let file = ConfigFile::parse(Path::new("f"), text).unwrap();
            assert_eq!(file.settings[0].flag, "volume-size-limit", "{text}");
            assert_eq!(file.settings[0].values, ["1"]);
        }
    }

    #[test]
    fn a_setting_in_two_spellings_is_refused() {
        let text = "volume-size-limit = 1\nvolume.size_limit = 2";
        let error = ConfigFile::parse(Path::new("f"), text).unwrap_err();
        assert!(error.to_string().contains("set twice"), "{error}");
    }

    #[test]
    fn broken_toml_is_reported_with_its_line() {
        let error = ConfigFile::parse(Path::new("f"), "dir = \"a\"\nport = \n").unwrap_err();
        assert!(error.to_string().contains("line 2"), "{error}");
    }
}
