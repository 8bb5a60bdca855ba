//! Local accounts of Argo CD and the key that signs their tokens.

use std::fmt;

use hashbrown::HashMap;
use jsonwebtoken::{Algorithm, EncodingKey};

/// Everything that verifies a token which Argo CD issued itself.
#[derive(PartialEq, Default)]
pub struct Accounts {
    /// `server.secretkey`. Without it no such token can be verified.
    pub signing_key: Option<SigningKey>,
    pub accounts: HashMap<String, Account>,
}

impl fmt::Debug for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accounts").field("accounts", &self.accounts).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Account {
    pub enabled: bool,
    pub can_login: bool,
    pub can_use_api_keys: bool,
    /// Tokens issued before this time, in seconds since 1970, are void.
    pub password_changed_at: Option<i64>,
    /// Ids of the API keys that exist.
    pub api_keys: Vec<String>,
    /// Set where the account's configuration cannot be read: such an account signs nobody in.
    pub unreadable: bool,
}

/// The key itself never leaves this type but to verify.
#[derive(PartialEq, Eq)]
pub struct SigningKey(Box<[u8]>);

impl SigningKey {
    /// `None` for an empty key, with which anybody could sign.
    pub fn new(key: &[u8]) -> Option<Self> {
        (!key.is_empty()).then(|| Self(key.into()))
    }

    /// Tells messages apart without telling them: an HMAC-SHA256, base64url. Whoever lacks the key learns nothing.
    pub fn fingerprint(&self, message: &[u8]) -> Option<String> {
        jsonwebtoken::crypto::sign(message, &EncodingKey::from_secret(&self.0), Algorithm::HS256).ok()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(…)")
    }
}
