//! What ProxyExtensions refer to: Services, ConfigMaps and Secrets as they are in the cluster.

use std::path::Path;
use std::time::Duration;

use e2e::backend::Backend;
use e2e::client::{Request, Response, send};
use e2e::http2::Http2Backend;
use e2e::program::Program;
use e2e::stage::Stage;
use e2e::tls::Authority;
use e2e::wait;
use e2e::world::{PART_OF_ARGOCD, proxy_extension, texts};
use serde_json::Value;
use tokio::net::TcpListener;

/// Addresses of Services that a backend can listen on.
const LOOPBACK: &str = "--service-cluster-ip-range=127.0.9.0/24";

fn apply(stage: &Stage, manifests: &str) {
    stage.api.kubectl_with_input(&["apply", "--server-side", "--force-conflicts", "-f", "-"], manifests).unwrap();
}

async fn call(program: &Program, extension: &str, token: &str) -> Response {
    send(program.address, Request::signed_in(&format!("/extensions/{extension}/x"), token)).await.unwrap()
}

async fn answers(program: &Program, extension: &str, token: &str, backend: &str) {
    let asked = || async {
        let answer = call(program, extension, token).await;
        Ok(answer.status == 200 && answer.seen().is_ok_and(|seen| seen["backend"] == backend))
    };
    wait::until(&format!("{extension} is answered by {backend}"), asked).await.unwrap();
}

/// The conditions of a ProxyExtension, as `type=status:reason`.
fn conditions(stage: &Stage, namespace: &str, name: &str) -> String {
    let path = "-o=jsonpath={range .status.conditions[*]}{.type}={.status}:{.reason} {.message}{\"\\n\"}{end}";
    stage.api.kubectl(&["-n", namespace, "get", "proxyextension", name, path]).unwrap()
}

async fn says(stage: &Stage, namespace: &str, name: &str, wanted: &str) {
    let said = || async { Ok(conditions(stage, namespace, name).contains(wanted)) };
    // Another replica may have to find out first that the one before is gone.
    let outcome = wait::within(Duration::from_secs(30), wanted, said).await;
    assert!(outcome.is_ok(), "{wanted:?} is missing:\n{}", conditions(stage, namespace, name));
}

fn service(name: &str, ip: &str, ports: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: monitoring}}\nspec: {{clusterIP: {ip}, ports: [{ports}]}}\n"
    )
}

