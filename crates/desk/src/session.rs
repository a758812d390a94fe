//! Who is signed in. Sessions lie in memory, by the digest of the cookie that names them: a desk that is started anew has its officials sign in once
//! more, which the provider as a rule does without a word.
//!
//! A session ends when it was not used for a while, at the latest after a working day, or when its official signs out. Each sign-in makes a new one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use airut_domain::time::Timestamp;
use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use tokio::sync::Semaphore;

use crate::official::Official;

/// How long sessions last, and how many there may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Without a request.
    pub idle: Duration,
    /// Altogether.
    pub absolute: Duration,
    /// So many sessions at most; beyond that the one that was used least lately ends.
    pub sessions: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { idle: Duration::from_secs(30 * 60), absolute: Duration::from_secs(10 * 3600), sessions: 10_000 }
    }
}

/// A sign-in at the provider may take so long.
const SIGN_IN_WITHIN: Duration = Duration::from_secs(10 * 60);

/// So many sign-ins may be under way.
const MOST_SIGN_INS: usize = 2000;

/// What was typed when a session ended is kept for so long, for its official alone.
const DRAFT_KEPT: Duration = Duration::from_secs(60 * 60);

/// Larger forms are not kept.
const LARGEST_DRAFT: usize = 64 * 1024;

/// So many are kept.
const MOST_DRAFTS: usize = 500;

/// So many pages of one session may be kept up to date at once. Those that nobody looks at are not.
const MOST_LIVE: usize = 16;

/// Someone who is signed in.
#[derive(Clone, Debug)]
pub(crate) struct Visitor {
    /// Who.
    pub official: Arc<Official>,
    /// What their forms must carry.
    pub csrf: Arc<str>,
    /// What the provider gave, to sign out there.
    pub id_token: Option<Arc<str>>,
    /// When the session ends at the latest.
    pub ends: Timestamp,
    /// Room for pages that are kept up to date.
    pub live: Arc<Semaphore>,
}

/// A form that was sent after its session had ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Draft {
    /// Where it was sent.
    pub path: String,
    /// Its fields.
    pub fields: Vec<(String, String)>,
}

#[derive(Debug)]
struct Session {
    visitor: Visitor,
    used: Timestamp,
    /// Ended by time: nobody is signed in, but what they were typing is theirs.
    over: bool,
    draft: Option<(Timestamp, Draft)>,
}

/// All sessions.
#[derive(Debug)]
pub(crate) struct Sessions {
    limits: Limits,
    open: Mutex<HashMap<Key, Session>>,
    /// Sign-ins under way at the provider, by the digest of the cookie of whoever began one.
    begun: Mutex<HashMap<Key, (Timestamp, String)>>,
}

type Key = [u8; 32];

