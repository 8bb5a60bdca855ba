//! Tokens that were revoked: Argo CD keeps their ids in Redis until they expire, and tells of new ones on a channel.
//!
//! The channel is listened to first, then the keys are read, so that none falls between; they are read again from
//! time to time, which drops what expired and finds what a broken connection hid. While Redis is away the known
//! revocations hold.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use backon::BackoffBuilder;
use futures_util::StreamExt;
use hashbrown::HashSet;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, AsyncTypedCommands, Client, ClientTlsConfig, ConnectionAddr, IntoConnectionInfo,
    RedisConnectionInfo, RedisError, ScanOptions, TlsCertificates, TlsMode,
};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};
use tracing::{debug, info, warn};

use super::{LONGEST_PAUSE, pauses};
use crate::metrics::SourceMetrics;

const KEY_PREFIX: &str = "revoked-token|";
const CHANNEL: &str = "new-revoked-token";
const SOURCE: &str = "Redis";
const RESYNC: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(5);

pub type Revoked = Arc<HashSet<Box<str>>>;
/// `None` until they have been read once.
pub type RevocationReceiver = watch::Receiver<Option<Revoked>>;

/// How Redis is reached. Passwords never print.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct RedisOptions {
    /// `host:port`; with a Sentinel, the Sentinels' addresses.
    pub addresses: Vec<String>,
    pub database: i64,
    pub username: Option<String>,
    pub password: Option<String>,
    pub tls: Option<RedisTls>,
    pub sentinel: Option<Sentinel>,
}

#[derive(Clone, PartialEq, Eq, Default)]
pub struct RedisTls {
    /// PEM; the system's certificates where there is none.
    pub ca: Option<Vec<u8>>,
    /// Certificate and key, PEM.
    pub client: Option<(Vec<u8>, Vec<u8>)>,
    pub insecure_skip_verify: bool,
}

#[derive(Clone, PartialEq, Eq, Default)]
pub struct Sentinel {
    pub master: String,
    pub username: Option<String>,
    pub password: Option<String>,
}

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisOptions").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

/// Follows Redis, wherever the newest options say that it is, until the task is dropped.
pub async fn follow(
    mut options: watch::Receiver<Option<RedisOptions>>,
    revoked: watch::Sender<Option<Revoked>>,
    metrics: SourceMetrics,
) {
    let mut outage = Outage { pauses: pauses().build(), began: None, metrics };
    loop {
        let current = options.borrow_and_update().clone();
        let ended = async {
            match &current {
                None => std::future::pending().await,
                Some(options) => {
                    let error = session(options, &revoked, &mut outage).await;
                    outage.note(&error, &options.addresses.join(","), revoked.borrow().is_some());
                    sleep(outage.pauses.next().unwrap_or(LONGEST_PAUSE)).await;
                }
            }
        };
        tokio::select! {
            () = ended => {}
            changed = options.changed() => if changed.is_err() { return },
        }
    }
}

struct Outage {
    pauses: backon::ExponentialBackoff,
    began: Option<std::time::Instant>,
    metrics: SourceMetrics,
}

impl Outage {
    fn note(&mut self, error: &RedisError, address: &str, is_known: bool) {
        self.metrics.failed(SOURCE);
        if self.began.is_none() {
            self.began = Some(std::time::Instant::now());
            let effect = if is_known { "the known revocations hold" } else { "nothing is served without it" };
            warn!(address, error = describe(error), "revoked tokens cannot be read from Redis: {effect}");
        } else {
            debug!(address, error = describe(error), "Redis is still away");
        }
    }

    fn end(&mut self) {
        self.pauses = pauses().build();
        self.metrics.works(SOURCE);
        if let Some(began) = self.began.take() {
            info!(seconds = began.elapsed().as_secs(), "revoked tokens are read from Redis again");
        }
    }
}

/// The kind and detail of an error, which name no password.
fn describe(error: &RedisError) -> String {
    match error.code() {
        Some("WRONGPASS" | "NOAUTH") => {
            "the password was refused: see the key auth of the Secret argocd-redis, or REDIS_PASSWORD".into()
        }
        _ => error.to_string(),
    }
}

