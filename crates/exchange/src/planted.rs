//! Bugs that can be planted, to see that the simulation finds them. Outside of this crate's unit tests there are none: there,
//! every `planted!` is `false`.

#[cfg(test)]
#[allow(clippy::items_after_test_module, reason = "it is not a module of tests")]
mod bugs {
    use std::cell::Cell;

    /// A promise broken on purpose.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Bug {
        /// Discloses though the registry was not read lately.
        StaleRegistry,
        /// Discloses though the right was lost meanwhile.
        RightNotRechecked,
        /// Discloses again without a record of it.
        RepeatUnrecorded,
        /// Asks anew what is answered already.
        SecondAskedAccepted,
        /// Records, and so discloses, all that the responder said.
        NotMinimised,
        /// Does not record that the caller had left.
        LeavingUnrecorded,
        /// Leaves a query open that got no answer.
        NeverEnded,
    }

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// From now on this thread has this bug.
    pub(crate) fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    pub(crate) fn is_planted(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }
}

#[cfg(test)]
pub(crate) use bugs::{Bug, is_planted, plant};

/// Whether the bug is planted.
#[cfg(test)]
macro_rules! planted {
    ($bug:ident) => {
        $crate::planted::is_planted($crate::planted::Bug::$bug)
    };
}

/// Whether the bug is planted.
#[cfg(not(test))]
macro_rules! planted {
    ($bug:ident) => {
        false
    };
}

pub(crate) use planted;
