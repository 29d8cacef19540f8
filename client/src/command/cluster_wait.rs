//! `dulse cluster wait`: until the cluster is as it is wanted.

use std::time::Duration;

use tokio::time::Instant;

use super::Outcome;
use crate::{client::Client, cluster_health::ClusterHealth, error::ClientError};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);

/// What is waited for, besides a master that leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// Nothing is unavailable or at risk.
    pub healthy: bool,
    /// So many volume servers are there.
    pub servers: usize,
    /// For so long at most.
    pub timeout: Duration,
}

/// Waits, and says on stderr what is missing, each time that changes.
pub async fn cluster_wait(client: &Client, wanted: Wanted) -> Result<Outcome, ClientError> {
    let until = Instant::now() + wanted.timeout;
    let mut told = String::new();
    loop {
        let looked = tokio::time::timeout_at(until, client.leader_health()).await;
        let missing = match looked {
            Ok(Ok(health)) => missing(&health, wanted),
            Ok(Err(error)) => error.to_string(),
            // The last look tells more than that this one took too long.
            Err(_) if told.is_empty() => "no master has answered yet".to_owned(),
            Err(_) => told.clone(),
        };
        if missing.is_empty() {
            eprintln!("the cluster is there");
            return Ok(Outcome::Done);
        }
        let next = Instant::now() + PAUSE;
        if next >= until {
            eprintln!("error: not within {:?}: {missing}", wanted.timeout);
            return Ok(Outcome::Partial);
        }
        if missing != told {
            eprintln!("waiting: {missing}");
            told = missing;
        }
        tokio::time::sleep_until(next).await;
    }
}

/// What is not as it is wanted; empty if nothing is.
fn missing(health: &ClusterHealth, wanted: Wanted) -> String {
    let mut missing = Vec::new();
    if health.leader.is_empty() {
        missing.push("no master leads".to_owned());
    }
    let alive = health.alive();
    if alive < wanted.servers {
        missing.push(format!("{alive} of {} volume servers are there", wanted.servers));
    }
    if wanted.healthy && !health.is_healthy() {
        let sentences: Vec<&str> = health.findings.iter().map(|f| f.sentence.as_str()).collect();
        missing.push(format!("{}: {}", health.verdict.replace('_', " "), sentences.join("; ")));
    }
    missing.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster_health::{Finding, HealthyServer};

    #[test]
    fn what_is_missing_is_named() {
        let server = |state: &str| HealthyServer {
            url: String::new(),
            public_url: String::new(),
            data_center: String::new(),
            rack: String::new(),
            state: state.to_owned(),
            volumes: 0,
            free_slots: 0,
            volumes_behind: 0,
        };
        let verdict = "at_risk".to_owned();
        let finding =
            Finding { verdict: verdict.clone(), code: String::new(), sentence: "b is gone".into() };
        let mut health = ClusterHealth {
            verdict,
            findings: vec![finding],
            leader: String::new(),
            is_leader: false,
            term: 1,
            servers: vec![server("alive"), server("gone"), server("stopping")],
            volumes: [].into(),
            answered_by: String::new(),
        };
        let wanted = |healthy, servers| Wanted { healthy, servers, timeout: PAUSE };
        let text = missing(&health, wanted(true, 3));
        assert_eq!(text, "no master leads; 1 of 3 volume servers are there; at risk: b is gone");
        health.leader = "a:1".to_owned();
        assert_eq!(missing(&health, wanted(false, 1)), "");
        assert_eq!(missing(&health, wanted(true, 1)), "at risk: b is gone");
        health.verdict = "healthy".to_owned();
        assert_eq!(missing(&health, wanted(true, 1)), "");
    }
}
