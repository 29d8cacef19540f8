//! Which servers get the copies of a volume.
//!
//! A replica placement xyz asks for a rack with z + 1 servers that have room, in a data center
//! with y other racks that have room, beside x other data centers that have room. These are
//! counts, and what is drawn for one of them takes nothing from another, so whether a placement
//! exists is counted, not tried. Among the servers that a rule admits one is drawn with a
//! probability in proportion to its free bytes, but of machines without a copy first.

use std::collections::{BTreeMap, BTreeSet};

use dulse_shared::{
    id::{ReplicaPlacement, ServerId},
    wire::Incarnation,
};
use rand::{Rng, RngExt};

use super::{LocationWish, PlacementError, ServerRoom, Shortage};

/// The servers of one volume, the one of the first copy first.
pub(crate) type Members = Vec<(ServerId, Incarnation)>;

/// A data center and a rack in it.
pub(super) type RackName<'a> = (&'a str, &'a str);

/// The servers with room, by where they stand, as places in the list of rooms.
pub(super) struct Sites<'a> {
    pub(super) racks: BTreeMap<RackName<'a>, Vec<usize>>,
}

/// Draws servers for up to `count` volumes and takes their slots. Fewer come back when the room
/// runs out, at least one.
pub(crate) fn place_volumes(
    placement: ReplicaPlacement,
    wish: &LocationWish,
    mut rooms: Vec<ServerRoom>,
    count: usize,
    rng: &mut impl Rng,
) -> Result<Vec<Members>, PlacementError> {
    let mut placed = Vec::new();
    while placed.len() < count.max(1) {
        let Some(chosen) = place_one(placement, wish, &rooms, rng) else {
            break;
        };
        let mut members = Members::with_capacity(chosen.len());
        for room in chosen.into_iter().filter_map(|index| rooms.get_mut(index).map(take_slot)) {
            members.push(room);
        }
        placed.push(members);
    }
    if placed.is_empty() {
        return Err(Shortage::of(placement, wish, &rooms));
    }
    Ok(placed)
}

fn take_slot(room: &mut ServerRoom) -> (ServerId, Incarnation) {
    room.take_slot();
    (room.server, room.incarnation)
}

/// The places in `rooms` of one volume's servers.
fn place_one(
    placement: ReplicaPlacement,
    wish: &LocationWish,
    rooms: &[ServerRoom],
    rng: &mut impl Rng,
) -> Option<Vec<usize>> {
    let sites = Sites::of(rooms);
    let mut choice = Choice { rooms, chosen: Vec::with_capacity(placement.copies()), rng };
    let first = choice.draw(&main_candidates(placement, wish, rooms, &sites))?;
    let main = rooms.get(first)?;
    let everywhere: Vec<usize> = sites.racks.values().flatten().copied().collect();
    let of = |is_of: &dyn Fn(&ServerRoom) -> bool| -> Vec<usize> {
        everywhere.iter().copied().filter(|i| rooms.get(*i).is_some_and(is_of)).collect()
    };
    let is_here = |room: &ServerRoom| room.data_center == main.data_center;
    let beside = of(&|r| is_here(r) && r.rack == main.rack && r.server != main.server);
    choice.draw_apart(beside, placement.same_rack(), |a, b| a.server == b.server)?;
    let other_racks = of(&|r| is_here(r) && r.rack != main.rack);
    choice.draw_apart(other_racks, placement.other_racks(), |a, b| a.rack == b.rack)?;
    let other_centers = of(&|r| !is_here(r));
    let is_same_center = |a: &ServerRoom, b: &ServerRoom| a.data_center == b.data_center;
    choice.draw_apart(other_centers, placement.other_data_centers(), is_same_center)?;
    Some(choice.chosen)
}

