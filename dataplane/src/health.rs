//! Which services are down: what requests find out by the way, and what is asked for.
//!
//! ```text
//! requests: connections made or not ──┐
//! monitor: health checks, and tries ──┴─► Service.health ──► forward (who is tried), status, metrics
//! ```
//! A service without a health check is down when connections to it fail three times in a row; the monitor then tries
//! to connect until it can, so that no caller has to wait for that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hashbrown::HashMap;
use http::header::{HOST, HeaderValue, USER_AGENT};
use http::{Method, Request};
use http_body_util::Empty;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use crate::extension::{Extensions, HealthCheck, Service};
use crate::pool;
use crate::snapshot::SnapshotReceiver;

/// Connections that must fail in a row.
const FAILED_CONNECTIONS: u32 = 3;
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Changes that follow each other more closely are looked at together.
const GATHER: Duration = Duration::from_millis(100);
const AGENT: HeaderValue = HeaderValue::from_static(concat!("argocd-extension-proxy/", env!("CARGO_PKG_VERSION")));

/// How a service does.
#[derive(Debug, Default)]
pub struct Health {
    is_down: AtomicBool,
    failed_connections: AtomicU32,
    down: Mutex<Option<Down>>,
}

#[derive(Debug, Clone)]
struct Down {
    error: String,
    cause: Cause,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// Connections are refused: to try costs nothing, and the answer stays what it is.
    Refused,
    /// Connections are not answered.
    Unanswered,
    Check,
}

impl Health {
    pub fn is_down(&self) -> bool {
        self.is_down.load(Ordering::Relaxed)
    }

    /// Why it is down.
    pub fn last_error(&self) -> Option<String> {
        self.down.lock().as_ref().map(|down| down.error.clone())
    }

    /// Whether a request may go there although it is down.
    pub(crate) fn fails_at_once(&self) -> bool {
        self.down.lock().as_ref().is_some_and(|down| down.cause == Cause::Refused)
    }

    fn take_down(&self, service: &Service, error: &str, cause: Cause, changes: &HealthChanges) {
        let mut down = self.down.lock();
        if let Some(down) = &mut *down {
            // What a check found out counts until a check finds out otherwise.
            if down.cause != Cause::Check {
                down.cause = cause;
            }
            return;
        }
        *down = Some(Down { error: error.to_owned(), cause });
        self.is_down.store(true, Ordering::Relaxed);
        warn!(backend = service.settings.address.url(), error, "a backend is down");
        changes.tell();
    }

    fn bring_back(&self, service: &Service, changes: &HealthChanges) {
        self.failed_connections.store(0, Ordering::Relaxed);
        if self.down.lock().take().is_some() {
            self.is_down.store(false, Ordering::Relaxed);
            info!(backend = service.settings.address.url(), "a backend is well again");
            changes.tell();
        }
    }
}

/// Tells that a service went down or came back.
#[derive(Debug, Clone)]
pub struct HealthChanges(watch::Sender<u64>);

pub type HealthReceiver = watch::Receiver<u64>;

impl Default for HealthChanges {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl HealthChanges {
    pub fn subscribe(&self) -> HealthReceiver {
        self.0.subscribe()
    }

    fn tell(&self) {
        self.0.send_modify(|version| *version += 1);
    }

    /// A connection to the service was made.
    pub(crate) fn connected(&self, service: &Service) {
        let health = &service.health;
        if health.failed_connections.load(Ordering::Relaxed) == 0 {
            return;
        }
        health.failed_connections.store(0, Ordering::Relaxed);
        // Whoever is asked for its health says itself when it is well again.
        if service.settings.health_check.is_none() {
            health.bring_back(service, self);
        }
    }

