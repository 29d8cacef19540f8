//! A placement is found exactly when trying everything finds one, and what an error says is
//! missing is what is missing.

use std::collections::{BTreeMap, BTreeSet};

use dulse_shared::{
    id::{ReplicaPlacement, ServerId},
    wire::Incarnation,
};
use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::{
    shortage::{Lack, Unit},
    *,
};

/// Whether these servers keep the rules of a replica placement, read off its definition. The first
/// one counts as the main copy; the others may come in any order.
pub(crate) fn keeps_rules(placement: ReplicaPlacement, members: &[&ServerRoom]) -> bool {
    let Some((main, others)) = members.split_first() else {
        return false;
    };
    let servers: BTreeSet<ServerId> = members.iter().map(|room| room.server).collect();
    let is_here = |room: &&&ServerRoom| room.data_center == main.data_center;
    let (here, away): (Vec<&&ServerRoom>, Vec<_>) = others.iter().partition(is_here);
    let is_beside = |room: &&&ServerRoom| room.rack == main.rack;
    let (beside, apart): (Vec<&&ServerRoom>, Vec<_>) = here.into_iter().partition(is_beside);
    let racks: BTreeSet<&str> = apart.iter().map(|room| room.rack.as_str()).collect();
    let centers: BTreeSet<&str> = away.iter().map(|room| room.data_center.as_str()).collect();
    servers.len() == placement.copies()
        && members.len() == placement.copies()
        && beside.len() == usize::from(placement.same_rack())
        && apart.len() == usize::from(placement.other_racks())
        && racks.len() == apart.len()
        && away.len() == usize::from(placement.other_data_centers())
        && centers.len() == away.len()
}

/// Every way to pick `count` of the rooms with free slots, the main one first.
fn every_choice(rooms: &[ServerRoom], count: usize) -> Vec<Vec<&ServerRoom>> {
    let roomy: Vec<&ServerRoom> = rooms.iter().filter(|room| room.free_slots > 0).collect();
    let mut choices = Vec::new();
    for main in &roomy {
        let others: Vec<&ServerRoom> =
            roomy.iter().copied().filter(|room| room.server != main.server).collect();
        for mask in 0_u32..1 << others.len() {
            if mask.count_ones() as usize + 1 == count {
                let picked = (0..others.len()).filter(|bit| mask >> bit & 1 == 1);
                choices.push(std::iter::once(*main).chain(picked.map(|i| others[i])).collect());
            }
        }
    }
    choices
}

fn machines(members: &[&ServerRoom]) -> usize {
    members.iter().map(|room| room.host()).collect::<BTreeSet<_>>().len()
}

pub(crate) fn room(server: u128, place: (&str, &str), free_slots: u64) -> ServerRoom {
    ServerRoom {
        server: ServerId::from(server),
        incarnation: Incarnation(1),
        url: format!("host{server}:8080"),
        data_center: place.0.to_owned(),
        rack: place.1.to_owned(),
        free_slots,
        free_bytes: free_slots << 30,
    }
}

/// Up to nine servers; a machine stands in one rack and may run several of them.
fn drawn_rooms(rng: &mut SmallRng) -> Vec<ServerRoom> {
    let (centers, racks) = (rng.random_range(1..4), rng.random_range(1..4));
    let servers = rng.random_range(1..10);
    let rooms = (1..=servers).map(|n| {
        let host: u32 = rng.random_range(0..8);
        let (center, rack) = (format!("dc{}", host % centers), format!("r{}", host / 2 % racks));
        let url = format!("host{host}:{n}");
        ServerRoom { url, ..room(n, (&center, &rack), rng.random_range(0..3)) }
    });
    rooms.collect()
}

fn drawn_placement(rng: &mut SmallRng) -> ReplicaPlacement {
    let digit = |rng: &mut SmallRng| [0, 0, 1, 1, 2][rng.random_range(0..5)];
    ReplicaPlacement::from_byte(digit(rng) * 100 + digit(rng) * 10 + digit(rng))
}

fn drawn_wish(rooms: &[ServerRoom], rng: &mut SmallRng) -> LocationWish {
    let wished = &rooms[rng.random_range(0..rooms.len())];
    let mut some = |name: &str| rng.random_bool(0.2).then(|| name.to_owned());
    LocationWish {
        data_center: some(&wished.data_center),
        rack: some(&wished.rack),
        data_node: some(&wished.url),
    }
}

