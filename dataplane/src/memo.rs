//! What a worker remembers between requests: verified tokens and decisions.
//!
//! Bounded: each memory keeps two generations, and when the younger is full the older is dropped. Whatever was
//! remembered is forgotten when a part of the snapshot changes that it was made from.
//!
//! A decision is remembered when it is made for the second time: where everybody asks for everything, remembering
//! costs more than deciding.

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, Equivalent, HashMap};

use crate::Refusal;
use crate::application::Application;
use crate::extension::Extension;
use crate::request::{Authenticated, OwnedApplicationRef, Target};
use crate::snapshot::{Snapshot, same};

const TOKENS: usize = 2_048;
/// A longer token is verified anew each time.
const MAX_TOKEN_BYTES: usize = 8 << 10;
const DECISIONS: usize = 8_192;
/// How many decisions may be made until one is taken for new again.
const MADE: usize = 2 * DECISIONS;

/// One worker's memory.
pub(crate) struct Memo {
    made_from: Option<Arc<Snapshot>>,
    tokens: Generations<Arc<str>, Authenticated>,
    decisions: Generations<Remembered, Decision>,
    made: Made,
}

/// What was decided for a caller who asked for an extension and an application.
#[derive(Clone)]
pub(crate) enum Decision {
    /// With the application that was asked for.
    Permitted(Arc<Target>),
    Refused {
        asked: Option<Arc<OwnedApplicationRef>>,
        why: Refusal,
    },
}

/// What a decision is about: the very objects, since one that has changed is another one.
#[derive(PartialEq, Eq, Hash)]
struct About {
    caller: u64,
    extension: usize,
    application: Option<usize>,
}

impl About {
    fn new(caller: u64, extension: &Arc<Extension>, application: Option<&Arc<Application>>) -> Self {
        Self {
            caller,
            extension: Arc::as_ptr(extension).addr(),
            application: application.map(|application| Arc::as_ptr(application).addr()),
        }
    }
}

/// The same, of objects that live as long as it is remembered: no other comes to lie where they do.
struct Remembered {
    about: About,
    _extension: Arc<Extension>,
    _application: Option<Arc<Application>>,
}

impl PartialEq for Remembered {
    fn eq(&self, other: &Self) -> bool {
        self.about == other.about
    }
}

impl Eq for Remembered {}

impl Hash for Remembered {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.about.hash(state);
    }
}

impl Equivalent<Remembered> for About {
    fn equivalent(&self, remembered: &Remembered) -> bool {
        *self == remembered.about
    }
}

impl Memo {
    pub(crate) fn new() -> Self {
        Self {
            made_from: None,
            tokens: Generations::new(TOKENS),
            decisions: Generations::new(DECISIONS),
            made: Made::default(),
        }
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
        self.decisions.get(&About::new(caller, extension, application))
    }

    /// A decision was made, and is remembered if it was made before.
    pub(crate) fn decided(
        &mut self,
        made_from: &Arc<Snapshot>,
        caller: u64,
        extension: &Arc<Extension>,
        application: Option<&Arc<Application>>,
        decision: impl FnOnce() -> Decision,
    ) {
        let about = About::new(caller, extension, application);
        if self.made.is_again(&about) && self.is_current(made_from) {
            let (_extension, _application) = (extension.clone(), application.cloned());
            self.decisions.insert(Remembered { about, _extension, _application }, decision());
        }
    }

    /// A request may finish under a snapshot that the memory has left behind: its results do not count any more.
    fn is_current(&self, snapshot: &Arc<Snapshot>) -> bool {
        self.made_from.as_ref().is_some_and(|current| Arc::ptr_eq(current, snapshot))
    }
}

/// Which decisions were made of late, by their hashes.
struct Made {
    hasher: DefaultHashBuilder,
    hashes: Box<[u64]>,
}

impl Default for Made {
    fn default() -> Self {
        Self { hasher: DefaultHashBuilder::default(), hashes: vec![0; MADE].into() }
    }
}

impl Made {
    /// Whether it was made before, which it counts as from now on.
    fn is_again(&mut self, about: &About) -> bool {
        let hash = self.hasher.hash_one(about);
        let place = usize::try_from(hash % self.hashes.len() as u64).unwrap_or_default();
        std::mem::replace(&mut self.hashes[place], hash) == hash
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_that_was_made_before_is_known_again() {
        let mut made = Made::default();
        let about = |caller| About { caller, extension: 8, application: Some(16) };
        assert_eq!([1, 2, 1, 2, 3].map(|caller| made.is_again(&about(caller))), [false, false, true, true, false]);
        assert!(!made.is_again(&About { application: None, ..about(1) }));
        // It has its place, whatever came in the meantime, or it is taken for new.
        for caller in 0..100_000 {
            made.is_again(&about(caller));
        }
        assert!(made.is_again(&about(99_999)) && made.hashes.len() == MADE);
    }
}
