//! Faults as words: what is done to which server, for how long, and what undoes it.
//!
//! A schedule is one line that is read and printed alike, as in
//! `kill leader 2s, cut leader inbound 3s, restart m2`. A fault with a time is undone after it,
//! and the next comes once the cluster is whole again; one without a time lasts until `heal`, so
//! that several can be there at once. Pure: [`crate::nemesis`] does it.

use std::{fmt, str::FromStr, time::Duration};

use rand::{
    RngExt, SeedableRng,
    rngs::StdRng,
    seq::{IndexedRandom, SliceRandom},
};

/// Longer faults than this are a mistake in a schedule.
const LONGEST: Duration = Duration::from_secs(600);

/// Who is meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// The master that leads when the fault comes.
    Leader,
    /// A master that does not.
    Follower,
    /// The server of this name.
    Named(String),
}

/// Which ways a cut server loses to and from all other servers. Clients reach it all the time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ways {
    /// Both.
    Both,
    /// Nothing that it sends arrives.
    Outbound,
    /// Nothing arrives that is sent to it.
    Inbound,
}

/// What is done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// `kill -9`.
    Kill(Target),
    /// `SIGSTOP`: it does nothing, but its connections stay.
    Stop(Target),
    /// Cut off from all other servers.
    Cut(Target, Ways),
    /// Stopped in an orderly way and started again.
    Restart(Target),
    /// Killed, its directory removed, started again. Loses what only it had.
    Wipe(Target),
    /// Nothing is done for this long.
    Wait(Duration),
    /// Everything that lasts is undone.
    Heal,
}

/// What undoes a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Undo {
    /// The process is started again.
    Start,
    /// `SIGCONT`.
    Continue,
    /// Packets go these ways again.
    Reconnect(Ways),
}

/// A fault, and after which time it is undone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// What is done.
    pub fault: Fault,
    /// How long it lasts; until `heal` if nobody says, for a fault that lasts.
    pub lasts: Option<Duration>,
}

/// Faults in their order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Schedule(pub Vec<Step>);

impl Fault {
    /// What undoes it; none for what is over when it is done.
    pub fn undo(&self) -> Option<Undo> {
        match self {
            Self::Kill(_) => Some(Undo::Start),
            Self::Stop(_) => Some(Undo::Continue),
            Self::Cut(_, ways) => Some(Undo::Reconnect(*ways)),
            Self::Restart(_) | Self::Wipe(_) | Self::Wait(_) | Self::Heal => None,
        }
    }

    /// Whom it is done to.
    pub fn target(&self) -> Option<&Target> {
        match self {
            Self::Kill(target)
            | Self::Stop(target)
            | Self::Cut(target, _)
            | Self::Restart(target)
            | Self::Wipe(target) => Some(target),
            Self::Wait(_) | Self::Heal => None,
        }
    }
}

impl Schedule {
    /// One of each kind of fault in random order, for random times: each is survived without a
    /// loss, for nothing that has the only copy of a needle is wiped.
    pub fn random(seed: u64, volume_servers: &[String]) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let one_way = *[Ways::Outbound, Ways::Inbound].choose(&mut rng).unwrap();
        let volume_server = volume_servers.choose(&mut rng).unwrap().clone();
        let mut faults = vec![
            Fault::Kill(Target::Leader),
            Fault::Stop(Target::Leader),
            Fault::Cut(Target::Leader, Ways::Both),
            Fault::Cut(Target::Leader, one_way),
            Fault::Restart([Target::Leader, Target::Follower].choose(&mut rng).unwrap().clone()),
            Fault::Wipe(Target::Follower),
            Fault::Kill(Target::Named(volume_server)),
        ];
        faults.shuffle(&mut rng);
        let mut step = |fault: Fault| {
            // A second is under, three are far over the time after which a leader is deposed.
            let lasts = Duration::from_millis(100 * rng.random_range(10..=30));
            Step { lasts: fault.undo().map(|_| lasts), fault }
        };
        Self(faults.into_iter().map(&mut step).collect())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leader => f.write_str("leader"),
            Self::Follower => f.write_str("follower"),
            Self::Named(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Ways {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Both => "both",
            Self::Outbound => "outbound",
            Self::Inbound => "inbound",
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(target) => write!(f, "kill {target}"),
            Self::Stop(target) => write!(f, "stop {target}"),
            Self::Cut(target, ways) => write!(f, "cut {target} {ways}"),
            Self::Restart(target) => write!(f, "restart {target}"),
            Self::Wipe(target) => write!(f, "wipe {target}"),
            Self::Wait(time) => write!(f, "wait {}", time_text(*time)),
            Self::Heal => f.write_str("heal"),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.fault)?;
        self.lasts.map_or(Ok(()), |lasts| write!(f, " {}", time_text(lasts)))
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps: Vec<String> = self.0.iter().map(Step::to_string).collect();
        f.write_str(&steps.join(", "))
    }
}

impl FromStr for Schedule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let steps = text.split(',').map(str::parse).collect::<Result<Vec<Step>, String>>()?;
        Ok(Self(steps))
    }
}

