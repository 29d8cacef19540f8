//! Fids: none twice, none from a master that must not hand out any more, none missing for long.

use std::{collections::HashMap, time::Duration};

use dulse_shared::id::{Fid, NeedleKey};

use crate::history::{History, Isolation, Moment, Operation};

/// Keys that were handed out more than once, in whatever volumes: a key is one needle's in the
/// whole cluster. A fid that a client never used counts, as does one whose put may have failed. A
/// request that was not answered took no fid that could be found again.
pub fn keys_twice(history: &History) -> Vec<String> {
    let mut first: HashMap<NeedleKey, (&Operation, Fid)> = HashMap::new();
    let mut found = Vec::new();
    for (operation, fid) in history.assigned() {
        if let Some((before, other)) = first.insert(fid.key, (operation, fid)) {
            found.push(format!(
                "one key handed out twice, as {other} ({before}) and {fid} ({operation})"
            ));
        }
    }
    found
}

/// Fids of leaders that others had followed. Keys are granted to leaders in turn, each hands out
/// its own in order: so a fid below one that was there `limit` before it was asked for is from a
/// leader that should have noticed.
pub fn keys_of_deposed(history: &History, limit: Duration) -> Vec<String> {
    let mut answered: Vec<(&Operation, Fid)> = history.assigned().collect();
    answered.sort_by_key(|(operation, _)| operation.end);
    let mut asked = answered.clone();
    asked.sort_by_key(|(operation, _)| operation.start);
    let mut answered = answered.into_iter().peekable();
    let mut highest: Option<(&Operation, Fid)> = None;
    let mut found = Vec::new();
    for (operation, fid) in asked {
        while let Some(before) = answered.next_if(|(o, _)| o.end.plus(limit) <= operation.start) {
            if highest.is_none_or(|(_, fid)| fid.key < before.1.key) {
                highest = Some(before);
            }
        }
        if let Some((before, other)) = highest.filter(|(_, other)| other.key > fid.key) {
            found.push(format!(
                "a deposed leader handed out {fid} ({operation}): {other} was there before ({before})"
            ));
        }
    }
    found
}

/// Fids that a master handed out while it could not agree with the others, asked for more than
/// `limit` after it was cut off.
pub fn fids_of_isolated(history: &History, limit: Duration) -> Vec<String> {
    let mut found = Vec::new();
    for Isolation { server, from, until } in &history.isolations {
        let of_it = history.assigned().filter(|(operation, _)| {
            operation.server == *server
                && operation.start >= from.plus(limit)
                && operation.end <= *until
        });
        found.extend(of_it.map(|(operation, fid)| {
            format!("{server} was cut off at {from} and still handed out {fid} ({operation})")
        }));
    }
    found
}

/// The longest time in which nobody got a fid, and when it began.
pub fn longest_gap(history: &History, end: Moment) -> (Duration, Moment) {
    let mut moments: Vec<Moment> = history.assigned().map(|(operation, _)| operation.end).collect();
    moments.extend([Moment::default(), end]);
    moments.sort();
    let gaps = moments.windows(2).map(|pair| (pair[1].since(pair[0]), pair[0]));
    gaps.max().unwrap_or_default()
}

