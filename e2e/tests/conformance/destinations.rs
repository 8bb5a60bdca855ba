use dataplane::cluster::{Cluster, Clusters};
use dataplane::project::{DestinationSource, Project, ProjectSource};
use dataplane::rbac::MatchMode;
use serde::Deserialize;

use crate::differences::Differences;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    name: String,
    destinations: Vec<Destination>,
    permit_only_project_scoped_clusters: bool,
    #[serde(rename = "project_clusters")]
    project_clusters: Vec<NamedCluster>,
    #[serde(default, rename = "project_clusters_error")]
    project_clusters_error: Option<String>,
    cluster: Option<NamedCluster>,
    namespace: String,
    permitted: bool,
}

#[derive(Deserialize)]
struct Destination {
    server: String,
    name: String,
    namespace: String,
}

#[derive(Deserialize, Clone)]
struct NamedCluster {
    name: String,
    server: String,
}

#[test]
fn conformance_of_destinations() {
    let cases: Vec<Case> = e2e::recordings::table("destinations.json").unwrap();
    let mut differences = Differences::new("destinations");
    for case in &cases {
        let got = permitted(case);
        if got != case.permitted {
            differences.differs(&case.name, &format!("want {}, got {got}", case.permitted));
        }
    }
    differences.finish(cases.len());
}

fn permitted(case: &Case) -> bool {
    let Some(cluster) = &case.cluster else {
        return false;
    };
    let project = Project::compile(
        ProjectSource {
            name: "p".into(),
            destinations: case
                .destinations
                .iter()
                .map(|d| DestinationSource {
                    server: d.server.clone(),
                    name: d.name.clone(),
                    namespace: d.namespace.clone(),
                })
                .collect(),
            ..ProjectSource::default()
        },
        MatchMode::Glob,
    );
    let as_cluster = |c: &NamedCluster, project: &str| Cluster {
        name: c.name.clone(),
        server: c.server.clone(),
        project: project.into(),
    };
    // Where Argo CD cannot list the clusters of a project, there are none to be scoped to.
    let scoped = case.project_clusters.iter().filter(|_| case.project_clusters_error.is_none());
    let clusters = Clusters::new(scoped.map(|c| as_cluster(c, "p")), false);
    project.permits_destination(&cluster.server, &cluster.name, &case.namespace)
        && (!case.permit_only_project_scoped_clusters || clusters_with_in_cluster(&clusters, case, &as_cluster))
}

/// The cluster that Argo CD runs in may be scoped as well.
fn clusters_with_in_cluster(
    clusters: &Clusters,
    case: &Case,
    as_cluster: &dyn Fn(&NamedCluster, &str) -> Cluster,
) -> bool {
    let Some(cluster) = &case.cluster else {
        return false;
    };
    let with_in_cluster = Clusters::new(case.project_clusters.iter().map(|c| as_cluster(c, "p")), true);
    let asked = as_cluster(cluster, "");
    clusters.is_scoped_to("p", &asked)
        || (case.project_clusters_error.is_none() && with_in_cluster.is_scoped_to("p", &asked))
}