impl FromStr for Step {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words: Vec<&str> = text.split_whitespace().collect();
        if let ["wait", time] = words[..] {
            return Ok(Self { fault: Fault::Wait(read_time(time)?), lasts: None });
        }
        let lasts = words.last().and_then(|word| read_time(word).ok());
        if lasts.is_some() {
            words.pop();
        }
        let fault = match words[..] {
            ["kill", target] => Fault::Kill(read_target(target)),
            ["stop", target] => Fault::Stop(read_target(target)),
            ["cut", target, ways] => Fault::Cut(read_target(target), ways.parse()?),
            ["restart", target] => Fault::Restart(read_target(target)),
            ["wipe", target] => Fault::Wipe(read_target(target)),
            ["heal"] => Fault::Heal,
            _ => return Err(format!("{text:?} is no fault")),
        };
        if lasts.is_some() && fault.undo().is_none() {
            return Err(format!("{text:?}: {fault} is over when it is done, and takes no time"));
        }
        Ok(Self { fault, lasts })
    }
}

impl FromStr for Ways {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Both, Self::Outbound, Self::Inbound];
        let found = all.into_iter().find(|ways| ways.to_string() == text);
        found.ok_or_else(|| format!("{text:?} is not `both`, `outbound` or `inbound`"))
    }
}

fn read_target(word: &str) -> Target {
    match word {
        "leader" => Target::Leader,
        "follower" => Target::Follower,
        name => Target::Named(name.to_owned()),
    }
}

/// `2s`, `1.5s` or `300ms`.
fn read_time(word: &str) -> Result<Duration, String> {
    let wrong = || format!("{word:?} is no time such as 2s or 300ms");
    let (number, unit_secs) = match word.strip_suffix("ms") {
        Some(number) => (number, 0.001),
        None => (word.strip_suffix('s').ok_or_else(wrong)?, 1.0),
    };
    let secs = unit_secs * number.parse::<f64>().map_err(|_| wrong())?;
    let time = Duration::try_from_secs_f64(secs).map_err(|_| wrong())?;
    // Floats are not exact, and what is printed is what was read.
    let time = Duration::from_millis(
        u64::try_from((time.as_secs_f64() * 1000.0).round() as u128).map_err(|_| wrong())?,
    );
    if time > LONGEST { Err(wrong()) } else { Ok(time) }
}

fn time_text(time: Duration) -> String {
    match time.as_millis() {
        millis if millis % 1000 == 0 => format!("{}s", millis / 1000),
        millis => format!("{millis}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<String> {
        ["v1", "v2", "v3"].map(str::to_owned).to_vec()
    }

    #[test]
    fn every_fault_is_printed_as_it_is_read() {
        for text in [
            "kill leader, stop follower, cut leader both, heal",
            "stop leader 5s, cut m1 outbound 300ms, cut v2 inbound, wait 1s",
            "restart m2, wipe m1, kill v3 1500ms",
        ] {
            let schedule: Schedule = text.parse().unwrap();
            assert_eq!(schedule.to_string(), text);
        }
        let spaced: Schedule = " kill  leader 1.5s ,heal".parse().unwrap();
        assert_eq!(spaced.to_string(), "kill leader 1500ms, heal");
    }

    #[test]
    fn what_is_no_fault_is_refused_with_the_word() {
        for (text, part) in [
            ("", "is no fault"),
            ("kill", "is no fault"),
            ("kill leader,", "is no fault"),
            ("cut leader", "is no fault"),
            ("cut leader sideways", "sideways"),
            ("kill leader soon", "is no fault"),
            ("restart m1 5s", "takes no time"),
            ("heal 5s", "takes no time"),
            ("wait long", "\"long\" is no time"),
            ("wait -1s", "is no time"),
            ("wait 1e9s", "is no time"),
        ] {
            let said = text.parse::<Schedule>().unwrap_err();
            assert!(said.contains(part), "{text}: {said}");
        }
    }

    #[test]
    fn what_lasts_is_undone_and_what_does_not_is_not() {
        let undone = |text: &str| text.parse::<Step>().unwrap().fault.undo();
        assert_eq!(undone("kill m1"), Some(Undo::Start));
        assert_eq!(undone("stop m1"), Some(Undo::Continue));
        assert_eq!(undone("cut m1 inbound"), Some(Undo::Reconnect(Ways::Inbound)));
        for over in ["restart m1", "wipe m1", "wait 1s", "heal"] {
            assert_eq!(undone(over), None, "{over}");
        }
    }

    #[test]
    fn a_seed_gives_one_schedule_and_others_give_others() {
        let text = |seed| Schedule::random(seed, &names()).to_string();
        assert_eq!(text(7), text(7));
        let different: std::collections::HashSet<String> = (0..20).map(text).collect();
        assert!(different.len() > 15, "{different:?}");
        for seed in 0..20 {
            let schedule = Schedule::random(seed, &names());
            assert_eq!(schedule.to_string().parse(), Ok(schedule));
        }
    }
}
