//! Who writes: the holder of a Lease. Everybody serves.
//!
//! The holder renews it and stops writing some time before it ends, counted from before it asked for it. Another
//! replica takes it over once it has seen it unchanged for the whole duration, by its own clock.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use super::MANAGER;
use crate::kube_error;

const DURATION: Duration = Duration::from_secs(12);
/// How long one may write after the renewal that succeeded last began.
const MAY_WRITE: Duration = Duration::from_secs(8);
const RENEW_EVERY: Duration = Duration::from_secs(3);
const RETRY_EVERY: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(3);

/// Until when this replica leads; `None` where it does not.
pub(super) type Leads = watch::Receiver<Option<Instant>>;

pub(super) struct Leadership {
    leases: Api<Lease>,
    identity: String,
    /// The lease of somebody else as it was last seen to change.
    seen: Option<(Option<String>, Instant)>,
}

impl Leadership {
    pub(super) fn new(client: Client, namespace: &str, identity: &str) -> Self {
        Self { leases: Api::namespaced(client, namespace), identity: identity.to_owned(), seen: None }
    }

    pub(super) async fn hold(mut self, until: watch::Sender<Option<Instant>>) {
        let mut is_failing = false;
        loop {
            let began = Instant::now();
            let outcome = timeout(PATIENCE, self.acquire()).await;
            let holds = match outcome {
                Ok(Ok(holds)) => {
                    is_failing = false;
                    holds
                }
                Ok(Err(error)) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        warn!(
                            error = kube_error::describe(&error),
                            "the lease that says who writes status cannot be had"
                        );
                    }
                    None
                }
                Err(_) => None,
            };
            let leads = match holds {
                Some(true) => Some(began + MAY_WRITE),
                Some(false) => None,
                // Unknown: what was held may be held still, to its end.
                None => until.borrow().filter(|until| *until > Instant::now()),
            };
            let led = until.send_replace(leads).is_some();
            match (led, leads.is_some()) {
                (false, true) => info!(identity = self.identity, "this replica writes status from now on"),
                (true, false) => info!(identity = self.identity, "another replica writes status from now on"),
                _ => {}
            }
            sleep(if holds == Some(true) { RENEW_EVERY } else { RETRY_EVERY }).await;
        }
    }

    /// Whether this replica holds the lease now; `None` where that remains unknown.
    async fn acquire(&mut self) -> Result<Option<bool>, kube::Error> {
        let Some(lease) = self.leases.get_opt(MANAGER).await? else {
            let metadata = ObjectMeta { name: Some(MANAGER.into()), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: Some(self.renewed(None)) };
            return written(self.leases.create(&PostParams::default(), &lease).await);
        };
        let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
        if holder != self.identity && !holder.is_empty() && !self.has_expired(&lease) {
            return Ok(Some(false));
        }
        // Written only over the version that was read: of two who try, one fails.
        let renewed = Lease { spec: Some(self.renewed(lease.spec.as_ref())), ..lease };
        written(self.leases.replace(MANAGER, &PostParams::default(), &renewed).await)
    }

    fn has_expired(&mut self, lease: &Lease) -> bool {
        let version = lease.metadata.resource_version.clone();
        match &self.seen {
            Some((seen, since)) if *seen == version => since.elapsed() >= DURATION,
            _ => {
                self.seen = Some((version, Instant::now()));
                false
            }
        }
    }

    fn renewed(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let same = before.filter(|before| before.holder_identity.as_deref() == Some(&self.identity));
        let transitions = before.and_then(|before| before.lease_transitions).unwrap_or(0);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: same.and_then(|same| same.acquire_time.clone()).or_else(|| Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(if same.is_some() || before.is_none() { transitions } else { transitions + 1 }),
            ..LeaseSpec::default()
        }
    }
}

/// A conflict means that somebody else was faster.
fn written(outcome: Result<Lease, kube::Error>) -> Result<Option<bool>, kube::Error> {
    match outcome {
        Ok(_) => Ok(Some(true)),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(Some(false)),
        Err(error) => Err(error),
    }
}

/// Gives the lease back, if this replica holds it.
pub(super) async fn release(client: &Client, namespace: &str, identity: &str) {
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let release = async {
        let Some(mut lease) = leases.get_opt(MANAGER).await? else { return Ok(()) };
        match &mut lease.spec {
            Some(spec) if spec.holder_identity.as_deref() == Some(identity) => {
                spec.holder_identity = Some(String::new());
            }
            _ => return Ok(()),
        }
        leases.replace(MANAGER, &PostParams::default(), &lease).await.map(drop)
    };
    match timeout(PATIENCE, release).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "the lease was not given back"),
        Err(_) => debug!("the lease was not given back in time"),
    }
}
