use std::sync::Arc;

use dataplane::Snapshot;
use dataplane::application::Destination;
use dataplane::cluster::{Cluster, IN_CLUSTER_NAME, IN_CLUSTER_SERVER};

use serde_json::json;

use super::{Memory, Outcome, ReconcileOptions, reconcile};
use crate::inputs::Inputs;
use crate::objects::{self, Interner, ObjectKey, ObjectKind};
use crate::sources::folder::Folder;
use crate::verdict::{State, Verdict};

const NAMESPACE: &str = "argocd";

/// A folder whose manifests are rewritten and reconciled again.
struct World {
    folder: tempfile::TempDir,
    reader: Folder,
    memory: Memory,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let reader = Folder::new(folder.path(), NAMESPACE);
        Self { folder, reader, memory: Memory::default() }
    }

    fn apply(&mut self, manifests: &str) -> Outcome {
        std::fs::write(self.folder.path().join("world.yaml"), manifests).unwrap();
        let (inputs, verdicts) = self.reader.read().unwrap();
        assert_eq!(verdicts, []);
        let outcome = reconcile(inputs, &ReconcileOptions::new(NAMESPACE), &self.memory);
        self.memory = outcome.memory.clone();
        outcome
    }
}

fn first(manifests: &str) -> Outcome {
    World::new().apply(manifests)
}

fn config(data: &str) -> String {
    format!("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: argocd-cm}}\ndata:\n{data}\n")
}

fn extensions(entries: &str) -> String {
    let entries: String = entries.lines().map(|line| format!("    {line}\n")).collect();
    config(&format!("  extension.config: |\n{entries}"))
}

fn rbac(policy: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: argocd-rbac-cm}}\ndata:\n  policy.csv: |\n    {policy}\n"
    )
}

fn proxy_extension(metadata: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: extensions.argoproj.io/v1alpha1\nkind: ProxyExtension\nmetadata: {{{metadata}}}\nspec: {spec}\n"
    )
}

fn secret(name: &str, labels: &str, data: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, labels: {{{labels}}}}}\nstringData: {{{data}}}\n"
    )
}

fn about<'a>(outcome: &'a Outcome, object: &str) -> &'a Verdict {
    outcome.verdicts.iter().find(|verdict| verdict.place.to_string().contains(object)).unwrap()
}

fn names(snapshot: &Snapshot) -> Vec<&str> {
    let mut names: Vec<&str> = snapshot.extensions.keys().map(|name| &**name).collect();
    names.sort_unstable();
    names
}

fn in_cluster() -> Cluster {
    Cluster { name: IN_CLUSTER_NAME.into(), server: IN_CLUSTER_SERVER.into(), project: String::new() }
}

/// Where requests of an extension go for any cluster.
fn url(snapshot: &Snapshot, name: &str) -> String {
    let services = snapshot.extensions[name].services_for(&in_cluster(), &Destination::default()).unwrap();
    let service = &services[0];
    format!("{}{}", service.settings.address.authority.to_str().unwrap(), service.settings.address.path)
}

#[test]
fn one_bad_entry_is_reported_and_the_others_serve() {
    let outcome = first(&extensions(
        "extensions:\n- name: good\n  backend: {services: [{url: 'http://one'}]}\n- name: bad\n  backend: {services: []}\n- 5\n",
    ));
    assert_eq!(names(&outcome.snapshot), ["good"]);
    assert_eq!(about(&outcome, "extension.config[0]").state, State::Accepted);
    let bad = about(&outcome, "extension.config[1]");
    assert_eq!(bad.state, State::Invalid);
    assert_eq!(bad.problems[0].field, "backend.services");
    assert_eq!(about(&outcome, "extension.config[2]").state, State::Invalid);
}

#[test]
fn a_name_counts_once_argocd_cm_before_the_older_object_before_the_younger() {
    let one = |created: &str, name: &str, host: &str| {
        proxy_extension(
            &format!("name: {name}, creationTimestamp: '{created}'"),
            &format!("{{name: shared, backend: {{services: [{{url: 'http://{host}'}}]}}}}"),
        )
    };
    let objects =
        one("2026-01-02T00:00:00Z", "a-younger", "younger") + &one("2026-01-01T00:00:00Z", "b-older", "older");
    let outcome = first(&objects);
    assert_eq!(url(&outcome.snapshot, "shared"), "older");
    let loser = about(&outcome, "a-younger");
    assert_eq!(loser.state, State::Conflicted);
    assert!(loser.problems[0].message.contains("ProxyExtension argocd/b-older"), "{loser:?}");

    let with_config =
        objects + &extensions("extensions:\n- name: shared\n  backend: {services: [{url: 'http://cm'}]}\n");
    let outcome = first(&with_config);
    assert_eq!(url(&outcome.snapshot, "shared"), "cm");
    assert_eq!(about(&outcome, "b-older").state, State::Conflicted);
}

