//! Decides which masters are reported to, from the names that were configured, what they resolve
//! to now, and what was heard at each place. Pure.
//!
//! A name is as many places as it has addresses. A place that its name no longer has stays for as
//! long as a master answers there, and goes when none does. Two places where the same master
//! answers (a name and its address, localhost as ::1 and 127.0.0.1) get one reporter: the place that
//! answered first keeps it, and when it falls silent the others are tried anew.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use dulse_shared::{
    clock::BootTime,
    net::{address::ServerAddress, resolver::literal},
    wire::MasterNode,
};

/// Places at a time: every address of four names, far more than a cluster has masters.
const MAX_PLACES: usize = 64;
/// How long a server that has not found its own cluster yet waits for other masters than the ones
/// that say they are of another.
const PATIENCE: Duration = Duration::from_secs(30);

/// One of the configured names.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct NameId(usize);

/// Where a master may be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct MasterAt {
    /// Its ports, at an address.
    pub(crate) address: ServerAddress,
    /// Its cluster port there.
    pub(crate) cluster: SocketAddr,
    /// The name that led there, unless that is the address.
    name: Option<String>,
}

impl fmt::Display for MasterAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        self.name.as_ref().map_or(Ok(()), |name| write!(f, " ({name})"))
    }
}

/// What a report to a place came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Word {
    /// A master of this server's cluster answered; which one, if it says so.
    Own(Option<MasterNode>),
    /// A master of another cluster did: a sentence.
    Other(String),
    /// Somebody did, who did not take the report.
    Refused,
    /// Nobody did.
    Silent,
}

/// How a place is doing.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Standing {
    Untried,
    Answers(Option<MasterNode>),
    /// The master answers at another place, which has the reporter.
    SameAs(MasterNode),
    OtherCluster(String),
    Refuses,
    Silent,
}

#[derive(Debug)]
struct Place {
    at: MasterAt,
    standing: Standing,
    /// Anything was ever heard there.
    has_answered: bool,
}

#[derive(Debug)]
struct Name {
    address: ServerAddress,
    /// What it resolved to last.
    found: Vec<SocketAddr>,
}

/// How a name is doing, by which it is resolved again sooner or later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NameStanding {
    /// All that should answer does.
    Well,
    /// Some of it does.
    Partly,
    /// Nothing does.
    Lost,
}

/// The masters.
#[derive(Debug)]
pub(super) struct Roster {
    names: Vec<Name>,
    places: BTreeMap<SocketAddr, Place>,
    /// A master of this server's cluster was heard, in this run.
    has_heard_own: bool,
    /// When a master of another cluster was first heard.
    heard_other: Option<BootTime>,
}

impl Roster {
    /// Of what was configured; addresses are places at once.
    pub(super) fn new(names: Vec<ServerAddress>) -> Self {
        let names: Vec<Name> =
            names.into_iter().map(|address| Name { address, found: Vec::new() }).collect();
        let literals: Vec<_> = names.iter().map(|name| literal(&name.address.host)).collect();
        let places = BTreeMap::new();
        let mut this = Self { names, places, has_heard_own: false, heard_other: None };
        for (id, ip) in literals.into_iter().enumerate() {
            if let Some(ip) = ip {
                this.resolved(NameId(id), &[ip]);
            }
        }
        this
    }

    /// The names that have to be resolved.
    pub(super) fn names(&self) -> Vec<(NameId, ServerAddress)> {
        let names = self.names.iter().enumerate();
        let names = names.filter(|(_, name)| literal(&name.address.host).is_none());
        names.map(|(id, name)| (NameId(id), name.address.clone())).collect()
    }

    /// Takes in what a name resolves to now; how many places there was no room for.
    pub(super) fn resolved(&mut self, id: NameId, ips: &[IpAddr]) -> usize {
        let Some(name) = self.names.get_mut(id.0) else { return 0 };
        let address = name.address.clone();
        name.found = ips.iter().map(|ip| SocketAddr::new(*ip, address.cluster_port)).collect();
        let found = name.found.clone();
        self.drop_the_gone();
        let mut left_out = 0;
        for cluster in found {
            if self.places.contains_key(&cluster) {
                continue;
            }
            if self.places.len() >= MAX_PLACES {
                left_out += 1;
                continue;
            }
            let name = literal(&address.host).is_none().then(|| address.host.clone());
            let at = MasterAt { address: address.at(cluster.ip()), cluster, name };
            let place = Place { at, standing: Standing::Untried, has_answered: false };
            self.places.insert(cluster, place);
        }
        left_out
    }

