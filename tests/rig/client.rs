//! Clients that ask all the time and write down what they were answered.
//!
//! One kind asks one master for fids and no other, so that what it gets tells whether that master
//! serves. The other does what a client does: it asks any master, then writes, reads, overwrites
//! and deletes its needles on the volume servers. An answer that leaves open whether something
//! happened is noted as unknown, never as failed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{JoinHandle, sleep},
    time::Duration,
};

use dulse_shared::id::Fid;
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use reqwest::Method;

use crate::{
    body::{body, content_of},
    cluster::Cluster,
    history::{Content, Event, Operation, Outcome, Stopwatch, Version},
    http::{Answer, Http, Reply},
};

/// Long enough that the servers have processors left, short beside an election.
const PAUSE: Duration = Duration::from_millis(5);
/// Bodies up to here are kept in memory by a volume server, larger ones spooled.
const SMALL: usize = 64 << 10;
const LARGE: usize = (3 << 20) / 2;
/// One body in so many is large.
const LARGE_ONE_IN: u32 = 40;

/// Clients at work.
pub struct Clients {
    stopping: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<Operation>>>,
}

/// One client.
pub struct Client {
    name: String,
    http: Http,
    stopwatch: Stopwatch,
    masters: Vec<(String, String)>,
    done: Vec<Operation>,
}

impl Clients {
    /// One client for each master that asks for fids, and `users` that use them.
    pub fn start(cluster: &Cluster, stopwatch: &Stopwatch, seed: u64, users: u64) -> Self {
        let stopping = Arc::new(AtomicBool::new(false));
        let mut clients = Self { stopping, threads: Vec::new() };
        for master in cluster.masters() {
            let name = format!("asker of {}", master.0);
            let client = Client::new(name, cluster, stopwatch);
            clients.spawn(client, move |client| {
                client.assign(&master);
            });
        }
        for n in 0..users {
            let client = Client::new(format!("user {n}"), cluster, stopwatch);
            let mut user = User { rng: StdRng::seed_from_u64(seed ^ n), needles: Vec::new() };
            clients.spawn(client, move |client| user.use_one(client));
        }
        clients
    }

    /// Stops all clients once their last requests have ended; what they were answered.
    pub fn stop(self) -> Vec<Operation> {
        self.stopping.store(true, Ordering::Relaxed);
        let ended = self.threads.into_iter().map(|thread| thread.join().expect("a client's work"));
        ended.flatten().collect()
    }

    fn spawn(&mut self, mut client: Client, mut turn: impl FnMut(&mut Client) + Send + 'static) {
        let stopping = Arc::clone(&self.stopping);
        self.threads.push(std::thread::spawn(move || {
            while !stopping.load(Ordering::Relaxed) {
                turn(&mut client);
                sleep(PAUSE);
            }
            client.done
        }));
    }
}

/// What a client that uses needles goes by.
struct User {
    rng: StdRng,
    /// What it wrote and did not delete. Nobody else writes these.
    needles: Vec<Needle>,
}

struct Needle {
    fid: Fid,
    url: String,
    version: Version,
}

impl User {
    /// A new needle written and read, and something done to one of the others.
    fn use_one(&mut self, client: &mut Client) {
        let master = client.masters.choose(&mut self.rng).unwrap().clone();
        if let Some((fid, url)) = client.assign(&master) {
            let needle = Needle { fid, url, version: Version(1) };
            client.put(&needle, self.len());
            client.get(&needle);
            self.needles.push(needle);
        }
        if self.needles.is_empty() {
            return;
        }
        let n = self.rng.random_range(0..self.needles.len());
        match self.rng.random_range(0..4) {
            0 => {
                let len = self.len();
                let needle = &mut self.needles[n];
                needle.version.0 += 1;
                client.put(needle, len);
            }
            1 => {
                let needle = self.needles.swap_remove(n);
                client.delete(&needle);
                client.get(&needle);
            }
            _ => client.get(&self.needles[n]),
        }
    }

    fn len(&mut self) -> usize {
        let is_large = self.rng.random_ratio(1, LARGE_ONE_IN);
        self.rng.random_range(0..if is_large { LARGE } else { SMALL })
    }
}

