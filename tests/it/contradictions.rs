//! Masters whose state does not go with what volume servers have.

use std::{path::Path, time::Duration};

use crate::{
    harness::{Role, Server, eventually},
    http::get,
    needles::Needles,
};

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn a_server_is_told_that_its_volumes_are_not_those_of_a_master_from_a_backup() {
    let mut master = Server::builder().role(Role::Master).start();
    let volume = Server::builder().role(Role::Volume).master_of(&master).start();
    assert!(master.terminate().success());
    let backup = tempfile::tempdir().unwrap();
    copy(master.dir(), backup.path());
    master.restart();
    eventually("the server is back", Duration::from_secs(30), || {
        let url = format!("{}/dir/assign", master.master_url());
        (get(&url).status == 200).then_some(())
    });
    Needles::default().put(&master, b"after the backup");
    assert!(master.terminate().success());
    std::fs::remove_dir_all(master.dir()).unwrap();
    copy(backup.path(), master.dir());
    master.restart();

    let status = format!("{}/status", volume.volume_url());
    let told = eventually("it is told", Duration::from_secs(30), || {
        let told = get(&status).json()["Contradictions"].clone();
        told.as_array().is_some_and(|told| !told.is_empty()).then_some(told)
    });
    let reason = told[0]["Reason"].as_str().unwrap();
    assert!(reason.contains("which this cluster does not have"), "{told}");
    let page = get(&format!("{}/ui", volume.volume_url())).text();
    assert!(page.contains("Contradicted"), "{page}");
    // Some heartbeats later each still has one line.
    std::thread::sleep(Duration::from_millis(1_200));
    let log = volume.stderr();
    assert_eq!(log.matches(reason).count(), 1, "{log}");
}