#[test]
fn a_header_reads_only_secrets_that_it_may() {
    let spec = |secret: &str| {
        format!(
            "{{backend: {{services: [{{url: 'http://x', headers: [{{name: X-Key, valueFrom: {{secretKeyRef: {{name: {secret}, key: k}}}}}}]}}]}}}}"
        )
    };
    let part_of = "app.kubernetes.io/part-of: argocd";
    let secrets = secret("fine", part_of, "k: ' value '")
        + &secret("unlabelled", "", "k: v")
        + &secret("argocd-secret", part_of, "k: v")
        + &secret(
            "cluster",
            &format!("{part_of}, argocd.argoproj.io/secret-type: cluster"),
            "k: v, name: c, server: 'https://c'",
        )
        + &secret("no-key", part_of, "other: v")
        + &secret("line-break", part_of, "k: \"a\\nb\"");
    let fine = first(&(secrets.clone() + &proxy_extension("name: x", &spec("fine"))));
    let service = &fine.snapshot.extensions["x"].services[0];
    assert_eq!(service.settings.headers[0].1, "value");
    for (name, why) in [
        ("unlabelled", "is not labelled app.kubernetes.io/part-of: argocd"),
        ("argocd-secret", "holds Argo CD's own keys"),
        ("cluster", "holds one of Argo CD's clusters"),
        ("no-key", "has no key \"k\""),
        ("missing", "does not exist"),
        ("line-break", "line break"),
    ] {
        let outcome = first(&(secrets.clone() + &proxy_extension("name: x", &spec(name))));
        let verdict = about(&outcome, "ProxyExtension argocd/x");
        assert_eq!(verdict.state, State::Invalid, "{name}");
        let lines = verdict.lines().join("\n");
        assert!(lines.contains(why), "{name}: {lines}");
        assert!(!lines.contains("a\nb"), "{lines}");
    }
}

#[test]
fn what_cannot_be_read_keeps_its_last_readable_version() {
    let good = extensions("extensions:\n- name: kept\n  backend: {services: [{url: 'http://one'}]}\n")
        + &rbac("p, a, extensions, invoke, *, allow");
    let mut world = World::new();
    let before = world.apply(&good);
    let broken = extensions("extensions: [\n") + &rbac("p, a, extensions");
    let after = world.apply(&broken);
    assert_eq!(names(&after.snapshot), ["kept"]);
    assert!(Arc::ptr_eq(after.snapshot.policy.as_ref().unwrap(), before.snapshot.policy.as_ref().unwrap()));
    assert!(after.snapshot.is_same_as(&before.snapshot));
    assert_eq!(about(&after, "argocd-rbac-cm").state, State::Invalid);

    // Without a last version nobody is let in.
    let at_start = first(&broken);
    assert!(at_start.snapshot.policy.is_none());
    assert_eq!(names(&at_start.snapshot), [""; 0]);
}

#[test]
fn removing_everything_removes_everything() {
    let mut world = World::new();
    world.apply(&extensions("extensions:\n- name: gone\n  backend: {services: [{url: 'http://one'}]}\n"));
    assert_eq!(names(&world.apply(&config("  url: https://x")).snapshot), [""; 0]);
    assert_eq!(names(&world.apply("").snapshot), [""; 0]);
}

#[test]
fn parts_that_did_not_change_stay_the_same() {
    let application = |name: &str, project: &str| {
        format!(
            "---\napiVersion: argoproj.io/v1alpha1\nkind: Application\nmetadata: {{name: {name}}}\nspec: {{project: {project}, destination: {{name: in-cluster}}}}\n"
        )
    };
    let base = extensions(
        "extensions:\n- name: one\n  backend: {services: [{url: 'http://one'}]}\n- name: two\n  backend: {services: [{url: 'http://two'}]}\n",
    ) + &rbac("p, a, extensions, invoke, *, allow");
    let mut world = World::new();
    let before = world.apply(&(base.clone() + &application("a", "p") + &application("b", "p")));
    let same = world.apply(&(base.clone() + &application("a", "p") + &application("b", "p")));
    assert!(same.snapshot.is_same_as(&before.snapshot));

    let moved = world.apply(&(base.clone() + &application("a", "q") + &application("b", "p")));
    let (now, then) = (&moved.snapshot, &before.snapshot);
    assert!(!now.is_same_as(then));
    assert!(Arc::ptr_eq(&now.extensions, &then.extensions) && Arc::ptr_eq(&now.projects, &then.projects));
    assert!(Arc::ptr_eq(&now.applications["argocd:b"], &then.applications["argocd:b"]));
    assert_eq!(&*now.applications["argocd:a"].project, "q");

    let edited =
        world.apply(&(base.replace("http://two", "http://other") + &application("a", "p") + &application("b", "p")));
    let (now, then) = (&edited.snapshot.extensions, &before.snapshot.extensions);
    assert!(Arc::ptr_eq(&now["one"], &then["one"]));
    assert!(!Arc::ptr_eq(&now["two"], &then["two"]));
}

