//! Why a volume cannot be placed, in numbers.
//!
//! Of several places that could have the first copy the error speaks of the one that lacks least.
//! Each rule that fails there is one entry; whoever adds what all entries lack can place a volume.

use std::fmt;

use dulse_shared::id::ReplicaPlacement;

use super::{
    LocationWish, ServerRoom,
    choice::{RackName, Sites},
};

/// Why no volume can be placed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum PlacementError {
    /// Nobody is there.
    #[error(
        "no volume server is connected: start one with `dulse volume --dir DIR --master \
         HOST:PORT` and this master's address"
    )]
    NoServer,
    /// Nobody has such a disk.
    #[error(
        "no volume server has a disk of type {0:?}: start one with `dulse volume --dir DIR:{0}`, \
         or leave `disk` out"
    )]
    NoSuchDisk(String),
    /// All slots are taken or all disks are low.
    #[error("no writable volumes: every volume server is full; add one or free space")]
    Full,
    /// The same, where the first copy should go.
    #[error(
        "no writable volumes: no volume server with {0} has room; add one there, free space, or ask \
         for another place"
    )]
    FullThere(LocationWish),
    /// There is room, but not apart enough.
    #[error(transparent)]
    Short(Shortage),
}

/// The rules of a replica placement that cannot be kept.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) struct Shortage {
    /// Whose rules.
    pub(crate) placement: ReplicaPlacement,
    /// Where the first copy should go.
    pub(crate) wish: LocationWish,
    /// What is missing for each rule that fails; never empty.
    pub(crate) lacking: Vec<Lack>,
}

/// One rule that cannot be kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Lack {
    /// What there is too little of.
    pub(crate) unit: Unit,
    /// In which data center; named if there are several.
    pub(crate) data_center: Option<String>,
    /// In which rack; named if there are several.
    pub(crate) rack: Option<String>,
    /// How many would have to have room.
    pub(crate) needed: usize,
    /// Those that have: names and free volumes, fewer than needed.
    pub(crate) with_room: Vec<(String, u64)>,
}

/// What a rule counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unit {
    /// Data centers.
    DataCenter,
    /// Racks of one data center.
    Rack,
    /// Servers of one rack.
    Server,
}

impl Shortage {
    /// What keeps a volume from being placed in these rooms.
    pub(super) fn of(
        placement: ReplicaPlacement,
        wish: &LocationWish,
        rooms: &[ServerRoom],
    ) -> PlacementError {
        let sites = Sites::of(rooms);
        let is_wished = |servers: &[usize]| {
            servers.iter().any(|index| rooms.get(*index).is_some_and(|room| room.fulfils(wish)))
        };
        let candidates = sites.racks.iter().filter(|(_, servers)| is_wished(servers));
        let missing = |rack: RackName<'_>| {
            let racks = usize::from(placement.other_racks()) + 1;
            let servers = usize::from(placement.same_rack()) + 1;
            racks.saturating_sub(sites.racks_of(rack.0))
                + servers.saturating_sub(sites.servers_of(rack))
        };
        let Some(rack) = candidates.map(|(rack, _)| *rack).min_by_key(|rack| missing(*rack)) else {
            return match wish.is_none() {
                true => PlacementError::Full,
                false => PlacementError::FullThere(wish.clone()),
            };
        };
        let counted = Counted { rooms, rack };
        let lacking = [
            counted.data_centers(placement.other_data_centers()),
            counted.racks(placement.other_racks()),
            counted.servers(placement.same_rack()),
        ];
        let lacking = lacking.into_iter().flatten().collect();
        PlacementError::Short(Self { placement, wish: wish.clone(), lacking })
    }
}

/// The rooms as seen from the rack that lacks least.
struct Counted<'a> {
    rooms: &'a [ServerRoom],
    rack: RackName<'a>,
}

impl Counted<'_> {
    fn data_centers(&self, others: u8) -> Option<Lack> {
        let with_room = self.sum(|room| Some(&room.data_center));
        self.lack(Unit::DataCenter, others, with_room)
    }

    fn racks(&self, others: u8) -> Option<Lack> {
        let with_room = self.sum(|room| (room.data_center == self.rack.0).then_some(&room.rack));
        self.lack(Unit::Rack, others, with_room)
    }

    fn servers(&self, others: u8) -> Option<Lack> {
        let is_here =
            |room: &ServerRoom| (room.data_center.as_str(), room.rack.as_str()) == self.rack;
        let with_room = self.sum(|room| is_here(room).then_some(&room.url));
        self.lack(Unit::Server, others, with_room)
    }

    /// The entry of a rule that fails.
    fn lack(&self, unit: Unit, others: u8, with_room: Vec<(String, u64)>) -> Option<Lack> {
        let needed = usize::from(others) + 1;
        if with_room.len() >= needed {
            return None;
        }
        let (center, rack) = self.rack;
        let has_others = |is_other: &dyn Fn(&ServerRoom) -> bool| self.rooms.iter().any(is_other);
        let has_centers = has_others(&|room| room.data_center != center);
        let has_racks = has_others(&|room| (room.data_center != center) || room.rack != rack);
        Some(Lack {
            unit,
            data_center: (unit != Unit::DataCenter && has_centers).then(|| center.to_owned()),
            rack: (unit == Unit::Server && has_racks).then(|| rack.to_owned()),
            needed,
            with_room,
        })
    }

    /// Free slots by name, of what has any.
    fn sum<'b>(
        &'b self,
        name: impl Fn(&'b ServerRoom) -> Option<&'b String>,
    ) -> Vec<(String, u64)> {
        let mut sums = std::collections::BTreeMap::new();
        for room in self.rooms.iter().filter(|room| room.free_slots > 0) {
            if let Some(name) = name(room) {
                *sums.entry(name).or_insert(0_u64) += room.free_slots;
            }
        }
        sums.into_iter().map(|(name, slots)| (name.clone(), slots)).collect()
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, lack) in self.lacking.iter().enumerate() {
            let before = if at == 0 { "" } else { ". " };
            write!(f, "{before}replication {}", self.placement)?;
            if !self.wish.is_none() {
                write!(f, " with {}", self.wish)?;
            }
            write!(f, " needs {lack}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (one, many) = self.unit.words();
        let noun = if self.needed == 1 { one } else { many };
        write!(f, "{} {noun} with room", self.needed)?;
        let place = match (&self.data_center, &self.rack) {
            (Some(center), Some(rack)) => format!(" in rack {rack} of data center {center}"),
            (Some(center), None) => format!(" in data center {center}"),
            (None, Some(rack)) => format!(" in rack {rack}"),
            (None, None) => String::new(),
        };
        write!(f, "{place}; ")?;
        for (at, (name, slots)) in self.with_room.iter().enumerate() {
            let before = if at == 0 { "" } else { ", " };
            let volumes = if *slots == 1 { "volume" } else { "volumes" };
            write!(f, "{before}{one} {name} has {slots} free {volumes}")?;
        }
        let is_first = self.with_room.is_empty();
        write!(f, "{} {one} has any", if is_first { "no" } else { ", no other" })
    }
}

impl Unit {
    /// For one and for several.
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::DataCenter => ("data center", "data centers"),
            Self::Rack => ("rack", "racks"),
            Self::Server => ("volume server", "volume servers"),
        }
    }
}
