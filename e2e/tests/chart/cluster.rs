//! The chart and the image in a real cluster with pods.

use std::cell::RefCell;
use std::time::Duration;

use e2e::cases;
use e2e::chart::{EVERYTHING, NAME, folder, forget_own_kinds, helm, prepare_for_everything};
use e2e::client::{Request, send};
use e2e::image;
use e2e::load::Load;
use e2e::node::{self, Node};
use e2e::{namespaces, tools, wait};

const RELEASE: &str = "proxy";
const IMAGE: &str = "localhost/argocd-extension-proxy:test";
const MOST_BYTES: u64 = 25 << 20;
const PATIENCE: Duration = Duration::from_secs(120);

fn deployment() -> String {
    format!("{RELEASE}-{NAME}")
}

fn install(node: &Node, command: &str, values: &[&str]) {
    let folder = folder();
    let image = "image.repository=localhost/argocd-extension-proxy,image.tag=test,image.imagePullPolicy=Never";
    let mut arguments = vec![command, RELEASE, folder.to_str().unwrap(), "--namespace", "argocd", "--set", image];
    arguments.extend(["--set", "applicationNamespaces={team-apps}", "--wait", "--timeout", "120s"]);
    arguments.extend(values);
    helm(Some(&node.api), &arguments).unwrap_or_else(|error| panic!("{error}\n{}", state(node)));
}

/// What there is to know when something failed.
fn state(node: &Node) -> String {
    let say = |arguments: &[&str]| node.api.kubectl(arguments).unwrap_or_else(|error| error.to_string());
    format!(
        "{}\n{}\n{}\n{}",
        say(&["get", "pods", "-A", "-o", "wide"]),
        say(&["-n", "argocd", "describe", "pods"]),
        say(&["-n", "argocd", "logs", "-l", "app.kubernetes.io/name=argocd-extension-proxy", "--tail", "40"]),
        node.logs()
    )
}

/// The running pod that leads, once it is another one than this.
async fn leader_but(node: &Node, another: &str) -> String {
    let path = "-o=jsonpath={.spec.holderIdentity}";
    let leader = RefCell::new(String::new());
    let leads = || async {
        let holder = node.api.kubectl(&["-n", "argocd", "get", "lease", "argocd-extension-proxy", path])?;
        let leads = holder != another && pods(node).contains(&holder);
        leader.replace(holder);
        Ok(leads)
    };
    wait::within(PATIENCE, "another pod leads", leads).await.unwrap_or_else(|error| panic!("{error}\n{}", state(node)));
    leader.into_inner()
}

fn pods(node: &Node) -> Vec<String> {
    let names = "-o=jsonpath={range .items[*]}{.metadata.name}{\"\\n\"}{end}";
    let selector = format!("-l=app.kubernetes.io/instance={RELEASE}");
    let said = node
        .api
        .kubectl(&["-n", "argocd", "get", "pods", &selector, "--field-selector=status.phase=Running", names])
        .unwrap();
    said.lines().map(str::to_owned).collect()
}

async fn load(node: &Node) -> Load {
    let service = node.service("argocd", &deployment()).unwrap();
    let request = Request::signed_in("/extensions/httpbin/x", &node.world.token().unwrap());
    Load::start(service, &request, 8).await.unwrap()
}

async fn no_failure(node: &Node, load: Load) {
    let (requests, failures) = load.stop().await;
    assert!(failures.is_empty() && requests > 100, "{requests} {failures:?}\n{}", state(node));
}

/// Names the archive of the image.
const ARCHIVE: &str = "E2E_IMAGE_ARCHIVE";

#[test]
fn the_chart_serves_in_a_real_cluster() {
    let files = tempfile::tempdir().unwrap();
    let prepare = || {
        node::prepare()?;
        tools::helm()?;
        let archive = files.path().join("proxy.tar");
        let bytes = image::build(IMAGE, &archive)?;
        println!("the image has {:.1} MB", f64::from(u32::try_from(bytes)?) / 1e6);
        assert!(bytes < MOST_BYTES);
        Ok(vec![(ARCHIVE, archive.display().to_string())])
    };
    if namespaces::enter("cluster::the_chart_serves_in_a_real_cluster", prepare).unwrap() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(serves());
    }
}

