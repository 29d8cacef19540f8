//! The data of a needle that is to be stored: in memory, or in a spool file if it is large.
//!
//! A spool file is never synced and normally never written to the disk: it keeps bytes in the page
//! cache instead of in our memory, until they are copied into a volume file. It is gone once nobody
//! holds the data any more. Who makes one, and from which size on, is decided where uploads are
//! received.

use std::{
    io::{self, Read},
    sync::Arc,
};

use bytes::Bytes;

use crate::{
    disk::{FileRange, VolumeFile, read_exact_at},
    format::DataLen,
};

/// Data that was received whole. Cheap to clone.
#[derive(Clone, Debug)]
pub enum NeedleData {
    /// In memory.
    Memory(Bytes),
    /// In a file.
    Spooled(Spool),
}

/// A file that holds the data and nothing else.
#[derive(Clone, Debug)]
pub struct Spool {
    file: Arc<dyn VolumeFile>,
    len: u64,
}

impl Spool {
    /// The first `len` bytes of `file`, which nobody writes to any more.
    pub fn new(file: Arc<dyn VolumeFile>, len: u64) -> Self {
        Self { file, len }
    }

    /// Length in bytes.
    #[expect(clippy::len_without_is_empty, reason = "nothing empty is spooled")]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Fills `buffer` with what is at `position`.
    pub fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        read_exact_at(&*self.file, buffer, position)
    }
}

impl NeedleData {
    /// Whether it lies in a file.
    pub fn is_spooled(&self) -> bool {
        matches!(self, Self::Spooled(_))
    }

    /// All of it as a stream. Reading a spooled one may wait for a disk.
    pub fn reader(&self) -> Box<dyn Read + '_> {
        match self {
            Self::Memory(bytes) => Box::new(&bytes[..]),
            Self::Spooled(spool) => Box::new(FileRange::new(&*spool.file, 0..spool.len)),
        }
    }

    /// Whether `bytes` are what is at `position`. May wait for a disk.
    pub fn has_at(&self, position: u64, bytes: &[u8]) -> io::Result<bool> {
        match self {
            Self::Memory(data) => {
                let from = usize::try_from(position).map_err(io::Error::other)?;
                Ok(data.get(from..from.saturating_add(bytes.len())) == Some(bytes))
            }
            Self::Spooled(spool) => {
                let mut own = vec![0; bytes.len()];
                spool.read_exact_at(&mut own, position)?;
                Ok(own == bytes)
            }
        }
    }
}

impl Default for NeedleData {
    fn default() -> Self {
        Self::Memory(Bytes::new())
    }
}

impl From<Bytes> for NeedleData {
    fn from(bytes: Bytes) -> Self {
        Self::Memory(bytes)
    }
}

impl DataLen for NeedleData {
    fn data_len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::Spooled(spool) => spool.len,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io::IoSlice, path::Path};

    use super::*;
    use crate::disk::{Disk, simulated::SimulatedDisk, write_all_at};

    #[test]
    fn data_in_a_file_is_compared_byte_by_byte_like_data_in_memory() {
        let (disk, dir) = (SimulatedDisk::new(1), Path::new("/data"));
        disk.create_dir(dir).unwrap();
        let file = disk.spool(dir).unwrap();
        write_all_at(&*file, &mut [IoSlice::new(b"received")], 0).unwrap();
        let spooled = NeedleData::Spooled(Spool::new(file, 8));
        for data in [spooled, Bytes::from_static(b"received").into()] {
            assert!(data.has_at(0, b"received").unwrap() && data.has_at(2, b"cei").unwrap());
            assert!(!data.has_at(0, b"receiveD").unwrap() && !data.has_at(1, b"rec").unwrap());
        }
    }
}
