//! The recorded requests, sent again and compared.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::Result;
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::backend::gunzip;
use crate::client::{Request, Response, send};
use crate::http1::{latin1, to_latin1};
use crate::program::Program;
use crate::recordings;
use crate::token::{SIGNING_KEY, TokenSpec};
use crate::world::World;

/// Headers of a request that are compared, where the backend saw them.
const COMPARED: &[&str] = &[
    "host",
    "argocd-namespace",
    "argocd-application-name",
    "argocd-project-name",
    "argocd-target-cluster-name",
    "argocd-target-cluster-url",
    "argocd-user-id",
    "argocd-username",
    "argocd-user-groups",
    "authorization",
    "cookie",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "forwarded",
    "x-static",
    "x-override",
    "x-labelled",
    "x-custom",
    "x-hop",
    "te",
    "content-type",
    "user-agent",
    "origin",
    "referer",
    "x-real-ip",
    "proxy-authorization",
    "if-none-match",
    "range",
];

/// Headers of an answer that are compared.
const ANSWER: &[&str] = &[
    "content-type",
    "location",
    "set-cookie",
    "x-gone",
    "x-stays",
    "content-encoding",
    "server",
    "x-content-type-options",
    "keep-alive",
];

/// Values of the world that only backends may see, besides the tokens.
const SECRETS: &[&str] = &[SIGNING_KEY, "s3cr3t-token", "labelled-secret-value"];

#[derive(Deserialize)]
pub struct Case {
    pub name: String,
    request: CaseRequest,
    /// Missing: alice's; null: none.
    #[serde(default = "default_token")]
    token: Option<TokenSpec>,
    cookie: Option<String>,
    #[serde(default)]
    other_cookies: bool,
    expect: Value,
    want: Option<Value>,
}