/// Adds exactly what an error says is missing.
fn supply(rooms: &mut Vec<ServerRoom>, lacking: &[Lack], main: (&str, &str)) {
    for lack in lacking {
        for n in lack.with_room.len()..lack.needed {
            let new = u128::try_from(100 + rooms.len()).unwrap();
            let fresh = format!("new{n}");
            rooms.push(match lack.unit {
                Unit::DataCenter => room(new, (&fresh, "r"), 1),
                Unit::Rack => room(new, (main.0, &fresh), 1),
                Unit::Server => room(new, main, 1),
            });
        }
    }
}

/// What of an entry's numbers is not those of the rooms, or not too small.
fn miscounted(lack: &Lack, rooms: &[ServerRoom]) -> Option<String> {
    let is_there = |room: &&ServerRoom| {
        let is = |named: &Option<String>, place| named.as_ref().is_none_or(|n| n == place);
        room.free_slots > 0
            && is(&lack.data_center, &room.data_center)
            && is(&lack.rack, &room.rack)
    };
    let mut counted: BTreeMap<String, u64> = BTreeMap::new();
    for room in rooms.iter().filter(is_there) {
        let name = match lack.unit {
            Unit::DataCenter => &room.data_center,
            Unit::Rack => &room.rack,
            Unit::Server => &room.url,
        };
        *counted.entry(name.clone()).or_default() += room.free_slots;
    }
    let counted: Vec<_> = counted.into_iter().collect();
    let is_right = counted == lack.with_room && counted.len() < lack.needed;
    (!is_right).then(|| format!("{counted:?} were counted for {lack:?}"))
}

/// Racks that could have the first copy and that an entry may be about.
fn racks_with_wished_room(rooms: &[ServerRoom], wish: &LocationWish) -> BTreeSet<(String, String)> {
    let wished = rooms.iter().filter(|room| room.free_slots > 0 && room.fulfils(wish));
    wished.map(|room| (room.data_center.clone(), room.rack.clone())).collect()
}

/// Whether an error says exactly what is missing: its numbers are right, and whoever supplies what
/// it says, to the one place that it speaks of, is helped.
pub(crate) fn is_exact(
    error: &PlacementError,
    rooms: &[ServerRoom],
    wish: &LocationWish,
) -> Result<(), String> {
    let candidates = racks_with_wished_room(rooms, wish);
    let PlacementError::Short(short) = error else {
        let is_right = match error {
            PlacementError::Full => wish.is_none(),
            PlacementError::FullThere(there) => there == wish && !wish.is_none(),
            _ => false,
        };
        let is_right = is_right && candidates.is_empty();
        return if is_right { Ok(()) } else { Err(format!("there is room in {candidates:?}")) };
    };
    if let Some(wrong) = short.lacking.iter().find_map(|lack| miscounted(lack, rooms)) {
        return Err(wrong);
    }
    let is_helped = candidates.iter().any(|(center, rack)| {
        let mut supplied = rooms.to_vec();
        supply(&mut supplied, &short.lacking, (center, rack));
        let mut rng = SmallRng::seed_from_u64(1);
        place_volumes(short.placement, wish, supplied, 1, &mut rng).is_ok()
    });
    let is_said = !short.lacking.is_empty();
    if is_helped && is_said { Ok(()) } else { Err("supplying that does not help".to_owned()) }
}

#[test]
fn a_placement_is_found_exactly_when_one_exists_and_otherwise_the_shortage_is_exact() {
    let (mut found, mut short) = (0, 0);
    for seed in 0..4000 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let rooms = drawn_rooms(&mut rng);
        let (placement, wish) = (drawn_placement(&mut rng), drawn_wish(&rooms, &mut rng));
        let choices = every_choice(&rooms, placement.copies());
        let is_right = |members: &Vec<&ServerRoom>| {
            keeps_rules(placement, members) && members[0].fulfils(&wish)
        };
        let most_machines = choices.iter().filter(|c| is_right(c)).map(|c| machines(c)).max();
        let context = format!("seed {seed}, {placement} with {wish:?} in {rooms:#?}");
        match place_volumes(placement, &wish, rooms.clone(), 1, &mut rng) {
            Ok(placed) => {
                found += 1;
                let of = |(server, _): &(ServerId, _)| {
                    rooms.iter().find(|room| room.server == *server).unwrap()
                };
                let members: Vec<&ServerRoom> = placed[0].iter().map(of).collect();
                assert!(is_right(&members), "{context}");
                assert!(members.iter().all(|room| room.free_slots > 0), "{context}");
                assert_eq!(Some(machines(&members)), most_machines, "{context}");
            }
            Err(error) => {
                short += 1;
                assert_eq!(most_machines, None, "{context}");
                is_exact(&error, &rooms, &wish)
                    .unwrap_or_else(|e| panic!("{error}: {e}; {context}"));
            }
        }
    }
    assert!(found > 500 && short > 500, "{found} found, {short} short");
}

