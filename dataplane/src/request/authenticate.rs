//! Who calls: the caller's token, verified.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use http::{HeaderName, HeaderValue};

use super::said;
use crate::Refusal;
use crate::rbac::{Caller, Decision, Policy, Question, Standing};
use crate::server::Worker;
use crate::snapshot::Snapshot;
use crate::token::local::{self, Validity};
use crate::token::oidc::Keys;
use crate::token::{Claims, LOCAL_ISSUER, TokenError, UnverifiedToken};

const USER_ID: HeaderName = HeaderName::from_static("argocd-user-id");
const USERNAME: HeaderName = HeaderName::from_static("argocd-username");
const USER_GROUPS: HeaderName = HeaderName::from_static("argocd-user-groups");

/// A caller whose token was verified. Only [`authenticate`] makes one.
#[derive(Clone)]
pub struct Authenticated(Arc<Identity>);

struct Identity {
    /// Distinguishes callers in the memory of decisions.
    id: u64,
    /// To be verified again.
    token: Arc<str>,
    user: String,
    username: String,
    groups: Vec<String>,
    /// With the policy under which the token was verified.
    standing: Option<(Arc<Policy>, Standing)>,
    /// What the backend is told about the caller.
    headers: Vec<(HeaderName, HeaderValue)>,
    validity: Validity,
    /// The identity provider's keys that verified the token, where it was one of the provider's.
    keys: Option<Arc<Keys>>,
}

impl Authenticated {
    pub(super) fn id(&self) -> u64 {
        self.0.id
    }

    pub(crate) fn token(&self) -> &Arc<str> {
        &self.0.token
    }

    pub(super) fn username(&self) -> &str {
        &self.0.username
    }

    pub(super) fn caller(&self) -> Caller<'_> {
        Caller { user: &self.0.user, groups: &self.0.groups }
    }

    /// The policy's answer for this caller.
    pub(super) fn ask<'a>(&'a self, policy: &'a Arc<Policy>, question: Question<'_, 'a>) -> Decision<'a> {
        match &self.0.standing {
            Some((of, standing)) if Arc::ptr_eq(of, policy) => policy.answer(Some((self.caller(), standing)), question),
            _ => policy.decide(Some(self.caller()), question),
        }
    }

    pub(super) fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.0.headers
    }

    /// When the token ends, in seconds since 1970.
    pub(super) fn expires(&self) -> Option<f64> {
        self.0.validity.expires
    }

    fn still_counts(&self, snapshot: &Snapshot, now: f64) -> Result<bool, TokenError> {
        self.0.validity.check(now)?;
        Ok(match (&self.0.keys, &snapshot.provider) {
            (Some(keys), Some(provider)) => provider.still_trusts(keys),
            (Some(_), None) => false,
            (None, _) => true,
        })
    }
}

pub(super) async fn authenticate(
    worker: &Worker,
    snapshot: &Arc<Snapshot>,
    token: &str,
) -> Result<Authenticated, Refusal> {
    let now = now();
    let known = worker.memo.lock().token(token);
    if let Some(known) = known
        && known.still_counts(snapshot, now).map_err(Refusal::Token)?
    {
        return Ok(known);
    }
    // Boxed, because most requests' tokens are known, and every request would carry it around.
    let caller = Box::pin(verify(snapshot, token, now)).await?;
    worker.memo.lock().remember_token(snapshot, caller.clone());
    Ok(caller)
}

/// [`authenticate`], without anything that is remembered.
pub(super) async fn identify(snapshot: &Snapshot, token: &str) -> Result<Authenticated, Refusal> {
    verify(snapshot, token, now()).await
}

/// Somebody whose token would say this, for explanations only: no request is served for them.
pub(super) fn suppose(user: &str, groups: &[String]) -> Result<Authenticated, Refusal> {
    let said = Said { user: user.to_owned(), username: user.to_owned(), groups: groups.to_vec() };
    identity("", said, Validity::default(), None, None)
}

async fn verify(snapshot: &Snapshot, token: &str, now: f64) -> Result<Authenticated, Refusal> {
    let (claims, validity, keys) = verify_claims(snapshot, token, now).await.map_err(Refusal::Token)?;
    let id = claims.text("jti");
    if !id.is_empty() && snapshot.revoked.contains(id) {
        return Err(Refusal::Token(TokenError::Revoked));
    }
    let scopes = snapshot.policy.as_ref().map(|policy| policy.scopes()).unwrap_or_default();
    let groups = claims.groups(scopes);
    let said = Said { user: claims.user().to_owned(), username: username(&claims), groups };
    identity(token, said, validity, keys, snapshot.policy.as_ref())
}

/// What a token says of its bearer.
struct Said {
    user: String,
    username: String,
    groups: Vec<String>,
}

fn identity(
    token: &str,
    said: Said,
    validity: Validity,
    keys: Option<Arc<Keys>>,
    policy: Option<&Arc<Policy>>,
) -> Result<Authenticated, Refusal> {
    let Said { user, username, groups } = said;
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let headers = identity_headers(&user, &username, &groups)?;
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let token = token.into();
    let standing = policy.map(|policy| (policy.clone(), policy.standing(Caller { user: &user, groups: &groups })));
    Ok(Authenticated(Arc::new(Identity { id, token, user, username, groups, standing, headers, validity, keys })))
}

async fn verify_claims(
    snapshot: &Snapshot,
    token: &str,
    now: f64,
) -> Result<(Claims, Validity, Option<Arc<Keys>>), TokenError> {
    let token = UnverifiedToken::read(token)?;
    if token.claims.text("iss") == LOCAL_ISSUER {
        let (claims, validity) = local::verify(token, &snapshot.accounts, &snapshot.projects, now)?;
        return Ok((claims, validity, None));
    }
    let provider = snapshot.provider.as_ref().ok_or(TokenError::NoProvider)?;
    let (claims, validity, keys) = provider.verify(token, now).await?;
    Ok((claims, validity, Some(keys)))
}

/// A user of an identity provider goes by the mail address, where the token names one.
fn username(claims: &Claims) -> String {
    let email = claims.text("email");
    let name = if email.is_empty() || claims.text("iss") == LOCAL_ISSUER { claims.user() } else { email };
    name.to_owned()
}

fn identity_headers(user: &str, username: &str, groups: &[String]) -> Result<Vec<(HeaderName, HeaderValue)>, Refusal> {
    said::headers(&[
        (USER_ID, user, "user id"),
        (USERNAME, username, "user name"),
        (USER_GROUPS, &groups.join(","), "list of the user's groups"),
    ])
}

fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