fn refers(name: &str, port: &str) -> String {
    proxy_extension(
        "argocd",
        name,
        &format!(
            "backend: {{services: [{{serviceRef: {{name: metrics, namespace: monitoring{port}, path: /base/}}}}]}}"
        ),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_followed() {
    let mut stage = Stage::start_with(&[LOOPBACK]).await.unwrap();
    let token = stage.world.token().unwrap();
    let on = |ip: &'static str, name: &'static str| async move {
        Backend::start_on(TcpListener::bind((ip, 0)).await.unwrap(), name, None).unwrap()
    };
    let (one, two, three) =
        (on("127.0.9.50", "one").await, on("127.0.9.50", "two").await, on("127.0.9.51", "three").await);
    let port = |backend: &Backend| backend.address.port();
    stage.api.kubectl(&["create", "namespace", "monitoring"]).unwrap();
    apply(
        &stage,
        &(refers("by-name", ", port: http")
            + "---\n"
            + &refers("only-port", "")
            + "---\n"
            + &refers("by-number", &format!(", port: {}", port(&two)))),
    );
    let program = stage.serve(&[]).await.unwrap();
    assert_eq!(call(&program, "by-name", &token).await.status, 404);
    says(&stage, "argocd", "by-name", "ResolvedRefs=False:RefNotFound backend.services[0].serviceRef: the Service monitoring/metrics does not exist; create it").await;

    apply(&stage, &service("metrics", "127.0.9.50", &format!("{{name: http, port: {}}}", port(&one))));
    answers(&program, "by-name", &token, "one").await;
    answers(&program, "only-port", &token, "one").await;
    says(&stage, "argocd", "by-number", &format!("has no port {}; it has the ports http ({})", port(&two), port(&one)))
        .await;
    let seen = call(&program, "by-name", &token).await.seen().unwrap();
    assert_eq!(seen["target"], "/base/x");
    let host = format!("metrics.monitoring.svc:{}", port(&one));
    assert!(seen["headers"].to_string().contains(&format!("\"{host}\"")), "{seen}");
    let url = stage
        .api
        .kubectl(&["-n", "argocd", "get", "pext", "by-name", "-o=jsonpath={.status.services[0].url}"])
        .unwrap();
    assert_eq!(url, format!("http://{host}/base"));

    // Its named port becomes another one, and a second port makes the only one ambiguous.
    apply(
        &stage,
        &service(
            "metrics",
            "127.0.9.50",
            &format!("{{name: http, port: {}}}, {{name: old, port: {}}}", port(&two), port(&one)),
        ),
    );
    answers(&program, "by-name", &token, "two").await;
    answers(&program, "by-number", &token, "two").await;
    says(&stage, "argocd", "only-port", "say with port which one is meant").await;

    // Another Service takes its place.
    stage.api.kubectl(&["-n", "monitoring", "delete", "service", "metrics"]).unwrap();
    says(&stage, "argocd", "by-name", "Programmed=False:RefNotFound").await;
    apply(&stage, &service("metrics", "127.0.9.51", &format!("{{name: http, port: {}}}", port(&three))));
    answers(&program, "by-name", &token, "three").await;

    // Without an API server it goes on being served, and what changes is seen once there is one again.
    stage.api.kill().unwrap();
    program.wait_for_log("Service metrics in monitoring fails").await.unwrap();
    assert_eq!(call(&program, "by-name", &token).await.status, 200);
    stage.api.restart().await.unwrap();
    apply(&stage, &service("metrics", "127.0.9.51", &format!("{{name: https, port: {}}}", port(&three))));
    says(&stage, "argocd", "by-name", "has no port \"http\"; it has the ports https").await;
    apply(&stage, &service("metrics", "127.0.9.51", &format!("{{name: http, port: {}}}", port(&three))));
    answers(&program, "by-name", &token, "three").await;

    // One that stands for a name outside of the cluster, and one that speaks HTTP/2.
    stage.api.kubectl(&["-n", "monitoring", "delete", "service", "metrics"]).unwrap();
    let external = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: metrics, namespace: monitoring}}\nspec: {{type: ExternalName, externalName: localhost, ports: [{{name: http, port: {}}}]}}\n",
        stage.world.b.address.port()
    );
    apply(&stage, &external);
    answers(&program, "by-name", &token, "b").await;
    stage.api.kubectl(&["-n", "monitoring", "delete", "service", "metrics"]).unwrap();
    let modern = Http2Backend::start_on(TcpListener::bind("127.0.9.52:0").await.unwrap(), None).unwrap();
    let port = format!("{{name: http, port: {}, appProtocol: kubernetes.io/h2c}}", modern.address.port());
    apply(&stage, &service("metrics", "127.0.9.52", &port));
    let modern =
        || async { Ok(call(&program, "by-name", &token).await.seen().is_ok_and(|seen| seen["version"] == "HTTP/2.0")) };
    wait::until("HTTP/2 is spoken", modern).await.unwrap();
}

const TENANT: &str = "team-extensions";

