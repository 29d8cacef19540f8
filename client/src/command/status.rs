//! `dulse status`: the cluster as tables.

use std::{collections::HashSet, fmt::Write};

use dulse_shared::size::ByteSize;

use super::{Outcome, say, table::add_table};
use crate::{
    client::Client,
    cluster_status::{ClusterStatus, ServerStatus, VolumeState, VolumeStatus},
    error::ClientError,
};

/// Prints leader, servers and volumes.
pub async fn status(client: &Client, json: bool) -> Result<Outcome, ClientError> {
    let status = client.status().await?;
    if json {
        say::json(&status)?;
    } else {
        say::data(render(&status).trim_end())?;
    }
    Ok(Outcome::Done)
}

fn render(status: &ClusterStatus) -> String {
    let mut text = summary(status);
    let servers = status.servers.iter().map(server_row).collect();
    add_table(&mut text, ["SERVER", "DATA CENTER", "RACK", "VOLUMES", "FREE", "STATE"], servers);
    let volumes =
        status.servers.iter().flat_map(|server| volume_rows(server).chain(unserved_rows(server)));
    let volumes = volumes.collect();
    add_table(&mut text, ["VOLUME", "COLLECTION", "SIZE", "NEEDLES", "SERVER", "STATE"], volumes);
    for (server, disk) in status.servers.iter().flat_map(|s| s.disks.iter().map(move |d| (s, d))) {
        if let Some(trouble) = &disk.trouble {
            // Writing into a String cannot fail.
            let _ = writeln!(text, "\n{} of {} cannot be used: {trouble}", disk.dir, server.url);
        }
    }
    text
}

fn summary(status: &ClusterStatus) -> String {
    let leader = if status.leader.is_empty() {
        "none: no master leads; writes wait until one does"
    } else {
        &status.leader
    };
    let mut text = format!("leader    {leader}\n");
    let counts = status.volumes_by_state();
    let mut counts: Vec<String> =
        counts.iter().map(|(state, count)| format!("{count} {state}")).collect();
    let unserved = unserved_volumes(status);
    if unserved > 0 {
        counts.push(format!("{unserved} not served"));
    }
    // Writing into a String cannot fail.
    let _ = writeln!(text, "volumes   {}", counts.join(", "));
    let _ = writeln!(text, "room      {} more volumes", status.free_slots);
    text
}

/// Volumes that some server has files of and none serves.
fn unserved_volumes(status: &ClusterStatus) -> usize {
    let servers = || status.servers.iter();
    let served: HashSet<u32> = servers().flat_map(|s| &s.volumes).map(|v| v.id).collect();
    let unserved = servers().flat_map(|server| &server.unserved).map(|volume| volume.id);
    unserved.filter(|id| !served.contains(id)).collect::<HashSet<u32>>().len()
}

fn server_row(server: &ServerStatus) -> [String; 6] {
    let free = server.disks.iter().map(|disk| disk.free_bytes).sum();
    let state = server.unreachable.as_deref().unwrap_or("up");
    [
        server.url.clone(),
        server.data_center.clone(),
        server.rack.clone(),
        server.volumes.len().to_string(),
        ByteSize(free).to_string(),
        state.to_owned(),
    ]
}

fn volume_rows(server: &ServerStatus) -> impl Iterator<Item = [String; 6]> {
    server.volumes.iter().map(|volume| {
        [
            volume.id.to_string(),
            if volume.collection.is_empty() { "-".to_owned() } else { volume.collection.clone() },
            ByteSize(volume.size_bytes).to_string(),
            volume.needles.to_string(),
            server.url.clone(),
            state_in_words(volume),
        ]
    })
}

fn unserved_rows(server: &ServerStatus) -> impl Iterator<Item = [String; 6]> {
    server.unserved.iter().map(|volume| {
        [
            volume.id.to_string(),
            if volume.collection.is_empty() { "-".to_owned() } else { volume.collection.clone() },
            "-".to_owned(),
            "-".to_owned(),
            server.url.clone(),
            format!("not served: {}", volume.reason),
        ]
    })
}

fn state_in_words(volume: &VolumeStatus) -> String {
    match (volume.state, volume.reason.as_str()) {
        (VolumeState::ReadOnly | VolumeState::Closed, reason) if !reason.is_empty() => {
            format!("{}: {reason}", volume.state.as_word())
        }
        (state, _) => state.as_word().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster_status::{DiskStatus, UnservedStatus};

    fn volume(id: u32, state: VolumeState) -> VolumeStatus {
        VolumeStatus {
            id,
            collection: String::new(),
            size_bytes: 2048,
            garbage_bytes: 0,
            needles: 3,
            state,
            reason: String::new(),
        }
    }

    #[test]
    fn the_tables_line_up_and_count_volumes_once() {
        let server = |url: &str| ServerStatus {
            url: url.to_owned(),
            data_center: "dc".to_owned(),
            rack: "r".to_owned(),
            unreachable: None,
            disks: vec![DiskStatus {
                dir: "/d".to_owned(),
                total_bytes: 10 << 30,
                free_bytes: 5 << 30,
                trouble: Some("it was unmounted".to_owned()),
            }],
            volumes: vec![volume(1, VolumeState::Writable), volume(2, VolumeState::Full)],
            unserved: vec![UnservedStatus {
                id: 3,
                collection: String::new(),
                reason: "3.dat is missing".to_owned(),
            }],
        };
        let status = ClusterStatus {
            leader: "a:9333".to_owned(),
            peers: Vec::new(),
            free_slots: 6,
            servers: vec![server("a:8080"), server("b:8080")],
        };
        let text = render(&status);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[..3],
            [
                "leader    a:9333",
                "volumes   1 full, 0 read-only, 1 writable, 1 not served",
                "room      6 more volumes",
            ]
        );
        assert_eq!(lines[4], "SERVER  DATA CENTER  RACK  VOLUMES  FREE  STATE");
        assert_eq!(lines[5], "a:8080  dc           r     2        5GB   up");
        assert!(lines.contains(&"2       -           2KB   3        b:8080  full"), "{text}");
        for shown in ["not served: 3.dat is missing", "/d of b:8080 cannot be used: it was unm"] {
            assert!(text.contains(shown), "{shown} in {text}");
        }
    }
}
