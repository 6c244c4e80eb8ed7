//! Deliberate errors, to prove that the simulation would see them: the test of the tests.
//!
//! They exist only in builds with the feature `mutants`, one at a time, chosen for the present thread with [`choose`].
//! In every other build [`is`] is a constant and nothing of them is left.

/// A deliberate error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Votes count whatever content they were cast on.
    SkipTheDigestCheck,
    /// Two user names of one person are two votes.
    CountOnePersonTwice,
    /// The requester's own vote counts.
    CountTheRequester,
    /// Votes never grow too old.
    ForgetThatVotesAge,
    /// Whoever was barred from a group still votes for it.
    ForgetWhoIsBarred,
    /// Any test report will do, for whatever content.
    TakeAnyEvidence,
    /// A freeze is no freeze.
    IgnoreTheFreeze,
    /// A write is sent without the state that it requires, and the webhook does not look at the step either: both fences
    /// against a late one are down.
    RetryBlindly,
    /// What stands in the status is believed without a seal.
    TrustStatus,
    /// The first object is forgotten on the way back.
    ForgetOneOnTheWayBack,
    /// The change counts as carried out when its last object is still to come.
    EndTooEarly,
    /// Any change passes as a standard one.
    AnythingIsStandard,
    /// The run of a slot is named by the moment in which it begins, not by its slot.
    NameRunsByTheMoment,
    /// Whoever is to be alone with a repository waits for nobody.
    RemoveBesideOthers,
    /// What drills restored and have not judged may be forgotten.
    ForgetWhatDrillsNeed,
    /// A validation that could not run counts as one that passed.
    PassWithoutAnAnswer,
    /// T0 is read anew whenever a drill is looked at.
    ReadT0Anew,
    /// The next wave begins as soon as the one before is complete.
    SkipTheSoak,
    /// The last step of a plan is left out.
    LeaveTheLastStepOut,
    /// A share of the traffic goes to pods that are not ready.
    WeightBeforeEndpoints,
    /// The second Deployment is deleted although no Gateway has taken the route's own form up yet.
    DeleteBeforeTheRoute,
    /// As many pods are replaced at once as a batch has.
    AllPodsAtOnce,
    /// A step or a wave that must be signed goes on without.
    SkipTheSignature,
}

impl Mutant {
    /// Each of them.
    pub const ALL: [Self; 23] = [
        Self::SkipTheDigestCheck,
        Self::CountOnePersonTwice,
        Self::CountTheRequester,
        Self::ForgetThatVotesAge,
        Self::ForgetWhoIsBarred,
        Self::TakeAnyEvidence,
        Self::IgnoreTheFreeze,
        Self::RetryBlindly,
        Self::TrustStatus,
        Self::ForgetOneOnTheWayBack,
        Self::EndTooEarly,
        Self::AnythingIsStandard,
        Self::NameRunsByTheMoment,
        Self::RemoveBesideOthers,
        Self::ForgetWhatDrillsNeed,
        Self::PassWithoutAnAnswer,
        Self::ReadT0Anew,
        Self::SkipTheSoak,
        Self::LeaveTheLastStepOut,
        Self::WeightBeforeEndpoints,
        Self::DeleteBeforeTheRoute,
        Self::AllPodsAtOnce,
        Self::SkipTheSignature,
    ];
}

#[cfg(feature = "mutants")]
thread_local! {
    static CHOSEN: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// From now on this thread makes this error, or none.
#[cfg(feature = "mutants")]
pub fn choose(mutant: Option<Mutant>) {
    CHOSEN.set(mutant);
}

/// Whether this error is to be made.
#[cfg(feature = "mutants")]
pub(crate) fn is(mutant: Mutant) -> bool {
    CHOSEN.get() == Some(mutant)
}

/// Whether this error is to be made: never in this build.
#[cfg(not(feature = "mutants"))]
pub(crate) const fn is(_: Mutant) -> bool {
    false
}
