//! A lone master that lost its directory: no second cluster beside the volumes of the first, and no
//! volume server that stops because one of its masters is not its own.

use std::{fs, time::Duration};

use reqwest::Method;

use crate::{
    harness::{Role, Server, eventually, free_port},
    http::{attempt, get},
    needles::{Needles, assign},
};

/// Several heartbeats on a busy machine.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn losing_the_directory_of_the_master_beside_the_volumes_loses_no_data_and_founds_nothing() {
    let (master_port, volume_port) = (free_port(), free_port());
    let mut server =
        Server::builder().port("master-port", master_port).port("volume-port", volume_port).start();
    let mut needles = Needles::default();
    let fid = needles.put(&server, b"kept").fid;
    assert!(server.terminate().success());
    let (state, kept) = (server.dir().join("master"), server.dir().join("kept"));
    fs::rename(&state, &kept).unwrap();

    server.spawn();
    let said = eventually("what was lost is said", SOON, || {
        let said = server.stderr();
        said.contains("dulse cluster recover --from").then_some(said)
    });
    for part in [&state.display().to_string(), "backup", "knows nothing"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    // What is stored can be read, and nothing is written or founded, however often one asks.
    let read = eventually("a read", SOON, || {
        let url = format!("http://127.0.0.1:{volume_port}/{fid}");
        attempt(Method::GET, &url, &[], vec![]).ok().filter(|answer| answer.status == 200)
    });
    assert_eq!(read.text(), "kept");
    eventually("the repeated line of the masters' meeting", SOON, || {
        server.stderr().contains("no cluster is founded: the volume servers").then_some(())
    });
    let assigned = get(&format!("http://127.0.0.1:{master_port}/dir/assign"));
    assert_eq!(assigned.status, 503, "{}", assigned.text());
    assert!(!server.stdout().contains("ready"));
    assert!(server.terminate().success());

    fs::remove_dir_all(&state).unwrap();
    fs::rename(&kept, &state).unwrap();
    server.restart();
    needles.assert_kept(&server);
    needles.put(&server, b"and more");
    needles.assert_kept(&server);
}

#[test]
fn a_volume_server_goes_on_with_its_own_master_and_names_the_one_that_is_of_another_cluster() {
    let own = Server::builder().role(Role::Master).start();
    let stranger = Server::builder().role(Role::Master).start();
    let both = format!("--master={},{}", stranger.master_address(), own.master_address());
    let dir = tempfile::tempdir().unwrap();
    let mut volume = own.volume_server().dir(dir.path()).start();
    let mut needles = Needles::default();
    needles.put(&own, b"before");
    assert!(volume.terminate().success());

    let mut volume = Server::builder().role(Role::Volume).flag(both).dir(dir.path()).start();
    needles.assert_kept(&own);
    eventually("the stranger is named", SOON, || {
        let said = volume.stderr();
        let named = format!("the master {} is of another cluster", stranger.master_address());
        (said.contains(&named) && said.contains("lost its directory")).then_some(())
    });
    assert_eq!(volume.stderr().matches("is of another cluster").count(), 1, "{}", volume.stderr());
    // Its own master goes and comes: the stranger's word does not count meanwhile.
    let mut own = own;
    own.kill9();
    eventually("the silence is noticed", SOON, || {
        volume.stderr().contains("no heartbeat reaches the master").then_some(())
    });
    own.restart();
    eventually("it reports again", SOON, || {
        let health = get(&format!("{}/cluster/health", own.master_url())).json();
        (health["servers"][0]["state"] == "alive").then_some(())
    });
    assert!(assign(&own).url.contains(volume.volume_url().trim_start_matches("http://")));
    needles.put(&own, b"after");
    needles.assert_kept(&own);
    assert!(volume.terminate().success());
}
