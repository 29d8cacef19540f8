//! The formats byte by byte. A change here is a change of format: it needs a new version and a
//! reader for the old one.

use std::collections::{BTreeMap, BTreeSet};

use dulse_shared::{
    id::{ClusterId, NeedleKey, ServerId, Ts, VolumeId},
    wire::{Decision, Epoch, Incarnation, WriteId},
};
use openraft::{
    EntryPayload,
    entry::RaftEntry,
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderError,
        TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
    },
};
use serde::{Serialize, de::DeserializeOwned};

use super::address;
use crate::{
    cluster_state::{ClusterState, Command, Deletion, Recovery, Seal},
    raft::{
        format::{
            EntryJson, HeaderJson, PositionJson, SnapshotJson, Version, VoteJson, decode, encode,
        },
        rpc::{
            Addressed, AppendAnswerJson, AppendJson, SnapshotAnswerJson, SnapshotRequestJson,
            TransferAnswerJson, TransferJson, VoteAnswerJson, VoteRequestJson,
        },
        type_config::{
            Entry, LeaderId, LogId, Membership, NodeId, Payload, Peer, SnapshotMeta,
            StoredMembership, TypeConfig, Vote,
        },
    },
};

/// `value` is written as `text`, and read back from it.
fn golden<T>(value: &T, text: &str)
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let written = String::from_utf8(encode(value).unwrap()).unwrap();
    assert_eq!(written, text);
    assert_eq!(&decode::<T>("the text", text.as_bytes()).unwrap(), value);
}

fn log_id(term: u64, index: u64) -> LogId {
    LogId::new_term_index(term, index)
}

fn vote() -> Vote {
    Vote { leader_id: LeaderId { term: 7, voted_for: NodeId::from(10) }, committed: true }
}

const VOTE: &str = r#"{"version":1,"term":7,"node":"000000000000000a","leads":true}"#;

fn membership() -> Membership {
    let voters = vec![
        BTreeSet::from([NodeId::from(10)]),
        BTreeSet::from([NodeId::from(10), NodeId::from(11)]),
    ];
    let mut other = address(9334);
    other.cluster_port = 7;
    let nodes = BTreeMap::from([
        (NodeId::from(10), Peer { address: address(9333) }),
        (NodeId::from(11), Peer { address: other }),
    ]);
    Membership::new(voters, nodes).unwrap()
}

const MEMBERSHIP: &str = concat!(
    r#"{"voters":[["000000000000000a"],["000000000000000a","000000000000000b"]],"#,
    r#""nodes":{"000000000000000a":"127.0.0.1:9333","000000000000000b":"127.0.0.1:9334.7"}}"#,
);

