//! Where each needle of a volume is, in memory: key → offset and size, four to ten bytes a needle.
//!
//! - [`NeedleMap`]: lookups and single inserts. [`Loader`]: a map from the rows of an index.
//! - Below them `directory`, the sorted blocks, and `block`, 256 packed rows; `bits` packs numbers,
//!   `search` finds them.
//! - [`NeedleMap::check`] verifies what the parts promise each other.

mod bits;
mod block;
mod check;
mod directory;
mod entry;
mod first_keys;
mod load;
mod map;
mod search;
#[cfg(test)]
mod tests;

pub use check::Broken;
pub use entry::Entry;
pub use load::Loader;
pub use map::NeedleMap;
