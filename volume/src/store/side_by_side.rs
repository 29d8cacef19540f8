//! Work on many things by a few threads, each taking the next as soon as it is free.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread::{Builder, scope},
};

/// Does `work` on each of `items`, up to `at_once` of them at a time, and returns when all is done.
/// `work` hears the item's number. Where the system has fewer threads to give there are fewer; the
/// caller's own is one of them.
pub(super) fn side_by_side<T: Sync>(items: &[T], at_once: usize, work: impl Fn(usize, &T) + Sync) {
    let next = AtomicUsize::new(0);
    let take_on = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { return };
            work(at, item);
        }
    };
    scope(|scope| {
        for _ in 1..at_once.min(items.len()) {
            drop(Builder::new().spawn_scoped(scope, take_on));
        }
        take_on();
    });
}
