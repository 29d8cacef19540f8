//! SeaweedFS's spellings of flags that mean the same here: `-volumeSizeLimitMB=1000` and the
//! like become flags of ours before clap sees them.
//!
//! Only arguments of the roles are touched, and only names in the tables; everything else is
//! left for clap to judge. Lists go on as lists, one value for each directory; only the kinds of
//! disks are written with the directories here, and are put there.

use std::ffi::OsString;

/// What a value becomes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Value {
    /// Itself.
    Same,
    /// A number of megabytes.
    Megabytes,
    /// Numbers whose 0 means what the disk holds.
    Counts,
    /// Room to leave free: bare numbers are per cent.
    Room,
    /// Kinds of disks, which belong to the directories.
    Disks,
}

type Spelling = (&'static str, &'static str, Value);

const MASTER: &[Spelling] = &[
    ("port", "port", Value::Same),
    ("ip", "ip", Value::Same),
    ("ip.bind", "bind", Value::Same),
    ("mdir", "dir", Value::Same),
    ("volumeSizeLimitMB", "volume-size-limit", Value::Megabytes),
    ("defaultReplication", "default-replication", Value::Same),
    ("peers", "peers", Value::Same),
];

const VOLUME: &[Spelling] = &[
    ("port", "port", Value::Same),
    ("ip", "ip", Value::Same),
    ("ip.bind", "bind", Value::Same),
    ("dir", "dir", Value::Same),
    ("disk", "dir", Value::Disks),
    ("max", "max-volumes", Value::Counts),
    ("minFreeSpace", "min-free-space", Value::Room),
    ("minFreeSpacePercent", "min-free-space", Value::Room),
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
    ("max", "max-volumes", Value::Counts),
    ("volume.max", "max-volumes", Value::Counts),
    ("volume.minFreeSpace", "min-free-space", Value::Room),
    ("volume.minFreeSpacePercent", "min-free-space", Value::Room),
    ("volume.publicUrl", "public-url", Value::Same),
    ("volumeSizeLimitMB", "volume-size-limit", Value::Megabytes),
    ("master.volumeSizeLimitMB", "volume-size-limit", Value::Megabytes),
    ("defaultReplication", "default-replication", Value::Same),
    ("master.defaultReplication", "default-replication", Value::Same),
    ("master.peers", "peers", Value::Same),
    ("garbageThreshold", "garbage-threshold", Value::Same),
    ("master.garbageThreshold", "garbage-threshold", Value::Same),
    ("dataCenter", "data-center", Value::Same),
    ("rack", "rack", Value::Same),
];

/// Kinds of disks that cannot be put to directories.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum DiskKindsError {
    /// Nothing names directories in the same manner.
    #[error(
        "-disk says what kind the disks of -dir=DIR,DIR are, and there is no such -dir; here it is \
         written --dir DIR:KIND"
    )]
    NoDirs,
    /// Neither one for all nor one for each.
    #[error(
        "-disk has {kinds} values for {dirs} directories: give one for all of them, or one for each \
         of -dir in the same order"
    )]
    Count { kinds: usize, dirs: usize },
}

/// The arguments, program name first, with known spellings replaced.
pub(crate) fn rewrite(
    args: impl IntoIterator<Item = OsString>,
) -> Result<Vec<OsString>, DiskKindsError> {
    let mut rewritten = Vec::new();
    let mut spellings = None;
    let (mut dirs_at, mut kinds) = (None, None);
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let text = arg.to_str().unwrap_or_default();
        let Some(table) = spellings else {
            spellings = role_table(text);
            rewritten.push(arg);
            continue;
        };
        let Some((flag, kind, value)) = parse(table, text) else {
            rewritten.push(arg);
            continue;
        };
        let value = value.map(str::to_owned).unwrap_or_else(|| {
            args.next().and_then(|value| value.into_string().ok()).unwrap_or_default()
        });
        if kind == Value::Disks {
            kinds = Some(value);
            continue;
        }
        if flag == "dir" {
            dirs_at = Some((rewritten.len(), value.clone()));
        }
        rewritten.push(format!("--{flag}={}", ours(kind, &value)).into());
    }
    if let Some(kinds) = kinds {
        let (at, dirs) = dirs_at.ok_or(DiskKindsError::NoDirs)?;
        rewritten[at] = format!("--dir={}", with_kinds(&dirs, &kinds)?).into();
    }
    Ok(rewritten)
}

