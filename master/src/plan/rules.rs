//! The rules that the plans for sealed volumes keep, each by name.
//!
//! The program keeps all of them: [`Rules::all`] is the only way to make a value of the type. The
//! feature `weakened` adds one that leaves a rule out, for the model to show that it is needed.

/// A rule that could be left out.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Rule {
    /// What a commit by reconcile or a writable epoch waits for: every lease of a server that was
    /// excluded since the volume was last writable.
    LeasesAreWaitedFor,
    /// Of several excluded servers it waits for all.
    AllExcludedAreWaitedFor,
    /// A write stored on all survivors is committed.
    StoredOnAllIsCommitted,
    /// A server that was excluded does not decide when it comes back.
    ReturnedDoNotDecide,
    /// A survivor that was restarted does not decide while one is left that was not.
    RestartedDoNotDecide,
    /// A copy is taken back if its digest is right, and for no other reason.
    DigestTellsStale,
    /// A tombstone counts as stored where nothing older of its key is.
    VacuumedTombstoneIsStored,
    /// After a decision only those are sealed with who hold it.
    DecisionIsFinal,
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
    pub fn keep(self, rule: Rule) -> bool {
        self.without != Some(rule)
    }

    /// Whether a rule is kept.
    #[cfg(not(feature = "weakened"))]
    pub const fn keep(self, _: Rule) -> bool {
        true
    }
}