async fn serves() {
    let files = tempfile::tempdir().unwrap();
    let archive = std::env::var(ARCHIVE).unwrap();
    let node = Node::start().await.unwrap();
    node.import(archive.as_ref()).unwrap();
    forget_own_kinds(&node.api).unwrap();

    // As it is: two pods under the chart's own security context and permissions.
    install(&node, "install", &[]);
    assert_eq!(pods(&node).len(), 2, "{}", state(&node));
    let service = node.service("argocd", &deployment()).unwrap();
    let reached = || async { Ok(send(service, Request::get("/extensions/httpbin/x")).await.is_ok()) };
    wait::within(PATIENCE, "the Service leads to the pods", reached)
        .await
        .unwrap_or_else(|error| panic!("{error}\n{}", state(&node)));
    let failures = cases::replay_at(&cases::recorded(&node.world).unwrap(), &node.world, service).await.unwrap();
    assert!(failures.is_empty(), "{}\n{}", failures.join("\n"), state(&node));

    let describe = ["-n", "argocd", "describe", "extensionregistry", "argocd"];
    let told = || async {
        let said = node.api.kubectl(&describe).unwrap_or_default();
        // kubectl aligns with spaces.
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        Ok(said.contains("Name: httpbin") && pods(&node).iter().all(|pod| said.contains(pod)))
    };
    wait::within(PATIENCE, "the registry names both pods", told)
        .await
        .unwrap_or_else(|error| panic!("{error}\n{}", state(&node)));

    // Restarted, upgraded and its leader deleted, under load.
    let busy = load(&node).await;
    node.api.kubectl(&["-n", "argocd", "rollout", "restart", &format!("deployment/{}", deployment())]).unwrap();
    node.api
        .kubectl(&["-n", "argocd", "rollout", "status", &format!("deployment/{}", deployment()), "--timeout=120s"])
        .unwrap();
    install(&node, "upgrade", &["--set", "logLevel=debug,metrics.dashboard.enabled=true,networkPolicy.create=true"]);
    // One that has left gives leadership up, so that for a moment nobody leads.
    let leader = leader_but(&node, "").await;
    node.api.kubectl(&["-n", "argocd", "delete", "pod", &leader, "--wait=false"]).unwrap();
    leader_but(&node, &leader).await;
    node.api
        .kubectl(&["-n", "argocd", "rollout", "status", &format!("deployment/{}", deployment()), "--timeout=120s"])
        .unwrap();

    // Nobody can take both pods away at one time.
    let drain = ["drain", "node", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=25s"];
    let refused = node.api.kubectl(&drain).unwrap_err().to_string();
    assert!(
        refused.contains("disruption budget") || refused.contains("timed out") || refused.contains("timeout"),
        "{refused}"
    );
    assert!(!pods(&node).is_empty());
    node.api.kubectl(&["uncordon", "node"]).unwrap();
    node.api
        .kubectl(&["-n", "argocd", "rollout", "status", &format!("deployment/{}", deployment()), "--timeout=120s"])
        .unwrap();
    no_failure(&node, busy).await;

    // What was written stays when the chart goes.
    let extension = e2e::world::proxy_extension("argocd", "mine", "backend: {services: [{url: 'http://a'}]}");
    node.api.kubectl_with_input(&["apply", "-f", "-"], &extension).unwrap();
    helm(Some(&node.api), &["uninstall", RELEASE, "--namespace", "argocd", "--wait"]).unwrap();
    assert!(node.api.kubectl(&["-n", "argocd", "get", "proxyextension", "mine"]).is_ok());
    let gone = || async { Ok(send(service, Request::get("/extensions/httpbin/x")).await.is_err()) };
    wait::within(PATIENCE, "nothing serves any more", gone).await.unwrap();

    // With everything on.
    prepare_for_everything(&node.api).unwrap();
    let values = files.path().join("everything.yaml");
    std::fs::write(&values, EVERYTHING).unwrap();
    install(&node, "install", &["--values", values.to_str().unwrap()]);
    let service = node.service("argocd", &deployment()).unwrap();
    let request = Request::signed_in("/extensions/httpbin/x", &node.world.token().unwrap());
    let serves = || async { Ok(send(service, request.clone()).await.is_ok_and(|answer| answer.status == 200)) };
    wait::within(PATIENCE, "it serves", serves).await.unwrap_or_else(|error| panic!("{error}\n{}", state(&node)));
    let log = node.api.kubectl(&["-n", "argocd", "logs", &format!("deployment/{}", deployment())]).unwrap();
    assert!(log.contains("serving   httpbin"), "{log}");
}