    /// Takes in what a report came to; whether that is news.
    pub(super) fn heard(&mut self, at: SocketAddr, word: Word, now: BootTime) -> bool {
        let standing = match word {
            Word::Own(node) => {
                self.has_heard_own = true;
                match node.filter(|node| self.answers_elsewhere(at, *node)) {
                    Some(node) => Standing::SameAs(node),
                    None => Standing::Answers(node),
                }
            }
            Word::Other(sentence) => {
                self.heard_other.get_or_insert(now);
                Standing::OtherCluster(sentence)
            }
            Word::Refused => Standing::Refuses,
            Word::Silent => Standing::Silent,
        };
        let Some(place) = self.places.get_mut(&at) else { return false };
        place.has_answered |= standing != Standing::Silent;
        if place.standing == standing {
            return false;
        }
        let before = std::mem::replace(&mut place.standing, standing);
        if let Standing::Answers(Some(node)) = before
            && self.places.get(&at).is_some_and(|place| !place.answers_as(node))
        {
            self.try_again(node);
        }
        self.drop_the_gone();
        true
    }

    fn answers_elsewhere(&self, at: SocketAddr, node: MasterNode) -> bool {
        self.places.iter().any(|(other, place)| *other != at && place.answers_as(node))
    }

    /// A master no longer answers where it was reported to: it may at its other places.
    fn try_again(&mut self, node: MasterNode) {
        for place in self.places.values_mut() {
            if place.standing == Standing::SameAs(node) {
                place.standing = Standing::Untried;
            }
        }
    }

    fn drop_the_gone(&mut self) {
        let names = &self.names;
        let is_found = |at: &SocketAddr| names.iter().any(|name| name.found.contains(at));
        self.places.retain(|at, place| place.answers() || is_found(at));
    }

    /// The places to report to.
    pub(super) fn wanted(&self) -> Vec<MasterAt> {
        let wanted = |place: &&Place| !matches!(place.standing, Standing::SameAs(_));
        self.places.values().filter(wanted).map(|place| place.at.clone()).collect()
    }

    /// Whether a master should be at a place. None need be at an address of a kind (IPv4, IPv6) at
    /// which its name was never heard, once it was at one of the other kind.
    pub(super) fn is_expected(&self, at: SocketAddr) -> bool {
        let mut names = self.names.iter().filter(|name| name.found.contains(&at)).peekable();
        let has_answered =
            |other: &SocketAddr| self.places.get(other).is_some_and(|place| place.has_answered);
        let expects = |name: &Name| {
            let mut heard = name.found.iter().filter(|other| has_answered(other)).peekable();
            heard.peek().is_none() || heard.any(|other| other.is_ipv4() == at.is_ipv4())
        };
        names.peek().is_none() || names.any(expects)
    }

    /// Where a master of this server's cluster answers.
    pub(super) fn answering(&self) -> Vec<String> {
        let answering = self.places.values().filter(|place| place.answers());
        answering.map(|place| place.at.address.to_string()).collect()
    }

    /// How a name is doing.
    pub(super) fn standing(&self, id: NameId) -> NameStanding {
        let Some(name) = self.names.get(id.0) else { return NameStanding::Well };
        let does_well = |at: &SocketAddr| {
            self.places.get(at).is_some_and(|place| {
                place.answers() || matches!(place.standing, Standing::SameAs(_))
            })
        };
        let (well, ill): (Vec<SocketAddr>, Vec<SocketAddr>) =
            name.found.iter().partition(|at| does_well(at));
        match (well.is_empty(), ill.iter().any(|at| self.is_expected(*at))) {
            (true, _) => NameStanding::Lost,
            (false, true) => NameStanding::Partly,
            (false, false) => NameStanding::Well,
        }
    }

    /// Why the server must not go on: it has never found its own cluster, and every master is of
    /// another one, or the others were waited for in vain. A server that has goes on, whatever its
    /// masters became: its volumes can be read, and recovered.
    pub(super) fn must_stop(&self, now: BootTime) -> Option<&str> {
        if self.has_heard_own {
            return None;
        }
        let sentence = self.places.values().find_map(|place| match &place.standing {
            Standing::OtherCluster(sentence) => Some(sentence.as_str()),
            _ => None,
        })?;
        let is_other = |place: &Place| matches!(place.standing, Standing::OtherCluster(_));
        let may_come = |place: &Place| !is_other(place) && self.is_expected(place.at.cluster);
        let is_open = self.names.iter().any(|name| name.found.is_empty())
            || self.places.values().any(may_come);
        let waited = self.heard_other.map(|since| now.since(since)).unwrap_or_default();
        (!is_open || waited >= PATIENCE).then_some(sentence)
    }
}

impl Place {
    fn answers(&self) -> bool {
        matches!(self.standing, Standing::Answers(_))
    }

    fn answers_as(&self, node: MasterNode) -> bool {
        self.standing == Standing::Answers(Some(node))
    }
}
