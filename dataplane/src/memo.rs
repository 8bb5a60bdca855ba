//! What a worker remembers between requests: verified tokens and decisions.
//!
//! Bounded: each memory keeps two generations, and when the younger is full the older is dropped. Whatever was
//! remembered is forgotten when a part of the snapshot changes that it was made from.

use std::hash::Hash;
use std::sync::Arc;

use hashbrown::{Equivalent, HashMap};

use crate::Refusal;
use crate::application::Application;
use crate::extension::Extension;
use crate::request::{Authenticated, OwnedApplicationRef, Target};
use crate::snapshot::{Snapshot, same};

const TOKENS: usize = 2_048;
/// A longer token is verified anew each time.
const MAX_TOKEN_BYTES: usize = 8 << 10;
const DECISIONS: usize = 8_192;

/// One worker's memory.
pub(crate) struct Memo {
    made_from: Option<Arc<Snapshot>>,
    tokens: Generations<Arc<str>, Authenticated>,
    decisions: Generations<DecisionKey, Decision>,
}

/// What was decided for a caller who asked for an extension and an application.
#[derive(Clone)]
pub(crate) struct Decision {
    pub(crate) extension: Arc<Extension>,
    /// As it was then: when it has changed it is another one.
    pub(crate) application: Option<Arc<Application>>,
    pub(crate) asked: Option<Arc<OwnedApplicationRef>>,
    pub(crate) outcome: Result<Arc<Target>, Refusal>,
}

/// What is pointed to lives as long as the decision does.
#[derive(PartialEq, Eq, Hash)]
struct DecisionKey {
    caller: u64,
    extension: usize,
    application: Option<usize>,
}

impl DecisionKey {
    fn new(caller: u64, extension: &Arc<Extension>, application: Option<&Arc<Application>>) -> Self {
        Self {
            caller,
            extension: Arc::as_ptr(extension).addr(),
            application: application.map(|application| Arc::as_ptr(application).addr()),
        }
    }
}

impl Memo {
    pub(crate) fn new() -> Self {
        Self { made_from: None, tokens: Generations::new(TOKENS), decisions: Generations::new(DECISIONS) }
    }

    /// Forgets what a newer snapshot may decide otherwise.
    pub(crate) fn follow(&mut self, snapshot: &Arc<Snapshot>) {
        let Some(before) = self.made_from.replace(snapshot.clone()) else {
            return;
        };
        let (before, now) = (&*before, &**snapshot);
        let same_sign_in = Arc::ptr_eq(&before.accounts, &now.accounts)
            && Arc::ptr_eq(&before.revoked, &now.revoked)
            && Arc::ptr_eq(&before.projects, &now.projects)
            && same(before.provider.as_ref(), now.provider.as_ref())
            && same(before.policy.as_ref(), now.policy.as_ref());
        if !same_sign_in {
            self.tokens.clear();
        }
        let same_decisions = same_sign_in
            && Arc::ptr_eq(&before.settings, &now.settings)
            && Arc::ptr_eq(&before.clusters, &now.clusters)
            && Arc::ptr_eq(&before.extensions, &now.extensions);
        if !same_decisions {
            self.decisions.clear();
        }
    }

    pub(crate) fn token(&mut self, token: &str) -> Option<Authenticated> {
        self.tokens.get(token)
    }

    pub(crate) fn remember_token(&mut self, made_from: &Arc<Snapshot>, caller: Authenticated) {
        if caller.token().len() <= MAX_TOKEN_BYTES && self.is_current(made_from) {
            self.tokens.insert(caller.token().clone(), caller);
        }
    }

    /// The decision about the same objects, which may have been asked for by other names.
    pub(crate) fn decision(
        &mut self,
        caller: u64,
        extension: &Arc<Extension>,
        application: Option<&Arc<Application>>,
    ) -> Option<Decision> {
        self.decisions.get(&DecisionKey::new(caller, extension, application))
    }

    pub(crate) fn remember_decision(&mut self, made_from: &Arc<Snapshot>, caller: u64, decision: Decision) {
        if self.is_current(made_from) {
            let key = DecisionKey::new(caller, &decision.extension, decision.application.as_ref());
            self.decisions.insert(key, decision);
        }
    }

    /// A request may finish under a snapshot that the memory has left behind: its results do not count any more.
    fn is_current(&self, snapshot: &Arc<Snapshot>) -> bool {
        self.made_from.as_ref().is_some_and(|current| Arc::ptr_eq(current, snapshot))
    }
}

/// A map that holds at most twice `limit` entries and keeps those in use.
struct Generations<K, V> {
    limit: usize,
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Hash + Eq + Send + 'static, V: Clone + Send + 'static> Generations<K, V> {
    fn new(limit: usize) -> Self {
        Self { limit, young: HashMap::new(), old: HashMap::new() }
    }

    fn get<Q: Hash + Equivalent<K> + ?Sized>(&mut self, query: &Q) -> Option<V> {
        if let Some(value) = self.young.get(query) {
            return Some(value.clone());
        }
        let (key, value) = self.old.remove_entry(query)?;
        self.insert(key, value.clone());
        Some(value)
    }

    fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.limit {
            // Whoever filled it once will do so again.
            let young = std::mem::replace(&mut self.young, HashMap::with_capacity(self.limit));
            give_back(std::mem::replace(&mut self.old, young));
        }
        self.young.insert(key, value);
    }

    fn clear(&mut self) {
        give_back(std::mem::take(&mut self.young));
        give_back(std::mem::take(&mut self.old));
    }
}

/// In another thread: for thousands of entries it takes milliseconds, which no request need wait for.
fn give_back<K: Send + 'static, V: Send + 'static>(entries: HashMap<K, V>) {
    if !entries.is_empty() {
        tokio::task::spawn_blocking(move || drop(entries));
    }
}