#[test]
fn several_volumes_take_their_slots_until_none_is_left() {
    let nowhere = LocationWish::default();
    for seed in 0..200 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let rooms = drawn_rooms(&mut rng);
        let placement = drawn_placement(&mut rng);
        let Ok(placed) = place_volumes(placement, &nowhere, rooms.clone(), 50, &mut rng) else {
            continue;
        };
        let mut left = rooms;
        for member in placed.iter().flatten() {
            let room = left.iter_mut().find(|room| room.server == member.0).unwrap();
            room.free_slots = room.free_slots.checked_sub(1).expect("no slot is given twice");
        }
        assert!(place_volumes(placement, &nowhere, left, 1, &mut rng).is_err(), "seed {seed}");
    }
}

#[test]
fn servers_are_drawn_in_proportion_to_their_free_bytes() {
    let rooms = [room(1, ("dc", "r"), 3), room(2, ("dc", "r"), 1)];
    let firsts = (0..4000).filter(|seed| {
        let mut rng = SmallRng::seed_from_u64(*seed);
        let wish = LocationWish::default();
        let placed = place_volumes("000".parse().unwrap(), &wish, rooms.to_vec(), 1, &mut rng);
        placed.unwrap()[0][0].0 == ServerId::from(1)
    });
    let share = firsts.count();
    assert!((2800..3200).contains(&share), "{share} of 4000, where 3000 are due");
}

fn error_of(placement: &str, wish: &LocationWish, rooms: &[ServerRoom]) -> String {
    let mut rng = SmallRng::seed_from_u64(1);
    let placed = place_volumes(placement.parse().unwrap(), wish, rooms.to_vec(), 1, &mut rng);
    placed.unwrap_err().to_string()
}

#[test]
fn an_error_says_in_numbers_what_each_rule_lacks() {
    let none = LocationWish::default();
    let one_rack =
        [room(1, ("dc1", "r1"), 1), room(2, ("dc1", "r1"), 2), room(3, ("dc1", "r2"), 0)];
    assert_eq!(
        error_of("010", &none, &one_rack),
        "replication 010 needs 2 racks with room; rack r1 has 3 free volumes, no other rack has any"
    );
    assert_eq!(
        error_of("102", &none, &one_rack),
        "replication 102 needs 2 data centers with room; data center dc1 has 3 free volumes, no \
         other data center has any. replication 102 needs 3 volume servers with room in rack r1; \
         volume server host1:8080 has 1 free volume, volume server host2:8080 has 2 free volumes, \
         no other volume server has any"
    );
    let there = LocationWish { data_center: Some("dc2".to_owned()), ..none.clone() };
    let two_centers = [room(1, ("dc1", "r1"), 9), room(2, ("dc2", "r1"), 4)];
    assert_eq!(
        error_of("001", &there, &two_centers),
        "replication 001 with dataCenter=dc2 needs 2 volume servers with room in rack r1 of data \
         center dc2; volume server host2:8080 has 4 free volumes, no other volume server has any"
    );
    let full = LocationWish { rack: Some("r2".to_owned()), ..none.clone() };
    assert!(error_of("000", &full, &one_rack).contains("no volume server with rack=r2 has room"));
    let nothing = [room(1, ("dc1", "r1"), 0)];
    assert!(error_of("110", &none, &nothing).contains("every volume server is full"));
}

#[test]
fn another_machine_comes_before_another_process_of_the_same() {
    let on = |host: &str, n| ServerRoom { url: format!("{host}:{n}"), ..room(n, ("dc", "r"), 1) };
    let rooms = [on("a", 1), on("a", 2), on("b", 3)];
    for seed in 0..100 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let wish = LocationWish::default();
        let placed = place_volumes("001".parse().unwrap(), &wish, rooms.to_vec(), 1, &mut rng);
        assert!(placed.unwrap()[0].contains(&(ServerId::from(3), Incarnation(1))), "seed {seed}");
    }
}
