//! Answers and WebSockets that live: until they would be refused, and no longer than a second after that.

use std::time::{Duration, Instant};

use e2e::client::{Connection, Request, begin};
use e2e::program::Program;
use e2e::token::TokenSpec;
use e2e::websocket;
use e2e::world::World;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

const AT_MOST: Duration = Duration::from_secs(1);

async fn open(program: &Program, path: &str, token: &str, application: &str, project: &str) -> Connection {
    let request = Request::get(path)
        .header("Cookie", &format!("argocd.token={token}"))
        .header("Argocd-Application-Name", &format!("argocd:{application}"))
        .header("Argocd-Project-Name", project);
    begin(program.address, &request).await.unwrap()
}

/// How long the stream goes on; none where it has not ended after a while.
async fn ends(connection: &mut Connection) -> Option<Duration> {
    let started = Instant::now();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match timeout(Duration::from_secs(3).saturating_sub(started.elapsed()), connection.stream().read(&mut buffer))
            .await
        {
            Ok(Ok(0) | Err(_)) => return Some(started.elapsed()),
            Ok(Ok(_)) => {}
            Err(_) => return None,
        }
    }
}

const EVENTS: &str = "/extensions/httpbin/sse?n=100000&gap=0.1";
/// Never has to be waited for.
const TORRENT: &str = "/extensions/httpbin/sse?n=1000000000&gap=0";
/// Carries nothing after its first event.
const SILENT: &str = "/extensions/httpbin/sse?n=2&gap=3000";

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_within_a_second_of_a_change_of_the_policy() {
    let world = World::start().await.unwrap();
    let program = world.serve(&[]).unwrap();
    let alice = world.token().unwrap();
    let pat = TokenSpec::oidc().mint(&world.provider).unwrap();
    let mut of_alice = Vec::new();
    for path in [EVENTS, TORRENT, SILENT] {
        of_alice.push(open(&program, path, &alice, "guestbook", "default").await);
    }
    let mut of_pat = open(&program, EVENTS, &pat, "guestbook", "default").await;
    world.forbid_alice("httpbin").unwrap();
    let took = futures_util::future::join_all(of_alice.iter_mut().map(ends)).await;
    for (path, took) in [EVENTS, TORRENT, SILENT].iter().zip(took) {
        assert!(took.is_some_and(|took| took <= AT_MOST), "{path}: {took:?}");
    }
    assert_eq!(ends(&mut of_pat).await, None, "pat may still call it");
    program
        .wait_for_log("closed a stream: RBAC refuses `extensions, invoke, httpbin`, denied by policy.csv")
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_within_a_second_of_a_change_of_the_project_or_the_application() {
    let world = World::start().await.unwrap();
    let program = world.serve(&[]).unwrap();
    let alice = world.token().unwrap();
    let mut of_team = open(&program, EVENTS, &alice, "a-ok", "team-a").await;
    let mut of_default = open(&program, EVENTS, &alice, "guestbook", "default").await;
    let mut of_other = open(&program, EVENTS, &alice, "guest-two", "default").await;
    world
        .edit("20-projects.yaml", |text| text.replace("'team-a-*'", "nothing").replace("'!team-a-secret'", "nothing"))
        .unwrap();
    let took = ends(&mut of_team).await;
    assert!(took.is_some_and(|took| took <= AT_MOST), "{took:?}");
    program.wait_for_log("destination_not_permitted").await.unwrap();
    // An application that moves to another project takes its streams along, its neighbour's stay.
    world
        .edit("30-applications.yaml", |text| {
            text.replacen(
                "name: guestbook\n  namespace: argocd\nspec:\n  project: default",
                "name: guestbook\n  namespace: argocd\nspec:\n  project: team-a",
                1,
            )
        })
        .unwrap();
    let took = ends(&mut of_default).await;
    assert!(took.is_some_and(|took| took <= AT_MOST), "{took:?}");
    program.wait_for_log("project_mismatch").await.unwrap();
    assert_eq!(ends(&mut of_other).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_with_their_token_and_with_their_extension() {
    let world = World::start().await.unwrap();
    let program = world.serve(&[]).unwrap();
    let short = TokenSpec::local().claim("exp", "+2").mint(&world.provider).unwrap();
    let mut stream = open(&program, EVENTS, &short, "guestbook", "default").await;
    let took = ends(&mut stream).await;
    assert!(took.is_some(), "it outlives its token");

    let alice = world.token().unwrap();
    world.write_extension("passing", &world.a.url(), "").unwrap();
    program.wait_for_log("serving   passing").await.unwrap();
    let mut stream = open(&program, "/extensions/passing/sse?n=100000&gap=0.1", &alice, "guestbook", "default").await;
    world.remove("extension-passing.yaml").unwrap();
    let took = ends(&mut stream).await;
    assert!(took.is_some_and(|took| took <= AT_MOST), "{took:?}");
}

/// Two hours at the pace of the other limits: each of them passes many times.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_websocket_lives() {
    let world = World::start().await.unwrap();
    world
        .write_extension(
            "patient",
            &world.a.url(),
            "    connectionTimeout: 100ms\n    idleConnectionTimeout: 100ms\n    requestTimeout: 100ms\n    keepAlive: 1s\n",
        )
        .unwrap();
    world.write_extension("impatient", &world.a.url(), "    streamIdleTimeout: 1s\n").unwrap();
    let program = world.serve(&[]).unwrap();
    let token = world.token().unwrap();
    let mut patient = websocket::open(program.address, "/extensions/patient/ws", &token, &[]).await.unwrap();
    let mut lively = websocket::open(program.address, "/extensions/impatient/ws", &token, &[]).await.unwrap();
    let mut idle = websocket::open(program.address, "/extensions/impatient/ws", &token, &[]).await.unwrap();
    for socket in [&mut patient, &mut lively, &mut idle] {
        websocket::receive(socket).await.unwrap();
    }
    for _ in 0..15 {
        tokio::time::sleep(Duration::from_millis(400)).await;
        assert!(websocket::lives(&mut lively).await);
    }
    assert!(websocket::lives(&mut patient).await);
    assert!(!websocket::lives(&mut idle).await, "it is idle for too long");
    program.wait_for_log("stream_idle").await.unwrap();
}
