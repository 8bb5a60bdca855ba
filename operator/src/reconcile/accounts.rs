//! Local accounts out of `argocd-cm` and `argocd-secret`.

use std::collections::BTreeMap;

use crds::Problem;
use dataplane::account::{Account, Accounts, SigningKey};
use serde::Deserialize;

use super::{CONFIG, SECRET, config_map, parse_bool, secret};
use crate::inputs::Inputs;
use crate::objects::Secret;
use crate::verdict::{Place, Verdict};

const ADMIN: &str = "admin";

pub(super) fn read(inputs: &Inputs, namespace: &str, verdicts: &mut Vec<Verdict>) -> Accounts {
    let empty = BTreeMap::new();
    let config = inputs.config(namespace, CONFIG).unwrap_or(&empty);
    let secrets = inputs.secret(namespace, SECRET);
    let (mut in_config, mut in_secret) = (Vec::new(), Vec::new());

    let signing_key = secrets.and_then(|s| s.data.get("server.secretkey")).and_then(|key| SigningKey::new(key));
    if signing_key.is_none() {
        let message = "is missing, so that no token of a local account or project role can be verified; Argo CD writes it when its server starts";
        in_secret.push(Problem::error("server.secretkey", message));
    }
    let mut accounts = from_config(config, &mut in_config);
    for (name, account) in &mut accounts {
        let prefix = if name == ADMIN { ADMIN.to_owned() } else { format!("accounts.{name}") };
        if let Some(secrets) = secrets {
            read_password_time(secrets, &format!("{prefix}.passwordMtime"), account, &mut in_secret);
            read_tokens(secrets, &format!("{prefix}.tokens"), account, &mut in_secret);
        }
    }
    for (object, problems) in [(config_map(namespace, CONFIG), in_config), (secret(namespace, SECRET), in_secret)] {
        if !problems.is_empty() {
            verdicts.push(Verdict::on(Place::new(object, "accounts"), problems));
        }
    }
    Accounts { signing_key, accounts: accounts.into_iter().collect() }
}

fn from_config(config: &BTreeMap<String, String>, problems: &mut Vec<Problem>) -> BTreeMap<String, Account> {
    let admin = Account { enabled: true, can_login: true, ..Account::default() };
    let mut accounts = BTreeMap::from([(ADMIN.to_owned(), admin)]);
    if let Some(text) = config.get("admin.enabled")
        && let Some(admin) = accounts.get_mut(ADMIN)
    {
        set_enabled(admin, "admin.enabled", text, problems);
    }
    for (key, text) in config {
        let Some(rest) = key.strip_prefix("accounts.") else {
            continue;
        };
        let (name, field) = match rest.split('.').collect::<Vec<_>>().as_slice() {
            [name] => (*name, ""),
            [name, field] => (*name, *field),
            _ => {
                let message = "is not read; write accounts.<name> or accounts.<name>.enabled";
                problems.push(Problem::warning(key, message));
                continue;
            }
        };
        let account = accounts.entry(name.to_owned()).or_insert(Account { enabled: true, ..Account::default() });
        match field {
            "" => add_capabilities(account, key, text, problems),
            "enabled" => set_enabled(account, key, text, problems),
            _ => problems.push(Problem::warning(key, "is not read; write accounts.<name>.enabled")),
        }
    }
    accounts
}

fn add_capabilities(account: &mut Account, key: &str, text: &str, problems: &mut Vec<Problem>) {
    for capability in text.split(',').map(str::trim).filter(|capability| !capability.is_empty()) {
        match capability {
            "login" => account.can_login = true,
            "apiKey" => account.can_use_api_keys = true,
            other => {
                let message = format!("{other:?} is no capability; the capabilities are login and apiKey");
                problems.push(Problem::warning(key, message));
            }
        }
    }
}

/// A value that is neither true nor false leaves it open whether the account may sign in: it may not.
fn set_enabled(account: &mut Account, key: &str, text: &str, problems: &mut Vec<Problem>) {
    match parse_bool(text) {
        Some(enabled) => account.enabled = enabled,
        None => {
            account.unreadable = true;
            problems.push(Problem::error(key, "is neither \"true\" nor \"false\"; the account cannot sign in"));
        }
    }
}

fn read_password_time(secrets: &Secret, key: &str, account: &mut Account, problems: &mut Vec<Problem>) {
    if !secrets.data.contains_key(key) {
        return;
    }
    match secrets.text(key).map(str::trim).and_then(rfc3339_seconds) {
        Some(seconds) => account.password_changed_at = Some(seconds),
        None => {
            account.unreadable = true;
            problems.push(Problem::error(key, "is no RFC 3339 time; the account cannot sign in"));
        }
    }
}

fn read_tokens(secrets: &Secret, key: &str, account: &mut Account, problems: &mut Vec<Problem>) {
    #[derive(Deserialize)]
    struct Token {
        #[serde(default)]
        id: String,
    }
    let Some(text) = secrets.data.get(key).filter(|text| !text.is_empty()) else {
        return;
    };
    match serde_json::from_slice::<Option<Vec<Token>>>(text) {
        Ok(tokens) => account.api_keys = tokens.unwrap_or_default().into_iter().map(|token| token.id).collect(),
        Err(_) => {
            account.unreadable = true;
            problems.push(Problem::error(key, "is no JSON list of tokens; the account cannot sign in"));
        }
    }
}

/// Seconds since 1970 of an RFC 3339 time, a fraction rounded up: tokens are issued at whole seconds.
fn rfc3339_seconds(text: &str) -> Option<i64> {
    let time = text.parse::<jiff::Timestamp>().ok()?;
    Some(time.as_second() + i64::from(time.subsec_nanosecond() > 0))
}
