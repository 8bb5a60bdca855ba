//! AppProjects: what a project's applications may reach, and its roles and their tokens.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::effort::{Effort, Exhausted};
use crate::glob::Glob;
use crate::namespace::NamespacePatterns;
use crate::rbac::{MatchMode, PolicyError, RuleSet};

/// A project as its object says it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProjectSource {
    pub name: String,
    pub destinations: Vec<DestinationSource>,
    pub permit_only_project_scoped_clusters: bool,
    pub source_namespaces: Vec<String>,
    pub roles: Vec<RoleSource>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DestinationSource {
    pub server: String,
    pub name: String,
    pub namespace: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RoleSource {
    pub name: String,
    pub groups: Vec<String>,
    pub policies: Vec<String>,
    /// Tokens of the role, from the project's spec and status together.
    pub tokens: Vec<TokenRecord>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TokenRecord {
    pub id: String,
    pub issued_at: i64,
}

/// A project, compiled.
#[derive(Debug)]
pub struct Project {
    source: ProjectSource,
    mode: MatchMode,
    destinations: Vec<Destination>,
    source_namespaces: NamespacePatterns,
    /// A line that cannot be read disables the project's whole policy, as in Argo CD.
    rules: Result<RuleSet, PolicyError>,
}

impl Project {
    pub fn compile(source: ProjectSource, mode: MatchMode) -> Self {
        let rules = role_rules(&source, mode);
        let (source_namespaces, _) = NamespacePatterns::new(source.source_namespaces.iter().cloned());
        let destinations = source.destinations.iter().map(Destination::new).collect();
        Self { source, mode, destinations, source_namespaces, rules }
    }

    pub fn name(&self) -> &str {
        &self.source.name
    }

    /// Whether it would compile to the same project.
    pub fn is_compiled_from(&self, source: &ProjectSource, mode: MatchMode) -> bool {
        self.mode == mode && self.source == *source
    }

    pub(crate) fn rules(&self) -> Option<&RuleSet> {
        self.rules.as_ref().ok()
    }

    /// The line that disables the project's policy.
    pub fn policy_error(&self) -> Option<&PolicyError> {
        self.rules.as_ref().err()
    }

    /// Whether an application in this namespace may belong to the project.
    pub fn permits_source_namespace(&self, namespace: &str) -> bool {
        self.source_namespaces.matches(namespace)
    }

    pub fn permits_only_project_scoped_clusters(&self) -> bool {
        self.source.permit_only_project_scoped_clusters
    }

    /// Whether the role has a token of this id or, for tokens older than ids, of this time of issue.
    pub fn has_token(&self, role: &str, id: &str, issued_at: i64) -> bool {
        let Some(role) = self.source.roles.iter().find(|r| r.name == role) else {
            return false;
        };
        (!id.is_empty() && role.tokens.iter().any(|t| t.id == id))
            || role.tokens.iter().any(|t| t.issued_at == issued_at)
    }

    /// Whether the rules for destinations permit a namespace of a cluster, scoped clusters aside.
    ///
    /// The last word is not the last rule's: a deny pattern that hits ends the search with a no.
    pub fn permits_destination(&self, server: &str, cluster_name: &str, namespace: &str) -> bool {
        let (mut permitted, mut effort) = (false, Effort::default());
        for rule in &self.destinations {
            let mut matches = |field: &Field, text: &str| field.matches(text, &mut effort);
            let answers = [
                if cluster_name.is_empty() { Ok(false) } else { matches(&rule.name, cluster_name) },
                if server.is_empty() { Ok(false) } else { matches(&rule.server, server) },
                matches(&rule.namespace, namespace),
            ];
            // What cannot be told is not permitted, whichever way the rule would turn it.
            let [Ok(name), Ok(server), Ok(in_namespace)] = answers else { return false };
            if (server || name) && in_namespace {
                permitted = true;
            } else if (rule.name.denies && !name)
                || (rule.server.denies && !server && in_namespace)
                || (rule.namespace.denies && !in_namespace && server)
            {
                return false;
            }
        }
        permitted
    }
}

#[derive(Debug)]
struct Destination {
    server: Field,
    name: Field,
    namespace: Field,
}

impl Destination {
    fn new(source: &DestinationSource) -> Self {
        Self {
            server: Field::new(&source.server),
            name: Field::new(&source.name),
            namespace: Field::new(&source.namespace),
        }
    }
}

/// A glob, or with a leading `!` its opposite.
#[derive(Debug)]
struct Field {
    denies: bool,
    glob: Glob,
}

impl Field {
    fn new(text: &str) -> Self {
        let (denies, pattern) = match text.strip_prefix('!') {
            Some(pattern) => (true, pattern),
            None => (false, text),
        };
        Self { denies, glob: Glob::new(pattern) }
    }

    fn matches(&self, text: &str, effort: &mut Effort) -> Result<bool, Exhausted> {
        Ok(self.glob.evaluate(text, effort)? != self.denies)
    }
}

/// The project's own policy: for each role the right to see the project, its policies, and its groups.
fn role_rules(source: &ProjectSource, mode: MatchMode) -> Result<RuleSet, PolicyError> {
    let project = &source.name;
    let mut rules = RuleSet::default();
    for role in &source.roles {
        let origin: Arc<str> = format!("project {project}, role {}", role.name).into();
        let subject = format!("proj:{project}:{}", role.name);
        let mut text = format!("p, {subject}, projects, get, {project}, allow");
        for policy in &role.policies {
            text.push('\n');
            text.push_str(policy);
        }
        for group in &role.groups {
            text.push_str(&format!("\ng, {group}, {subject}"));
        }
        rules.add(&origin, &text, mode)?;
    }
    Ok(rules)
}

/// All projects, by name.
#[derive(Debug, Default, Clone)]
pub struct Projects(HashMap<String, Arc<Project>>);

impl Projects {
    pub fn get(&self, name: &str) -> Option<&Arc<Project>> {
        self.0.get(name)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Arc<Project>> for Projects {
    fn from_iter<I: IntoIterator<Item = Arc<Project>>>(projects: I) -> Self {
        Self(projects.into_iter().map(|p| (p.name().to_owned(), p)).collect())
    }
}
