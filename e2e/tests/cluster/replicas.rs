use std::time::{Duration, Instant};

use e2e::client::{Request, send};
use e2e::program::Program;
use e2e::stage::Stage;

const LEASE: Duration = Duration::from_secs(15);

fn registry(stage: &Stage, path: &str) -> String {
    let path = format!("jsonpath={path}");
    stage.api.kubectl(&["-n", "argocd", "get", "extreg", "argocd", "-o", &path]).unwrap_or_default()
}

fn leader(stage: &Stage) -> String {
    let holder = "jsonpath={.spec.holderIdentity}";
    stage.api.kubectl(&["-n", "argocd", "get", "lease", "argocd-extension-proxy", "-o", holder]).unwrap_or_default()
}

async fn within(limit: Duration, what: &str, ask: impl Fn() -> bool) -> Duration {
    let started = Instant::now();
    while !ask() {
        assert!(started.elapsed() < limit, "{what}: not within {limit:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    started.elapsed()
}

async fn serves(stage: &Stage, program: &Program, extension: &str) -> bool {
    let request = Request::signed_in(&format!("/extensions/{extension}/x"), &stage.world.token().unwrap());
    send(program.address, request).await.unwrap().status == 200
}

#[tokio::test(flavor = "multi_thread")]
async fn every_replica_serves_and_one_writes() {
    let stage = Stage::start().await.unwrap();
    let first = stage.serve(&["--replica-name", "replica-1"]).await.unwrap();
    within(LEASE, "the first replica leads", || leader(&stage) == "replica-1").await;
    let second = stage.serve(&["--replica-name", "replica-2"]).await.unwrap();
    assert!(serves(&stage, &first, "httpbin").await && serves(&stage, &second, "httpbin").await);
    let names = || registry(&stage, "{.status.replicas[*].name}");
    within(LEASE, "both are listed", || names() == "replica-1 replica-2").await;
    let hashes = registry(&stage, "{.status.replicas[*].hash} {.status.hash}");
    let hashes: Vec<&str> = hashes.split(' ').collect();
    assert!(hashes.len() == 3 && hashes.iter().all(|hash| *hash == hashes[0] && hash.len() == 16), "{hashes:?}");
    assert_eq!(leader(&stage), "replica-1");

    // Killed, not ended: its lease runs out.
    drop(first);
    let took = within(LEASE, "the other replica leads", || leader(&stage) == "replica-2").await;
    println!("a killed leader is replaced after {took:?}");
    within(2 * LEASE, "the dead replica's row is gone", || names() == "replica-2").await;
    stage.world.write_extension("late", &stage.world.a.url(), "").unwrap();
    stage.api.apply(stage.world.folder()).unwrap();
    let accepted = || registry(&stage, "{.status.accepted}") == "10";
    within(LEASE, "the new leader writes", accepted).await;
    assert!(serves(&stage, &second, "late").await);

    // Ended, it gives its lease back: the next one need not wait.
    let mut second = second;
    let third = stage.serve(&["--replica-name", "replica-3"]).await.unwrap();
    second.terminate().unwrap();
    assert!(second.ended(Duration::from_secs(10)).await.unwrap().success());
    within(Duration::from_secs(4), "the third replica leads", || leader(&stage) == "replica-3").await;
    within(Duration::from_secs(6), "only the third is listed", || names() == "replica-3").await;
    assert!(serves(&stage, &third, "late").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_stood_still_writes_no_more() {
    let stage = Stage::start().await.unwrap();
    let first = stage.serve(&["--replica-name", "replica-1"]).await.unwrap();
    within(LEASE, "the first replica leads", || leader(&stage) == "replica-1").await;
    let second = stage.serve(&["--replica-name", "replica-2"]).await.unwrap();
    within(LEASE, "both are listed", || registry(&stage, "{.status.replicas[*].name}") == "replica-1 replica-2").await;
    first.freeze().unwrap();
    within(LEASE, "the other replica leads", || leader(&stage) == "replica-2").await;
    within(2 * LEASE, "only the second is listed", || registry(&stage, "{.status.replicas[*].name}") == "replica-2")
        .await;

    // What it believes to be true when it wakes up is long out of date.
    let version = || registry(&stage, "{.metadata.resourceVersion} {.status.replicas[?(@.name=='replica-2')].since}");
    let before = version();
    first.thaw().unwrap();
    first.wait_for_log("another replica writes status from now on").await.unwrap();
    let lists_both = || registry(&stage, "{.status.replicas[*].name}") == "replica-1 replica-2";
    within(LEASE, "it is listed again, by the other", lists_both).await;
    assert_eq!(leader(&stage), "replica-2");
    assert_ne!(version(), before);
    let after = version();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(version(), after, "two replicas write against each other");
    assert!(serves(&stage, &first, "httpbin").await && serves(&stage, &second, "httpbin").await);
}
