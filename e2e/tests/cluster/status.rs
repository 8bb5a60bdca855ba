use std::time::Duration;

use e2e::client::{Request, send};
use e2e::stage::Stage;
use e2e::wait;

const BROKEN: &str = "
apiVersion: extensions.argoproj.io/v1alpha1
kind: ProxyExtension
metadata: {name: fine, namespace: argocd}
spec: {backend: {services: [{url: 'http://127.0.0.1:18081', cluster: {name: in-cluster}}]}}
---
apiVersion: extensions.argoproj.io/v1alpha1
kind: ProxyExtension
metadata: {name: bad-header, namespace: argocd}
spec: {backend: {services: [{url: 'http://127.0.0.1:18081', headers: [{name: 'no spaces', value: x}]}]}}
---
apiVersion: extensions.argoproj.io/v1alpha1
kind: ProxyExtension
metadata: {name: httpbin, namespace: argocd}
spec: {backend: {services: [{url: 'http://127.0.0.1:18082'}]}}
---
apiVersion: extensions.argoproj.io/v1alpha1
kind: ProxyExtension
metadata: {name: thief, namespace: argocd}
spec: {backend: {services: [{url: 'http://127.0.0.1:18081', headers: [{name: X-Key, valueFrom: {secretKeyRef: {name: argocd-secret, key: server.secretkey}}}]}]}}
";

fn has(text: &str, expected: &[&str]) -> bool {
    // kubectl aligns with spaces.
    let squeezed = text.split_whitespace().collect::<Vec<_>>().join(" ");
    expected.iter().all(|expected| squeezed.contains(expected))
}

