use std::time::{Duration, Instant};

use e2e::client::{Connection, Request};
use e2e::load::Load;
use e2e::wait;
use e2e::world::World;

const REWRITES: usize = 1000;
const CONNECTIONS: usize = 64;
const BASE: &str = "    - name: secretive\n";

/// What the entry `changing` is after a rewrite, and what a caller then sees: a status, and the backend that answers.
fn version(i: usize) -> (String, u16, &'static str) {
    let entry = |backend: &str| format!("    - name: changing\n      backend:\n{backend}{BASE}");
    let served = |port: u16| entry(&format!("        services:\n        - url: http://127.0.0.1:{port}\n"));
    match i % 6 {
        0 => (served(18082), 200, "b"),
        1 => (served(18083), 200, "c"),
        2 => (entry("        connectionTimeout: soon\n        services: []\n"), 404, ""),
        3 => (served(18081), 200, "a"),
        4 => (BASE.to_owned(), 404, ""),
        _ => (entry("        services: 5\n"), 404, ""),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_rewrites_disturb_nobody() {
    let world = World::start().await.unwrap();
    let program = world.serve(&[]).unwrap();
    let config = std::fs::read_to_string(world.folder().join("10-config.yaml")).unwrap();
    let token = world.token().unwrap();
    let load =
        Load::start(program.address, &Request::signed_in("/extensions/httpbin/x", &token), CONNECTIONS).await.unwrap();

    let mut probe = Connection::open(program.address).await.unwrap();
    let request = Request::signed_in("/extensions/changing/x", &token);
    let mut times = Vec::with_capacity(REWRITES);
    for i in 0..REWRITES {
        let (entry, status, backend) = version(i);
        let text = world.translate(&config.replace(BASE, &entry));
        // In place and in one step by turns.
        if i % 2 == 0 {
            std::fs::write(world.folder().join("10-config.yaml"), text).unwrap();
        } else {
            world.write("10-config.yaml", &text).unwrap();
        }
        let written = Instant::now();
        loop {
            let answer = probe.send(&request).await.unwrap();
            let seen = answer.seen().ok().and_then(|seen| seen["backend"].as_str().map(str::to_owned));
            if answer.status == status && seen.unwrap_or_default() == backend {
                break;
            }
            assert!(written.elapsed() < Duration::from_secs(5), "rewrite {i}: {} {}", answer.status, answer.text());
        }
        times.push(written.elapsed());
    }
    let (requests, failures) = load.stop().await;
    times.sort();
    let at = |share: usize| times[times.len() * share / 100];
    println!(
        "{REWRITES} rewrites beside {requests} requests on {CONNECTIONS} connections: live after {:?} (median), {:?} (p95), {:?} (longest)",
        at(50),
        at(95),
        times[times.len() - 1]
    );
    assert!(failures.is_empty(), "{} of {requests} requests failed: {}", failures.len(), failures[0]);
    assert!(requests > REWRITES, "the connections were not busy: {requests} requests");
    assert!(at(50) < Duration::from_millis(100), "median {:?}", at(50));
    let log = program.log();
    assert!(!log.contains("panicked"), "{log}");
}

/// A writer that takes its time must not be read half-way.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_not_read_while_it_is_written() {
    use std::io::Write;
    let world = World::start().await.unwrap();
    let program = world.serve(&[]).unwrap();
    let token = world.token().unwrap();
    let path = world.folder().join("10-config.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    // Cut where the first half is a readable file with fewer extensions.
    let middle = text.find("    - name: under_score-1").unwrap();
    let load =
        Load::start(program.address, &Request::signed_in("/extensions/httpbin/x", &token), CONNECTIONS).await.unwrap();
    let mut probe = Connection::open(program.address).await.unwrap();
    for i in 0..10 {
        let mut file = std::fs::File::create(&path).unwrap();
        file.write_all(&text.as_bytes()[..middle]).unwrap();
        let halfway = Instant::now();
        while halfway.elapsed() < Duration::from_millis(60) {
            let answer = probe.send(&Request::signed_in("/extensions/solo/x", &token)).await.unwrap();
            assert_eq!(answer.status, 200, "write {i}");
        }
        file.write_all(&text.as_bytes()[middle..]).unwrap();
        drop(file);
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    let (_, failures) = load.stop().await;
    assert!(failures.is_empty(), "{failures:?}");
    wait::until("it still answers", || async {
        let mut connection = Connection::open(program.address).await?;
        Ok(connection.send(&Request::signed_in("/extensions/solo/x", &token)).await?.status == 200)
    })
    .await
    .unwrap();
}
