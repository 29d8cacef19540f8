//! What can be wrong with a volume, in words and as a code for programs.

use dulse_shared::id::NeedleKey;

use crate::engine::{damage::Resume, scan::ScanError};

/// Findings that are kept. A volume with more is no better understood by reading them.
const MAX_KEPT: usize = 1000;

/// Something that is not as it should be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Finding {
    /// The volume cannot even be looked at.
    #[error("{0}")]
    Unreadable(String),
    /// A volume's other files are there without it.
    #[error("the volume file is missing: restore it; {0} is there")]
    NoVolumeFile(String),
    /// The superblock is damaged.
    #[error("the superblock {0}")]
    Superblock(String),
    /// A record is damaged.
    #[error(
        "the record at offset {offset} does not verify: {reason}; {}",
        match resume {
            Resume::At(at) => format!("the next good one is at {at}"),
            Resume::Doubtful(at) => {
                format!("those from {at} on may be its data, and the server does not serve them")
            }
            Resume::Unsearched => {
                "so much behind it looks like records that the search for them was given up".to_owned()
            }
            Resume::Never => "no good one follows".to_owned(),
        }
    )]
    Record {
        /// Where it starts.
        offset: u64,
        /// Where good ones go on.
        resume: Resume,
        /// What is wrong with it.
        reason: ScanError,
    },
    /// A record that nothing vouches for.
    #[error(
        "the record of needle {key} at offset {offset} may be data of the damaged one before it: the \
         server serves no version of that needle"
    )]
    Doubtful {
        /// Its key.
        key: NeedleKey,
        /// Where it is.
        offset: u64,
    },
    /// The search for records that nothing vouches for was given up.
    #[error("so much from offset {offset} on looks like records that it was not looked through")]
    Unsearched {
        /// Where it was.
        offset: u64,
    },
    /// The file ends before a record that was durable.
    #[error(
        "the record of needle {key} at offset {offset} is lost, the volume file ends before it: \
         restore the volume from a copy"
    )]
    LostRecord {
        /// Its key.
        key: NeedleKey,
        /// Where it was.
        offset: u64,
    },
    /// The end of the file was never acknowledged.
    #[error("{len} bytes from offset {offset} on are a torn tail, for which no write was answered")]
    TornTail {
        /// Where it starts.
        offset: u64,
        /// Its length.
        len: u64,
    },
    /// The volume file has another length than the server believes.
    #[error("the volume file has {found} bytes, the open volume {kept}")]
    Length {
        /// What the open volume believes.
        kept: u64,
        /// What the file has.
        found: u64,
    },
    /// There is no index.
    #[error("there is no index")]
    NoIndex,
    /// A row of the index cannot be read, and what follows it is not.
    #[error("the index has no row at byte {position} of {len}")]
    Row {
        /// Where it should start.
        position: u64,
        /// Length of the index.
        len: u64,
    },
    /// A row of the index speaks of no record.
    #[error("the index has a row for needle {key} at offset {offset}, where no such record is")]
    RowWithoutRecord {
        /// The row's key.
        key: NeedleKey,
        /// The row's offset.
        offset: u64,
    },
    /// A record has no row.
    #[error("the record of needle {key} at offset {offset} is not in the index")]
    NotIndexed {
        /// The record's key.
        key: NeedleKey,
        /// Where it is.
        offset: u64,
    },
    /// The last row of a needle is not that of its last record.
    #[error("the index names another version of needle {key} than the volume file")]
    IndexOrder {
        /// The needle.
        key: NeedleKey,
    },
    /// The index in memory disagrees with the volume file.
    #[error("the needle map and the volume file disagree about needle {key}")]
    Map {
        /// The needle.
        key: NeedleKey,
    },
    /// A count is wrong.
    #[error("{name} should be {found}, not {kept}")]
    Counter {
        /// Which.
        name: &'static str,
        /// What is kept.
        kept: u64,
        /// What was counted.
        found: u64,
    },
    /// The checkpoint says what the files do not.
    #[error("the checkpoint's {name} should be {found}, not {kept}")]
    Checkpoint {
        /// Which of its fields.
        name: &'static str,
        /// What it says.
        kept: u64,
        /// What was found.
        found: u64,
    },
    /// The sidecar is not as it should be.
    #[error("the sidecar {0}")]
    Sidecar(String),
    /// A leftover of something that was interrupted.
    #[error("{0} is left over from something that was interrupted")]
    Stray(String),
    /// A write or a sync failed and the volume takes no more writes.
    #[error("a write or a sync failed: the server has to be started again")]
    Failed,
}

impl Finding {
    /// One word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "unreadable",
            Self::NoVolumeFile(_) => "no_volume_file",
            Self::Superblock(_) => "superblock",
            Self::Record { .. } => "damaged_record",
            Self::Doubtful { .. } => "doubtful_record",
            Self::Unsearched { .. } => "unsearched",
            Self::LostRecord { .. } => "lost_record",
            Self::TornTail { .. } => "torn_tail",
            Self::Length { .. } => "length",
            Self::NoIndex => "no_index",
            Self::Row { .. } => "index_row",
            Self::RowWithoutRecord { .. } => "row_without_record",
            Self::NotIndexed { .. } => "not_indexed",
            Self::IndexOrder { .. } => "index_order",
            Self::Map { .. } => "map",
            Self::Counter { .. } => "counter",
            Self::Checkpoint { .. } => "checkpoint",
            Self::Sidecar(_) => "sidecar",
            Self::Stray(_) => "stray",
            Self::Failed => "failed",
        }
    }

    /// Whether a new index and, in our own volumes, a cut of what was never answered for mend it.
    pub fn is_mended_by_a_new_index(&self) -> bool {
        matches!(
            self,
            Self::TornTail { .. }
                | Self::NoIndex
                | Self::Row { .. }
                | Self::RowWithoutRecord { .. }
                | Self::NotIndexed { .. }
                | Self::IndexOrder { .. }
                | Self::Checkpoint { .. }
        )
    }

    /// Whether needles are or may be lost.
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::Record { .. }
                | Self::Doubtful { .. }
                | Self::Unsearched { .. }
                | Self::LostRecord { .. }
        )
    }
}

/// What was found, up to a limit.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Findings {
    kept: Vec<Finding>,
    more: u64,
}

impl Findings {
    /// Adds one.
    pub fn push(&mut self, finding: Finding) {
        if self.kept.len() < MAX_KEPT {
            self.kept.push(finding);
        } else {
            self.more += 1;
        }
    }

    /// Adds one if a count is not what it should be.
    pub fn compare(&mut self, name: &'static str, kept: u64, found: u64) {
        if kept != found {
            self.push(Finding::Counter { name, kept, found });
        }
    }

    /// Those that were kept, in the order they were found.
    pub fn as_slice(&self) -> &[Finding] {
        &self.kept
    }

    /// How many more there were.
    pub fn more(&self) -> u64 {
        self.more
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }
}