/// Waits until a `kubectl` command says all of it.
async fn says(stage: &Stage, command: &[&str], expected: &[&str]) -> String {
    let ask = || async { Ok(has(&stage.api.kubectl(command).unwrap_or_default(), expected)) };
    let outcome = wait::until(&format!("{command:?} says {expected:?}"), ask).await;
    let text = stage.api.kubectl(command).unwrap_or_else(|error| error.to_string());
    assert!(outcome.is_ok(), "{expected:?} is missing:\n{text}");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_describe_tells_what_became_of_every_entry() {
    let stage = Stage::start().await.unwrap();
    let program = stage.serve(&["--log-level", "debug"]).await.unwrap();
    stage.api.kubectl_with_input(&["apply", "-f", "-"], &stage.world.translate(BROKEN)).unwrap();
    stage
        .world
        .edit("10-config.yaml", |text| {
            text.replace(
                "    - name: secretive\n",
                "    - name: broken\n      backend: {services: []}\n    - name: secretive\n",
            )
        })
        .unwrap();
    stage.api.apply(stage.world.folder()).unwrap();

    let describe = |name: &'static str| ["-n", "argocd", "describe", "proxyextension", name];
    says(
        &stage,
        &describe("fine"),
        &["Type: Accepted", "Reason: Programmed", "Route: /extensions/fine/", "Cluster: in-cluster"],
    )
    .await;
    says(&stage, &describe("bad-header"), &["Status: False Type: Accepted", "no spaces", "Warning Invalid"]).await;
    says(
        &stage,
        &describe("httpbin"),
        &["Reason: NameConflict", "ConfigMap argocd/argocd-cm extension.config[0] has this name already"],
    )
    .await;
    let thief = says(
        &stage,
        &describe("thief"),
        &[
            "Reason: RefNotPermitted",
            "holds Argo CD's own keys and may not be read; use a Secret of its own",
            "Status: False Type: ResolvedRefs",
        ],
    )
    .await;
    assert!(!thief.contains(e2e::token::SIGNING_KEY));
    says(
        &stage,
        &["-n", "argocd", "describe", "extensionregistry", "argocd"],
        &[
            "Name: broken",
            "State: Invalid",
            "at least one service must be given",
            "Name: httpbin",
            "Accepted: 10",
            "Invalid: 3",
            "Conflicted: 1",
            "Hash:",
        ],
    )
    .await;
    says(&stage, &["-n", "argocd", "describe", "configmap", "argocd-cm"], &["Warning Invalid", "extension broken:"])
        .await;
    let table = says(
        &stage,
        &["-n", "argocd", "get", "pext"],
        &["NAME ROUTE SERVICES ACCEPTED HEALTHY AGE", "fine /extensions/fine/ 1 True True"],
    )
    .await;
    assert!(has(&table, &["thief True Unknown"]), "{table}");
    says(
        &stage,
        &["get", "argocd", "-A"],
        &["proxyextension.extensions.argoproj.io/fine", "extensionregistry.extensions.argoproj.io/argocd"],
    )
    .await;

    // Valid neighbours serve.
    let token = stage.world.token().unwrap();
    for extension in ["httpbin", "fine"] {
        let answer =
            send(program.address, Request::signed_in(&format!("/extensions/{extension}/x"), &token)).await.unwrap();
        assert_eq!(answer.seen().unwrap()["backend"], "a");
    }

    // Corrected, they are valid again, and it is told.
    stage
        .world
        .edit("10-config.yaml", |text| {
            text.replace("backend: {services: []}", "backend: {services: [{url: 'http://127.0.0.1:18083'}]}")
        })
        .unwrap();
    stage.api.apply(stage.world.folder()).unwrap();
    says(
        &stage,
        &["-n", "argocd", "describe", "configmap", "argocd-cm"],
        &["Normal Accepted", "extension broken: valid again"],
    )
    .await;
    stage
        .api
        .kubectl(&[
            "-n",
            "argocd",
            "patch",
            "pext",
            "bad-header",
            "--type=merge",
            "-p",
            r#"{"spec":{"backend":{"services":[{"url":"http://127.0.0.1:1"}]}}}"#,
        ])
        .unwrap();
    says(
        &stage,
        &describe("bad-header"),
        &["Status: True Type: Programmed", "Normal Accepted", "Observed Generation: 2"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_refuses_what_can_never_be_right() {
    let stage = Stage::start().await.unwrap();
    let object = |spec: &str| {
        format!(
            "apiVersion: extensions.argoproj.io/v1alpha1\nkind: ProxyExtension\nmetadata: {{name: x, namespace: argocd}}\nspec: {spec}\n"
        )
    };
    for (spec, why) in [
        ("{backend: {services: []}}", "spec.backend.services in body should have at least 1 items"),
        ("{backend: {services: [{url: 'ftp://x'}]}}", "must be an absolute URL that starts with http:// or https://"),
        (
            "{backend: {services: [{url: 'http://a', cluster: {name: a}}, {url: 'http://b'}]}}",
            "either every service names its cluster or none does",
        ),
        ("{backend: {services: [{url: 'http://a', cluster: {}}]}}", "name, server or selector must be given"),
        ("{scope: Global, projects: [a], backend: {services: [{url: 'http://a'}]}}", "projects restricts applications"),
        (
            "{scope: Global, backend: {services: [{url: 'http://a', cluster: {name: a}}]}}",
            "a Global extension can be called without an application",
        ),
        ("{scope: World, backend: {services: [{url: 'http://a'}]}}", "Unsupported value: \"World\""),
        ("{projects: [], backend: {services: [{url: 'http://a'}]}}", "should have at least 1 items"),
        ("{backend: {services: [{}]}}", "exactly one of url and serviceRef must be given"),
        (
            "{backend: {services: [{url: 'http://a', serviceRef: {name: a}}]}}",
            "exactly one of url and serviceRef must be given",
        ),
        ("{backend: {services: [{serviceRef: {name: a, scheme: ftp}}]}}", "Unsupported value: \"ftp\""),
        ("{backend: {services: [{serviceRef: {name: a, path: x}}]}}", "must start with /"),
        (
            "{backend: {services: [{url: 'http://a', tls: {serverName: b}}]}}",
            "tls needs a url that starts with https://",
        ),
        ("{backend: {services: [{serviceRef: {name: a}, tls: {serverName: b}}]}}", "tls needs serviceRef.scheme https"),
        (
            "{backend: {services: [{url: 'https://a', tls: {caRef: {kind: Pod, name: b}}}]}}",
            "Unsupported value: \"Pod\"",
        ),
        ("{backend: {services: [{url: 'http://a', healthCheck: {path: x}}]}}", "must start with /"),
        (
            "{backend: {services: [{url: 'http://a', healthCheck: {path: /, unhealthyThreshold: 0}}]}}",
            "greater than or equal to 1",
        ),
        ("{backend: {maxConcurrentRequests: 0, services: [{url: 'http://a'}]}}", "greater than or equal to 1"),
        ("{backend: {maxRequestBodyBytes: -1, services: [{url: 'http://a'}]}}", "greater than or equal to 0"),
        ("{backend: {requestTimeout: 5, services: [{url: 'http://a'}]}}", "must be of type string"),
        (
            "{backend: {services: [{url: 'http://a', headers: [{name: X}]}]}}",
            "exactly one of value and valueFrom must be given",
        ),
        ("{backend: {connectionTimeout: 5, services: [{url: 'http://a'}]}}", "must be of type string"),
        ("{backend: {connectionTimeout: soon, services: [{url: 'http://a'}]}}", "must be a Go duration"),
        ("{name: 'a/b', backend: {services: [{url: 'http://a'}]}}", "spec.name in body should match"),
    ] {
        let error = stage.api.kubectl_with_input(&["apply", "-f", "-"], &object(spec)).unwrap_err().to_string();
        assert!(error.contains(why), "{spec}: {error}");
    }
    for good in [
        "{backend: {connectionTimeout: 1m30.5s, keepAlive: -1s, services: [{url: 'http://a'}]}}",
        "{scope: Global, backend: {services: [{url: 'http://a'}, {url: 'http://b'}]}}",
        "{name: full, scope: Application, projects: ['team-*'], backend: {requestTimeout: 30s, streamIdleTimeout: 1h, \
         maxRequestBodyBytes: 10485760, maxConcurrentRequests: 200, services: [{url: 'https://a/base', cluster: {name: prod, \
         server: 'https://prod:6443', selector: {matchLabels: {env: prod}, matchExpressions: [{key: x, operator: Exists}]}}, \
         headers: [{name: X-Team, value: platform}], tls: {caRef: {kind: ConfigMap, name: metrics-ca, key: ca.crt}, \
         clientCertificateRef: {name: metrics-client}, serverName: metrics.internal}, healthCheck: {path: /healthz, \
         interval: 10s, timeout: 1s, unhealthyThreshold: 3}}, {serviceRef: {name: metrics, namespace: monitoring, \
         port: http, scheme: http, path: /}, cluster: {name: in-cluster}}, {serviceRef: {name: metrics, port: 80}, \
         cluster: {name: other}}]}}",
    ] {
        stage.api.kubectl_with_input(&["apply", "-f", "-"], &object(good)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_while_nothing_changes() {
    const IDLE: Duration = Duration::from_secs(60);
    let stage = Stage::start().await.unwrap();
    stage.api.kubectl_with_input(&["apply", "-f", "-"], &stage.world.translate(BROKEN)).unwrap();
    let _program = stage.serve(&[]).await.unwrap();
    let describe = ["-n", "argocd", "describe", "extensionregistry", "argocd"];
    says(&stage, &describe, &["Replicas:", "Since:"]).await;
    let versions = || {
        let columns = "-o=custom-columns=:metadata.name,:metadata.resourceVersion";
        stage.api.kubectl(&["-n", "argocd", "get", "proxyextensions,extensionregistries,events", columns]).unwrap()
    };
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (versions_before, writes_before) = (versions(), writes(&stage));
    tokio::time::sleep(IDLE).await;
    assert_eq!(versions(), versions_before);
    assert_eq!(writes(&stage), writes_before, "status was written although nothing changed");

    // Somebody else writes nonsense there: it is put right, once.
    let nonsense = r#"{"status":{"route":"/nonsense/"}}"#;
    stage
        .api
        .kubectl(&["-n", "argocd", "patch", "pext", "fine", "--subresource=status", "--type=merge", "-p", nonsense])
        .unwrap();
    says(&stage, &["-n", "argocd", "describe", "pext", "fine"], &["Route: /extensions/fine/"]).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let settled = writes(&stage);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(writes(&stage), settled);
}

/// Writes of status and Events that the API server has counted.
fn writes(stage: &Stage) -> Vec<String> {
    let metrics = stage.api.kubectl(&["get", "--raw", "/metrics"]).unwrap();
    let is_write = |line: &&str| {
        line.starts_with("apiserver_request_total{")
            && ["proxyextensions", "extensionregistries", "resource=\"events\""].iter().any(|kind| line.contains(kind))
            && ["APPLY", "PATCH", "POST", "PUT", "DELETE"].iter().any(|verb| line.contains(&format!("verb=\"{verb}\"")))
    };
    metrics.lines().filter(is_write).map(str::to_owned).collect()
}