#[test]
fn a_proxy_extension_outside_the_namespace_does_not_count() {
    let outcome =
        first(&proxy_extension("name: far, namespace: elsewhere", "{backend: {services: [{url: 'http://x'}]}}"));
    assert_eq!(about(&outcome, "elsewhere/far").state, State::Invalid);
    assert_eq!(names(&outcome.snapshot), [""; 0]);
}

#[test]
fn a_proxy_extension_keeps_its_path_and_names_fields_that_it_does_not_know() {
    let outcome = first(&proxy_extension("name: pathy", "{backend: {services: [{url: 'http://x/base/', tlz: {}}]}}"));
    assert_eq!(url(&outcome.snapshot, "pathy"), "x/base");
    let verdict = about(&outcome, "pathy");
    assert_eq!(verdict.state, State::Accepted);
    assert_eq!(verdict.problems[0].field, "spec.backend.services[0].tlz");
}

/// One of several changes, each of which something else may depend on.
fn change(inputs: &mut Inputs, pick: &mut impl FnMut(usize) -> usize) {
    let mut put = |kind: ObjectKind, name: &str, object: serde_json::Value| {
        let object = objects::decode(kind, object, &mut Interner::default()).unwrap();
        inputs.insert(ObjectKey::new(NAMESPACE, name), object);
    };
    let (number, value) = (pick(8), pick(3));
    let name = format!("ext-{number}");
    match pick(10) {
        0..5 => {
            let header = json!({"name": "X-Key", "valueFrom": {"secretKeyRef": {"name": "shared", "key": "a"}}});
            let service = match pick(4) {
                0 => json!({"url": format!("http://b{value}:80")}),
                1 => json!({"url": format!("http://b{value}:80"), "headers": [header]}),
                2 => json!({"url": "not a url"}),
                _ => json!({"serviceRef": {"name": "svc", "port": 80}}),
            };
            // Several want the same names.
            let spec = json!({"name": format!("name-{}", pick(5)), "backend": {"services": [service]}});
            let created = format!("2026-01-01T00:00:0{}Z", pick(3));
            let metadata = json!({"name": name, "namespace": NAMESPACE, "creationTimestamp": created});
            put(ObjectKind::ProxyExtension, &name, json!({"metadata": metadata, "spec": spec}));
        }
        5 | 6 => inputs.remove(ObjectKind::ProxyExtension, &ObjectKey::new(NAMESPACE, &name)),
        7 => {
            let labels = json!({"app.kubernetes.io/part-of": "argocd"});
            let data = json!({(["a", "b"][pick(2)]): format!("value-{value}")});
            put(
                ObjectKind::Secret,
                "shared",
                json!({"metadata": {"name": "shared", "labels": labels}, "stringData": data}),
            );
        }
        8 => {
            let text =
                format!("extensions: [{{name: name-{number}, backend: {{services: [{{url: 'http://c{value}'}}]}}}}]");
            put(
                ObjectKind::ConfigMap,
                "argocd-cm",
                json!({"metadata": {"name": "argocd-cm"}, "data": {"extension.config": text}}),
            );
        }
        _ => {
            let spec = json!({"type": "ClusterIP", "ports": [{"port": 80 + pick(2)}]});
            put(ObjectKind::Service, "svc", json!({"metadata": {"name": "svc"}, "spec": spec}));
        }
    }
}

#[test]
fn a_thousand_changes_one_by_one_come_to_the_same_as_all_at_once() {
    let mut state = 7_u64;
    let mut pick = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let secret = json!({"metadata": {"name": "argocd-secret"}, "stringData": {"server.secretkey": "key"}});
    let secret = objects::decode(ObjectKind::Secret, secret, &mut Interner::default()).unwrap();
    let (mut inputs, mut memory) = (Inputs::default(), Memory::default());
    inputs.insert(ObjectKey::new(NAMESPACE, "argocd-secret"), secret);
    let options = ReconcileOptions::new(NAMESPACE);
    for i in 0..1_000 {
        change(&mut inputs, &mut pick);
        let outcome = reconcile(&inputs, &options, &memory);
        let anew = reconcile(&inputs, &options, &Memory::default());
        assert_eq!(outcome.verdicts, anew.verdicts, "after change {i}");
        assert_eq!(outcome.snapshot.extensions, anew.snapshot.extensions, "after change {i}");
        assert_eq!(outcome.registry_hash, anew.registry_hash, "after change {i}");
        memory = outcome.memory;
    }
}