/// `a,b` and `hdd,ssd` are `a:hdd,b:ssd`; a kind without a name is the usual one.
fn with_kinds(dirs: &str, kinds: &str) -> Result<String, DiskKindsError> {
    let dirs: Vec<&str> = dirs.split(',').collect();
    let mut kinds: Vec<&str> = kinds.split(',').collect();
    if let [for_all] = kinds[..] {
        kinds = vec![for_all; dirs.len()];
    }
    if kinds.len() != dirs.len() {
        return Err(DiskKindsError::Count { kinds: kinds.len(), dirs: dirs.len() });
    }
    let both = dirs.iter().zip(kinds);
    let both = both.map(|(dir, kind)| match kind {
        "" => (*dir).to_owned(),
        kind => format!("{dir}:{kind}"),
    });
    Ok(both.collect::<Vec<_>>().join(","))
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

/// The value as ours is written.
fn ours(kind: Value, value: &str) -> String {
    let each = |ours: &dyn Fn(&str) -> String| {
        value.split(',').map(|part| ours(part.trim())).collect::<Vec<_>>().join(",")
    };
    match kind {
        Value::Same | Value::Disks => value.to_owned(),
        Value::Megabytes => format!("{value}MB"),
        Value::Counts => each(&|count| if count == "0" { "auto" } else { count }.to_owned()),
        Value::Room => each(&|room| {
            let is_number = room.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
            if is_number && !room.is_empty() { format!("{room}%") } else { room.to_owned() }
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(args: &[&str]) -> Vec<String> {
        let args = args.iter().map(OsString::from);
        let text = |arg: OsString| arg.into_string().unwrap();
        rewrite(args).unwrap().into_iter().map(text).collect()
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
            [
                "dulse",
                "volume",
                "--master=a:1,b:2",
                "--max-volumes=auto",
                "--max-volumes=7",
                "--rack=r"
            ]
        );
    }

    #[test]
    fn lists_are_parallel_to_the_directories() {
        assert_eq!(
            rewritten(&[
                "dulse",
                "volume",
                "-disk=hdd,ssd",
                "-dir",
                "/a,/b",
                "-max=7,0",
                "-minFreeSpace=1,10GiB"
            ]),
            [
                "dulse",
                "volume",
                "--dir=/a:hdd,/b:ssd",
                "--max-volumes=7,auto",
                "--min-free-space=1%,10GiB"
            ]
        );
        assert_eq!(
            rewritten(&["dulse", "volume", "-dir=/a,/b", "-disk=ssd", "-minFreeSpacePercent=1.5"]),
            ["dulse", "volume", "--dir=/a:ssd,/b:ssd", "--min-free-space=1.5%"]
        );
        assert_eq!(
            rewritten(&["dulse", "server", "-volume.max=5", "-volume.minFreeSpace=0"]),
            ["dulse", "server", "--max-volumes=5", "--min-free-space=0%"]
        );
    }

    #[test]
    fn kinds_of_disks_need_directories_and_as_many() {
        let refusal = |args: &[&str]| rewrite(args.iter().map(OsString::from)).unwrap_err();
        let none = refusal(&["dulse", "volume", "-disk=ssd", "--dir=/a"]).to_string();
        assert!(none.contains("--dir DIR:KIND"), "{none}");
        let wrong = refusal(&["dulse", "volume", "-disk=ssd,hdd", "-dir=/a,/b,/c"]).to_string();
        assert!(wrong.contains("2 values for 3 directories"), "{wrong}");
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
