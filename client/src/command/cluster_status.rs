//! `dulse cluster status`: masters, volume servers and what is wrong, as tables.

use std::fmt::Write;

use super::{Outcome, say, table::add_table};
use crate::{
    client::Client,
    cluster_health::{ClusterMasters, HealthyServer, MasterRole},
    error::ClientError,
};

/// Prints who leads, who is there, and how the cluster is.
pub async fn cluster_status(client: &Client, json: bool) -> Result<Outcome, ClientError> {
    let cluster = client.health().await?;
    if json {
        say::json(&cluster)?;
    } else {
        say::data(render(&cluster).trim_end())?;
    }
    Ok(Outcome::Done)
}

fn render(cluster: &ClusterMasters) -> String {
    let health = &cluster.health;
    let leader = match health.leader.as_str() {
        "" => "none: nothing can be assigned until a master leads".to_owned(),
        leader => format!("{leader}, in term {}", health.term),
    };
    let states = health.volumes.iter().map(|(state, n)| format!("{n} {}", state.replace('_', " ")));
    let volumes = match states.collect::<Vec<_>>().join(", ") {
        none if none.is_empty() => "none yet".to_owned(),
        counts => counts,
    };
    let mut text = format!(
        "health    {}\nleader    {leader}\nvolumes   {volumes}\n",
        health.verdict.replace('_', " ")
    );
    for finding in &health.findings {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{}: {}", finding.code, finding.sentence);
    }
    let masters = cluster.masters.iter().map(master_row).collect();
    add_table(&mut text, ["MASTER", "ROLE", "TERM"], masters);
    let servers = health.servers.iter().map(server_row).collect();
    let head = ["SERVER", "DATA CENTER", "RACK", "STATE", "VOLUMES", "FREE SLOTS"];
    add_table(&mut text, head, servers);
    text
}

fn master_row(master: &MasterRole) -> [String; 3] {
    let (role, term) = match (&master.unreachable, master.is_leader) {
        (Some(reason), _) => (reason.clone(), "-".to_owned()),
        (None, true) => ("leader".to_owned(), master.term.to_string()),
        (None, false) => ("follower".to_owned(), master.term.to_string()),
    };
    [master.address.clone(), role, term]
}

fn server_row(server: &HealthyServer) -> [String; 6] {
    let state = match server.volumes_behind {
        0 => server.state.clone(),
        behind => format!("{}, {behind} volumes at an older epoch", server.state),
    };
    [
        server.url.clone(),
        server.data_center.clone(),
        server.rack.clone(),
        state,
        server.volumes.to_string(),
        server.free_slots.to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster_health::{ClusterHealth, Finding};

    #[test]
    fn what_is_wrong_comes_before_the_tables() {
        let master = |address: &str, is_leader, unreachable: Option<&str>| MasterRole {
            address: address.to_owned(),
            is_leader,
            term: 3,
            unreachable: unreachable.map(str::to_owned),
        };
        let finding = Finding {
            verdict: "at_risk".to_owned(),
            code: "SERVER_GONE".to_owned(),
            sentence: "volume server b:8080 is not heard: start it again".to_owned(),
        };
        let health = ClusterHealth {
            verdict: "at_risk".to_owned(),
            findings: vec![finding],
            leader: "a:9333".to_owned(),
            is_leader: true,
            term: 3,
            servers: Vec::new(),
            volumes: [("server_gone".to_owned(), 2), ("writable".to_owned(), 5)].into(),
            answered_by: "a:9333".to_owned(),
        };
        let masters =
            vec![master("a:9333", true, None), master("b:9333", false, Some("no answer"))];
        let text = render(&ClusterMasters { masters, health });
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "health    at risk",
                "leader    a:9333, in term 3",
                "volumes   2 server gone, 5 writable",
                "SERVER_GONE: volume server b:8080 is not heard: start it again",
                "",
                "MASTER  ROLE       TERM",
                "a:9333  leader     3",
                "b:9333  no answer  -",
            ]
        );
    }
}