impl Client {
    /// One that has asked for nothing yet.
    pub fn new(name: String, cluster: &Cluster, stopwatch: &Stopwatch) -> Self {
        let (http, masters) = (cluster.http().clone(), cluster.masters());
        Self { name, http, stopwatch: stopwatch.clone(), masters, done: Vec::new() }
    }

    /// What it was answered.
    pub fn into_operations(self) -> Vec<Operation> {
        self.done
    }

    /// Asks this master for a fid; where to write it, if there is one.
    fn assign(&mut self, (name, url): &(String, String)) -> Option<(Fid, String)> {
        let mut place = None;
        let mut ask = |http: &Http| {
            let outcome = outcome(http.get(&format!("{url}/dir/assign")))
                .and_then_known(|answer| read_assigned(&answer));
            outcome.map(|(fid, url)| {
                place = Some((fid, url));
                fid
            })
        };
        self.note(name, |http| Event::Assign(ask(http)));
        place
    }

    fn put(&mut self, needle: &Needle, len: usize) {
        let Needle { fid, url, version } = needle;
        let bytes = body(*fid, *version, len);
        self.note(url, |http| {
            let reply = http.send(Method::PUT, url, bytes);
            Event::Put(*fid, *version, outcome(reply).map(|_| ()))
        });
    }

    fn delete(&mut self, needle: &Needle) {
        let Needle { fid, url, .. } = needle;
        self.note(url, |http| {
            Event::Delete(*fid, outcome(http.send(Method::DELETE, url, Vec::new())).map(|_| ()))
        });
    }

    fn get(&mut self, needle: &Needle) {
        self.note(&needle.url, |http| Event::Get(needle.fid, read(http, needle.fid, &needle.url)));
    }

    /// Reads a needle from where this master says that it is; whether that gave an answer.
    pub fn get_by_way_of(&mut self, (name, url): &(String, String), fid: Fid) -> bool {
        let mut is_known = false;
        self.note(name, |http| {
            let outcome = match http.get(&format!("{url}/{fid}")) {
                Reply::Answer(Answer { location: Some(location), .. }) => {
                    read(http, fid, &location)
                }
                other => Outcome::Failed(format!("no redirect: {other:?}")),
            };
            is_known = matches!(outcome, Outcome::Ok(_));
            Event::Get(fid, outcome)
        });
        is_known
    }

    fn note(&mut self, server: &str, ask: impl FnOnce(&Http) -> Event) {
        let start = self.stopwatch.now();
        let event = ask(&self.http);
        let end = self.stopwatch.now();
        let (client, server) = (self.name.clone(), server.to_owned());
        self.done.push(Operation { client, server, start, end, event });
    }
}

/// What an answer says about whether it was done.
fn outcome(reply: Reply) -> Outcome<Answer> {
    match reply {
        Reply::Answer(answer) if (200..300).contains(&answer.status) => Outcome::Ok(answer),
        Reply::Answer(answer) => {
            // A server that does not say more than that something went wrong may have done it.
            let is_open =
                answer.code() == "write_unknown" || matches!(answer.status, 500 | 502 | 504);
            let sentence = answer.sentence();
            if is_open { Outcome::Unknown(sentence) } else { Outcome::Failed(sentence) }
        }
        Reply::NotSent(error) => Outcome::Failed(error),
        Reply::Lost(error) => Outcome::Unknown(error),
    }
}

fn read(http: &Http, fid: Fid, url: &str) -> Outcome<Content> {
    match http.get(url) {
        Reply::Answer(answer) if answer.status == 404 && answer.code() == "not_found" => {
            Outcome::Ok(Content::Absent)
        }
        reply => outcome(reply).map(|answer| content_of(fid, &answer.body)),
    }
}

/// The fid, and where to write it.
fn read_assigned(answer: &Answer) -> Option<(Fid, String)> {
    let body = answer.json();
    let fid = body["fid"].as_str()?;
    let url = format!("http://{}/{fid}", body["publicUrl"].as_str()?);
    Some((fid.parse().ok()?, url))
}
