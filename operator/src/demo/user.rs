//! The user who is signed in: a token as Argo CD gives one out at login.

use std::time::SystemTime;

use anyhow::{Context, Result};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;

const TOKEN_SECONDS: u64 = 24 * 60 * 60;

pub(super) fn sign_in(account: &str, groups: &[String], signing_key: &str) -> Result<String> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let claims = json!({
        "iss": "argocd",
        "sub": format!("{account}:login"),
        "iat": now,
        "nbf": now,
        "exp": now + TOKEN_SECONDS,
        "jti": random_text()?,
        "groups": groups,
    });
    let key = EncodingKey::from_secret(signing_key.as_bytes());
    jsonwebtoken::encode(&Header::default(), &claims, &key).context("signing the user's token")
}

/// 32 characters that nobody can guess.
pub(super) fn random_text() -> Result<String> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).context("the system gives no random numbers")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