#[tokio::test(flavor = "multi_thread")]
async fn other_namespaces_count_where_they_are_admitted_and_refer_to_nothing_outside() {
    let stage = Stage::start_with(&[LOOPBACK]).await.unwrap();
    let token = stage.world.token().unwrap();
    let url = stage.world.a.url();
    for namespace in [TENANT, "monitoring", "elsewhere"] {
        stage.api.kubectl(&["create", "namespace", namespace]).unwrap();
    }
    let label = PART_OF_ARGOCD;
    let services = |services: &str| format!("backend: {{services: [{services}]}}");
    let with_secret = |name: &str| {
        services(&format!(
            "{{url: '{url}', headers: [{{name: X-Key, valueFrom: {{secretKeyRef: {{name: {name}, key: key}}}}}}]}}"
        ))
    };
    let manifests = [
        texts("Secret", TENANT, "labelled", label, &[("key", "tenant-value")]),
        texts("Secret", TENANT, "unlabelled", "", &[("key", "tenant-other")]),
        texts("Secret", "argocd", "argocds-only", label, &[("key", "not-for-tenants")]),
        proxy_extension(TENANT, "tenant", &with_secret("labelled")),
        proxy_extension(TENANT, "unlabelled", &with_secret("unlabelled")),
        proxy_extension(TENANT, "thief", &with_secret("argocds-only")),
        proxy_extension(TENANT, "secretkey", &with_secret("argocd-secret")),
        proxy_extension(
            TENANT,
            "reaching",
            &services("{serviceRef: {name: metrics, namespace: monitoring, port: 80}}"),
        ),
        proxy_extension(TENANT, "httpbin", &services(&format!("{{url: '{url}'}}"))),
        proxy_extension("elsewhere", "stray", &services(&format!("{{url: '{url}'}}"))),
    ];
    apply(&stage, &manifests.join("---\n"));

    // Where no other namespace is admitted, none counts.
    let strict = stage.serve(&[]).await.unwrap();
    assert_eq!(call(&strict, "tenant", &token).await.status, 404);
    drop(strict);

    for namespaces in [TENANT, "team-*"] {
        let program = stage.serve(&["--extension-namespaces", namespaces]).await.unwrap();
        let answer = call(&program, "tenant", &token).await;
        assert!(answer.text().contains("tenant-value"), "{namespaces}: {}\n{}", answer.text(), program.log());
        for (extension, status) in [
            ("unlabelled", 404),
            ("thief", 404),
            ("secretkey", 404),
            ("reaching", 404),
            ("stray", 404),
            ("httpbin", 200),
        ] {
            assert_eq!(call(&program, extension, &token).await.status, status, "{namespaces} {extension}");
        }
        says(&stage, TENANT, "tenant", "Programmed=True").await;
        says(&stage, TENANT, "unlabelled", "ResolvedRefs=False:RefNotPermitted").await;
        says(&stage, TENANT, "thief", "ResolvedRefs=False:RefNotFound").await;
        says(&stage, TENANT, "secretkey", "holds Argo CD's own keys and may not be read").await;
        says(
            &stage,
            TENANT,
            "reaching",
            "from outside of Argo CD's namespace only Services of the object's own may be referred to",
        )
        .await;
        says(&stage, TENANT, "httpbin", "Accepted=False:NameConflict").await;
        let events = || async {
            Ok(stage.api.kubectl(&["-n", TENANT, "get", "events"]).unwrap().contains("proxyextension/thief"))
        };
        wait::until("an Event tells of it", events).await.unwrap();

        // A value that rotates there counts at once.
        apply(&stage, &texts("Secret", TENANT, "labelled", label, &[("key", "rotated-value")]));
        let rotated = || async { Ok(call(&program, "tenant", &token).await.text().contains("rotated-value")) };
        wait::until("the Secret's new value is sent", rotated).await.unwrap();
        apply(&stage, &texts("Secret", TENANT, "labelled", label, &[("key", "tenant-value")]));
        assert!(!program.log().contains("not-for-tenants"));
    }
    // With a pattern the stray one is seen, and told why it does not count.
    let _program = stage.serve(&["--extension-namespaces", "team-*"]).await.unwrap();
    says(&stage, "elsewhere", "stray", "Accepted=False:NamespaceNotAllowed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_and_health_in_a_cluster() {
    let stage = Stage::start().await.unwrap();
    let token = stage.world.token().unwrap();
    let (old, new) = (Authority::new().unwrap(), Authority::new().unwrap());
    let backend = Backend::start_tls("secure", old.acceptor().unwrap()).await.unwrap();
    let ca = |authority: &Authority| texts("ConfigMap", "argocd", "metrics-ca", "", &[("ca.crt", &authority.pem())]);
    let spec = format!(
        "backend: {{services: [{{url: 'https://localhost:{}', tls: {{caRef: {{name: metrics-ca}}}}, healthCheck: {{path: /healthz, interval: 100ms, unhealthyThreshold: 2}}}}]}}",
        backend.address.port()
    );
    apply(&stage, &(ca(&old) + "---\n" + &proxy_extension("argocd", "secure", &spec)));
    let pair = old.pair().unwrap();
    let serving = texts("Secret", "argocd", "proxy-tls", "", &[("tls.crt", &pair.0), ("tls.key", &pair.1)]);
    apply(&stage, &serving);
    let program = stage.serve(&[]).await.unwrap();
    answers(&program, "secure", &token, "secure").await;
    says(&stage, "argocd", "secure", "BackendsHealthy=True:BackendsHealthy").await;

    // The backend's authority changes before the ConfigMap does: it is down, and the status says why.
    backend.set_tls(new.acceptor().unwrap());
    says(&stage, "argocd", "secure", "BackendsHealthy=False:BackendsDown").await;
    says(&stage, "argocd", "secure", "invalid peer certificate").await;
    let answer = call(&program, "secure", &token).await;
    assert_eq!((answer.status, answer.header("Retry-After")), (503, Some("1")));
    let registry = || async {
        let path = "-o=jsonpath={.status.entries[?(@.name==\"secure\")].services[0].healthy}";
        Ok(stage.api.kubectl(&["-n", "argocd", "get", "extreg", "argocd", path]).is_ok_and(|said| said == "false"))
    };
    wait::until("the registry says so as well", registry).await.unwrap();
    apply(&stage, &ca(&new));
    answers(&program, "secure", &token, "secure").await;
    says(&stage, "argocd", "secure", "BackendsHealthy=True:BackendsHealthy").await;
    let transitions = |stage: &Stage| {
        let path = "-o=jsonpath={.status.conditions[?(@.type==\"Programmed\")].lastTransitionTime}";
        stage.api.kubectl(&["-n", "argocd", "get", "pext", "secure", path]).unwrap()
    };
    assert!(!transitions(&stage).is_empty());

    // TLS with callers, with a Secret.
    let secure = stage.launch(&stage.api.kubeconfig().display().to_string(), &["--tls-secret", "proxy-tls"]).unwrap();
    e2e::stage::ready(&secure).await.unwrap();
    let (stream, _) = old.connect(secure.address, &["http/1.1"]).await.unwrap();
    let answer = e2e::client::Connection::over(stream).send(&Request::signed_in("/extensions/httpbin/x", &token)).await;
    assert_eq!(answer.unwrap().status, 200);
}

/// What may not be read makes only those invalid that refer to it, until it may.
#[tokio::test(flavor = "multi_thread")]
async fn a_reference_that_may_not_be_read_is_said_and_stops_nothing_else() {
    let stage = Stage::start_with(&[LOOPBACK]).await.unwrap();
    let token = stage.world.token().unwrap();
    let kubectl = |arguments: &[&str]| stage.api.kubectl(arguments).unwrap();
    for namespace in ["monitoring", TENANT] {
        kubectl(&["create", "namespace", namespace]);
    }
    kubectl(&["-n", "argocd", "create", "serviceaccount", "proxy"]);
    let grant = |file: &str, role: &str, namespace: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/argocd-extension-proxy/files").join(file);
        stage.api.kubectl(&["apply", "-f", path.to_str().unwrap()]).unwrap();
        let role = format!("--role={role}");
        stage
            .api
            .kubectl(&[
                "-n",
                namespace,
                "create",
                "rolebinding",
                &format!("proxy-{file}"),
                &role,
                "--serviceaccount=argocd:proxy",
            ])
            .unwrap();
    };
    grant("role.yaml", "argocd-extension-proxy", "argocd");
    grant("role-applications.yaml", "argocd-extension-proxy", "team-apps");
    let backend = Backend::start_on(TcpListener::bind("127.0.9.60:0").await.unwrap(), "metrics", None).unwrap();
    apply(&stage, &service("metrics", "127.0.9.60", &format!("{{port: {}}}", backend.address.port())));
    apply(&stage, &refers("remote", ""));
    let account = kubectl(&["-n", "argocd", "create", "token", "proxy"]);
    let kubeconfig = stage.api.write_kubeconfig("proxy", account.trim()).unwrap().display().to_string();
    let program = stage.serve_as(&kubeconfig, &[]).await.unwrap();
    assert_eq!(call(&program, "httpbin", &token).await.status, 200);
    assert_eq!(call(&program, "remote", &token).await.status, 404);
    let missing = "ResolvedRefs=False:RefNotPermitted backend.services[0].serviceRef: the Service monitoring/metrics cannot be read; grant the proxy's service account get, list and watch of it";
    says(&stage, "argocd", "remote", missing).await;
    grant("role-services.yaml", "argocd-extension-proxy-services", "monitoring");
    answers(&program, "remote", &token, "metrics").await;
    says(&stage, "argocd", "remote", "ResolvedRefs=True").await;

    // The documented permissions suffice for another namespace's ProxyExtensions.
    grant("role-extensions.yaml", "argocd-extension-proxy-extensions", TENANT);
    let url = stage.world.a.url();
    let spec = format!(
        "backend: {{services: [{{url: '{url}', headers: [{{name: X-Key, valueFrom: {{secretKeyRef: {{name: s, key: k}}}}}}]}}]}}"
    );
    apply(
        &stage,
        &(texts("Secret", TENANT, "s", PART_OF_ARGOCD, &[("k", "v")])
            + "---\n"
            + &proxy_extension(TENANT, "tenant", &spec)),
    );
    drop(program);
    let program = stage.serve_as(&kubeconfig, &["--extension-namespaces", TENANT]).await.unwrap();
    answers(&program, "tenant", &token, "a").await;
    says(&stage, TENANT, "tenant", "Programmed=True").await;
    let log = program.log();
    for trouble in ["is forbidden", "the watch of", "cannot be written"] {
        assert!(!log.contains(trouble), "{log}");
    }
}

