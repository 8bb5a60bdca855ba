use std::time::{Duration, Instant};

use e2e::client::{Connection, Request, send};
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
