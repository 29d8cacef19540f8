//! Rules that a simulated cluster can be made to break, each to show that an invariant notices.
//!
//! They are broken around the product's code, never in it.

/// A rule that is broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Flaw {
    /// A volume's last copy goes to the server of its first one.
    TwoCopiesOnOneServer,
    /// Copies go to any servers with room, whatever the replica placement says.
    AnyServerWillDo,
    /// A placement that exists is given up as impossible.
    GivesUpPlacing,
    /// A master restored from an older copy hands out volume ids again.
    VolumeIdsAgain,
    /// The same for needle keys.
    KeysAgain,
    /// Reports are taken in whatever they build on.
    GapsAreIgnored,
    /// A report that comes twice counts twice: it makes the first master forget the server's other
    /// volumes.
    RepeatsCount,
    /// One of the state machines misses a command.
    MissedCommand,
    /// A snapshot leaves out which ids were deleted.
    SnapshotForgetsDeleted,
    /// The layouts are not made anew when servers are lost.
    StaleLayouts,
    /// Contradictions are not shown.
    ContradictionsHidden,
    /// A server's report is believed although it is no member.
    ContradictionsBelieved,
    /// What a plan asks for is never done.
    NothingIsDone,
    /// What is left is counted once for every volume server.
    CapacityCountedTwice,
}