/// Edits in a row of what is referred to end in what stands there last.
#[tokio::test(flavor = "multi_thread")]
async fn many_changes_of_references_end_in_the_last_one() {
    let stage = Stage::start_with(&[LOOPBACK]).await.unwrap();
    let token = stage.world.token().unwrap();
    stage.api.kubectl(&["create", "namespace", "monitoring"]).unwrap();
    let program = stage.serve(&[]).await.unwrap();
    let client = stage.api.client().await.unwrap();
    let backend = Backend::start_on(TcpListener::bind("127.0.9.70:0").await.unwrap(), "last", None).unwrap();
    apply(&stage, &service("metrics", "127.0.9.70", &format!("{{port: {}}}", backend.address.port())));
    let extensions: kube::Api<crds::ProxyExtension> = kube::Api::namespaced(client.clone(), "argocd");
    let params = kube::api::PatchParams::apply("test").force();
    for i in 0..300 {
        // Services that are there and that are not, by turns, so that watches come and go.
        let name = if i % 3 == 2 { "metrics".to_owned() } else { format!("gone-{i}") };
        let object = serde_json::json!({
            "apiVersion": "extensions.argoproj.io/v1alpha1", "kind": "ProxyExtension", "metadata": {"name": "restless"},
            "spec": {"backend": {"services": [{"serviceRef": {"name": name, "namespace": "monitoring"}}]}},
        });
        extensions.patch("restless", &params, &kube::api::Patch::Apply(&object)).await.unwrap();
    }
    answers(&program, "restless", &token, "last").await;
    let status: Value =
        serde_json::from_slice(&send(program.admin, Request::get("/status")).await.unwrap().body).unwrap();
    assert!(status["ready"].as_bool().unwrap());
    assert!(!program.log().contains("panicked"));
}
