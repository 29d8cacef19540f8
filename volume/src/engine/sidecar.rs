//! The sidecar: what a volume's plain files cannot say.
//!
//! `<base>.dulse` is one line of JSON and one line with its CRC-32C, replaced whole. It says whose
//! volume it is, which configuration this replica accepted (the fence), from which offset on the
//! records are ours, and up to where `.dat` and `.idx` were verified and synced. A sidecar that
//! cannot be read counts as absent.

use std::{io, path::Path};

use dulse_shared::{
    id::{ClusterId, NeedleKey, Ts},
    wire::{Epoch, VolumeConfig},
};
use serde::{Deserialize, Serialize};

use super::{counters::Counters, index_file::IndexFile};
use crate::disk::{Disk, durable_replace};

/// The format of the file. A higher one is another program's: the volume is then not opened.
pub const SIDECAR_VERSION: u32 = 1;

/// The contents of a sidecar.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Sidecar {
    /// The format.
    pub version: u32,
    /// The cluster that the volume belongs to.
    pub cluster: ClusterId,
    /// The highest epoch that this replica accepted.
    pub fence: Epoch,
    /// The configuration accepted with it.
    pub config: VolumeConfig,
    /// The compaction revision of the `.dat` that the rest speaks of.
    pub generation: u16,
    /// Records from this offset on were written here and carry a checked padding.
    pub own_from: u64,
    /// The outcome of every record below this offset is known.
    pub resolved_len: u64,
    /// Offsets below `resolved_len` of records that were aborted.
    pub aborted: Vec<u64>,
    /// What reconcile resolved since the volume was last writable.
    pub reconciled: Vec<(NeedleKey, Ts)>,
    /// The time of all its needles is over: it never takes writes again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_expired: bool,
    /// Up to where the files were verified and synced.
    pub checkpoint: Checkpoint,
    /// What holds instead once a compaction's files have taken the place of the old ones. Which of
    /// the two holds is told by the compaction revision of `.dat`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Generation>,
}

/// What a sidecar says of one of a volume's files.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Generation {
    /// The compaction revision of the `.dat` it speaks of.
    pub generation: u16,
    /// Records from this offset on are ours.
    pub own_from: u64,
    /// Up to where the files were verified and synced.
    pub checkpoint: Checkpoint,
}

/// A point up to which `.dat` and `.idx` are known to agree and to be durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Bytes of `.dat` covered.
    pub dat_len: u64,
    /// Bytes of `.idx` covered.
    pub idx_len: u64,
    /// CRC-32C of those bytes of `.idx`.
    pub idx_crc32c: u32,
    /// The digest of the live needles covered; none until replicas are compared by it.
    pub digest: Option<u128>,
    /// Needles that can be read.
    pub live_needles: u64,
    /// Bytes of their records.
    pub live_bytes: u64,
    /// Needles overwritten or deleted.
    pub garbage_needles: u64,
    /// Bytes of records that nobody can read, tombstones included.
    pub garbage_bytes: u64,
    /// The highest stamp covered.
    pub max_ts: Ts,
    /// Seconds since 1970 of the last write covered; 0 if there was none.
    pub modified_at_secs: u64,
}

impl Checkpoint {
    /// A checkpoint over all of a volume file whose records begin at `first`, and of its index.
    pub fn covering(dat_len: u64, first: u64, idx: &IndexFile, counters: &Counters) -> Self {
        Self {
            dat_len,
            idx_len: idx.len(),
            idx_crc32c: idx.crc(),
            digest: None,
            live_needles: counters.live_needles,
            live_bytes: counters.live_bytes,
            garbage_needles: counters.garbage_needles,
            garbage_bytes: dat_len.saturating_sub(first).saturating_sub(counters.live_bytes),
            max_ts: counters.max_ts,
            modified_at_secs: counters.modified_at_secs,
        }
    }
}

/// What a sidecar file holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Found {
    /// A sidecar.
    Sidecar(Box<Sidecar>),
    /// None that can be read, and why, if there is a file.
    Absent(Option<String>),
    /// One of a newer program.
    Newer(u32),
}

impl Sidecar {
    /// What it says of the `.dat` with this compaction revision; `None` if nothing. What it says of
    /// files that are yet to take the place of that one stays in it.
    pub fn speaking_of(&self, revision: u16) -> Option<Self> {
        if self.generation == revision {
            return Some(self.clone());
        }
        let next = self.next.filter(|next| next.generation == revision)?;
        let Generation { generation, own_from, checkpoint } = next;
        let (resolved_len, aborted, next) = (checkpoint.dat_len, Vec::new(), None);
        Some(Self { generation, own_from, resolved_len, aborted, checkpoint, next, ..self.clone() })
    }