fn golden_entry(payload: Payload, text: &str) {
    let entry = Entry::new(log_id(3, 4), payload);
    let json = EntryJson::from(&entry);
    let text = format!(r#"{{"version":1,"term":3,"index":4,"payload":{text}}}"#);
    golden(&json, &text);
    assert_eq!(json.into_entry().unwrap(), entry);
}

#[test]
fn a_log_entry_is_written_and_read_as_it_ever_was() {
    golden_entry(Payload::Blank, r#""blank""#);
    let text = format!(r#"{{"membership":{MEMBERSHIP}}}"#);
    golden_entry(EntryPayload::Membership(membership()), &text);
}

#[test]
fn each_command_is_written_and_read_as_it_ever_was() {
    let golden_command = |command: Command, text: &str| {
        let text = format!(r#"{{"command":{text}}}"#);
        golden_entry(EntryPayload::Normal(command), &text);
    };
    golden_command(
        Command::FoundCluster { cluster: ClusterId::from(255) },
        r#"{"do":"found_cluster","cluster":"000000000000000000000000000000ff"}"#,
    );
    golden_command(
        Command::RecoverCluster(Recovery {
            cluster: ClusterId::from(255),
            next_key: 5,
            next_volume_id: 7,
            map_version: 9,
        }),
        concat!(
            r#"{"do":"recover_cluster","cluster":"000000000000000000000000000000ff","#,
            r#""next_key":5,"next_volume_id":7,"map_version":9}"#,
        ),
    );
    golden_command(
        Command::RecoverVolumes { cluster: ClusterId::from(255), volumes: Vec::new() },
        concat!(
            r#"{"do":"recover_volumes","cluster":"000000000000000000000000000000ff","#,
            r#""volumes":[]}"#,
        ),
    );
    golden_command(
        Command::GrantKeys { count: 10_000, at_least: 5 },
        r#"{"do":"grant_keys","count":10000,"at_least":5}"#,
    );
    golden_command(
        Command::CreateVolumes {
            collection: "pictures".parse().unwrap(),
            placement: "001".parse().unwrap(),
            ttl: "3d".parse().unwrap(),
            disk: Default::default(),
            members: vec![vec![(ServerId::from(1), Incarnation(9))]],
        },
        concat!(
            r#"{"do":"create_volumes","collection":"pictures","placement":"001","ttl":"3d","#,
            r#""disk":"hdd","members":[[["00000000000000000000000000000001",9]]]}"#,
        ),
    );
    golden_command(
        Command::AdmitVolume {
            id: VolumeId::new(12).unwrap(),
            collection: Default::default(),
            placement: Default::default(),
            ttl: Default::default(),
            disk: Default::default(),
            server: ServerId::from(1),
            incarnation: Incarnation(9),
        },
        concat!(
            r#"{"do":"admit_volume","id":12,"collection":"","placement":"000","ttl":"","#,
            r#""disk":"hdd","server":"00000000000000000000000000000001","incarnation":9}"#,
        ),
    );
}

fn id() -> VolumeId {
    VolumeId::new(12).unwrap()
}

fn write(ts: u64) -> WriteId {
    WriteId { key: NeedleKey::new(3).unwrap(), ts: Ts(ts) }
}

fn seal() -> Command {
    let members = vec![(ServerId::from(1), Incarnation(9))];
    Command::SealVolumes { volumes: vec![Seal { id: id(), epoch: Epoch(1), members }] }
}

fn decision() -> Command {
    let decision = Decision { commit: vec![write(256)], abort: vec![write(512)] };
    Command::DecideVolume { id: id(), epoch: Epoch(2), decision }
}

fn repair() -> Command {
    Command::RepairVolume { id: id(), epoch: Epoch(3), target: ServerId::from(2) }
}

#[test]
fn each_change_of_a_volume_is_written_and_read_as_it_ever_was() {
    let golden_command = |command: Command, text: &str| {
        let text = format!(r#"{{"command":{text}}}"#);
        golden_entry(EntryPayload::Normal(command), &text);
    };
    golden_command(
        seal(),
        concat!(
            r#"{"do":"seal_volumes","volumes":[{"id":12,"epoch":1,"#,
            r#""members":[["00000000000000000000000000000001",9]]}]}"#,
        ),
    );
    golden_command(
        decision(),
        concat!(
            r#"{"do":"decide_volume","id":12,"epoch":2,"decision":{"#,
            r#""commit":[{"key":3,"ts":256}],"abort":[{"key":3,"ts":512}]}}"#,
        ),
    );
    golden_command(
        repair(),
        concat!(
            r#"{"do":"repair_volume","id":12,"epoch":3,"#,
            r#""target":"00000000000000000000000000000002"}"#,
        ),
    );
    let members = vec![(ServerId::from(1), Incarnation(9))];
    golden_command(
        Command::OpenVolume { id: id(), epoch: Epoch(4), members },
        concat!(
            r#"{"do":"open_volume","id":12,"epoch":4,"#,
            r#""members":[["00000000000000000000000000000001",9]]}"#,
        ),
    );
    golden_command(
        Command::DeleteVolumes { volumes: vec![Deletion { id: id(), epoch: Epoch(5) }] },
        r#"{"do":"delete_volumes","volumes":[{"id":12,"epoch":5}]}"#,
    );
}

#[test]
fn a_volume_under_repair_is_written_and_read_as_it_ever_was() {
    let mut state = ClusterState { next_volume_id: 12, ..ClusterState::default() };
    state.apply(&Command::CreateVolumes {
        collection: Default::default(),
        placement: "001".parse().unwrap(),
        ttl: Default::default(),
        disk: Default::default(),
        members: vec![vec![
            (ServerId::from(1), Incarnation(9)),
            (ServerId::from(3), Incarnation(4)),
        ]],
    });
    for command in [seal(), decision(), repair()] {
        state.apply(&command);
    }
    golden(
        &state.volumes[&id()],
        concat!(
            r#"{"id":12,"collection":"","placement":"001","ttl":"","disk":"hdd","closed":false,"#,
            r#""epoch":4,"members":[{"server":"00000000000000000000000000000001","slot":0}],"#,
            r#""state":{"is":"repairing","target":"00000000000000000000000000000002"},"#,
            r#""last_writable":{"epoch":1,"members":[["00000000000000000000000000000001",9],"#,
            r#"["00000000000000000000000000000003",4]]},"#,
            r#""sealed_with":[["00000000000000000000000000000001",9]],"#,
            r#""decision":{"commit":[{"key":3,"ts":256}],"abort":[{"key":3,"ts":512}]}}"#,
        ),
    );
}

#[test]
fn header_vote_and_position_are_written_and_read_as_they_ever_were() {
    let header = HeaderJson { version: Version, node: NodeId::from(10) };
    golden(&header, r#"{"version":1,"node":"000000000000000a"}"#);
    golden(&VoteJson::from(&vote()), VOTE);
    assert_eq!(Vote::from(VoteJson::from(&vote())), vote());
    golden(&PositionJson::from(Some(&log_id(3, 4))), r#"{"version":1,"at":{"term":3,"index":4}}"#);
    golden(&PositionJson::from(None), r#"{"version":1,"at":null}"#);
}

fn snapshot() -> (SnapshotMeta, ClusterState) {
    let meta = SnapshotMeta {
        last_log_id: Some(log_id(3, 4)),
        last_membership: StoredMembership::new(Some(log_id(1, 1)), membership()),
    };
    let mut state = ClusterState::default();
    state.apply(&Command::FoundCluster { cluster: ClusterId::from(255) });
    state.apply(&Command::AdmitVolume {
        id: VolumeId::new(12).unwrap(),
        collection: Default::default(),
        placement: "001".parse().unwrap(),
        ttl: Default::default(),
        disk: Default::default(),
        server: ServerId::from(1),
        incarnation: Incarnation(9),
    });
    state.apply(&Command::CreateVolumes {
        collection: "pictures".parse().unwrap(),
        placement: Default::default(),
        ttl: Default::default(),
        disk: Default::default(),
        members: vec![vec![(ServerId::from(1), Incarnation(9))]],
    });
    (meta, state)
}

fn snapshot_text() -> String {
    [
        r#"{"version":1,"last_applied":{"term":3,"index":4},"membership_at":{"term":1,"index":1},"#,
        r#""membership":"#,
        MEMBERSHIP,
        r#","state":{"cluster":"000000000000000000000000000000ff","next_key":1,"#,
        r#""next_volume_id":14,"volumes":{"12":{"id":12,"collection":"","placement":"001","#,
        r#""ttl":"","disk":"hdd","closed":true,"epoch":1,"#,
        r#""members":[{"server":"00000000000000000000000000000001","slot":0}],"#,
        r#""state":{"is":"read_only","reason":"missing_copies"},"last_writable":null},"#,
        r#""13":{"id":13,"collection":"pictures","placement":"000","#,
        r#""ttl":"","disk":"hdd","closed":false,"epoch":1,"#,
        r#""members":[{"server":"00000000000000000000000000000001","slot":0}],"#,
        r#""state":{"is":"writable"},"last_writable":{"epoch":1,"#,
        r#""members":[["00000000000000000000000000000001",9]]}}},"#,
        CHANGES,
        "}}",
    ]
    .concat()
}

const CHANGES: &str = r#""changes":{"version":2,"volumes":{"12":1,"13":2}}"#;

#[test]
fn a_snapshot_is_written_and_read_as_it_ever_was() {
    let (meta, state) = snapshot();
    let json = SnapshotJson::new(&meta, state.clone());
    golden(&json, &snapshot_text());
    assert_eq!(json.into_parts().unwrap(), (meta, state));
}

#[test]
fn a_snapshot_from_before_changes_were_counted_stays_readable() {
    let (_, state) = snapshot();
    let text = snapshot_text().replace(&format!(",{CHANGES}"), "");
    let json: SnapshotJson = decode("the text", text.as_bytes()).unwrap();
    let (_, restored) = json.into_parts().unwrap();
    assert_eq!(restored.volumes, state.volumes);
    assert_eq!(restored.changes.version(), 0);
}

/// The one above, from before anything could be deleted, stays readable.
#[test]
fn a_snapshot_with_deleted_volumes_is_written_and_read_as_it_ever_was() {
    let (meta, mut state) = snapshot();
    let volumes = vec![Deletion { id: VolumeId::new(13).unwrap(), epoch: Epoch(1) }];
    state.apply(&Command::DeleteVolumes { volumes });
    let json = SnapshotJson::new(&meta, state.clone());
    let text = snapshot_text();
    let (before, _) = text.split_once(r#","13":"#).unwrap();
    let after =
        r#""deleted":[[13,13]],"changes":{"version":3,"volumes":{"12":1},"deletions":[[3,13]]}"#;
    golden(&json, &format!("{before}}},{after}}}}}"));
    assert_eq!(json.into_parts().unwrap(), (meta, state));
}

fn golden_request<T>(request: T, text: &str)
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let addressed =
        Addressed { version: Version, from: NodeId::from(10), to: NodeId::from(11), request };
    let text = format!(
        r#"{{"version":1,"from":"000000000000000a","to":"000000000000000b","request":{text}}}"#
    );
    golden(&addressed, &text);
}

#[test]
fn entries_are_sent_and_answered_as_they_ever_were() {
    let rpc = AppendEntriesRequest::<TypeConfig> {
        vote: vote(),
        prev_log_id: Some(log_id(3, 3)),
        entries: vec![Entry::new(log_id(3, 4), Payload::Blank)],
        leader_commit: None,
    };
    let json = AppendJson::from(&rpc);
    let text = format!(
        concat!(
            r#"{{"vote":{},"previous":{{"term":3,"index":3}},"#,
            r#""entries":[{{"version":1,"term":3,"index":4,"payload":"blank"}}],"committed":null}}"#,
        ),
        VOTE
    );
    golden_request(json.clone(), &text);
    let back = json.into_request().unwrap();
    assert_eq!(format!("{back:?}"), format!("{rpc:?}"));

    let answer = |answer: AppendEntriesResponse<TypeConfig>, text: &str| {
        let json = AppendAnswerJson::from(answer.clone());
        golden(&json, text);
        assert_eq!(AppendEntriesResponse::from(json), answer);
    };
    answer(AppendEntriesResponse::Success, r#""stored""#);
    answer(
        AppendEntriesResponse::PartialSuccess(Some(log_id(3, 4))),
        r#"{"stored_up_to":{"term":3,"index":4}}"#,
    );
    answer(AppendEntriesResponse::Conflict, r#""conflict""#);
    let text = format!(r#"{{"higher_vote":{VOTE}}}"#);
    answer(AppendEntriesResponse::HigherVote(vote()), &text);
}

#[test]
fn votes_are_asked_for_and_given_as_they_ever_were() {
    let mut rpc = VoteRequest::<TypeConfig>::new(vote(), Some(log_id(3, 4)));
    rpc.leadership_transfer = true;
    let json = VoteRequestJson::from(&rpc);
    let text = format!(r#"{{"vote":{VOTE},"last":{{"term":3,"index":4}},"is_transfer":true}}"#);
    golden_request(json.clone(), &text);
    assert_eq!(VoteRequest::from(json), rpc);

    let answer = VoteResponse::<TypeConfig>::new(vote(), None, true);
    let json = VoteAnswerJson::from(answer.clone());
    golden(&json, &format!(r#"{{"vote":{VOTE},"granted":true,"last":null}}"#));
    assert_eq!(VoteResponse::from(json), answer);
}

#[test]
fn a_snapshot_is_sent_and_answered_as_it_ever_was() {
    let (meta, state) = snapshot();
    let request =
        SnapshotRequestJson { vote: (&vote()).into(), snapshot: SnapshotJson::new(&meta, state) };
    let text = format!(r#"{{"vote":{VOTE},"snapshot":{}}}"#, snapshot_text());
    golden_request(request, &text);

    let answer = SnapshotResponse::<TypeConfig>::new(vote());
    let json = SnapshotAnswerJson::from(answer.clone());
    golden(&json, &format!(r#"{{"vote":{VOTE}}}"#));
    assert_eq!(SnapshotResponse::from(json), answer);
}

#[test]
fn a_change_of_leader_is_asked_for_and_answered_as_it_ever_was() {
    let rpc = TransferLeaderRequest::<TypeConfig>::new(vote(), NodeId::from(11), None);
    let json = TransferJson::from(&rpc);
    let text = format!(r#"{{"vote":{VOTE},"leader":"000000000000000b","last":null}}"#);
    golden_request(json.clone(), &text);
    assert_eq!(TransferLeaderRequest::from(json), rpc);

    let answer = |answer: TransferLeaderResponse<TypeConfig>, text: &str| {
        let json = TransferAnswerJson::from(answer.clone());
        golden(&json, text);
        assert_eq!(TransferLeaderResponse::from(json), answer);
    };
    answer(Ok(()), r#""accepted""#);
    answer(
        Err(TransferLeaderError::VoteChanged { expected: vote(), actual: vote() }),
        &format!(r#"{{"vote_changed":{{"expected":{VOTE},"actual":{VOTE}}}}}"#),
    );
    answer(
        Err(TransferLeaderError::LogNotFlushed { expected: Some(log_id(3, 4)), actual: None }),
        r#"{"behind":{"expected":{"term":3,"index":4},"actual":null}}"#,
    );
}

#[test]
fn another_version_is_refused_and_an_unknown_field_is_not() {
    let newer = VOTE.replace(r#""version":1"#, r#""version":2"#);
    let error = decode::<VoteJson>("the vote", newer.as_bytes()).unwrap_err();
    assert!(error.to_string().contains("version 2"), "{error}");
    let more = VOTE.replace(r#""leads""#, r#""mood":"calm","leads""#);
    let read: VoteJson = decode("the vote", more.as_bytes()).unwrap();
    assert_eq!(read, VoteJson::from(&vote()));
}
