use e2e::chart::{EVERYTHING, folder, helm};

fn everything() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    std::fs::write(file.path(), EVERYTHING).unwrap();
    file
}

fn template(values: &[&str]) -> anyhow::Result<String> {
    let folder = folder();
    let mut arguments = vec!["template", "release", folder.to_str().unwrap(), "--namespace", "argocd"];
    arguments.extend(values);
    helm(None, &arguments)
}

#[test]
fn helm_finds_nothing_wrong() {
    let (folder, everything) = (folder(), everything());
    let folder = folder.to_str().unwrap();
    for values in [vec![], vec!["--values", everything.path().to_str().unwrap()]] {
        let mut arguments = vec!["lint", "--strict", folder];
        arguments.extend(values);
        let said = helm(None, &arguments).unwrap();
        assert!(said.contains("0 chart(s) failed"), "{said}");
    }
}

#[test]
fn wrong_values_are_refused_by_their_name() {
    for (value, said) in [
        ("replicaz=3", "replicaz"),
        ("replicas=many", "/replicas"),
        ("image.imagePullPolicy=Sometimes", "/image/imagePullPolicy"),
        ("logLevel=loud", "/logLevel"),
        ("accessLog=2", "/accessLog"),
        ("trustedProxies={10.0.0.0}", "/trustedProxies/0"),
        ("service.servicePort=0", "/service/servicePort"),
        ("ingress.path=extensions", "/ingress/path"),
        ("pdb.minAvailable=half", "/pdb/minAvailable"),
        ("serviceNamespaces={mon*}", "/serviceNamespaces/0"),
        ("metrics.serviceMonitor.enable=true", "enable"),
        ("ingress.enabled=true", "ingress.hostname must be set"),
        ("httproute.enabled=true", "httproute.parentRefs must be set"),
    ] {
        let error = template(&["--set", value]).err().unwrap_or_else(|| panic!("{value} is accepted")).to_string();
        assert!(error.contains(said), "{value}: {error}");
    }
    let error =
        template(&["--set", "metrics.serviceMonitor.enabled=true,metrics.enabled=false"]).unwrap_err().to_string();
    assert!(error.contains("set metrics.enabled, or turn the ServiceMonitor off"), "{error}");
}

#[test]
fn patterns_make_cluster_roles_and_names_make_roles() {
    let names = template(&["--set", "applicationNamespaces={a,b},extensionNamespaces={c}"]).unwrap();
    assert!(!names.contains("kind: ClusterRole"), "{names}");
    for namespace in ["a", "b", "c"] {
        assert!(names.contains(&format!("namespace: {namespace}\n")), "{names}");
    }
    let patterns = template(&["--set", "applicationNamespaces={team-*}"]).unwrap();
    assert_eq!(patterns.matches("kind: ClusterRoleBinding\n").count(), 1, "{patterns}");
    assert!(!template(&["--set", "rbac.create=false"]).unwrap().contains("kind: Role"));
    assert!(!template(&["--set", "crds.install=false"]).unwrap().contains("CustomResourceDefinition"));
    assert!(!template(&["--set", "crds.keep=false"]).unwrap().contains("helm.sh/resource-policy"));
}
