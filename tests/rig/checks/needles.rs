//! Needles: what was acknowledged is read, what was deleted stays away, nothing else is read.
//!
//! A read may give what a write left that no other write replaced for certain before the read
//! began. A write takes effect between its start and its end; one that was not answered may do so
//! at any time later, until somebody reads it. That is less than linearizability, and never wrong.

use std::collections::BTreeMap;

use dulse_shared::id::Fid;

use crate::history::{Content, Event, History, Moment, Operation, Outcome};

/// Everything about one needle.
#[derive(Default)]
struct Needle<'a> {
    writes: Vec<Write>,
    reads: Vec<(&'a Operation, &'a Content)>,
    refused: Vec<Content>,
    /// When the last put or delete was over.
    last_change: Moment,
    fid: String,
}

/// A put or delete that may have taken effect, or that nothing was there at first.
struct Write {
    content: Content,
    start: Moment,
    /// By when it had taken effect; never, as far as anybody knows.
    end: Option<Moment>,
    is_acknowledged: bool,
}

/// Reads that gave what they must not.
pub fn wrong_reads(history: &History) -> Vec<String> {
    let mut found = Vec::new();
    for mut needle in needles(history).into_values() {
        needle.settle();
        for (operation, content) in &needle.reads {
            if let Some(what) = needle.fault(operation, content) {
                found.push(format!("{what}: {operation}"));
            }
        }
    }
    found
}

/// Needles with an acknowledged put that nobody read after the last request that could change them:
/// of these the history does not tell whether they were kept.
pub fn not_read_back(history: &History) -> Vec<String> {
    let mut found = Vec::new();
    for needle in needles(history).into_values() {
        let last = needle.last_change;
        let is_read = needle.reads.iter().any(|(operation, _)| operation.start >= last);
        let is_stored =
            needle.writes.iter().any(|w| w.is_acknowledged && w.content != Content::Absent);
        if is_stored && !is_read {
            found.push(format!("{} was acknowledged and never read after {last}", needle.fid));
        }
    }
    found
}

fn needles(history: &History) -> BTreeMap<String, Needle<'_>> {
    let mut needles: BTreeMap<String, Needle<'_>> = BTreeMap::new();
    for operation in &history.operations {
        let Some(fid) = operation.event.fid() else { continue };
        let needle = needles.entry(fid.to_string()).or_insert_with(|| Needle::new(fid));
        needle.add(operation);
    }
    needles
}

impl<'a> Needle<'a> {
    fn new(fid: Fid) -> Self {
        let (start, end) = (Moment::default(), Some(Moment::default()));
        let absent = Write { content: Content::Absent, start, end, is_acknowledged: false };
        Self { writes: vec![absent], fid: fid.to_string(), ..Self::default() }
    }

    fn add(&mut self, operation: &'a Operation) {
        match &operation.event {
            Event::Assign(_) | Event::Get(_, Outcome::Failed(_) | Outcome::Unknown(_)) => {}
            Event::Get(_, Outcome::Ok(content)) => self.reads.push((operation, content)),
            Event::Put(_, version, outcome) => {
                self.write(operation, Content::Version(*version), outcome);
            }
            Event::Delete(_, outcome) => self.write(operation, Content::Absent, outcome),
        }
    }

    fn write(&mut self, operation: &Operation, content: Content, outcome: &Outcome<()>) {
        self.last_change = self.last_change.max(operation.end);
        let is_acknowledged = match outcome {
            Outcome::Ok(()) => true,
            Outcome::Unknown(_) => false,
            Outcome::Failed(_) => return self.refused.push(content),
        };
        let end = is_acknowledged.then_some(operation.end);
        self.writes.push(Write { content, start: operation.start, end, is_acknowledged });
    }

    /// Writes that nobody answered had taken effect by the end of a read that only they explain.
    fn settle(&mut self) {
        for n in 0..self.writes.len() {
            if self.writes[n].end.is_none() {
                let explained = self
                    .reads
                    .iter()
                    .filter(|(operation, content)| self.sources(operation, content) == [n]);
                self.writes[n].end = explained.map(|(operation, _)| operation.end).min();
            }
        }
    }

    /// The writes that a read can have seen.
    fn sources(&self, read: &Operation, content: &Content) -> Vec<usize> {
        let can_be = |write: &Write| {
            write.content == *content
                && write.start < read.end
                && self.replaced(write, read).is_none()
        };
        (0..self.writes.len()).filter(|n| can_be(&self.writes[*n])).collect()
    }

    /// A write that certainly came after `write` and before `read` began.
    fn replaced(&self, write: &Write, read: &Operation) -> Option<&Write> {
        let end = write.end?;
        self.writes
            .iter()
            .find(|later| end < later.start && later.end.is_some_and(|done| done < read.start))
    }

