//! Needles that a test stored and wants back.

use reqwest::Method;

use crate::{
    harness::Server,
    http::{self, Answer},
};

/// What is stored, by fid; a body of `None` was deleted.
#[derive(Default)]
pub(crate) struct Needles {
    kept: Vec<(String, Option<Vec<u8>>)>,
}

/// A fid and where to write it.
pub(crate) struct Assigned {
    pub(crate) fid: String,
    pub(crate) url: String,
}

/// Asks the master for a fid; `query` is what follows the question mark.
pub(crate) fn try_assign(server: &Server, query: &str) -> Result<Assigned, Box<Answer>> {
    let answer = http::get(&format!("{}/dir/assign?{query}", server.master_url()));
    if answer.status != 200 {
        return Err(Box::new(answer));
    }
    let body = answer.json();
    let text = |name: &str| body[name].as_str().unwrap().to_owned();
    Ok(Assigned { url: format!("http://{}/{}", text("url"), text("fid")), fid: text("fid") })
}

/// A fid and where to write it, which there must be.
#[track_caller]
pub(crate) fn assign(server: &Server) -> Assigned {
    match try_assign(server, "") {
        Ok(assigned) => assigned,
        Err(answer) => panic!("assign: {} {}", answer.status, answer.text()),
    }
}

impl Needles {
    /// Stores a body under a fresh fid.
    #[track_caller]
    pub(crate) fn put(&mut self, server: &Server, body: &[u8]) -> Assigned {
        let assigned = assign(server);
        let answer = http::send(Method::PUT, &assigned.url, &[], body.to_vec());
        assert_eq!(answer.status, 201, "{}", answer.text());
        self.kept.push((assigned.fid.clone(), Some(body.to_vec())));
        assigned
    }

    /// Takes note of a needle that was stored otherwise.
    pub(crate) fn note(&mut self, fid: &str, body: &[u8]) {
        self.kept.push((fid.to_owned(), Some(body.to_vec())));
    }

    /// Takes note that a needle was deleted.
    pub(crate) fn note_deleted(&mut self, fid: &str) {
        self.kept.push((fid.to_owned(), None));
    }

    /// Everything that `other` stored as well.
    pub(crate) fn extend(&mut self, other: Self) {
        self.kept.extend(other.kept);
    }

    /// How many notes there are.
    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    /// Reads everything back from whichever volume server the master names; the last note about a
    /// fid counts.
    #[track_caller]
    pub(crate) fn assert_kept(&self, server: &Server) {
        let master = server.master_url();
        for (at, (fid, body)) in self.kept.iter().enumerate() {
            if self.kept.iter().skip(at + 1).any(|(later, _)| later == fid) {
                continue;
            }
            let answer = http::get_by_way_of(&master, fid);
            match body {
                Some(body) => {
                    assert_eq!(answer.status, 200, "{fid}: {}", answer.text());
                    assert!(answer.body == *body, "{fid}: other bytes than were stored");
                }
                None => assert_eq!(answer.status, 404, "{fid} was deleted"),
            }
        }
    }
}

/// Bytes that look like nothing in particular and differ by seed.
pub(crate) fn body(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(step).take(length).collect()
}

/// A stopped server with three needles.
pub(crate) fn stopped_server() -> (Server, Needles) {
    let mut server = Server::builder().start();
    let mut needles = Needles::default();
    for text in ["one", "two", "three"] {
        needles.put(&server, text.as_bytes());
    }
    assert!(server.terminate().success());
    (server, needles)
}
