//! Does to a cluster what a schedule says, undoes it, and keeps the times for the checks.

use std::thread::sleep;

use rustix::process::Signal;

use crate::{
    cluster::Cluster,
    fault::{Fault, Schedule, Step, Undo},
    history::{Isolation, Moment, Stopwatch},
};

/// Someone who harms a cluster.
pub struct Nemesis<'a> {
    cluster: &'a mut Cluster,
    stopwatch: Stopwatch,
    lasting: Vec<Lasting>,
    isolations: Vec<Isolation>,
}

/// A fault that was done and not undone yet.
struct Lasting {
    server: String,
    undo: Undo,
    from: Moment,
}

impl<'a> Nemesis<'a> {
    /// One that has done nothing yet.
    pub fn new(cluster: &'a mut Cluster, stopwatch: Stopwatch) -> Self {
        Self { cluster, stopwatch, lasting: Vec::new(), isolations: Vec::new() }
    }

    /// Does all of the schedule, leaves the cluster whole, and tells which masters were cut off.
    pub fn run(mut self, schedule: &Schedule) -> Vec<Isolation> {
        for step in &schedule.0 {
            self.step(step);
        }
        self.heal();
        self.isolations
    }

    fn step(&mut self, step: &Step) {
        let server = step.fault.target().map(|target| self.cluster.resolve(target));
        let server = server.unwrap_or_default();
        println!("{} {step} {server}", self.stopwatch.now());
        self.perform(&step.fault, &server);
        if let Some(undo) = step.fault.undo() {
            self.lasting.push(Lasting { server, undo, from: self.stopwatch.now() });
        }
        if let Some(lasts) = step.lasts {
            sleep(lasts);
            let lasting = self.lasting.pop().expect("what has a time lasts");
            self.undo(lasting);
        }
        // While something lasts the cluster may not be whole, and need not be.
        if self.lasting.is_empty() {
            self.cluster.wait_until_whole();
        }
    }

    fn perform(&mut self, fault: &Fault, server: &str) {
        match fault {
            Fault::Kill(_) => self.cluster.kill(server),
            Fault::Stop(_) => self.cluster.signal(server, Signal::STOP),
            Fault::Cut(_, ways) => self.cluster.cut(server, *ways),
            Fault::Restart(_) => self.cluster.restart(server),
            Fault::Wipe(_) => self.cluster.wipe(server),
            Fault::Wait(time) => sleep(*time),
            Fault::Heal => self.heal(),
        }
    }

    /// Undoes whatever lasts, the last first.
    fn heal(&mut self) {
        while let Some(lasting) = self.lasting.pop() {
            self.undo(lasting);
        }
        self.cluster.wait_until_whole();
    }

    fn undo(&mut self, Lasting { server, undo, from }: Lasting) {
        match undo {
            Undo::Start => self.cluster.spawn(&server),
            Undo::Continue => self.cluster.signal(&server, Signal::CONT),
            Undo::Reconnect(ways) => {
                if self.cluster.needs_agreement(&server) {
                    let until = self.stopwatch.now();
                    self.isolations.push(Isolation { server: server.clone(), from, until });
                }
                self.cluster.reconnect(&server, ways);
            }
        }
    }
}
