use std::time::{Duration, Instant};

use e2e::client::{Connection, Request, send};
use e2e::wait;
use e2e::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_may_finish_and_nothing_new_starts() {
    let world = World::start().await.unwrap();
    let mut program = world.serve(&[]).unwrap();
    let token = world.token().unwrap();
    let address = program.address;
    // An idle connection must not hold anything up.
    let mut idle = Connection::open(address).await.unwrap();
    assert_eq!(idle.send(&Request::signed_in("/extensions/httpbin/x", &token)).await.unwrap().status, 200);
    let request = Request::signed_in("/extensions/httpbin/slow?s=1", &token);
    let slow = tokio::spawn(async move { send(address, request).await });
    tokio::time::sleep(Duration::from_millis(300)).await;

    let told = Instant::now();
    program.terminate().unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(send(address, Request::signed_in("/extensions/httpbin/x", &token)).await.is_err());
    let answer = slow.await.unwrap().unwrap();
    assert_eq!((answer.status, answer.is_cut_short), (200, false));
    let status = program.ended(Duration::from_secs(5)).await.unwrap();
    assert!(status.success(), "{status}");
    assert!(told.elapsed() < Duration::from_secs(3), "{:?}", told.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_finish_is_ended_in_time() {
    let world = World::start().await.unwrap();
    let mut program = world.serve(&["--drain-timeout", "1"]).unwrap();
    let address = program.address;
    let request = Request::signed_in("/extensions/httpbin/slow?s=60", &world.token().unwrap());
    let slow = tokio::spawn(async move { send(address, request).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let told = Instant::now();
    program.terminate().unwrap();
    assert!(program.ended(Duration::from_secs(5)).await.unwrap().success());
    assert!((Duration::from_millis(900)..Duration::from_secs(3)).contains(&told.elapsed()), "{:?}", told.elapsed());
    assert!(slow.await.unwrap().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_request_holds_up_the_end_no_longer_than_it_may_take() {
    let world = World::start().await.unwrap();
    let mut program = world.serve(&["--drain-timeout", "120"]).unwrap();
    let mut half = Connection::open(program.address).await.unwrap();
    half.write(b"GET /extensions/httpbin/x HTTP/1.1\r\nHost: ").await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    program.terminate().unwrap();
    assert!(program.ended(Duration::from_secs(50)).await.unwrap().success());
}

/// As when a pod is told to end and is still sent requests for a while.
#[tokio::test(flavor = "multi_thread")]
async fn for_a_while_everything_is_served_and_no_connection_is_kept() {
    let world = World::start().await.unwrap();
    let mut program = world.serve(&["--shutdown-delay", "2"]).unwrap();
    let token = world.token().unwrap();
    let request = Request::signed_in("/extensions/httpbin/x", &token);
    let mut kept = Connection::open(program.address).await.unwrap();
    assert_eq!(kept.send(&request).await.unwrap().header("Connection"), None);
    program.terminate().unwrap();
    let told = Instant::now();
    let unready = || async { Ok(send(program.admin, Request::get("/readyz")).await?.status == 503) };
    wait::until("it says so", unready).await.unwrap();
    while told.elapsed() < Duration::from_millis(1_500) {
        let mut connection = Connection::open(program.address).await.unwrap();
        let answer = connection.send(&request).await.unwrap();
        assert_eq!((answer.status, answer.header("Connection")), (200, Some("close")));
    }
    assert_eq!(kept.send(&request).await.unwrap().header("Connection"), Some("close"));
    assert!(program.ended(Duration::from_secs(5)).await.unwrap().success());
    assert!(told.elapsed() > Duration::from_secs(2));
}
