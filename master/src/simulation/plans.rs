//! The leader at work: what the plans ask for is agreed on and done, as the executor would do it.

use std::collections::BTreeSet;

use dulse_shared::{
    id::{Digest, ServerId, VolumeId},
    steady_clock::{LONGEST_PERIOD, SteadyTime},
    wire::{Incarnation, Sealed, Standing, VolumeConfig, VolumeState},
};
use rand::RngExt;

use super::{
    flaw::Flaw,
    invariants::{self, Checked, Violation},
    world::{LEADER, World},
};
use crate::{
    cluster_state::{Command, Outcome},
    placement::{LocationWish, PlacementError, ServerRoom, place_volumes, rooms},
    plan::{
        Rules,
        admission::{Admission, plan_admission},
        creation::plan_creations,
        expiry::plan_deletions,
        growth::{Need, need_of, volumes_to_grow},
        reconcile::{Step, plan_decision, plan_opening},
        seal::{Cause, ServerView, VolumeView, plan_seal},
    },
    volume_layout::LayoutKey,
};

/// Creations that one round plans.
const MAX_CREATIONS: usize = 64;
const RULES: Rules = Rules::all();

/// Creations that failed, which are left for later.
pub(super) type Failed = BTreeSet<(VolumeId, ServerId)>;

/// How much of each kind was planned in a round.
#[derive(PartialEq, Eq, Debug, Default)]
pub(super) struct Done {
    created: usize,
    admitted: usize,
    deleted: usize,
    replicated: usize,
    grown: usize,
}

impl World {
    /// Does all that is planned now; how much that was.
    pub(super) fn plan_and_do(&mut self, failed: &mut Failed) -> Result<Done, Violation> {
        let mut done = Done {
            created: self.create(failed, MAX_CREATIONS),
            admitted: self.admit()?,
            deleted: self.delete_expired()?,
            replicated: self.replicate()?,
            grown: 0,
        };
        for key in self.keys.clone() {
            let layout = self.layouts.layouts.get(&key);
            let stock = layout.map(|layout| layout.writable.stock(&LocationWish::default()));
            if need_of(stock.unwrap_or_default()) != Need::None {
                done.grown += self.grow(&key, &LocationWish::default())?;
            }
        }
        self.tick();
        Ok(done)
    }

    /// Plans and does until nothing is planned.
    pub(super) fn reach_fixed_point(&mut self) -> Checked {
        let mut failed = Failed::new();
        let mut rounds = 0;
        loop {
            let done = self.plan_and_do(&mut failed)?;
            self.pass(100);
            self.beat(false);
            self.tick();
            self.check()?;
            if done == Done::default() {
                return Ok(());
            }
            rounds += 1;
            invariants::plans_reach_a_fixed_point(rounds, &format!("{done:?}"))?;
        }
    }

    /// Grows all layouts, creating what was agreed on, until there are so many volumes or no room.
    pub(super) fn fill(&mut self, volumes: usize) -> Result<(), Violation> {
        let mut has_room = true;
        while has_room && self.state().volumes.len() < volumes {
            has_room = false;
            for key in self.keys.clone() {
                has_room |= self.grow_by(&key, &LocationWish::default(), Some(1_000))? > 0;
            }
            self.create(&mut Failed::new(), usize::MAX);
            self.beat(false);
        }
        self.tick();
        Ok(())
    }

    fn create(&mut self, failed: &mut Failed, limit: usize) -> usize {
        let planned = plan_creations(self.state(), &self.topologies[LEADER], usize::MAX);
        let due = planned.into_iter().filter(|c| !failed.contains(&(c.config.id, c.server)));
        let due: Vec<_> = due.take(limit).collect();
        for creation in &due {
            if self.flaw == Some(Flaw::NothingIsDone) {
                continue;
            }
            let (server, run) = (creation.server, creation.incarnation);
            let made = self.server_mut(server).and_then(|s| s.create(&creation.config, run));
            match made {
                Some(report) => {
                    let leader = &mut self.topologies[LEADER];
                    leader.fold_creation(server, run, report.clone(), self.now);
                    self.echo.fold_creation(server, run, report, self.now);
                }
                None => {
                    failed.insert((creation.config.id, server));
                }
            }
        }
        due.len()
    }

    fn admit(&mut self) -> Result<usize, Violation> {
        let mut commands = Vec::new();
        let mut admitted = Vec::new();
        for server in self.topologies[LEADER].alive() {
            for foreign in &server.foreign {
                match plan_admission(self.state(), &self.topologies[LEADER], server, foreign) {
                    Admission::Admit(command) => commands.push(command),
                    Admission::Admitted(config) => admitted.push((server.id, config)),
                    Admission::Refused(_) => {}
                }
            }
        }
        let planned = commands.len();
        for command in commands {
            self.commit(&command)?;
        }
        for (server, config) in admitted {
            if let Some(server) = self.server_mut(server).filter(|server| server.is_up) {
                server.take_over(&config);
            }
        }
        Ok(planned)
    }

