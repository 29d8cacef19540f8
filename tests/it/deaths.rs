//! How soon a master notices that a volume server is not there any more.

use std::time::Duration;

use dulse_shared::clock::Clock;
use rustix::process::Signal;

use crate::{
    harness::{Role, Server, eventually},
    http::get,
    needles::Needles,
};

/// A master and a volume server of its own, with a needle on it, and where to look it up.
fn cluster() -> (Server, Server, String) {
    let master = Server::builder().role(Role::Master).start();
    let volume = Server::builder().role(Role::Volume).master_of(&master).start();
    let fid = Needles::default().put(&master, b"hello").fid;
    let lookup = format!("{}/dir/lookup?volumeId={fid}", master.master_url());
    (master, volume, lookup)
}

/// How long after `end` the master gives out no location of the volume any more.
fn noticed(lookup: &str, end: impl FnOnce()) -> Duration {
    let clock = Clock::System;
    let start = clock.boot();
    end();
    eventually("the volume is out of use", Duration::from_secs(30), || {
        (get(lookup).status == 503).then_some(())
    });
    clock.since(start)
}

fn is_back(lookup: &str) {
    eventually("it is back", Duration::from_secs(30), || (get(lookup).status == 200).then_some(()));
}

#[test]
fn a_killed_volume_server_is_noticed_at_once() {
    let (_master, mut volume, lookup) = cluster();
    // Five times, because a busy machine may be slow once.
    let mut took: Vec<Duration> = Vec::new();
    for _ in 0..5 {
        took.push(noticed(&lookup, || volume.kill9()));
        volume.restart();
        is_back(&lookup);
    }
    took.sort();
    println!("a volume server was killed; its volumes were out of use after {took:?}");
    // The rule of silence alone needs two seconds.
    assert!(took[2] < Duration::from_secs(1), "{took:?}");
}

#[test]
fn a_volume_server_that_hangs_is_given_up_after_two_seconds_of_silence() {
    let (_master, volume, lookup) = cluster();
    let took = noticed(&lookup, || volume.signal(Signal::STOP));
    println!("a volume server was stopped; its volumes were out of use after {took:?}");
    assert!(took > Duration::from_millis(1_200), "only silence tells: {took:?}");
    volume.signal(Signal::CONT);
    is_back(&lookup);
}
