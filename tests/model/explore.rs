//! Breadth-first search through every order of events, and the shortest way to a violation.
//!
//! Of a visited state only a fingerprint of 64 bits is kept, with that of its parent; a trace is
//! found by walking that chain again from the start. Of five million states two have the same
//! fingerprint with a probability below one in a million.

use std::fmt::{Debug, Display};

use crate::intern::FastMap;

/// What is searched.
pub(crate) trait Model {
    type State: Copy + Debug;
    type Step: Copy + Display;

    fn start(&mut self) -> Self::State;
    fn fingerprint(&self, state: &Self::State) -> u64;
    /// Every next state; a step that breaks a promise comes with what it breaks.
    fn steps(&mut self, state: &Self::State, found: &mut Vec<Next<Self::State, Self::Step>>);
    /// A step in words, for a trace.
    fn describe(&self, step: &Self::Step) -> String {
        step.to_string()
    }
}

/// One step and where it leads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Next<S, L> {
    pub(crate) step: L,
    pub(crate) state: S,
    pub(crate) breaks: Option<&'static str>,
}

/// What a search gave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    /// All states were seen; how many, and the longest of the shortest ways.
    Nothing { states: usize, depth: usize },
    /// More than the limit.
    TooMany { states: usize, depth: usize },
    /// The shortest way to a broken promise.
    Violation { promise: &'static str, trace: Vec<String> },
}

/// Searches at most `limit` states for any broken promise.
pub(crate) fn explore<M: Model>(model: &mut M, limit: usize) -> Found {
    explore_for(model, limit, None)
}

/// The same for one promise, if one is given: other broken ones do not count.
pub(crate) fn explore_for<M: Model>(
    model: &mut M,
    limit: usize,
    sought: Option<&'static str>,
) -> Found {
    let start = model.start();
    let root = model.fingerprint(&start);
    let mut parents: FastMap<u64, u64> = FastMap::default();
    parents.insert(root, root);
    let (mut layer, mut depth) = (vec![start], 0);
    let mut found = Vec::new();
    while !layer.is_empty() {
        let mut next_layer = Vec::new();
        for state in &layer {
            let parent = model.fingerprint(state);
            found.clear();
            model.steps(state, &mut found);
            for next in &found {
                let is_sought = |promise: &&str| sought.is_none_or(|sought| sought == *promise);
                if let Some(promise) = next.breaks.filter(is_sought) {
                    let mut trace = trace(model, start, &parents, parent);
                    trace.push(model.describe(&next.step));
                    return Found::Violation { promise, trace };
                }
                let print = model.fingerprint(&next.state);
                if let std::collections::hash_map::Entry::Vacant(new) = parents.entry(print) {
                    new.insert(parent);
                    next_layer.push(next.state);
                }
            }
            if parents.len() > limit {
                return Found::TooMany { states: parents.len(), depth };
            }
        }
        layer = next_layer;
        depth += 1;
    }
    Found::Nothing { states: parents.len(), depth: depth - 1 }
}

/// The steps that lead from the start to a state.
fn trace<M: Model>(
    model: &mut M,
    start: M::State,
    parents: &FastMap<u64, u64>,
    end: u64,
) -> Vec<String> {
    let mut prints = vec![end];
    while let Some(parent) = prints.last().map(|print| parents[print]) {
        if Some(&parent) == prints.last() {
            break;
        }
        prints.push(parent);
    }
    let mut trace = Vec::new();
    let mut state = start;
    for print in prints.iter().rev().skip(1) {
        let mut found = Vec::new();
        model.steps(&state, &mut found);
        let next = found.iter().find(|n| model.fingerprint(&n.state) == *print).unwrap();
        trace.push(model.describe(&next.step));
        state = next.state;
    }
    trace
}