    fn delete_expired(&mut self) -> Result<usize, Violation> {
        let now = SteadyTime { wall_ns: 1 << 60, steady_for: LONGEST_PERIOD };
        let volumes = plan_deletions(self.state(), &self.topologies[LEADER], now);
        let planned = volumes.len();
        if planned > 0 {
            self.commit(&Command::DeleteVolumes { volumes })?;
        }
        Ok(planned)
    }

    /// Seals, decides and opens what has several copies.
    fn replicate(&mut self) -> Result<usize, Violation> {
        let configs = self.state().volumes.values().filter(|config| config.placement.copies() > 1);
        let views: Vec<VolumeView> = configs.map(|config| self.view_of(config)).collect();
        let (mut done, mut volumes) = (0, Vec::new());
        for view in views {
            // One step of a volume at a time: the next is planned for the epoch that follows.
            if let Some(seal) = plan_seal(&view, Cause::Lost, RULES) {
                volumes.push(seal);
                continue;
            }
            let steps = [plan_decision(&view, RULES), plan_opening(&view, RULES)];
            let mut steps = steps.into_iter().filter_map(|step| match step {
                Step::Propose(command) => Some(command),
                Step::Wait(_) | Step::Ask(_) | Step::Diverged => None,
            });
            if let Some(command) = steps.next() {
                self.commit(&command)?;
                done += 1;
            }
        }
        if !volumes.is_empty() {
            done += volumes.len();
            self.commit(&Command::SealVolumes { volumes })?;
        }
        Ok(done)
    }

    fn view_of(&self, config: &VolumeConfig) -> VolumeView {
        let topology = &self.topologies[LEADER];
        let last = config.last_writable.iter().flat_map(|last| &last.members);
        let members =
            config.members.iter().map(|m| m.server).chain(last.map(|(server, _)| *server));
        let known = members.filter_map(|id| topology.server(id));
        let servers = known.map(|known| {
            let view = ServerView {
                incarnation: known.incarnation,
                is_present: known.is_alive,
                may_have_lease: false,
                sealed: self.sealed(config, known.id, known.incarnation),
                holdings: Vec::new(),
            };
            (known.id, view)
        });
        VolumeView { config: config.clone(), servers: servers.collect() }
    }

    /// What a replica answers to a sealed configuration. Nothing is ever being written here.
    fn sealed(&self, config: &VolumeConfig, id: ServerId, run: Incarnation) -> Option<Sealed> {
        let server = self.server(id)?;
        let has_it =
            server.is_up && server.incarnation == run && server.volumes.contains_key(&config.id);
        let decides = config.sealed_with.contains(&(id, run));
        let standing = if decides { Standing::Running } else { Standing::Returned };
        (has_it && config.state != VolumeState::Writable).then_some(Sealed {
            epoch: config.epoch,
            incarnation: run,
            standing,
            has_adopted: !decides,
            unresolved: Vec::new(),
            digest: Digest::default(),
        })
    }

    /// Grows a layout; how many volumes were agreed on.
    pub(super) fn grow(
        &mut self,
        key: &LayoutKey,
        wish: &LocationWish,
    ) -> Result<usize, Violation> {
        self.grow_by(key, wish, None)
    }

    fn grow_by(
        &mut self,
        key: &LayoutKey,
        wish: &LocationWish,
        asked: Option<usize>,
    ) -> Result<usize, Violation> {
        let Ok(rooms) = rooms(&self.topologies[LEADER], self.state(), &key.disk) else {
            return Ok(0);
        };
        let free_slots = rooms.iter().map(|room| room.free_slots).sum();
        let count = volumes_to_grow(key.placement, free_slots, asked);
        let placed = self.place(key, wish, &rooms, count);
        let ids = placed.as_ref().map(|placed| {
            placed
                .iter()
                .map(|members| members.iter().map(|(server, _)| *server).collect())
                .collect()
        });
        invariants::placement_is_right(key.placement, wish, &rooms, &ids.map_err(Clone::clone))?;
        let Ok(mut members) = placed else {
            return Ok(0);
        };
        if key.placement.copies() > 1 && self.flawed(Flaw::TwoCopiesOnOneServer) {
            for volume in &mut members {
                volume[1] = volume[0];
            }
        }
        let outcome = self.commit(&Command::CreateVolumes {
            collection: key.collection.clone(),
            placement: key.placement,
            ttl: key.ttl,
            disk: key.disk.clone(),
            members,
        })?;
        Ok(match outcome {
            Outcome::Volumes { configs } => configs.len(),
            _ => 0,
        })
    }

    fn place(
        &mut self,
        key: &LayoutKey,
        wish: &LocationWish,
        rooms: &[ServerRoom],
        count: usize,
    ) -> Result<Vec<Vec<(ServerId, Incarnation)>>, PlacementError> {
        if self.flawed(Flaw::GivesUpPlacing) {
            return Err(PlacementError::Full);
        }
        if self.flawed(Flaw::AnyServerWillDo) {
            let from = self.rng.random_range(0..rooms.len());
            let any = rooms.iter().cycle().skip(from).take(key.placement.copies());
            return Ok(vec![any.map(|room| (room.server, room.incarnation)).collect()]);
        }
        place_volumes(key.placement, wish, rooms.to_vec(), count, &mut self.rng)
    }
}
