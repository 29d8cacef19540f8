//! What a client of one volume knows: the model that the engine is held against.
//!
//! A needle is what the last acknowledged write made of it. While the volume is open that is what
//! reads return. Over a restart a write of unknown outcome may turn out to have happened, whole.

use std::collections::BTreeMap;

use dulse_volume::engine::write::{WriteError, Written};

/// A needle's data; `None` if there is none.
pub type Data = Option<Vec<u8>>;

/// How much the test itself has damaged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Injury {
    /// Nothing: every claim holds.
    #[default]
    None,
    /// One thing: a needle reads as it should, or as an error.
    Once,
    /// More than one copy of something: never other bytes than were once put there.
    Often,
}

/// What is known of each needle.
#[derive(Clone, Debug, Default)]
pub struct Reference {
    needles: BTreeMap<u64, Known>,
    pub injury: Injury,
    /// Nothing covers the keys in the file any more: a flipped bit makes one needle another.
    pub keys_are_unsummed: bool,
}

#[derive(Clone, Default)]
struct Known {
    acknowledged: Data,
    /// What writes of unknown outcome since would have made of it.
    perhaps: Vec<Data>,
    /// All that was ever put there.
    ever: Vec<Vec<u8>>,
}

impl Reference {
    /// Takes note of the answer to a put (`Some`) or a delete (`None`); an error if it cannot be.
    /// `may_refuse` says that something stands in the way of writes.
    pub fn answered(
        &mut self,
        key: u64,
        write: Data,
        answer: &Result<Written, WriteError>,
        may_refuse: bool,
    ) -> Result<(), String> {
        let known = self.needles.entry(key).or_default();
        known.ever.extend(write.clone());
        let is_there = known.acknowledged.is_some();
        let is_plausible = match (answer, &write) {
            (Ok(Written::Stored), Some(_)) => true,
            (Ok(Written::Deleted { body_bytes }), None) => is_there && *body_bytes > 0,
            (Err(WriteError::NotFound), None) => !is_there,
            (Err(WriteError::Refused(_) | WriteError::Unknown(_)), _) => may_refuse,
            (Err(WriteError::Mangled(_)), _) => may_refuse,
            // A damaged record does not say whose it is.
            (Err(WriteError::Unreadable(_) | WriteError::CookieMismatch), _) => may_refuse,
            _ => false,
        };
        if !is_plausible && self.injury == Injury::None {
            let write = shorten(&write);
            return Err(format!("needle {key}: {write} was answered {answer:?}, {known:?}"));
        }
        match answer {
            Ok(_) => *known = Known { acknowledged: write, perhaps: Vec::new(), ..known.clone() },
            Err(WriteError::Unknown(_)) => known.perhaps.push(write),
            Err(_) => {}
        }
        Ok(())
    }

    /// Holds what a read returned against what is known; `Err(())` is a read that said that the
    /// needle is damaged. After a restart what was found is from then on what is known.
    pub fn read(
        &mut self,
        key: u64,
        found: Result<Data, ()>,
        is_restarted: bool,
    ) -> Result<(), String> {
        let is_of_another = |data: &Vec<u8>| {
            self.keys_are_unsummed && self.needles.values().any(|other| other.ever.contains(data))
        };
        let was_ever = |known: &Known, data| known.ever.contains(data) || is_of_another(data);
        let known = self.needles.get(&key).cloned().unwrap_or_default();
        let is_known = |data: &Data| {
            *data == known.acknowledged || (is_restarted && known.perhaps.contains(data))
        };
        let is_right = match &found {
            Ok(data) if is_known(data) => true,
            Ok(Some(data)) => self.injury == Injury::Often && was_ever(&known, data),
            Ok(None) => self.injury == Injury::Often,
            Err(()) => self.injury >= Injury::Once,
        };
        if !is_right {
            let (injury, found) = (self.injury, found.map(|data| shorten(&data)));
            return Err(format!("needle {key} reads {found:?} with injury {injury:?}: {known:?}"));
        }
        if is_restarted && let Ok(data) = found {
            let known = Known { acknowledged: data, perhaps: Vec::new(), ..known };
            self.needles.insert(key, known);
        }
        Ok(())
    }

    /// Something more was damaged.
    pub fn injure(&mut self) {
        self.injury = if self.injury == Injury::None { Injury::Once } else { Injury::Often };
    }
}

/// Data is told by its tag and length.
impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let perhaps: Vec<String> = self.perhaps.iter().map(shorten).collect();
        write!(f, "known as {}, perhaps {perhaps:?}", shorten(&self.acknowledged))
    }
}

fn shorten(data: &Data) -> String {
    match data {
        Some(data) => format!("{} bytes of {:?}", data.len(), data.first()),
        None => "nothing".to_owned(),
    }
}