    /// What is wrong with a read, in words.
    fn fault(&self, read: &Operation, content: &Content) -> Option<String> {
        if let Content::Wrong(what) = content {
            return Some(format!("wrong bytes of {}: {what}", self.fid));
        }
        if !self.sources(read, content).is_empty() {
            return None;
        }
        let fid = &self.fid;
        let written = self.writes.iter().find(|w| w.content == *content && w.start < read.end);
        let replaced = written.and_then(|write| self.replaced(write, read));
        Some(match (content, replaced.map(|write| &write.content)) {
            (Content::Absent, _) => format!("{fid} was acknowledged and is lost"),
            (_, Some(Content::Absent)) => format!("{fid} was deleted and is there again"),
            (_, Some(newer)) => format!("{fid} is what it was before {newer:?} was acknowledged"),
            (_, None) if self.refused.contains(content) => {
                format!("{fid} is what a server said it had not stored")
            }
            (_, None) => format!("{fid} is what nobody had written"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::made_up::{Ending, delete, get, get_absent, get_wrong, history, put};

    const OK: Ending = Ending::Ok;
    const UNKNOWN: Ending = Ending::Unknown;
    const FAILED: Ending = Ending::Failed;

    #[track_caller]
    fn finds(operations: impl IntoIterator<Item = Operation>, part: &str) {
        let found = wrong_reads(&history(operations));
        assert!(found.len() == 1 && found[0].contains(part), "{part} in {found:?}");
    }

    #[track_caller]
    fn fine(operations: impl IntoIterator<Item = Operation>) {
        assert_eq!(wrong_reads(&history(operations)), Vec::<String>::new());
    }

    #[test]
    fn a_lost_needle_is_found() {
        finds([put(1, 10, 20, OK), get_absent(30, 40)], "is lost");
        fine([put(1, 10, 20, OK), get_absent(15, 40)]);
        fine([put(1, 10, 20, UNKNOWN), get_absent(30, 40)]);
        fine([put(1, 10, 20, FAILED), get_absent(30, 40)]);
        // A delete that was refused is no reason for a needle to be gone.
        finds([put(1, 10, 20, OK), delete(21, 25, FAILED), get_absent(30, 40)], "is lost");
        fine([put(1, 10, 20, OK), delete(21, 25, UNKNOWN), get_absent(30, 40)]);
    }

    #[test]
    fn a_needle_that_was_there_and_is_lost_is_found_though_its_put_was_not_answered() {
        let bad = [put(1, 10, 20, UNKNOWN), get(1, 30, 40), get_absent(50, 60)];
        finds(bad, "is lost");
        fine([put(1, 10, 20, UNKNOWN), get_absent(30, 40), get(1, 50, 60)]);
    }

    #[test]
    fn a_resurrected_needle_is_found() {
        finds([put(1, 10, 20, OK), delete(21, 25, OK), get(1, 30, 40)], "is there again");
        fine([put(1, 10, 20, OK), delete(21, 35, OK), get(1, 30, 40)]);
        fine([put(1, 10, 20, OK), delete(21, 25, UNKNOWN), get(1, 30, 40)]);
        // Nobody answered the delete, but it was seen.
        let seen = [put(1, 10, 20, OK), delete(21, 25, UNKNOWN), get_absent(30, 40)];
        finds(seen.into_iter().chain([get(1, 50, 60)]), "is there again");
    }

    #[test]
    fn an_old_version_is_found_and_one_that_may_still_hold_is_not() {
        finds([put(1, 10, 20, OK), put(2, 21, 25, OK), get(1, 30, 40)], "before Version");
        fine([put(1, 10, 20, OK), put(2, 21, 25, OK), get(1, 22, 40)]);
        fine([put(1, 10, 20, OK), put(2, 21, 25, UNKNOWN), get(1, 30, 40), get(2, 50, 60)]);
        let back = [put(1, 10, 20, OK), put(2, 21, 25, UNKNOWN), get(2, 30, 40), get(1, 50, 60)];
        finds(back, "before Version");
        // The first was not answered, and may come after the second.
        fine([put(1, 10, 20, UNKNOWN), put(2, 21, 25, OK), get(1, 30, 40)]);
    }

    #[test]
    fn bytes_from_nowhere_are_found() {
        finds([put(1, 10, 20, OK), get_wrong(30, 40)], "wrong bytes");
        finds([put(1, 10, 20, OK), get(2, 30, 40)], "nobody had written");
        finds([put(1, 10, 20, OK), put(2, 21, 22, FAILED), get(2, 30, 40)], "had not stored");
        finds([get(1, 5, 9), put(1, 10, 20, OK)], "nobody had written");
    }

    #[test]
    fn a_needle_that_nobody_read_at_the_end_is_found() {
        let missing = |operations: &[Operation]| not_read_back(&history(operations.to_vec())).len();
        assert_eq!(missing(&[put(1, 10, 20, OK)]), 1);
        assert_eq!(missing(&[put(1, 10, 20, OK), get(1, 15, 30)]), 1);
        assert_eq!(missing(&[put(1, 10, 20, OK), get(1, 25, 30), put(2, 40, 50, UNKNOWN)]), 1);
        assert_eq!(missing(&[put(1, 10, 20, OK), get(1, 25, 30)]), 0);
        assert_eq!(missing(&[put(1, 10, 20, UNKNOWN)]), 0);
    }
}
