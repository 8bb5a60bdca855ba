use std::path::Path;

use e2e::cases;
use e2e::client::{Request, send};
use e2e::stage::Stage;
use e2e::wait;

/// Makes a service account with these roles and nothing else; where its kubeconfig is.
fn account(stage: &Stage, roles: &[&str], bindings: &[(&str, &str)]) -> String {
    let kubectl = |arguments: &[&str]| stage.api.kubectl(arguments).unwrap();
    kubectl(&["-n", "argocd", "create", "serviceaccount", "proxy"]);
    for role in roles {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/argocd-extension-proxy/files").join(role);
        kubectl(&["apply", "-f", path.to_str().unwrap()]);
    }
    for (kind, namespace) in bindings {
        let role = format!("--{kind}=argocd-extension-proxy");
        let binding = if *kind == "role" { "rolebinding" } else { "clusterrolebinding" };
        let mut arguments = vec!["create", binding, "proxy", &role, "--serviceaccount=argocd:proxy"];
        if *kind == "role" {
            arguments.extend(["-n", namespace]);
        }
        kubectl(&arguments);
    }
    let token = kubectl(&["-n", "argocd", "create", "token", "proxy"]);
    stage.api.write_kubeconfig("proxy", token.trim()).unwrap().display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_permissions_suffice() {
    let stage = Stage::start().await.unwrap();
    let roles = ["role.yaml", "role-applications.yaml"];
    let kubeconfig = account(&stage, &roles, &[("role", "argocd"), ("role", "team-apps")]);
    let program = stage.serve_as(&kubeconfig, &[]).await.unwrap();
    let cases = cases::recorded(&stage.world).unwrap();
    let failures = cases::replay(&cases, &stage.world, &program).await.unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    // Status, Events and leases are written as well.
    let event = |name: &str| stage.api.kubectl(&["-n", "argocd", "describe", "configmap", name]).unwrap();
    stage
        .world
        .edit("10-config.yaml", |text| {
            text.replace("    - name: secretive\n", "    - name: bad\n    - name: secretive\n")
        })
        .unwrap();
    stage.api.apply(stage.world.folder()).unwrap();
    wait::until("the Event is written", || async { Ok(event("argocd-cm").contains("extension bad:")) }).await.unwrap();
    let registry = stage
        .api
        .kubectl(&["-n", "argocd", "get", "extreg", "argocd", "-o", "jsonpath={.status.replicas[*].hash}"])
        .unwrap();
    assert!(!registry.is_empty());
    let log = program.log();
    for trouble in ["is forbidden", "the watch of", "cannot be written", "cannot be had", "cannot say"] {
        assert!(!log.contains(trouble), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn patterns_need_all_namespaces_and_what_is_missing_is_said() {
    let stage = Stage::start().await.unwrap();
    let kubeconfig = account(&stage, &["role.yaml"], &[("role", "argocd")]);
    let program = stage.launch(&kubeconfig, &["--application-namespaces", "team-*"]).unwrap();
    program.wait_for_log("the watch of Applications in all namespaces fails").await.unwrap();
    assert!(program.log().contains("grant the service account get, list and watch of it"), "{}", program.log());
    let token = stage.world.token().unwrap();
    let call = |app: &str, project: &str| {
        Request::get("/extensions/httpbin/x")
            .header("Cookie", &format!("argocd.token={token}"))
            .header("Argocd-Application-Name", app)
            .header("Argocd-Project-Name", project)
    };
    let answer = send(program.address, call("argocd:guestbook", "default")).await.unwrap();
    assert_eq!((answer.status, answer.header("Retry-After")), (503, Some("1")));
    assert_eq!(send(program.admin, Request::get("/readyz")).await.unwrap().status, 503);

    // Granted, it comes up by itself.
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../charts/argocd-extension-proxy/files/clusterrole-applications.yaml");
    stage.api.kubectl(&["apply", "-f", path.to_str().unwrap()]).unwrap();
    stage
        .api
        .kubectl(&[
            "create",
            "clusterrolebinding",
            "proxy",
            "--clusterrole=argocd-extension-proxy",
            "--serviceaccount=argocd:proxy",
        ])
        .unwrap();
    wait::until("it serves", || async {
        Ok(send(program.address, call("argocd:guestbook", "default")).await?.status == 200)
    })
    .await
    .unwrap();
    program.wait_for_log("works again").await.unwrap();
}
