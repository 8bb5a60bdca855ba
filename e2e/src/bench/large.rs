//! A large world: many applications, projects and policy lines, and callers in many groups.

use anyhow::Result;
use serde_json::{Value, json};

use crate::provider::Provider;
use crate::token::TokenSpec;
use crate::world::World;

use super::peers::EXTENSION;

pub const PROJECTS: usize = 200;
const POLICY_LINES: usize = 2_000;
const GROUPS: usize = 40;
/// Resources that an application's status lists, which nobody here reads.
const RESOURCES: usize = 40;

pub fn projects() -> Vec<Value> {
    let project = |i: usize| {
        json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "AppProject",
            "metadata": {"name": format!("p{i}"), "namespace": "argocd"},
            "spec": {
                "sourceRepos": ["*"],
                "destinations": [
                    {"namespace": format!("team{i}-*"), "server": "https://kubernetes.default.svc"},
                    {"namespace": "*", "server": "https://*.example.com:6443"},
                ],
                "roles": [{
                    "name": "dev", "groups": [format!("team{i}-dev")],
                    "policies": [format!("p, proj:p{i}:dev, applications, get, p{i}/*, allow")],
                }],
            },
        })
    };
    (0..PROJECTS).map(project).collect()
}

pub fn application(i: usize) -> Value {
    let resource = |i: usize| json!({"kind": "Deployment", "name": format!("d{i}"), "namespace": "x", "status": "Synced", "version": "v1", "group": "apps"});
    let project = i % PROJECTS;
    json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Application",
        "metadata": {"name": format!("app-{i}"), "namespace": "argocd"},
        "spec": {
            "project": format!("p{project}"),
            "source": {"repoURL": "https://example.com/repo.git", "path": "."},
            "destination": {"server": "https://kubernetes.default.svc", "namespace": format!("team{project}-x")},
        },
        "status": {"resources": (0..RESOURCES).map(resource).collect::<Vec<_>>()},
    })
}

/// Every caller's rights are in its last lines.
pub fn policy() -> String {
    let mut lines: Vec<String> = (0..POLICY_LINES / 4)
        .flat_map(|i| {
            let project = i % PROJECTS;
            [
                format!("p, role:r{i}, applications, get, p{project}/*, allow"),
                format!("p, role:r{i}, extensions, invoke, ext-{i}*, allow"),
                format!("p, role:r{i}, applications, sync, p{project}/*, allow"),
                format!("g, group-{i}, role:r{i}"),
            ]
        })
        .collect();
    lines.push("g, everybody, role:everybody".into());
    lines.push("p, role:everybody, applications, get, */*, allow".into());
    lines.push(format!("p, role:everybody, extensions, invoke, {EXTENSION}, allow"));
    lines.join("\n")
}

/// Adds policy, projects and applications to a folder.
pub fn extend(world: &World, applications: usize) -> Result<()> {
    let policy: String = policy().lines().map(|line| format!("    {line}\n")).collect();
    let place = "  policy.extra.csv: |\n";
    world.edit("10-config.yaml", |text| text.replace(place, &format!("  policy.scale.csv: |\n{policy}{place}")))?;
    let items: Vec<Value> = projects().into_iter().chain((0..applications).map(application)).collect();
    world.write("scale.yaml", &json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string())
}

/// A user of the identity provider, in many groups, of which the last has the rights.
pub fn token(provider: &Provider, user: usize) -> Result<String> {
    let mut groups: Vec<String> = (1..GROUPS).map(|i| format!("group-{}", (user + i) % (POLICY_LINES / 4))).collect();
    groups.push("everybody".into());
    let claims = TokenSpec::oidc()
        .claim("sub", format!("user-{user}"))
        .claim("email", format!("user-{user}@example.com"))
        .claim("jti", format!("id-{user}"))
        .claim("groups", groups);
    claims.mint(provider)
}
