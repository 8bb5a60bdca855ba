//! Tokens of an OpenID Connect provider, and the provider's keys.
//!
//! Discovery and keys are read when the first token needs them, once however many requests wait. They are read
//! again when a token names a key that is not among them, at most once a second, and in the background when
//! they have grown old. A provider that cannot be reached refuses new keys; keys that are known go on counting.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use jsonwebtoken::jwk::{Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde::Deserialize;
use tokio::sync::Mutex;
use tracing::{info, warn};

use super::local::Validity;
use super::{Claims, TokenError, UnverifiedToken};

const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
const MIN_FETCH_INTERVAL: Duration = Duration::from_secs(1);
const REFRESH_AFTER: Duration = Duration::from_secs(15 * 60);
const MAX_DOCUMENT_BYTES: usize = 1 << 20;
/// How far apart the clocks of provider and proxy may be for `nbf`.
const NOT_BEFORE_LEEWAY: f64 = 300.0;

/// A provider as the configuration describes it.
#[derive(Clone, PartialEq, Eq)]
pub struct ProviderConfig {
    pub issuer: String,
    /// Audiences of which a token must name one.
    pub audiences: Vec<String>,
    /// Accept tokens that name no audience at all.
    pub accept_missing_audience: bool,
    /// PEM certificates to trust instead of the system's.
    pub root_ca: Option<String>,
    pub insecure_skip_verify: bool,
    /// Where requests to the issuer really go: `scheme://host:port` of a bundled Dex.
    pub reached_at: Option<String>,
}

impl fmt::Debug for ProviderConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProviderConfig").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub struct Provider {
    config: ProviderConfig,
    client: reqwest::Client,
    keys: ArcSwapOption<Keys>,
    fetch: Mutex<LastFetch>,
    refreshing: AtomicBool,
}

#[derive(Debug, Default)]
struct LastFetch {
    at: Option<Instant>,
    error: Option<String>,
}

/// The provider's keys as read at one moment.
pub struct Keys {
    algorithms: Vec<Algorithm>,
    keys: Vec<Key>,
    read_at: Instant,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

struct Key {
    id: String,
    key: DecodingKey,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
    #[serde(default)]
    id_token_signing_alg_values_supported: Vec<String>,
}

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<serde_json::Value>,
}

impl Provider {
    /// Fails when the configured certificates cannot be read.
    pub fn new(config: ProviderConfig) -> Result<Self, String> {
        // No connection is kept: the pool would tie it to the worker that happened to open it.
        let mut client = reqwest::Client::builder()
            .pool_max_idle_per_host(0)
            .timeout(FETCH_TIMEOUT)
            .tls_danger_accept_invalid_certs(config.insecure_skip_verify);
        if let Some(pem) = &config.root_ca {
            let certificates = reqwest::Certificate::from_pem_bundle(pem.as_bytes())
                .map_err(|_| "rootCA holds no readable PEM certificate".to_owned())?;
            if certificates.is_empty() {
                return Err("rootCA holds no PEM certificate".into());
            }
            client = client.tls_certs_only(certificates);
        }
        let client = client.build().map_err(|error| describe(&error))?;
        Ok(Self {
            config,
            client,
            keys: ArcSwapOption::empty(),
            fetch: Mutex::default(),
            refreshing: AtomicBool::new(false),
        })
    }

    pub fn config(&self) -> &ProviderConfig {
        &self.config
    }

    /// Verifies an ID token. The keys that verified it come back: it counts no longer than they do.
    pub async fn verify(
        self: &Arc<Self>,
        token: UnverifiedToken<'_>,
        now: f64,
    ) -> Result<(Claims, Validity, Arc<Keys>), TokenError> {
        self.check_issuer(token.claims.text("iss"))?;
        self.check_audience(&token.claims)?;
        let validity = Validity {
            expires: Some(token.claims.time("exp")?.ok_or(TokenError::Claim("exp"))?),
            not_before: token.claims.time("nbf")?.map(|nbf| nbf - NOT_BEFORE_LEEWAY),
        };
        validity.check(now)?;
        let algorithm = token.algorithm()?;
        if algorithm.family() == AlgorithmFamily::Hmac {
            return Err(TokenError::Algorithm);
        }
        let keys = self.check_signature(&token, algorithm).await?;
        Ok((token.claims, validity, keys))
    }

    /// Whether these are the keys that count now. Starts a refresh when they have grown old.
    pub fn still_trusts(self: &Arc<Self>, keys: &Arc<Keys>) -> bool {
        let current = self.keys.load();
        let trusted = current.as_ref().is_some_and(|current| Arc::ptr_eq(current, keys));
        if trusted && keys.read_at.elapsed() > REFRESH_AFTER && !self.refreshing.swap(true, Ordering::AcqRel) {
            let (provider, seen) = (self.clone(), keys.clone());
            tokio::spawn(async move {
                if let Err(error) = provider.refetch(Some(&seen)).await {
                    warn!(issuer = provider.config.issuer, %error, "the identity provider's keys could not be refreshed; the known ones go on counting");
                }
                provider.refreshing.store(false, Ordering::Release);
            });
        }
        trusted
    }

    fn check_issuer(&self, issuer: &str) -> Result<(), TokenError> {
        let google = self.config.issuer == "https://accounts.google.com" && issuer == "accounts.google.com";
        if issuer == self.config.issuer || google { Ok(()) } else { Err(TokenError::Issuer) }
    }