impl Sessions {
    /// None yet.
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, open: Mutex::default(), begun: Mutex::default() }
    }

    /// The limits.
    pub(crate) const fn limits(&self) -> Limits {
        self.limits
    }

    /// Signs someone in; gives the cookie's value. What they had typed in the session of the cookie `before` goes over, if it was theirs.
    pub(crate) fn open(
        &self,
        official: Official,
        id_token: Option<String>,
        before: Option<&str>,
        now: Timestamp,
    ) -> (String, Visitor) {
        let cookie = secret();
        let visitor = Visitor {
            official: Arc::new(official),
            csrf: secret().into(),
            id_token: id_token.map(Into::into),
            ends: now + self.limits.absolute,
            live: Arc::new(Semaphore::new(MOST_LIVE)),
        };
        let mut open = self.sessions();
        let before = before.and_then(|before| open.remove(&key(before)));
        let own = before.filter(|before| {
            let (before, now) = (&before.visitor.official, &visitor.official);
            before.subject == now.subject && before.organisation == now.organisation
        });
        let draft = own.and_then(|own| own.draft).filter(|(since, _)| now.since(*since) < DRAFT_KEPT);
        if open.len() >= self.limits.sessions {
            let oldest = open.iter().min_by_key(|(_, session)| session.used).map(|(key, _)| *key);
            oldest.map(|oldest| open.remove(&oldest));
        }
        open.insert(key(&cookie), Session { visitor: visitor.clone(), used: now, over: false, draft });
        (cookie, visitor)
    }

    /// Who a cookie names, and that they are here now.
    pub(crate) fn find(&self, cookie: &str, now: Timestamp) -> Option<Visitor> {
        let mut open = self.sessions();
        let session = open.get_mut(&key(cookie))?;
        session.over |= now >= session.visitor.ends || now.since(session.used) >= self.limits.idle;
        if session.over {
            return None;
        }
        session.used = now;
        Some(session.visitor.clone())
    }

    /// The same without using the session: what comes by itself keeps nobody signed in.
    pub(crate) fn look(&self, cookie: &str, now: Timestamp) -> Option<Visitor> {
        let open = self.sessions();
        let runs = |session: &&Session| {
            !session.over && now < session.visitor.ends && now.since(session.used) < self.limits.idle
        };
        open.get(&key(cookie)).filter(runs).map(|session| session.visitor.clone())
    }

    /// Signs out.
    pub(crate) fn close(&self, cookie: &str) -> Option<Visitor> {
        self.sessions().remove(&key(cookie)).map(|session| session.visitor)
    }

    /// Keeps what was sent by someone whose session is over, until they have signed in again.
    pub(crate) fn keep(&self, cookie: &str, draft: Draft, now: Timestamp) -> bool {
        let size: usize = draft.fields.iter().map(|(name, value)| name.len() + value.len()).sum();
        let mut open = self.sessions();
        let kept = open.values().filter(|session| session.draft.is_some()).count();
        let Some(session) = open.get_mut(&key(cookie)).filter(|session| session.over) else { return false };
        if size > LARGEST_DRAFT || (kept >= MOST_DRAFTS && session.draft.is_none()) {
            return false;
        }
        session.draft = Some((now, draft));
        true
    }

    /// What the visitor had typed when their last session ended, once.
    pub(crate) fn draft(&self, cookie: &str) -> Option<Draft> {
        self.sessions().get_mut(&key(cookie))?.draft.take().map(|(_, draft)| draft)
    }

    /// Forgets what is long over.
    pub(crate) fn sweep(&self, now: Timestamp) {
        let forgotten = self.limits.idle + DRAFT_KEPT;
        self.sessions()
            .retain(|_, session| now.since(session.used) < forgotten && now < session.visitor.ends + DRAFT_KEPT);
        self.sign_ins().retain(|_, (since, _)| now.since(*since) < SIGN_IN_WITHIN);
    }

    /// How many are signed in, or were lately.
    pub(crate) fn count(&self) -> usize {
        self.sessions().len()
    }

    /// Keeps what a sign-in needs to know when it comes back from the provider; gives the cookie's value.
    pub(crate) fn begin(&self, begun: String, now: Timestamp) -> String {
        let cookie = secret();
        let mut all = self.sign_ins();
        if all.len() >= MOST_SIGN_INS {
            let oldest = all.iter().min_by_key(|(_, (since, _))| *since).map(|(key, _)| *key);
            oldest.map(|oldest| all.remove(&oldest));
        }
        all.insert(key(&cookie), (now, begun));
        cookie
    }

    /// What was kept for it: once, and not for long.
    pub(crate) fn begun(&self, cookie: &str, now: Timestamp) -> Option<String> {
        let (since, begun) = self.sign_ins().remove(&key(cookie))?;
        (now.since(since) < SIGN_IN_WITHIN).then_some(begun)
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<Key, Session>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sign_ins(&self) -> MutexGuard<'_, HashMap<Key, (Timestamp, String)>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Two hundred and fifty-six bits that nobody can guess.
fn secret() -> String {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system gives random bytes");
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// The cookie itself is nowhere in memory.
fn key(cookie: &str) -> Key {
    digest(&SHA256, cookie.as_bytes()).as_ref().try_into().expect("32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn official(subject: &str) -> Official {
        let text = str::to_owned;
        Official {
            subject: text(subject),
            name: text("Aino Esimerkki"),
            organisation: text("kela"),
            title: text("case-worker"),
            unit: String::new(),
            telephone: String::new(),
            roles: [].into(),
        }
    }

    fn at(minutes: u32) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000) + MINUTE * minutes
    }

    #[test]
    fn a_session_ends_when_it_is_not_used_and_at_the_end_of_the_day() {
        let sessions = Sessions::new(Limits::default());
        let (cookie, _) = sessions.open(official("aino"), None, None, at(0));
        assert!(sessions.find(&cookie, at(29)).is_some());
        assert!(sessions.find(&cookie, at(58)).is_some());
        assert!(sessions.look(&cookie, at(87)).is_some());
        assert!(sessions.find(&cookie, at(88)).is_none());
        assert!(sessions.find(&cookie, at(58)).is_none(), "what is over stays over");
        let (cookie, _) = sessions.open(official("aino"), None, None, at(0));
        for minute in (0..600).step_by(20) {
            assert!(sessions.find(&cookie, at(minute)).is_some());
        }
        assert!(sessions.find(&cookie, at(600)).is_none());
    }

    #[test]
    fn a_cookie_from_before_the_sign_in_names_nobody_after_it() {
        let sessions = Sessions::new(Limits::default());
        let (fixed, _) = sessions.open(official("someone"), None, None, at(0));
        let (cookie, _) = sessions.open(official("aino"), None, Some(&fixed), at(1));
        assert_ne!(fixed, cookie);
        assert!(sessions.find(&fixed, at(1)).is_none());
        let (_, made_up) = sessions.open(official("aino"), None, Some("made-up"), at(1));
        assert!(sessions.find("made-up", at(1)).is_none());
        assert_eq!(made_up.official.subject, "aino");
    }

    #[test]
    fn what_was_typed_is_given_back_to_whoever_typed_it() {
        let sessions = Sessions::new(Limits::default());
        let draft = Draft { path: "/fi/requests/new".into(), fields: vec![("text".into(), "a question".into())] };
        let (cookie, _) = sessions.open(official("aino"), None, None, at(0));
        assert!(!sessions.keep(&cookie, draft.clone(), at(1)), "who is signed in needs no draft");
        assert!(sessions.find(&cookie, at(40)).is_none());
        assert!(sessions.keep(&cookie, draft.clone(), at(40)));
        let (again, _) = sessions.open(official("aino"), None, Some(&cookie), at(41));
        assert_eq!(sessions.draft(&again), Some(draft.clone()));
        assert_eq!(sessions.draft(&again), None);
        assert!(sessions.find(&again, at(80)).is_none());
        assert!(sessions.keep(&again, draft, at(80)));
        let (other, _) = sessions.open(official("eeva"), None, Some(&again), at(81));
        assert_eq!(sessions.draft(&other), None);
        assert!(!sessions.keep("made-up", Draft { path: String::new(), fields: Vec::new() }, at(81)));
    }

    #[test]
    fn there_are_only_so_many_sessions_and_sign_ins() {
        let sessions = Sessions::new(Limits { sessions: 2, ..Limits::default() });
        let (first, _) = sessions.open(official("a"), None, None, at(0));
        let (second, _) = sessions.open(official("b"), None, None, at(1));
        assert!(sessions.find(&first, at(2)).is_some());
        sessions.open(official("c"), None, None, at(3));
        assert!(sessions.find(&second, at(3)).is_none());
        assert!(sessions.find(&first, at(3)).is_some());
        let begun = sessions.begin("state".into(), at(0));
        assert_eq!(sessions.begun(&begun, at(1)).as_deref(), Some("state"));
        assert_eq!(sessions.begun(&begun, at(1)), None);
        let late = sessions.begin("state".into(), at(0));
        assert_eq!(sessions.begun(&late, at(10)), None);
        sessions.sweep(at(2000));
        assert_eq!(sessions.count(), 0);
    }
}
