//! Tokens of callers: read once, then verified by who issued them.

mod claims;
pub mod local;
pub mod oidc;

use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use thiserror::Error;

pub use claims::Claims;

/// Issuer of the tokens that Argo CD signs itself.
pub const LOCAL_ISSUER: &str = "argocd";

/// Why a token was refused. Never holds any part of the token.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TokenError {
    #[error("it is no signed JWT")]
    Malformed,
    #[error("its algorithm is not accepted from this issuer")]
    Algorithm,
    #[error("its signature is wrong")]
    Signature,
    #[error("it was signed with a key that the identity provider does not publish")]
    UnknownKey,
    #[error("it has expired")]
    Expired,
    #[error("it is not valid yet")]
    NotYetValid,
    #[error("the claim {0:?} is missing or has the wrong type")]
    Claim(&'static str),
    #[error("server.secretkey is missing from argocd-secret, so that no local token can be verified")]
    NoSigningKey,
    #[error("its subject is not <account>:<login|apiKey>")]
    Subject,
    #[error("its account does not exist")]
    UnknownAccount,
    #[error("its account is disabled")]
    AccountDisabled,
    #[error("the configuration of its account cannot be read")]
    AccountUnreadable,
    #[error("its account lacks the capability that it claims")]
    Capability,
    #[error("its account has no such API key")]
    UnknownApiKey,
    #[error("the account's password was changed after it was issued")]
    PasswordChanged,
    #[error("it was revoked")]
    Revoked,
    #[error("its project does not exist")]
    UnknownProject,
    #[error("its project role has no such token")]
    UnknownProjectToken,
    #[error("it was issued by nobody known here, and single sign-on is not configured")]
    NoProvider,
    #[error("it was issued by another identity provider than the configured one")]
    Issuer,
    #[error("it is meant for another audience")]
    Audience,
    #[error("the identity provider cannot be asked for its keys: {0}")]
    ProviderUnavailable(String),
}

/// A JWT taken apart; nothing in it is verified.
pub struct UnverifiedToken<'a> {
    signing_input: &'a str,
    signature: &'a str,
    header: Header,
    pub claims: Claims,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    /// Extensions that a verifier must understand. None is understood here.
    #[serde(default)]
    crit: Option<serde::de::IgnoredAny>,
}

impl<'a> UnverifiedToken<'a> {
    pub fn read(token: &'a str) -> Result<Self, TokenError> {
        let (signing_input, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = signing_input.split_once('.').ok_or(TokenError::Malformed)?;
        let header: Header = decode(header)?;
        if payload.contains('.') || header.crit.is_some() {
            return Err(TokenError::Malformed);
        }
        Ok(Self { signing_input, signature, header, claims: Claims::new(decode(payload)?) })
    }

    fn algorithm(&self) -> Result<Algorithm, TokenError> {
        // "none" is no algorithm here.
        Algorithm::from_str(&self.header.alg).map_err(|_| TokenError::Algorithm)
    }

    fn is_signed_by(&self, key: &DecodingKey, algorithm: Algorithm) -> bool {
        key.family() == algorithm.family()
            && jsonwebtoken::crypto::verify(self.signature, self.signing_input.as_bytes(), key, algorithm)
                .unwrap_or(false)
    }
}

fn decode<T: for<'de> Deserialize<'de>>(part: &str) -> Result<T, TokenError> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| TokenError::Malformed)
}
