//! Tokens as the recorded cases describe them.

use std::collections::BTreeMap;
use std::time::SystemTime;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::jws::sign_with_secret;
use crate::provider::Provider;

/// `server.secretkey` of the conformance world.
pub const SIGNING_KEY: &str = "conformance-signing-key-0123456789";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    #[default]
    Local,
    Oidc,
}

/// By default: alice signed in, or `pat@example.com` of the group `platform-team` through the provider.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenSpec {
    /// The token itself.
    raw: Option<String>,
    #[serde(default)]
    kind: Kind,
    /// Replaces claims; null removes one; a text such as `-60` for a time is relative to now.
    #[serde(default)]
    claims: BTreeMap<String, Value>,
    alg: Option<String>,
    key: Option<String>,
    kid: Option<String>,
    #[serde(default)]
    tamper: bool,
}

impl TokenSpec {
    pub fn local() -> Self {
        Self::default()
    }

    pub fn oidc() -> Self {
        Self { kind: Kind::Oidc, ..Self::default() }
    }

    #[must_use]
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(name.into(), value.into());
        self
    }

    #[must_use]
    pub fn key(mut self, id: &str) -> Self {
        self.key = Some(id.into());
        self
    }

    pub fn mint(&self, provider: &Provider) -> Result<String> {
        if let Some(raw) = &self.raw {
            return Ok(raw.clone());
        }
        let claims = Value::Object(self.claims(&provider.issuer)?);
        let default = if self.kind == Kind::Local { "HS256" } else { "RS256" };
        let algorithm = self.alg.as_deref().unwrap_or(default);
        let token = if algorithm == "none" || algorithm.starts_with("HS") {
            let mut header = json!({"alg": algorithm, "typ": "JWT"});
            let secret = match self.key.as_deref() {
                Some("@rs256-public") => {
                    header["kid"] = self.kid.as_deref().unwrap_or("rs256").into();
                    provider.key("rs256")?.public_pem()?
                }
                Some(secret) => secret.to_owned(),
                None => SIGNING_KEY.to_owned(),
            };
            if let Some(kid) = &self.kid {
                header["kid"] = kid.as_str().into();
            }
            sign_with_secret(algorithm, &header, secret.as_bytes(), &claims)?
        } else {
            let default = if algorithm.starts_with("RS") { "rs256" } else { "es256" };
            let name = self.key.as_deref().unwrap_or(default);
            provider.key(name)?.sign(self.kid.as_deref().unwrap_or(name), &claims)?
        };
        if self.tamper { tampered(&token) } else { Ok(token) }
    }

    fn claims(&self, issuer: &str) -> Result<Map<String, Value>> {
        let now = i64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs())?;
        let mut claims = json!({"iat": now - 60, "nbf": now - 60, "exp": now + 3600, "jti": "case-jti"});
        let identity = match self.kind {
            Kind::Local => json!({"iss": "argocd", "sub": "alice:login"}),
            Kind::Oidc => json!({
                "iss": issuer,
                "aud": "argo-test",
                "sub": "oidc-subject",
                "email": "pat@example.com",
                "groups": ["platform-team"],
            }),
        };
        let claims = claims.as_object_mut().context("claims")?;
        claims.extend(identity.as_object().cloned().unwrap_or_default());
        for (name, value) in &self.claims {
            match value {
                Value::Null => {
                    claims.remove(name);
                }
                Value::String(relative) if matches!(name.as_str(), "iat" | "nbf" | "exp") => {
                    claims.insert(name.clone(), (now + relative.trim_start_matches('+').parse::<i64>()?).into());
                }
                value => {
                    claims.insert(name.clone(), value.clone());
                }
            }
        }
        Ok(claims.clone())
    }
}

/// The token with the first character of its signature changed.
fn tampered(token: &str) -> Result<String> {
    let (signed, signature) = token.rsplit_once('.').context("no signature")?;
    let first = if signature.starts_with('A') { 'B' } else { 'A' };
    Ok(format!("{signed}.{first}{}", &signature[1..]))
}
