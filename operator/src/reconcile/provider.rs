//! Single sign-on: `oidc.config`, or the Dex that `dex.config` configures.

use std::collections::BTreeMap;
use std::sync::Arc;

use crds::Problem;
use dataplane::Snapshot;
use dataplane::token::oidc::{Provider, ProviderConfig};

use super::references::References;
use super::{CONFIG, config_map, parse_bool};
use crate::inputs::Inputs;
use crate::verdict::{Place, Verdict};
use crate::yaml::{self, Kind, Node};

const DEX_TLS_SECRET: &str = "argocd-dex-server-tls";
const DEX_SERVER: &str = "argocd-dex-server:5556";
const DEX_AUDIENCES: [&str; 2] = ["argo-cd", "argo-cd-cli"];

pub(super) fn read(
    inputs: &Inputs,
    namespace: &str,
    references: &References<'_>,
    before: Option<&Snapshot>,
    verdicts: &mut Vec<Verdict>,
) -> Option<Arc<Provider>> {
    let empty = BTreeMap::new();
    let config = inputs.config(namespace, CONFIG).unwrap_or(&empty);
    let text = |key: &str| config.get(key).map(String::as_str).filter(|text| !text.trim().is_empty());
    let (key, outcome) = match (text("oidc.config"), text("dex.config")) {
        (Some(oidc), _) => ("oidc.config", oidc_config(oidc, config, references)),
        (None, Some(dex)) => {
            let certificate = || {
                let secret = inputs.secret(namespace, DEX_TLS_SECRET)?;
                secret.text("ca.crt").or_else(|| secret.text("tls.crt")).map(str::to_owned)
            };
            let parameter = |key: &str| inputs.parameter(namespace, key);
            ("dex.config", dex_config(dex, config, parameter, certificate).transpose()?)
        }
        (None, None) => return None,
    };
    let outcome = outcome.and_then(|config| match before.and_then(|before| before.provider.as_ref()) {
        // The same provider keeps its keys.
        Some(known) if *known.config() == config => Ok(known.clone()),
        _ => Provider::new(config).map(Arc::new).map_err(|message| Problem::error("", message)),
    });
    match outcome {
        Ok(provider) => Some(provider),
        Err(mut problem) => {
            problem.message.push_str("; tokens of single sign-on are refused until it is corrected");
            verdicts.push(Verdict::on(Place::new(config_map(namespace, CONFIG), key), vec![problem]));
            None
        }
    }
}

fn oidc_config(
    text: &str,
    config: &BTreeMap<String, String>,
    references: &References<'_>,
) -> Result<ProviderConfig, Problem> {
    let node = document(text)?;
    let field = |name: &str| -> Result<Option<String>, Problem> {
        let Some(node) = node.get(name).filter(|node| !node.is_null()) else {
            return Ok(None);
        };
        let text = node.text().ok_or_else(|| Problem::error(name, "must be text").at(Some(node.line)))?;
        match references.resolve(text) {
            None => Ok(Some(text.to_owned())),
            Some(Ok(value)) => Ok(Some(value)),
            Some(Err(why)) => Err(Problem::error(name, why.to_string()).at(Some(node.line))),
        }
    };
    if field("enableUserInfoGroups")?.is_some_and(|text| parse_bool(&text) == Some(true)) {
        let message = "is not supported: groups that are not in the token could not be told from none, and a policy that denies them would not hold; have the provider put the groups into the ID token and remove it, or leave /extensions with argocd-server";
        return Err(Problem::error("enableUserInfoGroups", message));
    }
    let required =
        |name: &str| field(name)?.filter(|t| !t.is_empty()).ok_or_else(|| Problem::error(name, "is missing"));
    let mut audiences = match node.get("allowedAudiences").filter(|node| !node.is_null()) {
        None => Vec::new(),
        Some(list) => texts(list)
            .ok_or_else(|| Problem::error("allowedAudiences", "must be a list of texts").at(Some(list.line)))?,
    };
    let client = required("clientID")?;
    if audiences.is_empty() {
        audiences = std::iter::once(client).chain(field("cliClientID")?.filter(|id| !id.is_empty())).collect();
    }
    let flag = |name: &str| Ok::<_, Problem>(field(name)?.and_then(|text| parse_bool(&text)).unwrap_or(false));
    Ok(ProviderConfig {
        issuer: required("issuer")?,
        audiences,
        accept_missing_audience: flag("skipAudienceCheckWhenTokenHasNoAudience")?,
        root_ca: field("rootCA")?.filter(|pem| !pem.trim().is_empty()),
        insecure_skip_verify: skips_verification(config),
        reached_at: None,
    })
}

/// `None` where the configuration names no connector, or Argo CD has no URL: then there is no Dex.
fn dex_config<'a>(
    text: &str,
    config: &BTreeMap<String, String>,
    parameter: impl Fn(&str) -> Option<&'a str>,
    certificate: impl Fn() -> Option<String>,
) -> Result<Option<ProviderConfig>, Problem> {
    let node = document(text)?;
    let has_connectors =
        matches!(node.get("connectors").map(|node| &node.kind), Some(Kind::Sequence(list)) if !list.is_empty());
    let Some(url) = config.get("url").filter(|url| has_connectors && !url.is_empty()) else {
        return Ok(None);
    };
    let is_set = |key: &str| parameter(key).is_some_and(|value| parse_bool(value) == Some(true));
    let server = parameter("server.dex.server").filter(|server| !server.is_empty()).unwrap_or(DEX_SERVER);
    let scheme = if is_set("server.dex.server.plaintext") { "http" } else { "https" };
    // Argo CD's own Dex has a certificate that it signed itself, so Argo CD checks it only when told to.
    let is_strict = scheme == "https" && is_set("server.dex.server.strict.tls");
    let root_ca = is_strict.then(certificate).flatten();
    if is_strict && root_ca.is_none() {
        let message = format!(
            "server.dex.server.strict.tls is on, and the Secret {DEX_TLS_SECRET:?} holds neither ca.crt nor tls.crt to check Dex's certificate against; create it"
        );
        return Err(Problem::error("", message));
    }
    Ok(Some(ProviderConfig {
        issuer: format!("{}/api/dex", url.trim_end_matches('/')),
        audiences: DEX_AUDIENCES.map(str::to_owned).to_vec(),
        accept_missing_audience: false,
        root_ca,
        insecure_skip_verify: !is_strict,
        reached_at: Some(if server.contains("://") { server.to_owned() } else { format!("{scheme}://{server}") }),
    }))
}

fn skips_verification(config: &BTreeMap<String, String>) -> bool {
    config.get("oidc.tls.insecure.skip.verify").is_some_and(|value| parse_bool(value) == Some(true))
}

fn document(text: &str) -> Result<Node, Problem> {
    let documents = yaml::documents(text).map_err(|error| Problem::error("", error.message).at(Some(error.line)))?;
    match documents.into_iter().next() {
        Some(node) if matches!(node.kind, Kind::Mapping(_)) => Ok(node),
        _ => Err(Problem::error("", "must be a mapping")),
    }
}

fn texts(list: &Node) -> Option<Vec<String>> {
    match &list.kind {
        Kind::Sequence(items) => items.iter().map(|item| item.text().map(str::to_owned)).collect(),
        _ => None,
    }
}
