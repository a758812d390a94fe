//! Bugs that can be planted, to see that the simulation finds them. Outside of this crate's unit tests there are none: there,
//! every `planted!` is `false`.

/// Whether the bug is planted. With a deed: that is done if it is, and compiled only then.
#[cfg(test)]
macro_rules! planted {
    ($bug:ident) => {
        $crate::planted::is_planted($crate::planted::Bug::$bug)
    };
    ($bug:ident, $deed:expr) => {
        if $crate::planted::is_planted($crate::planted::Bug::$bug) {
            $deed
        }
    };
}

/// Whether the bug is planted. With a deed: that is done if it is, and compiled only then.
#[cfg(not(test))]
macro_rules! planted {
    ($bug:ident) => {
        false
    };
    ($bug:ident, $deed:expr) => {};
}

pub(crate) use planted;

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

        /// Gives a receipt before the fold has said that the message counts.
        ReceiptBeforeVerdict,
        /// Gives a receipt for another message under an id that was used.
        ReceiptForReusedId,
        /// A repeat's receipt states the time at which it is given.
        RepeatsReceiptIsNew,
        /// Writes messages of one key into two records at once.
        KeyInTwoRecords,
        /// Does not hold up what follows a message that failed.
        PredecessorForgotten,
        /// Takes in messages without their ordering keys.
        KeysForgotten,
        /// Lets a key go on past a dead letter that is to be waited for.
        DeadBlocksNobody,
        /// Takes in messages as if they expired an hour later.
        ExpiryForgotten,
        /// Takes in a transfer as if the recipient had stayed the same.
        TransferForgotten,
        /// Any gateway ends any lease, before its time.
        LeasesEndedEarly,
        /// Pushes without waiting for the fold's word on the offer.
        PushedBeforeVerdict,
        /// Pushes to whoever was suspended or has lost the right.
        PushedWithoutRight,
        /// Pushes though the registry was not read lately.
        PushedByStaleRegistry,
        /// Pushes the first message of a record, whichever was offered.
        OthersBodyPushed,
        /// Offers a collector what it does not take.
        TypesForgotten,
        /// Offers as much again as a collector has.
        CreditExceeded,
        /// Leaves what a collector had to its lease when it goes.
        NotGivenBack,
        /// Confirms settlements that could not be recorded.
        SettledUnrecorded,
        /// Confirms a second settlement that says something else.
        SettledAnew,
        /// Says what is said of a rejection where everybody can read it.
        TextInTheOpen,
        /// Confirms extensions without a record.
        ExtendedUnrecorded,
        /// Confirms redrives without a record.
        RedrivenUnrecorded,
        /// Forgets ids as soon as their messages are delivered.
        IdsForgottenEarly,
        /// Does not remember which ids belong to what was finished.
        FinishedIdsLost,
        /// Tells of no message whose attempts were used up, nor of one that was rejected.
        OnlyExpiredTold,
        /// Tells of a dead letter under an id of its own.
        ToldByEach,
        /// Lists dead letters to their recipients alone.
        SenderSeesNoDeadLetters,
        /// Leaves leases that nobody settled.
        LeasesNeverEnd,
        /// Leaves messages whose time is over.
        NeverExpired,

        /// Confirms what is done to a request without a record.
        DoneUnrecorded,
        /// Confirms what is done to a request though the fold says that it does not count.
        DoneThoughVoid,
        /// Shows requests without a record.
        ShownUnrecorded,
        /// Shows requests to whoever passed them on.
        ShownToWhoHadIt,
        /// Tells whoever passed a request on of what becomes of it.
        ToldToWhoHadIt,
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

#[cfg(test)]
pub(crate) use misread::{author, read, spoken_of};
#[cfg(not(test))]
pub(crate) use unread::{author, read};

/// Where no bug can be planted a record is taken in as it is.
#[cfg(not(test))]
mod unread {
    use airut_domain::{id::Incarnation, mailbox::Mailbox, message::Event};

    pub(crate) const fn read(event: &Event) -> &Event {
        event
    }

    pub(crate) const fn author<'a>(_: &Mailbox, _: &Event, author: &'a Incarnation) -> &'a Incarnation {
        author
    }
}

/// The rules of the domain have no bugs planted in them: a fold breaks one by misreading what it is told.
#[cfg(test)]
mod misread {
    use std::time::Duration;

    use airut_domain::{
        id::Incarnation,
        mailbox::{Mailbox, Phase},
        message::{Event, OnDead},
        record::Kind,
    };

    /// What a record is, and of how many messages it speaks.
    pub(crate) fn spoken_of(kind: &Kind) -> (&'static str, usize) {
        match kind {
            Kind::Message(event) => (kind.name(), event.len()),
            _ => (kind.name(), 0),
        }
    }

    /// A record of messages as the fold takes it in.
    pub(crate) fn read(event: &Event) -> &Event {
        let mut misread = event.clone();
        match &mut misread {
            Event::Accepted(accepted) if planted!(KeysForgotten) => {
                accepted.items.iter_mut().for_each(|item| item.order = None);
            }
            Event::Accepted(accepted) if planted!(ExpiryForgotten) => {
                accepted.items.iter_mut().for_each(|item| item.expires = item.expires + Duration::from_secs(3600));
            }
            Event::Accepted(accepted) if planted!(DeadBlocksNobody) => accepted.terms.on_dead = OnDead::Frees,
            Event::Transferred(transferred) if planted!(TransferForgotten) => {
                transferred.to = transferred.from.clone();
            }
            _ => return event,
        }
        Box::leak(Box::new(misread))
    }

    /// Who wrote it, as the fold takes it.
    pub(crate) fn author<'a>(mailbox: &Mailbox, event: &Event, author: &'a Incarnation) -> &'a Incarnation {
        let first = match event {
            Event::LeasesEnded(ended) if planted!(LeasesEndedEarly) => ended.offers.first(),
            _ => None,
        };
        match first.and_then(|offer| mailbox.message(offer.place)).map(|(_, message)| &message.phase) {
            Some(Phase::Offered { holder, .. }) => Box::leak(Box::new(holder.clone())),
            _ => author,
        }
    }
}