/// Whether that is over `limit`.
pub fn gaps(history: &History, end: Moment, limit: Duration) -> Vec<String> {
    let (gap, from) = longest_gap(history, end);
    if gap <= limit {
        return Vec::new();
    }
    vec![format!("nobody got a fid for {gap:?} from {from} on, {limit:?} are allowed")]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::made_up::{assigned, history, millis, refused, unknown};

    const LIMIT: Duration = Duration::from_millis(500);

    #[test]
    fn a_key_handed_out_twice_is_found_whatever_the_volume_and_cookie() {
        let once = assigned("m1", 10, 11, "3,01000000aa");
        for again in ["3,01000000aa", "3,01000000bb", "4,01000000aa"] {
            let bad = history([once.clone(), assigned("m2", 900, 901, again)]);
            assert_eq!(keys_twice(&bad).len(), 1, "{again}");
        }
        let thrice = history((0..3).map(|n| assigned("m1", n, n + 1, "3,01000000aa")));
        assert_eq!(keys_twice(&thrice).len(), 2);
    }

    #[test]
    fn requests_that_gave_no_fid_are_no_fid_twice() {
        let fine = history([
            assigned("m1", 10, 11, "3,01000000aa"),
            unknown("m1", 12, 2012),
            unknown("m1", 12, 2012),
            refused("m2", 13, 14),
            assigned("m1", 15, 16, "3,02000000aa"),
        ]);
        assert_eq!(keys_twice(&fine), Vec::<String>::new());
    }

    #[test]
    fn a_deposed_leader_is_found_by_its_lower_keys() {
        let successor = assigned("m2", 1000, 1010, "3,2711000000aa");
        let late = |start: u64, end: u64| {
            // One of its own time, asked for before the other led.
            let before = assigned("m1", 0, 5, "3,01000000aa");
            let after = assigned("m1", start, end, "3,02000000aa");
            keys_of_deposed(&history([after, before, successor.clone()]), LIMIT)
        };
        assert_eq!(late(1510, 1511).len(), 1);
        assert_eq!(late(1509, 1511).len(), 0, "it may not have noticed yet");
        assert_eq!(late(900, 9000).len(), 0, "it was asked before");
    }

    #[test]
    fn every_fid_of_a_deposed_leader_is_found_among_those_of_the_present_one() {
        let mixed = [
            assigned("m2", 1000, 1010, "3,2711000000aa"),
            assigned("m1", 5000, 5001, "3,02000000aa"),
            assigned("m1", 6000, 6001, "3,03000000aa"),
            assigned("m2", 7000, 7001, "3,2712000000aa"),
            assigned("m2", 8000, 8001, "3,2713000000aa"),
        ];
        assert_eq!(keys_of_deposed(&history(mixed), LIMIT).len(), 2);
    }

    #[test]
    fn a_master_that_is_cut_off_must_stop_and_nobody_else() {
        let cut = |server: &str, start: u64, end: u64| {
            let mut bad = history([assigned(server, start, end, "3,01000000aa")]);
            let (from, until) = (millis(1000), millis(4000));
            bad.isolations.push(Isolation { server: "m1".to_owned(), from, until });
            fids_of_isolated(&bad, LIMIT).len()
        };
        assert_eq!(cut("m1", 1500, 1501), 1);
        assert_eq!(cut("m1", 3998, 4000), 1);
        assert_eq!(cut("m1", 1499, 1600), 0, "within the time it has to notice");
        assert_eq!(cut("m1", 3998, 4001), 0, "answered once it was heard again");
        assert_eq!(cut("m2", 2000, 2001), 0);
    }

    #[test]
    fn a_gap_is_found_in_the_middle_and_at_both_ends() {
        let at = |moments: [u64; 3]| {
            history(moments.map(|at| assigned("m1", at - 1, at, &format!("3,{at:08x}000000aa"))))
        };
        let longest = |moments, end| longest_gap(&at(moments), millis(end));
        assert_eq!(longest([10, 20, 30], 40), (millis(10).0, millis(30)));
        for (moments, end, from) in
            [([600, 700, 800], 900, 0), ([10, 700, 800], 900, 10), ([10, 20, 30], 900, 30)]
        {
            assert_eq!(longest(moments, end).1, millis(from));
            assert_eq!(gaps(&at(moments), millis(end), LIMIT).len(), 1, "{moments:?}");
        }
        assert_eq!(gaps(&at([100, 200, 300]), millis(400), LIMIT), Vec::<String>::new());
    }

    #[test]
    fn requests_without_a_fid_do_not_end_a_gap() {
        let bad = history([refused("m1", 100, 101), unknown("m1", 300, 301)]);
        assert_eq!(longest_gap(&bad, millis(600)), (millis(600).0, millis(0)));
    }
}
