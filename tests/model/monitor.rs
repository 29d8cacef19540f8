//! An exact monitor of linearizability for one register.
//!
//! It holds every way in which the history so far can be explained: the write that took effect
//! last, and which writes took effect at all. Before each answer any write under way may take
//! effect; the answer then strikes out the ways that contradict it. When none is left, no order of
//! the writes explains what clients saw. A write with unknown outcome stays under way for ever, so
//! it may take effect at any later time, once.

/// Writes that a history can have.
pub(crate) const MAX_WRITES: usize = 4;
/// Values of the register: the first one, and one for each write.
const LASTS: usize = MAX_WRITES + 1;

/// Bit `last × 16 + taken` says that the history can be explained with write `last` as the last
/// one that took effect (0: none did) and the set `taken` of writes that did.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Monitor {
    ways: u128,
    under_way: u8,
    deletes: u8,
    first_is_none: bool,
}

/// What the client of a write was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Told {
    Done,
    Unknown,
}

const fn way(last: usize, taken: usize) -> u128 {
    1 << (last * 16 + taken)
}

impl Monitor {
    /// A register that holds nothing or a first value. Which of the writes are deletes is said
    /// beforehand, as a set.
    pub(crate) const fn new(first_is_none: bool, deletes: u8) -> Self {
        Self { ways: way(0, 0), under_way: 0, deletes, first_is_none }
    }

    /// A client sends write `write`, counted from 0.
    pub(crate) fn invoke(&mut self, write: usize) {
        self.under_way |= 1 << write;
    }

    /// The client of a write is told something; whether that can be.
    pub(crate) fn answer(&mut self, write: usize, told: Told) -> bool {
        if told == Told::Done {
            self.close();
            self.strike(|_, taken| taken & (1 << write) != 0);
            self.under_way &= !(1 << write);
        }
        self.ways != 0
    }

    /// A client reads what write `write` wrote (the first value: `Some(None)`), or that there is
    /// nothing (`None`); whether that can be.
    pub(crate) fn read(&mut self, found: Option<Option<usize>>) -> bool {
        self.close();
        let (deletes, first_is_none) = (self.deletes, self.first_is_none);
        self.strike(|last, _| match found {
            Some(None) => last == 0 && !first_is_none,
            Some(Some(write)) => last == write + 1,
            None if last == 0 => first_is_none,
            None => deletes & (1 << (last - 1)) != 0,
        });
        self.ways != 0
    }

    /// Lets writes under way take effect, in every order.
    fn close(&mut self) {
        loop {
            let before = self.ways;
            for last in 0..LASTS {
                for taken in 0..1 << MAX_WRITES {
                    if self.ways & way(last, taken) != 0 {
                        self.take_each(taken);
                    }
                }
            }
            if self.ways == before {
                return;
            }
        }
    }

    fn take_each(&mut self, taken: usize) {
        for write in 0..MAX_WRITES {
            let bit = 1 << write;
            if usize::from(self.under_way) & bit != 0 && taken & bit == 0 {
                self.ways |= way(write + 1, taken | bit);
            }
        }
    }

    fn strike(&mut self, stays: impl Fn(usize, usize) -> bool) {
        for last in 0..LASTS {
            for taken in 0..1 << MAX_WRITES {
                if !stays(last, taken) {
                    self.ways &= !way(last, taken);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_done() -> Monitor {
        let mut monitor = Monitor::new(false, 0);
        monitor.invoke(0);
        assert!(monitor.answer(0, Told::Done));
        monitor.invoke(1);
        assert!(monitor.answer(1, Told::Done));
        monitor
    }

    #[test]
    fn good_histories_are_explained() {
        let mut monitor = two_done();
        assert!(monitor.read(Some(Some(1))));
        monitor.invoke(2);
        assert!(monitor.answer(2, Told::Unknown));
        assert!(monitor.read(Some(Some(1))), "not yet");
        assert!(monitor.read(Some(Some(2))), "later");
    }

    #[test]
    fn a_lost_write_is_found() {
        assert!(!two_done().read(Some(Some(0))));
        assert!(!two_done().read(Some(None)));
        assert!(!two_done().read(None));
    }

    #[test]
    fn a_read_that_goes_back_is_found() {
        let mut monitor = Monitor::new(false, 0);
        monitor.invoke(0);
        assert!(monitor.read(Some(Some(0))));
        assert!(!monitor.read(Some(None)));
    }

    #[test]
    fn a_write_that_takes_effect_twice_is_found() {
        let mut monitor = Monitor::new(false, 0b10);
        monitor.invoke(0);
        assert!(monitor.answer(0, Told::Unknown));
        assert!(monitor.read(Some(Some(0))));
        monitor.invoke(1);
        assert!(monitor.answer(1, Told::Done));
        assert!(monitor.read(None));
        assert!(!monitor.read(Some(Some(0))), "a deleted needle came back");
    }

    #[test]
    fn a_value_nobody_wrote_is_found() {
        assert!(!Monitor::new(true, 0).read(Some(Some(2))));
        assert!(Monitor::new(true, 0).read(None));
    }
}