/// One connection, for as long as it lasts.
async fn session(options: &RedisOptions, revoked: &watch::Sender<Option<Revoked>>, outage: &mut Outage) -> RedisError {
    let outcome: Result<(), RedisError> = async {
        let client = within(options.client()).await?;
        let mut news = within(client.get_async_pubsub()).await?;
        within(news.subscribe(CHANNEL)).await?;
        let mut news = news.into_on_message();
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE)).set_response_timeout(Some(PATIENCE));
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        // Before any news: one id alone would pass for all of them.
        publish(revoked, read_all(&mut connection).await?);
        outage.end();
        let mut resync = interval_at(Instant::now() + RESYNC, RESYNC);
        resync.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = resync.tick() => publish(revoked, read_all(&mut connection).await?),
                message = news.next() => {
                    let message = message.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::ConnectionReset))?;
                    let id: String = message.get_payload()?;
                    let mut all = revoked.borrow().as_deref().cloned().unwrap_or_default();
                    all.insert(id.into());
                    publish(revoked, all);
                }
            }
        }
    }
    .await;
    outcome.err().unwrap_or_else(|| std::io::Error::from(std::io::ErrorKind::ConnectionReset).into())
}

async fn within<T>(step: impl Future<Output = Result<T, RedisError>>) -> Result<T, RedisError> {
    timeout(PATIENCE, step).await.unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))
}

async fn read_all(connection: &mut redis::aio::MultiplexedConnection) -> Result<HashSet<Box<str>>, RedisError> {
    let every = ScanOptions::default().with_pattern(format!("{KEY_PREFIX}*")).with_count(1000);
    let mut keys = connection.scan_options::<String>(every).await?;
    let mut all = HashSet::new();
    while let Some(key) = keys.next_item().await.transpose()? {
        if let Some(id) = key.strip_prefix(KEY_PREFIX) {
            all.insert(id.into());
        }
    }
    Ok(all)
}

fn publish(revoked: &watch::Sender<Option<Revoked>>, all: HashSet<Box<str>>) {
    revoked.send_if_modified(|current| {
        let changed = current.as_deref() != Some(&all);
        if changed {
            *current = Some(Arc::new(all));
        }
        changed
    });
}

impl RedisOptions {
    async fn client(&self) -> Result<Client, RedisError> {
        let addresses = self.addresses.iter().map(|address| self.address(address));
        let Some(sentinel) = &self.sentinel else {
            let address = addresses.into_iter().next().unwrap_or(ConnectionAddr::Tcp("localhost".into(), 6379));
            return self.open(address);
        };
        let mut builder = SentinelClientBuilder::new(addresses, sentinel.master.clone(), SentinelServerType::Master)?
            .set_client_to_redis_db(self.database);
        if let Some(username) = &self.username {
            builder = builder.set_client_to_redis_username(username);
        }
        if let Some(password) = &self.password {
            builder = builder.set_client_to_redis_password(password);
        }
        if let Some(username) = &sentinel.username {
            builder = builder.set_client_to_sentinel_username(username);
        }
        if let Some(password) = &sentinel.password {
            builder = builder.set_client_to_sentinel_password(password);
        }
        if let Some(tls) = &self.tls {
            builder =
                builder.set_client_to_redis_tls_mode(tls.mode()).set_client_to_redis_certificates(tls.certificates());
        }
        builder.build()?.async_get_client().await
    }

    fn open(&self, address: ConnectionAddr) -> Result<Client, RedisError> {
        let mut account = RedisConnectionInfo::default().set_db(self.database);
        if let Some(username) = &self.username {
            account = account.set_username(username);
        }
        if let Some(password) = &self.password {
            account = account.set_password(password);
        }
        let info = address.into_connection_info()?.set_redis_settings(account);
        match &self.tls {
            Some(tls) => Client::build_with_tls(info, tls.certificates()),
            None => Client::open(info),
        }
    }

    fn address(&self, address: &str) -> ConnectionAddr {
        let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
        let (host, port) = (host.trim_matches(['[', ']']).to_owned(), port.parse().unwrap_or(6379));
        match &self.tls {
            Some(tls) => ConnectionAddr::TcpTls { host, port, insecure: tls.insecure_skip_verify, tls_params: None },
            None => ConnectionAddr::Tcp(host, port),
        }
    }
}

impl RedisTls {
    fn mode(&self) -> TlsMode {
        if self.insecure_skip_verify { TlsMode::Insecure } else { TlsMode::Secure }
    }

    fn certificates(&self) -> TlsCertificates {
        TlsCertificates {
            client_tls: self
                .client
                .clone()
                .map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key }),
            root_cert: self.ca.clone(),
        }
    }
}
