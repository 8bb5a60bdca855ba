use super::applications;

fn namespaces(patterns: &str) -> Vec<Option<String>> {
    applications("argocd", patterns).into_iter().map(|scope| scope.namespace).collect()
}

#[test]
fn only_patterns_need_all_namespaces() {
    let names = |names: &[&str]| names.iter().map(|name| Some((*name).to_owned())).collect::<Vec<_>>();
    assert_eq!(namespaces(""), names(&["argocd"]));
    assert_eq!(namespaces("team-a, team-b,,argocd"), names(&["argocd", "team-a", "team-b"]));
    assert_eq!(namespaces("team-*"), [None]);
    assert_eq!(namespaces("team-a,/^dev-.*$/"), [None]);
}