    /// The file's bytes.
    pub fn encode(&self) -> io::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(self)?;
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(format!("\n{crc:08x}\n").as_bytes());
        Ok(bytes)
    }

    /// Reads a file's bytes.
    pub fn decode(bytes: &[u8]) -> Found {
        let Some((json, crc)) = split(bytes) else {
            return Found::Absent(Some("it has no checksum line".to_owned()));
        };
        if crc32c::crc32c(json) != crc {
            return Found::Absent(Some("its checksum is wrong".to_owned()));
        }
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        match serde_json::from_slice::<Version>(json) {
            Ok(Version { version }) if version > SIDECAR_VERSION => return Found::Newer(version),
            _ => {}
        }
        match serde_json::from_slice(json) {
            Ok(sidecar) => Found::Sidecar(Box::new(sidecar)),
            Err(error) => Found::Absent(Some(error.to_string())),
        }
    }

    /// Replaces the file at `path`, durably.
    pub fn write(&self, disk: &dyn Disk, path: &Path) -> io::Result<()> {
        durable_replace(disk, path, &self.encode()?)
    }
}

fn split(bytes: &[u8]) -> Option<(&[u8], u32)> {
    let text = bytes.strip_suffix(b"\n")?;
    let at = text.iter().rposition(|byte| *byte == b'\n')?;
    let crc = std::str::from_utf8(text.get(at + 1..)?).ok()?;
    Some((text.get(..at)?, u32::from_str_radix(crc, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use dulse_shared::{
        id::{Collection, ReplicaPlacement, ServerId, Ttl, VolumeId},
        wire::{DiskType, Incarnation, LastWritable, Member, VolumeState},
    };

    use super::*;

    fn sidecar() -> Sidecar {
        let server = ServerId::from(5);
        Sidecar {
            version: SIDECAR_VERSION,
            cluster: ClusterId::from(9),
            fence: Epoch(1),
            config: VolumeConfig {
                id: VolumeId::new(3).unwrap(),
                collection: "pics".parse::<Collection>().unwrap(),
                placement: ReplicaPlacement::default(),
                ttl: Ttl::NONE,
                disk: DiskType::default(),
                closed: false,
                epoch: Epoch(1),
                members: vec![Member { server, slot: 0 }],
                state: VolumeState::Writable,
                last_writable: Some(LastWritable {
                    epoch: Epoch(1),
                    members: vec![(server, Incarnation(4))],
                }),
                sealed_with: Vec::new(),
                decision: None,
                next_slot: 0,
            },
            generation: 0,
            own_from: 8,
            resolved_len: 96,
            aborted: Vec::new(),
            reconciled: Vec::new(),
            has_expired: false,
            checkpoint: Checkpoint { dat_len: 96, idx_len: 32, ..Checkpoint::default() },
            next: None,
        }
    }

    #[test]
    fn the_file_format_stands_still() {
        let expected = concat!(
            r#"{"version":1,"cluster":"00000000000000000000000000000009","fence":1,"#,
            r#""config":{"id":3,"collection":"pics","placement":"000","ttl":"","disk":"hdd","#,
            r#""closed":false,"epoch":1,"#,
            r#""members":[{"server":"00000000000000000000000000000005","slot":0}],"#,
            r#""state":{"is":"writable"},"#,
            r#""last_writable":{"epoch":1,"members":[["00000000000000000000000000000005",4]]}},"#,
            r#""generation":0,"own_from":8,"resolved_len":96,"aborted":[],"reconciled":[],"#,
            r#""checkpoint":{"dat_len":96,"idx_len":32,"idx_crc32c":0,"digest":null,"#,
            r#""live_needles":0,"live_bytes":0,"garbage_needles":0,"garbage_bytes":0,"#,
            r#""max_ts":0,"modified_at_secs":0}}"#,
        );
        let bytes = sidecar().encode().unwrap();
        let (json, _) = split(&bytes).unwrap();
        assert_eq!(std::str::from_utf8(json).unwrap(), expected);
        assert_eq!(Sidecar::decode(&bytes), Found::Sidecar(Box::new(sidecar())));
        let expired = Sidecar { has_expired: true, ..sidecar() };
        let bytes = expired.encode().unwrap();
        let (json, _) = split(&bytes).unwrap();
        let with = r#""reconciled":[],"has_expired":true,"#;
        let with = expected.replace(r#""reconciled":[],"#, with);
        assert_eq!(std::str::from_utf8(json).unwrap(), with);
        assert_eq!(Sidecar::decode(&bytes), Found::Sidecar(Box::new(expired)));
    }

    #[test]
    fn any_flipped_bit_or_cut_makes_a_sidecar_absent() {
        let bytes = sidecar().encode().unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let found = Sidecar::decode(&flipped);
            // The case of a hex digit is the one bit that means nothing.
            let is_same = found == Found::Sidecar(Box::new(sidecar()));
            assert!(is_same || matches!(found, Found::Absent(Some(_))), "bit {bit}: {found:?}");
        }
        for len in 0..bytes.len() {
            assert!(matches!(Sidecar::decode(&bytes[..len]), Found::Absent(Some(_))), "{len}");
        }
    }

    #[test]
    fn a_newer_format_is_not_mistaken_for_damage() {
        let newer = Sidecar { version: SIDECAR_VERSION + 1, ..sidecar() };
        assert_eq!(Sidecar::decode(&newer.encode().unwrap()), Found::Newer(SIDECAR_VERSION + 1));
    }
}