fn default_token() -> Option<TokenSpec> {
    Some(TokenSpec::local())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseRequest {
    path: String,
    #[serde(default = "get")]
    method: String,
    host: Option<String>,
    #[serde(default)]
    headers: Map<String, Value>,
    /// Without the headers that name the application.
    #[serde(default)]
    bare: bool,
    #[serde(default)]
    extra_headers: usize,
    #[serde(default)]
    long_header: Option<usize>,
    #[serde(default)]
    long_path: usize,
    #[serde(default)]
    body: String,
    repeat: Option<usize>,
    #[serde(default)]
    chunked: bool,
}

fn get() -> String {
    "GET".into()
}

/// The recorded cases, for this world's addresses. None where the recordings hold no requests.
pub fn recorded(world: &World) -> Result<Vec<Case>> {
    let golden = recordings::golden()?.unwrap_or_else(|| "[]".into());
    Ok(serde_json::from_str(&world.translate(&golden))?)
}

/// Sends the cases, several at a time. What does not come back as it should.
pub async fn replay(cases: &[Case], world: &World, program: &Program) -> Result<Vec<String>> {
    replay_at(cases, world, program.address).await
}

/// The same, wherever the program is.
pub async fn replay_at(cases: &[Case], world: &World, address: SocketAddr) -> Result<Vec<String>> {
    let outcomes = stream::iter(cases).map(|case| check(case, world, address)).buffer_unordered(8);
    let outcomes: Vec<Result<Option<String>>> = outcomes.collect().await;
    outcomes.into_iter().filter_map(Result::transpose).collect()
}

/// Secrets and tokens that the program has told, in its output, its log, its metrics or its status.
pub async fn secrets_told(cases: &[Case], world: &World, program: &Program) -> Result<Vec<String>> {
    let mut told = program.output() + &program.log();
    for path in ["/status", "/metrics"] {
        told.push_str(&send(program.admin, Request::get(path)).await?.text());
    }
    let mut secrets: Vec<String> = SECRETS.iter().map(|secret| (*secret).to_owned()).collect();
    for token in cases.iter().filter_map(|case| case.token.as_ref()) {
        let token = token.mint(&world.provider)?;
        let signature = token.rsplit('.').next().unwrap_or_default().to_owned();
        secrets.extend([token, signature].into_iter().filter(|text| text.len() > 20));
    }
    Ok(secrets.into_iter().filter(|secret| told.contains(secret.as_str())).collect())
}

async fn check(case: &Case, world: &World, address: SocketAddr) -> Result<Option<String>> {
    let got = match send(address, request(case, world)?).await {
        Ok(response) => outcome(&response),
        Err(error) => json!({"error": error.to_string()}),
    };
    let (agrees, want) = match &case.want {
        Some(want) => (agrees(&got, want), want),
        None => (got == case.expect, &case.expect),
    };
    Ok((!agrees).then(|| format!("{}\n  want {want}\n  got  {got}", case.name)))
}

fn request(case: &Case, world: &World) -> Result<Request> {
    let asked = &case.request;
    let mut headers: Vec<(String, String)> = Vec::new();
    headers.push(("Host".into(), asked.host.clone().unwrap_or_else(|| "argocd.example.com".into())));
    let token = case.token.as_ref().map(|token| token.mint(&world.provider)).transpose()?;
    let mut cookie = token.map(|token| cookie(&token, case.cookie.as_deref()));
    if case.other_cookies {
        cookie = Some(["theme=dark", cookie.as_deref().unwrap_or_default(), "other=1"].join("; "));
    }
    headers.extend(cookie.map(|cookie| ("Cookie".into(), cookie)));
    let mut named = Map::new();
    if !asked.bare {
        named.insert("Argocd-Application-Name".into(), "argocd:guestbook".into());
        named.insert("Argocd-Project-Name".into(), "default".into());
    }
    named.extend(asked.headers.clone());
    for (name, value) in named {
        match value {
            Value::Null => {}
            Value::Array(values) => headers.extend(values.iter().map(|value| (name.clone(), text(value)))),
            value => headers.push((name, text(&value))),
        }
    }
    headers.extend((0..asked.extra_headers).map(|i| (format!("X-Extra-{i}"), i.to_string())));
    headers.extend(asked.long_header.map(|length| ("X-Long".into(), "v".repeat(length))));
    Ok(Request {
        method: asked.method.clone(),
        target: asked.path.clone() + &"p".repeat(asked.long_path),
        headers,
        body: to_latin1(&asked.body).repeat(asked.repeat.unwrap_or(1)),
        chunked: asked.chunked,
    })
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn cookie(token: &str, style: Option<&str>) -> String {
    match style {
        Some("chunked") => {
            let size = token.len().div_ceil(3);
            let at = |i: usize| &token[(i * size).min(token.len())..((i + 1) * size).min(token.len())];
            format!("argocd.token=3:{}; argocd.token-1={}; argocd.token-2={}", at(0), at(1), at(2))
        }
        Some("quoted") => format!("argocd.token=\"{token}\""),
        Some(name) => format!("{name}={token}"),
        None => format!("argocd.token={token}"),
    }
}

/// What came back, as the recordings write it.
fn outcome(response: &Response) -> Value {
    let mut headers: Vec<(String, String)> = response
        .headers
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value.clone()))
        .filter(|(name, _)| ANSWER.contains(&name.as_str()))
        .collect();
    headers.sort();
    let mut outcome = json!({"status": response.status, "headers": headers});
    if response.is_cut_short {
        outcome["cut"] = true.into();
    }
    match seen(response) {
        Some(seen) => outcome["seen"] = seen,
        None if response.body.len() < 2000 => {
            outcome["body"] = latin1(&response.body[..response.body.len().min(300)]).into();
        }
        None => outcome["body"] = format!("{} bytes", response.body.len()).into(),
    }
    outcome
}

fn seen(response: &Response) -> Option<Value> {
    let body = match response.header("Content-Encoding") {
        Some("gzip") => gunzip(&response.body),
        _ => response.body.clone(),
    };
    let seen: Value = serde_json::from_slice(&body).ok()?;
    let mut headers: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for pair in seen.get("headers")?.as_array()? {
        let name = pair.get(0)?.as_str()?.to_ascii_lowercase();
        if COMPARED.contains(&name.as_str()) {
            headers.entry(name).or_default().push(pair.get(1)?.clone());
        }
    }
    Some(json!({
        "backend": seen.get("backend")?,
        "method": seen.get("method")?,
        "target": seen.get("target")?,
        "body": seen.get("body")?,
        "headers": headers,
    }))
}

/// Whether every key of `want` is matched. `refused` accepts any 4xx or 5xx that reached no backend, `incomplete`
/// any answer that the client can tell is cut short.
fn agrees(got: &Value, want: &Value) -> bool {
    let Value::Object(wanted) = want else {
        return got == want;
    };
    if wanted.contains_key("refused") {
        return got.get("seen").is_none() && got.get("status").and_then(Value::as_u64).is_some_and(|s| s >= 400);
    }
    if wanted.contains_key("incomplete") {
        return got.get("error").is_some() || got.get("cut").is_some();
    }
    wanted.iter().all(|(key, value)| agrees(got.get(key).unwrap_or(&Value::Null), value))
}