    /// A connection could not be made; `unanswered` within its time limit.
    pub(crate) fn not_connected(&self, service: &Service, error: &str, unanswered: bool) {
        let failed = service.health.failed_connections.fetch_add(1, Ordering::Relaxed) + 1;
        if failed >= FAILED_CONNECTIONS {
            let cause = if unanswered { Cause::Unanswered } else { Cause::Refused };
            service.health.take_down(service, error, cause, self);
        }
    }
}

/// Asks and tries services for as long as they are served.
pub(crate) async fn monitor(mut snapshots: SnapshotReceiver, changes: HealthChanges) {
    let mut told = changes.subscribe();
    let mut extensions: Option<Arc<Extensions>> = None;
    let mut tasks: HashMap<u64, AbortOnDropHandle<()>> = HashMap::new();
    loop {
        let newest = snapshots.borrow_and_update().as_ref().map(|snapshot| snapshot.extensions.clone());
        let is_new = match (&newest, &extensions) {
            (Some(newest), Some(known)) => !Arc::ptr_eq(newest, known),
            (newest, _) => newest.is_some(),
        };
        let went_down = told.has_changed().unwrap_or(false);
        if is_new || went_down {
            told.mark_unchanged();
            extensions = newest;
            follow(extensions.as_deref(), &mut tasks, &changes);
        }
        let changed = tokio::select! {
            changed = snapshots.changed() => changed,
            changed = told.changed() => { told.mark_changed(); changed }
        };
        if changed.is_err() {
            return;
        }
        sleep(GATHER).await;
    }
}

fn follow(extensions: Option<&Extensions>, tasks: &mut HashMap<u64, AbortOnDropHandle<()>>, changes: &HealthChanges) {
    let services = || extensions.into_iter().flat_map(HashMap::values).flat_map(|extension| &extension.services);
    let served: HashMap<u64, &Arc<Service>> = services().map(|service| (service.id, service)).collect();
    tasks.retain(|id, task| served.contains_key(id) && !task.is_finished());
    for (id, service) in served {
        if tasks.contains_key(&id) {
            continue;
        }
        let (service, changes) = (service.clone(), changes.clone());
        let task = match &service.settings.health_check {
            Some(check) => tokio::spawn(ask(service.clone(), check.clone(), changes)),
            None if service.health.is_down() => tokio::spawn(try_again(service, changes)),
            None => continue,
        };
        tasks.insert(id, AbortOnDropHandle::new(task));
    }
}

/// Connects again and again until it can.
async fn try_again(service: Arc<Service>, changes: HealthChanges) {
    let mut pause = SHORTEST_PAUSE;
    while service.health.is_down() {
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        // It says itself how it went.
        let _ = pool::connect(&service, &changes, false).await;
    }
}

async fn ask(service: Arc<Service>, check: HealthCheck, changes: HealthChanges) {
    let mut ticks = interval(check.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failed = 0;
    loop {
        ticks.tick().await;
        let outcome = timeout(check.timeout, request(&service, &check)).await;
        match outcome.unwrap_or_else(|_| Err(format!("health check {}: no answer in time", check.target))) {
            Ok(()) => {
                failed = 0;
                service.health.bring_back(&service, &changes);
            }
            Err(error) => {
                failed += 1;
                if failed >= check.unhealthy_threshold {
                    service.health.take_down(&service, &error, Cause::Check, &changes);
                }
            }
        }
    }
}

async fn request(service: &Service, check: &HealthCheck) -> Result<(), String> {
    let target = &check.target;
    let failed = |error: String| format!("health check {target}: {error}");
    let mut sender = pool::establish::<Empty<Bytes>>(service, false).await.map_err(failed)?;
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = Method::GET;
    *request.uri_mut() = target.parse().map_err(|_| failed("is no valid target".into()))?;
    let headers = request.headers_mut();
    headers.insert(HOST, service.settings.address.authority.clone());
    headers.insert(USER_AGENT, AGENT);
    for (name, value) in &service.settings.headers {
        headers.insert(name.clone(), value.clone());
    }
    sender.prepare(&service.settings.address, &mut request);
    let answer = sender.send(request).await.map_err(|error| failed(error.into_error().to_string()))?;
    let status = answer.status();
    if status.is_success() || status.is_redirection() {
        Ok(())
    } else {
        Err(failed(format!("status {}", status.as_u16())))
    }
}
