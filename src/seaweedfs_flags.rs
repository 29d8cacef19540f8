//! SeaweedFS's spellings of flags that mean the same here: `-volumeSizeLimitMB=1000` and the
//! like become flags of ours before clap sees them.
//!
//! Only arguments of the roles are touched, and only names in the tables; everything else is
//! left for clap to judge.

use std::ffi::OsString;

/// What a value becomes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Value {
    /// Itself.
    Same,
    /// A number of megabytes.
    Megabytes,
    /// A number whose 0 means the default.
    Count,
}

type Spelling = (&'static str, &'static str, Value);

const MASTER: &[Spelling] = &[
    ("port", "port", Value::Same),
    ("ip", "ip", Value::Same),
    ("ip.bind", "bind", Value::Same),
    ("mdir", "dir", Value::Same),
    ("volumeSizeLimitMB", "volume-size-limit", Value::Megabytes),
    ("defaultReplication", "default-replication", Value::Same),
];

const VOLUME: &[Spelling] = &[
    ("port", "port", Value::Same),
    ("ip", "ip", Value::Same),
    ("ip.bind", "bind", Value::Same),
    ("dir", "dir", Value::Same),
    ("max", "max-volumes", Value::Count),
    ("master", "master", Value::Same),
    ("mserver", "master", Value::Same),
    ("publicUrl", "public-url", Value::Same),
    ("dataCenter", "data-center", Value::Same),
    ("rack", "rack", Value::Same),
];

const SERVER: &[Spelling] = &[
    ("ip", "ip", Value::Same),
    ("ip.bind", "bind", Value::Same),
    ("dir", "dir", Value::Same),
    ("master.port", "master-port", Value::Same),
    ("volume.port", "volume-port", Value::Same),
    ("max", "max-volumes", Value::Count),
    ("volume.max", "max-volumes", Value::Count),
    ("volume.publicUrl", "public-url", Value::Same),
    ("volumeSizeLimitMB", "volume-size-limit", Value::Megabytes),
    ("master.volumeSizeLimitMB", "volume-size-limit", Value::Megabytes),
    ("defaultReplication", "default-replication", Value::Same),
    ("master.defaultReplication", "default-replication", Value::Same),
    ("garbageThreshold", "garbage-threshold", Value::Same),
    ("master.garbageThreshold", "garbage-threshold", Value::Same),
    ("dataCenter", "data-center", Value::Same),
    ("rack", "rack", Value::Same),
];

/// The arguments, program name first, with known spellings replaced.
pub(crate) fn rewrite(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut rewritten = Vec::new();
    let mut spellings = None;
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let text = arg.to_str().unwrap_or_default();
        let Some(table) = spellings else {
            spellings = role_table(text);
            rewritten.push(arg);
            continue;
        };
        match parse(table, text) {
            Some((flag, kind, Some(value))) => rewritten.extend(ours(flag, kind, value)),
            Some((flag, kind, None)) => {
                let value = args.next().unwrap_or_default();
                rewritten.extend(ours(flag, kind, value.to_str().unwrap_or_default()));
            }
            None => rewritten.push(arg),
        }
    }
    rewritten
}

fn role_table(text: &str) -> Option<&'static [Spelling]> {
    match text {
        "master" => Some(MASTER),
        "volume" => Some(VOLUME),
        "server" => Some(SERVER),
        // A file to put may be called master.
        "put" | "get" | "delete" | "lookup" | "status" => Some(&[]),
        _ => None,
    }
}

/// A known spelling, and its value if it stands in the same argument.
fn parse<'a>(table: &[Spelling], text: &'a str) -> Option<(&'static str, Value, Option<&'a str>)> {
    let bare = text.strip_prefix('-')?;
    let (name, value) = match bare.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (bare, None),
    };
    let (_, flag, kind) = table.iter().find(|(theirs, ..)| *theirs == name)?;
    Some((flag, *kind, value))
}

fn ours(flag: &str, kind: Value, value: &str) -> Option<OsString> {
    let flag = match kind {
        Value::Same => format!("--{flag}={value}"),
        Value::Megabytes => format!("--{flag}={value}MB"),
        Value::Count if value == "0" => return None,
        Value::Count => format!("--{flag}={value}"),
    };
    Some(flag.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(args: &[&str]) -> Vec<String> {
        let args = args.iter().map(OsString::from);
        let text = |arg: OsString| arg.into_string().unwrap();
        rewrite(args).into_iter().map(text).collect()
    }

    #[test]
    fn known_spellings_of_a_role_are_replaced() {
        assert_eq!(
            rewritten(&[
                "dulse",
                "master",
                "-volumeSizeLimitMB=100",
                "-port",
                "9000",
                "-defaultReplication=000"
            ]),
            [
                "dulse",
                "master",
                "--volume-size-limit=100MB",
                "--port=9000",
                "--default-replication=000"
            ]
        );
        assert_eq!(
            rewritten(&["dulse", "volume", "-mserver=a:1,b:2", "-max=0", "-max=7", "-rack", "r"]),
            ["dulse", "volume", "--master=a:1,b:2", "--max-volumes=7", "--rack=r"]
        );
    }

    #[test]
    fn everything_else_is_left_alone() {
        for args in [
            vec!["dulse", "put", "master", "-port=x"],
            vec!["dulse", "master", "-dataCenter=x", "-h", "--port=1"],
            vec!["dulse", "-dir=x"],
        ] {
            assert_eq!(rewritten(&args), args);
        }
    }
}
