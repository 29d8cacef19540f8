//! The rules that a replica keeps, each by name.
//!
//! The program keeps all of them: [`Rules::all`] is the only way to make a value of the type. The
//! feature `weakened` adds one that leaves a rule out, for the model to show that it is needed.

/// A rule that could be left out.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Rule {
    /// While a newer version is pending the older one is not read.
    PendingHidesOlder,
    /// Reads need a lease.
    ReadsNeedLease,
    /// A member refuses what was sent in another epoch.
    EpochIsChecked,
    /// A fence is on the disk before it is reported.
    FenceIsDurable,
    /// After the fence a survivor resolves nothing by itself.
    FenceStopsResolving,
    /// An aborted record counts as missing, though its bytes are in the file.
    AbortedIsMissing,
    /// A replica that comes back takes over the state of keys, not the outcome of records.
    AdoptionIsByKey,
    /// A replica that was restarted answers no reads before it adopted or decided.
    RestartedDoNotRead,
    /// A record not above the highest stamp of a dropped tombstone is refused.
    FloorIsKept,
    /// The list of aborted records is as durable as the length it speaks of.
    AbortedListIsDurable,
    /// A write is committed when every member stored it.
    EveryMemberStores,
}

/// Which rules are kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Rules {
    #[cfg(feature = "weakened")]
    without: Option<Rule>,
}

impl Rules {
    /// All.
    pub const fn all() -> Self {
        Self {
            #[cfg(feature = "weakened")]
            without: None,
        }
    }

    /// All but one.
    #[cfg(feature = "weakened")]
    pub const fn without(rule: Rule) -> Self {
        Self { without: Some(rule) }
    }

    /// Whether a rule is kept.
    #[cfg(feature = "weakened")]
    pub(super) fn keep(self, rule: Rule) -> bool {
        self.without != Some(rule)
    }

    /// Whether a rule is kept.
    #[cfg(not(feature = "weakened"))]
    pub(super) const fn keep(self, _: Rule) -> bool {
        true
    }
}
