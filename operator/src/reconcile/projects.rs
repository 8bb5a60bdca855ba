//! AppProjects of Argo CD's namespace, compiled where they changed.

use std::sync::Arc;

use crds::Problem;
use dataplane::Snapshot;
use dataplane::project::{Project, Projects};
use dataplane::rbac::MatchMode;

use crate::inputs::Inputs;
use crate::objects::{self, ObjectKind};
use crate::verdict::{Place, Verdict};

pub(super) fn read(
    inputs: &Inputs,
    namespace: &str,
    mode: MatchMode,
    before: Option<&Snapshot>,
    verdicts: &mut Vec<Verdict>,
) -> Arc<Projects> {
    let mut unchanged = 0;
    let mut compiled = Vec::new();
    for (key, source) in inputs.projects.iter().filter(|(key, _)| key.namespace == namespace) {
        let known = before.and_then(|before| before.projects.get(&source.name));
        let project = match known {
            Some(known) if known.is_compiled_from(source, mode) => {
                unchanged += 1;
                known.clone()
            }
            _ => Arc::new(Project::compile(source.clone(), mode)),
        };
        if let Some(error) = project.policy_error() {
            let message = format!("{error}; none of the project's role policies has an effect until it is corrected");
            let place = Place::new(objects::describe(ObjectKind::AppProject, key), "spec.roles");
            verdicts.push(Verdict::on(place, vec![Problem::error("policies", message)]));
        }
        compiled.push(project);
    }
    match before {
        Some(before) if unchanged == compiled.len() && before.projects.len() == unchanged => before.projects.clone(),
        _ => Arc::new(compiled.into_iter().collect()),
    }
}
