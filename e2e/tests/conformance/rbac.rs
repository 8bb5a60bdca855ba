use std::collections::BTreeMap;
use std::sync::Arc;

use dataplane::project::{Project, ProjectSource, RoleSource};
use dataplane::rbac::{Caller, MatchMode, Policy, PolicySource, Question};
use dataplane::token::Claims;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::differences::Differences;

#[derive(Deserialize)]
struct World {
    name: String,
    policy_csv: String,
    #[serde(default)]
    extra_policies: BTreeMap<String, String>,
    default_role: String,
    match_mode: String,
    scopes: Option<Vec<String>>,
    projects: Vec<ProjectCase>,
    valid: bool,
    requests: Vec<Request>,
}

#[derive(Deserialize)]
struct ProjectCase {
    name: String,
    roles: Vec<Role>,
    policy_loaded: bool,
}

#[derive(Deserialize)]
struct Role {
    name: String,
    groups: Vec<String>,
    policies: Vec<String>,
}

#[derive(Deserialize)]
struct Request {
    claims: Option<Map<String, Value>>,
    resource: String,
    action: String,
    object: String,
    allowed: bool,
}

#[test]
fn conformance_of_policies() {
    let worlds: Vec<World> = e2e::recordings::table("rbac.json").unwrap();
    let mut differences = Differences::new("rbac");
    let mut checked = 0;
    for world in &worlds {
        let policy = match Policy::compile(source(world)) {
            Ok(policy) => policy,
            Err(error) => {
                checked += 1;
                if world.valid {
                    differences.differs(&world.name, &format!("cannot be read: {error}"));
                }
                continue;
            }
        };
        if !world.valid {
            differences.differs(&world.name, "is read, and Argo CD does not read it");
            continue;
        }
        let projects = projects(world, policy.mode(), &mut differences);
        for request in &world.requests {
            checked += 1;
            let got = ask(&policy, &projects, request);
            if got != request.allowed {
                let Request { claims, resource, action, object, allowed } = request;
                let claims = serde_json::to_string(claims).unwrap();
                let what = format!("{claims} {resource}, {action}, {object:?}: want {allowed}, got {got}");
                differences.differs(&world.name, &what);
            }
        }
    }
    differences.finish(checked);
}

fn source(world: &World) -> PolicySource {
    let mut texts = vec![(Arc::from("policy.csv"), world.policy_csv.clone())];
    let overlay = |key: &str| key.starts_with("policy.") && key.ends_with(".csv") && key != "policy.csv";
    texts.extend(
        world
            .extra_policies
            .iter()
            .filter(|(key, _)| overlay(key))
            .map(|(key, text)| (key.as_str().into(), text.clone())),
    );
    PolicySource {
        texts,
        mode: MatchMode::from_config(&world.match_mode),
        default_role: world.default_role.clone(),
        scopes: world.scopes.clone(),
    }
}

fn projects(world: &World, mode: MatchMode, differences: &mut Differences) -> BTreeMap<String, Project> {
    let compile = |case: &ProjectCase| {
        let role = |r: &Role| RoleSource {
            name: r.name.clone(),
            groups: r.groups.clone(),
            policies: r.policies.clone(),
            tokens: vec![],
        };
        let source = ProjectSource {
            name: case.name.clone(),
            roles: case.roles.iter().map(role).collect(),
            ..Default::default()
        };
        Project::compile(source, mode)
    };
    let mut projects = BTreeMap::new();
    for case in &world.projects {
        let project = compile(case);
        if project.policy_error().is_none() != case.policy_loaded {
            differences.differs(&world.name, &format!("project {}: {:?}", case.name, project.policy_error()));
        }
        projects.insert(case.name.clone(), project);
    }
    projects
}

fn ask(policy: &Policy, projects: &BTreeMap<String, Project>, request: &Request) -> bool {
    let project = match request.resource.as_str() {
        "applications" | "applicationsets" | "logs" | "exec" | "repositories" | "clusters" => {
            request.object.split_once('/').and_then(|(project, _)| projects.get(project))
        }
        "projects" => projects.get(&request.object),
        _ => None,
    };
    let question =
        Question { resource: &request.resource, action: &request.action, objects: &[&request.object], project };
    let claims = request.claims.clone().map(Claims::new);
    let groups = claims.as_ref().map(|claims| claims.groups(policy.scopes())).unwrap_or_default();
    let caller = claims.as_ref().map(|claims| Caller { user: claims.user(), groups: &groups });
    policy.decide(caller, question).is_allowed()
}