/// Where the first copy may go. Racks in which all copies can be on machines of their own are
/// preferred, or else those with most machines.
fn main_candidates(
    placement: ReplicaPlacement,
    wish: &LocationWish,
    rooms: &[ServerRoom],
    sites: &Sites<'_>,
) -> Vec<usize> {
    let mut best = (0, Vec::new());
    let suited = sites.racks.iter().filter(|(rack, _)| sites.suffice(placement, **rack));
    for (_, servers) in suited {
        let hosts: BTreeSet<&str> =
            servers.iter().filter_map(|i| Some(rooms.get(*i)?.host())).collect();
        let machines = hosts.len().min(usize::from(placement.same_rack()) + 1);
        let wished = servers.iter().filter(|i| rooms.get(**i).is_some_and(|r| r.fulfils(wish)));
        let wished: Vec<usize> = wished.copied().collect();
        if wished.is_empty() || machines < best.0 {
            continue;
        }
        if machines > best.0 {
            best = (machines, Vec::new());
        }
        best.1.extend(wished);
    }
    best.1
}

impl<'a> Sites<'a> {
    pub(super) fn of(rooms: &'a [ServerRoom]) -> Self {
        let mut racks: BTreeMap<RackName<'a>, Vec<usize>> = BTreeMap::new();
        for (index, room) in rooms.iter().enumerate().filter(|(_, room)| room.free_slots > 0) {
            racks.entry((&room.data_center, &room.rack)).or_default().push(index);
        }
        Self { racks }
    }

    /// Data centers with room.
    pub(super) fn data_centers(&self) -> BTreeSet<&'a str> {
        self.racks.keys().map(|(center, _)| *center).collect()
    }

    /// Racks with room in a data center.
    pub(super) fn racks_of(&self, data_center: &str) -> usize {
        self.racks.keys().filter(|(center, _)| *center == data_center).count()
    }

    /// Servers with room in a rack.
    pub(super) fn servers_of(&self, rack: RackName<'_>) -> usize {
        self.racks.get(&rack).map_or(0, Vec::len)
    }

    /// Whether every rule of the placement can be kept if the first copy is in this rack.
    fn suffice(&self, placement: ReplicaPlacement, rack: RackName<'_>) -> bool {
        self.data_centers().len() > usize::from(placement.other_data_centers())
            && self.racks_of(rack.0) > usize::from(placement.other_racks())
            && self.servers_of(rack) > usize::from(placement.same_rack())
    }
}

/// What was drawn so far for one volume.
struct Choice<'a, R> {
    rooms: &'a [ServerRoom],
    chosen: Vec<usize>,
    rng: &'a mut R,
}

impl<R: Rng> Choice<'_, R> {
    /// Draws `count` servers, no two of which are in the same place.
    fn draw_apart(
        &mut self,
        mut pool: Vec<usize>,
        count: u8,
        is_same_place: impl Fn(&ServerRoom, &ServerRoom) -> bool,
    ) -> Option<()> {
        for _ in 0..count {
            let drawn = self.draw(&pool)?;
            let taken = self.rooms.get(drawn)?;
            pool.retain(|index| {
                self.rooms.get(*index).is_some_and(|room| !is_same_place(room, taken))
            });
        }
        Some(())
    }

    /// Draws one server: of machines without a copy if there are any.
    fn draw(&mut self, pool: &[usize]) -> Option<usize> {
        let host = |index: usize| self.rooms.get(index).map(ServerRoom::host);
        let is_used = |index: usize| self.chosen.iter().any(|used| host(*used) == host(index));
        let fresh: Vec<usize> = pool.iter().copied().filter(|index| !is_used(*index)).collect();
        let pool = if fresh.is_empty() { pool } else { &fresh };
        let drawn = self.draw_by_free_bytes(pool)?;
        self.chosen.push(drawn);
        Some(drawn)
    }

    /// Every one can be drawn, even one that claims to have no bytes.
    fn draw_by_free_bytes(&mut self, pool: &[usize]) -> Option<usize> {
        let bytes = |index: &usize| self.rooms.get(*index).map_or(0, |room| room.free_bytes);
        let weight = |index: &usize| u128::from(bytes(index)).saturating_add(1);
        let total: u128 = pool.iter().map(weight).sum();
        if total == 0 {
            return None;
        }
        let mut left = self.rng.random_range(0..total);
        for index in pool {
            match left.checked_sub(weight(index)) {
                Some(rest) => left = rest,
                None => return Some(*index),
            }
        }
        None
    }
}
