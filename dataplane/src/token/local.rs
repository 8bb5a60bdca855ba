//! Tokens that Argo CD signed itself: of accounts and of project roles.

use jsonwebtoken::{AlgorithmFamily, DecodingKey};

use super::{Claims, TokenError, UnverifiedToken};
use crate::account::{Account, Accounts};
use crate::project::Projects;
use crate::rbac;

/// When a token counts, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Validity {
    pub not_before: Option<f64>,
    pub expires: Option<f64>,
}

impl Validity {
    pub fn check(&self, now: f64) -> Result<(), TokenError> {
        if self.expires.is_some_and(|expires| now >= expires) {
            return Err(TokenError::Expired);
        }
        if self.not_before.is_some_and(|not_before| now < not_before) {
            return Err(TokenError::NotYetValid);
        }
        Ok(())
    }
}

/// Verifies a token of issuer `argocd`. Its claims come back with the account's name as their subject.
pub fn verify(
    token: UnverifiedToken<'_>,
    accounts: &Accounts,
    projects: &Projects,
    now: f64,
) -> Result<(Claims, Validity), TokenError> {
    let algorithm = token.algorithm()?;
    if algorithm.family() != AlgorithmFamily::Hmac {
        return Err(TokenError::Algorithm);
    }
    let key = accounts.signing_key.as_ref().ok_or(TokenError::NoSigningKey)?;
    if !token.is_signed_by(&DecodingKey::from_secret(key.bytes()), algorithm) {
        return Err(TokenError::Signature);
    }
    let mut claims = token.claims;
    let validity = validity(&claims)?;
    validity.check(now)?;
    let issued_at = claims.issued_at()?;
    let user = claims.user().to_owned();
    if let Some((project, role)) = rbac::project_role(&user) {
        let project = projects.get(project).ok_or(TokenError::UnknownProject)?;
        if !project.has_token(role, claims.text("jti"), issued_at) {
            return Err(TokenError::UnknownProjectToken);
        }
    } else {
        let account = verify_account(&user, claims.text("jti"), issued_at, accounts)?;
        claims.set_subject(account);
    }
    Ok((claims, validity))
}

/// A time of zero means none, as in Go's JWT library.
fn validity(claims: &Claims) -> Result<Validity, TokenError> {
    let time = |name| claims.time(name).map(|time| time.filter(|seconds| *seconds != 0.0));
    Ok(Validity { not_before: time("nbf")?, expires: time("exp")? })
}

/// The account's name out of `<account>:<capability>`, if the account may use such a token.
fn verify_account<'a>(subject: &'a str, id: &str, issued_at: i64, accounts: &Accounts) -> Result<&'a str, TokenError> {
    let (name, capability) = subject.split_once(':').ok_or(TokenError::Subject)?;
    let account = accounts.accounts.get(name).ok_or(TokenError::UnknownAccount)?;
    if account.unreadable {
        return Err(TokenError::AccountUnreadable);
    }
    if !account.enabled {
        return Err(TokenError::AccountDisabled);
    }
    check_capability(account, capability, id)?;
    if account.password_changed_at.is_some_and(|changed| issued_at < changed) {
        return Err(TokenError::PasswordChanged);
    }
    Ok(name)
}

fn check_capability(account: &Account, capability: &str, id: &str) -> Result<(), TokenError> {
    let has_capability = match capability {
        "login" => account.can_login,
        "apiKey" => account.can_use_api_keys,
        _ => return Err(TokenError::Subject),
    };
    if !has_capability {
        return Err(TokenError::Capability);
    }
    // A token without an id could never be revoked.
    if id.is_empty() {
        return Err(TokenError::Claim("jti"));
    }
    if capability == "apiKey" && !account.api_keys.iter().any(|key| key == id) {
        return Err(TokenError::UnknownApiKey);
    }
    Ok(())
}