    fn check_audience(&self, claims: &Claims) -> Result<(), TokenError> {
        let accepted = match claims.audiences()? {
            Some(audiences) => audiences.iter().any(|a| self.config.audiences.iter().any(|allowed| allowed == a)),
            None => self.config.accept_missing_audience,
        };
        if accepted { Ok(()) } else { Err(TokenError::Audience) }
    }

    async fn check_signature(
        &self,
        token: &UnverifiedToken<'_>,
        algorithm: Algorithm,
    ) -> Result<Arc<Keys>, TokenError> {
        let seen = self.keys.load_full();
        if let Some(keys) = &seen
            && keys.verify(token, algorithm)?
        {
            return Ok(keys.clone());
        }
        let keys = self.refetch(seen.as_ref()).await?;
        if keys.verify(token, algorithm)? { Ok(keys) } else { Err(TokenError::UnknownKey) }
    }

    /// Reads the keys again, unless somebody else did since `seen` was taken.
    async fn refetch(&self, seen: Option<&Arc<Keys>>) -> Result<Arc<Keys>, TokenError> {
        let mut last = self.fetch.lock().await;
        let current = self.keys.load_full();
        if let Some(current) = &current
            && seen.is_none_or(|seen| !Arc::ptr_eq(seen, current))
        {
            return Ok(current.clone());
        }
        if last.at.is_some_and(|at| at.elapsed() < MIN_FETCH_INTERVAL) {
            return Err(last.error.clone().map_or(TokenError::UnknownKey, TokenError::ProviderUnavailable));
        }
        let outcome = self.fetch_keys().await;
        last.at = Some(Instant::now());
        match outcome {
            Ok(keys) => {
                last.error = None;
                info!(issuer = self.config.issuer, keys = keys.keys.len(), "read the identity provider's keys");
                let keys = Arc::new(keys);
                self.keys.store(Some(keys.clone()));
                Ok(keys)
            }
            Err(error) => {
                warn!(issuer = self.config.issuer, error, "the identity provider's keys could not be read");
                last.error = Some(error.clone());
                Err(TokenError::ProviderUnavailable(error))
            }
        }
    }

    async fn fetch_keys(&self) -> Result<Keys, String> {
        let url = format!("{}/.well-known/openid-configuration", self.config.issuer.trim_end_matches('/'));
        let discovery: Discovery = self.get(&url).await?;
        if discovery.issuer != self.config.issuer {
            return Err(format!("the discovery document is for another issuer: {:?}", discovery.issuer));
        }
        let set: JwkSet = self.get(&discovery.jwks_uri).await?;
        // A key of a kind that is unknown here must not hide the others.
        let keys = set.keys.into_iter().filter_map(|key| Key::read(serde_json::from_value(key).ok()?)).collect();
        Ok(Keys { algorithms: discovery.algorithms(), keys, read_at: Instant::now() })
    }

    async fn get<T: for<'de> Deserialize<'de>>(&self, url: &str) -> Result<T, String> {
        let url = self.reach(url);
        let mut response = self.client.get(&url).send().await.map_err(|error| describe(&error))?;
        if !response.status().is_success() {
            return Err(format!("{url} answered {}", response.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| describe(&error))? {
            if body.len() + chunk.len() > MAX_DOCUMENT_BYTES {
                return Err(format!("{url} answered more than {MAX_DOCUMENT_BYTES} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&body).map_err(|error| format!("{url} did not answer the expected document: {error}"))
    }

    /// A bundled Dex is reached at its own address, whatever host its issuer names.
    fn reach(&self, url: &str) -> String {
        let Some(base) = &self.config.reached_at else {
            return url.to_owned();
        };
        let path = url.split_once("://").and_then(|(_, rest)| rest.find('/').map(|i| &rest[i..])).unwrap_or("/");
        format!("{}{path}", base.trim_end_matches('/'))
    }
}

impl Discovery {
    /// What the provider signs with; never a symmetric algorithm.
    fn algorithms(&self) -> Vec<Algorithm> {
        let named: Vec<Algorithm> = self
            .id_token_signing_alg_values_supported
            .iter()
            .filter_map(|name| Algorithm::from_str(name).ok())
            .filter(|algorithm| algorithm.family() != AlgorithmFamily::Hmac)
            .collect();
        if named.is_empty() { vec![Algorithm::RS256] } else { named }
    }
}

impl Keys {
    /// Whether one of the keys signed the token. An algorithm that the provider does not name is an error.
    fn verify(&self, token: &UnverifiedToken<'_>, algorithm: Algorithm) -> Result<bool, TokenError> {
        if !self.algorithms.contains(&algorithm) {
            return Err(TokenError::Algorithm);
        }
        let id = token.header.kid.as_deref().unwrap_or_default();
        Ok(self.keys.iter().any(|key| (id.is_empty() || key.id == id) && token.is_signed_by(&key.key, algorithm)))
    }
}

impl Key {
    fn read(jwk: Jwk) -> Option<Self> {
        if jwk.common.public_key_use == Some(PublicKeyUse::Encryption) {
            return None;
        }
        let key = DecodingKey::from_jwk(&jwk).ok().filter(|key| key.family() != AlgorithmFamily::Hmac)?;
        Some(Self { id: jwk.common.key_id.unwrap_or_default(), key })
    }
}

/// An error with the causes that name what really happened.
fn describe(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
