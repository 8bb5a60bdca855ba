use e2e::client::{Request, send};
use e2e::stage::Stage;
use e2e::wait;
use serde_json::Value;

const UNDECODABLE: &str = "
apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: odd, namespace: argocd}
spec: [this, is, no, mapping]
---
apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: large, namespace: argocd}
spec: {project: default, destination: {name: in-cluster}}
status: {resources: [@]}
";

#[tokio::test(flavor = "multi_thread")]
async fn one_undecodable_object_is_reported_and_stops_nothing() {
    let stage = Stage::start().await.unwrap();
    let resource = r#"{"kind": "Deployment", "name": "a-rather-long-name", "namespace": "somewhere"}"#;
    let manifests = UNDECODABLE.replace('@', &vec![resource; 5000].join(", "));
    let token = stage.world.token().unwrap();
    let call = |app: &str| {
        Request::get("/extensions/httpbin/x")
            .header("Cookie", &format!("argocd.token={token}"))
            .header("Argocd-Application-Name", &format!("argocd:{app}"))
            .header("Argocd-Project-Name", "default")
    };
    // Live, and at the first list.
    let program = stage.serve(&[]).await.unwrap();
    stage.api.kubectl_with_input(&["apply", "--server-side", "-f", "-"], &manifests).unwrap();
    let fresh = stage.serve(&[]).await.unwrap();
    for program in [&program, &fresh] {
        let served = || async { Ok(send(program.address, call("large")).await?.status == 200) };
        wait::until("the other application is served", served).await.unwrap();
        assert_eq!(send(program.address, call("odd")).await.unwrap().status, 401);
        program.wait_for_log("Application argocd/odd").await.unwrap();
        let status: Value =
            serde_json::from_slice(&send(program.admin, Request::get("/status")).await.unwrap().body).unwrap();
        let entries = status["entries"].as_array().unwrap();
        let odd = entries.iter().find(|entry| entry["object"] == "Application argocd/odd").unwrap();
        assert!(
            odd["problems"][0]["message"].as_str().unwrap().contains("does not count until it is corrected"),
            "{odd}"
        );
    }
    let corrected = r#"[{"op": "replace", "path": "/spec", "value": {"project": "default", "destination": {"name": "in-cluster"}}}]"#;
    stage.api.kubectl(&["-n", "argocd", "patch", "application", "odd", "--type=json", "-p", corrected]).unwrap();
    wait::until("it is served", || async { Ok(send(program.address, call("odd")).await?.status == 200) })
        .await
        .unwrap();
    stage.api.kubectl(&["-n", "argocd", "delete", "application", "odd"]).unwrap();
    wait::until("it is gone", || async { Ok(send(program.address, call("odd")).await?.status == 401) }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn argo_cds_own_settings_count_or_are_refused_loudly() {
    let stage = Stage::start().await.unwrap();
    let set = |map: &str, data: &str| {
        let patch = format!(r#"{{"data":{data}}}"#);
        stage.api.kubectl(&["-n", "argocd", "patch", "configmap", map, "--type=merge", "-p", &patch]).unwrap();
    };
    set("argocd-cmd-params-cm", r#"{"server.rootpath": "/argo/", "server.disable.auth": "true"}"#);
    let program = stage.serve(&[]).await.unwrap();
    let call = |path: &str| send(program.address, Request::signed_in(path, &stage.world.token().unwrap()));
    assert_eq!(call("/argo/extensions/httpbin/x").await.unwrap().seen().unwrap()["target"], "/x");
    assert_eq!(call("/extensions/httpbin/x").await.unwrap().status, 404);

    // Nobody is served unauthenticated, whatever is set.
    program.wait_for_log("server.disable.auth: is on and is refused").await.unwrap();
    let anonymous = send(program.address, Request::get("/argo/extensions/httpbin/x")).await.unwrap();
    assert_eq!(anonymous.status, 400);

    let oidc = format!(
        "name: Test\\nissuer: {}\\nclientID: argo-test\\nenableUserInfoGroups: true\\n",
        stage.world.provider.issuer
    );
    set("argocd-cm", &format!(r#"{{"oidc.config": "{oidc}"}}"#));
    program.wait_for_log("enableUserInfoGroups: is not supported").await.unwrap();
    let pat = e2e::token::TokenSpec::oidc().mint(&stage.world.provider).unwrap();
    let answer = send(program.address, Request::signed_in("/argo/extensions/httpbin/x", &pat)).await.unwrap();
    assert_eq!(answer.status, 401);
}
