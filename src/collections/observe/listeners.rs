//! A registry of listeners that are held in one of three ways, to show what each way costs.
//!
//! | held | unregistered | what is forgotten |
//! | --- | --- | --- |
//! | strongly | never | stays, with all it refers to: the classic leak |
//! | weakly | found dead by an emit or a prune | an empty entry, until then |
//! | by token | when the token is dropped | nothing |

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// What is called with each event.
pub type Listener<E> = dyn Fn(&E) + Send + Sync;

/// A registry of listeners for events of one type.
///
/// Listeners are called outside the registry's lock: they may register and unregister others, and
/// emit. One that is unregistered during an emit may still get that event.
///
/// ```
/// use spanalloc::observe::Listeners;
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
///
/// let listeners = Listeners::new();
/// let heard = Arc::new(AtomicU32::new(0));
/// let token = listeners.subscribe({
///     let heard = heard.clone();
///     move |event: &u32| drop(heard.fetch_add(*event, Relaxed))
/// });
/// assert_eq!(listeners.emit(&5), 1);
/// drop(token);
/// assert_eq!(listeners.emit(&5), 0);
/// assert_eq!(heard.load(Relaxed), 5);
/// ```
pub struct Listeners<E> {
    registry: Arc<Mutex<Registry<E>>>,
}

struct Registry<E> {
    entries: Vec<Entry<E>>,
    next_id: u64,
    pruned: u64,
}

struct Entry<E> {
    id: u64,
    held: Held<E>,
}

enum Held<E> {
    Strong(Arc<Listener<E>>),
    Weak(Weak<Listener<E>>),
    Token(Arc<Listener<E>>),
}

impl<E> Held<E> {
    fn get(&self) -> Option<Arc<Listener<E>>> {
        match self {
            Held::Strong(listener) | Held::Token(listener) => Some(listener.clone()),
            Held::Weak(listener) => listener.upgrade(),
        }
    }

    fn is_dead(&self) -> bool {
        matches!(self, Held::Weak(listener) if listener.strong_count() == 0)
    }
}

impl<E: 'static> Listeners<E> {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        let registry = Registry { entries: Vec::new(), next_id: 0, pruned: 0 };
        Self { registry: Arc::new(Mutex::new(registry)) }
    }

    /// Registers `listener` for as long as the registry lives.
    pub fn add(&self, listener: impl Fn(&E) + Send + Sync + 'static) {
        lock(&self.registry).push(Held::Strong(Arc::new(listener)));
    }

    /// Registers `listener` for as long as somebody else holds it.
    pub fn add_weak(&self, listener: &Arc<Listener<E>>) {
        lock(&self.registry).push(Held::Weak(Arc::downgrade(listener)));
    }

    /// Registers `listener` for as long as the token is held.
    #[must_use = "dropping the token unregisters the listener"]
    pub fn subscribe(&self, listener: impl Fn(&E) + Send + Sync + 'static) -> Token<E> {
        let id = lock(&self.registry).push(Held::Token(Arc::new(listener)));
        Token { id, registry: Arc::downgrade(&self.registry) }
    }

    /// Calls every listener with `event`, in the order of registration, and returns how many there
    /// were. Weak entries found dead are removed.
    pub fn emit(&self, event: &E) -> usize {
        let mut registry = lock(&self.registry);
        let listeners: Vec<_> = registry.entries.iter().filter_map(|e| e.held.get()).collect();
        if listeners.len() < registry.entries.len() {
            registry.prune();
        }
        drop(registry);
        listeners.iter().for_each(|listener| listener(event));
        listeners.len()
    }

    /// Removes the weak entries whose listeners are gone, and returns how many those were.
    pub fn prune(&self) -> usize {
        lock(&self.registry).prune()
    }

    /// The registry's contents in numbers.
    #[must_use]
    pub fn stats(&self) -> ListenerStats {
        let registry = lock(&self.registry);
        let mut stats = ListenerStats { pruned: registry.pruned, ..ListenerStats::default() };
        for entry in &registry.entries {
            match &entry.held {
                Held::Strong(_) => stats.strong += 1,
                Held::Token(_) => stats.tokens += 1,
                Held::Weak(_) if entry.held.is_dead() => stats.dead += 1,
                Held::Weak(_) => stats.weak += 1,
            }
        }
        stats
    }
}

impl<E> Registry<E> {
    fn push(&mut self, held: Held<E>) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.entries.push(Entry { id, held });
        id
    }

    fn prune(&mut self) -> usize {
        let before = self.entries.len();
        self.entries.retain(|entry| !entry.held.is_dead());
        let pruned = before - self.entries.len();
        self.pruned += pruned as u64;
        pruned
    }

    /// Identities rise along the vector, because entries are only ever pushed and removed.
    fn remove(&mut self, id: u64) -> Option<Entry<E>> {
        let at = self.entries.binary_search_by_key(&id, |entry| entry.id).ok()?;
        Some(self.entries.remove(at))
    }
}

impl<E: 'static> Default for Listeners<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E: 'static> fmt::Debug for Listeners<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listeners").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// No foreign code runs under the lock, so a poisoned one guards a whole registry.
fn lock<E>(registry: &Mutex<Registry<E>>) -> MutexGuard<'_, Registry<E>> {
    registry.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps a listener registered; see [`Listeners::subscribe`].
pub struct Token<E: 'static> {
    id: u64,
    registry: Weak<Mutex<Registry<E>>>,
}

impl<E> Drop for Token<E> {
    fn drop(&mut self) {
        if let Some(registry) = self.registry.upgrade() {
            // The listener's own `Drop` runs after the lock is released.
            let entry = lock(&registry).remove(self.id);
            drop(entry);
        }
    }
}

impl<E> fmt::Debug for Token<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Contents of a [`Listeners`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenerStats {
    /// Listeners held strongly.
    pub strong: usize,
    /// Listeners held weakly and alive.
    pub weak: usize,
    /// Weak entries whose listeners are gone.
    pub dead: usize,
    /// Listeners held by tokens.
    pub tokens: usize,
    /// Dead entries removed since the registry was made.
    pub pruned: u64,
}
