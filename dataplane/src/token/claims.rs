//! What a token says, read as Argo CD reads it.

use serde_json::{Map, Value};

use super::TokenError;

#[derive(Debug, Clone)]
pub struct Claims(Map<String, Value>);

impl Claims {
    pub fn new(claims: Map<String, Value>) -> Self {
        Self(claims)
    }

    /// The claim, or nothing where it is missing or no text.
    pub fn text(&self, name: &str) -> &str {
        self.0.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// Who the token speaks for: the user id at the federated provider where there is one, else the subject.
    pub fn user(&self) -> &str {
        let federated = self.0.get("federated_claims").and_then(|f| f.get("user_id")).and_then(Value::as_str);
        federated.filter(|id| !id.is_empty()).unwrap_or_else(|| self.text("sub"))
    }

    /// The texts in the claims that are configured as scopes; a list's other members are passed over.
    pub fn groups(&self, scopes: &[String]) -> Vec<String> {
        let mut groups = Vec::new();
        for claim in scopes.iter().filter_map(|scope| self.0.get(scope)) {
            match claim {
                Value::String(group) => groups.push(group.clone()),
                Value::Array(list) => groups.extend(list.iter().filter_map(Value::as_str).map(str::to_owned)),
                _ => {}
            }
        }
        groups
    }

    /// Seconds since 1970; `None` where the claim is missing.
    pub(super) fn time(&self, name: &'static str) -> Result<Option<f64>, TokenError> {
        match self.0.get(name) {
            None => Ok(None),
            Some(value) => value.as_f64().map(Some).ok_or(TokenError::Claim(name)),
        }
    }

    pub(super) fn issued_at(&self) -> Result<i64, TokenError> {
        // A float's fraction is dropped, as Argo CD drops it.
        #[allow(clippy::cast_possible_truncation)]
        self.time("iat")?.map(|seconds| seconds as i64).ok_or(TokenError::Claim("iat"))
    }

    /// Audiences: one text or a list. `None` where there are none.
    pub(super) fn audiences(&self) -> Result<Option<Vec<&str>>, TokenError> {
        match self.0.get("aud") {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(audience)) => Ok(Some(vec![audience])),
            Some(Value::Array(list)) => list
                .iter()
                .map(|v| v.as_str().ok_or(TokenError::Claim("aud")))
                .collect::<Result<Vec<_>, _>>()
                .map(|list| (!list.is_empty()).then_some(list)),
            Some(_) => Err(TokenError::Claim("aud")),
        }
    }

    pub(super) fn set_subject(&mut self, subject: &str) {
        self.0.insert("sub".into(), subject.into());
    }
}
