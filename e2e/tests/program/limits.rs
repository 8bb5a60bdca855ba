use std::net::SocketAddr;
use std::time::{Duration, Instant};

use e2e::backend::Backend;
use e2e::client::{Connection, Request, begin, send};
use e2e::program::Program;
use e2e::wait;
use e2e::world::World;
use futures_util::future::join_all;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

fn post(path: &str, token: &str, bytes: usize, chunked: bool) -> Request {
    let mut request = Request::signed_in(path, token);
    request.method = "POST".into();
    request.body = vec![b'x'; bytes];
    request.chunked = chunked;
    request
}

async fn metric(program: &Program, line: &str) -> bool {
    send(program.admin, Request::get("/metrics")).await.unwrap().text().lines().any(|metric| metric == line)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_must_begin_in_time() {
    let world = World::start().await.unwrap();
    world.write_extension("prompt", &world.a.url(), "    requestTimeout: 400ms\n").unwrap();
    let program = world.serve(&["--workers", "1"]).unwrap();
    let token = world.token().unwrap();
    let call = |path: &str| send(program.address, Request::signed_in(&format!("/extensions/prompt{path}"), &token));
    let started = Instant::now();
    let late = call("/slow?s=5").await.unwrap();
    assert_eq!((late.status, late.text().trim()), (504, "The extension's backend did not answer in time"));
    assert!((Duration::from_millis(390)..Duration::from_secs(2)).contains(&started.elapsed()));
    // Only the head has to be there: what streams may take its time.
    let stream = call("/sse?n=4&gap=0.25").await.unwrap();
    assert_eq!((stream.status, stream.is_cut_short), (200, false));
    assert_eq!(call("/slow?s=0.1").await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_may_not_be_larger_than_permitted() {
    let world = World::start().await.unwrap();
    world.write_extension("small", &world.a.url(), "    maxRequestBodyBytes: 10000\n").unwrap();
    let program = world.serve(&[]).unwrap();
    let token = world.token().unwrap();
    for (bytes, chunked, status) in
        [(10_000, false, 200), (10_000, true, 200), (0, true, 200), (10_001, false, 413), (10_001, true, 413)]
    {
        let answer = send(program.address, post("/extensions/small/x", &token, bytes, chunked)).await.unwrap();
        assert_eq!(answer.status, status, "{bytes} chunked {chunked}: {}", answer.text());
    }
    // One that is too large by its own word does not even reach the backend; what was cut off may still do.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before = world.a.requests();
    let answer = send(program.address, post("/extensions/small/x", &token, 5_000_000, false)).await.unwrap();
    assert_eq!((answer.status, answer.text().trim()), (413, "The request's body is too large"));
    assert_eq!(world.a.requests(), before);
    let answer = send(program.address, post("/extensions/httpbin/x", &token, 5_000_000, true)).await.unwrap();
    assert_eq!(answer.status, 200, "others have no such limit");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_so_many_requests_are_open_at_one_time() {
    let world = World::start().await.unwrap();
    world.write_extension("few", &world.a.url(), "    maxConcurrentRequests: 3\n").unwrap();
    let program = world.serve(&["--workers", "2"]).unwrap();
    let token = world.token().unwrap();
    let call = |path: &str| send(program.address, Request::signed_in(&format!("/extensions/few{path}"), &token));
    let answers = join_all((0..8).map(|_| call("/slow?s=1"))).await;
    let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    let count = |status| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!((count(200), count(503)), (3, 5));
    let refused = answers.iter().find(|answer| answer.status == 503).unwrap();
    assert_eq!(
        (refused.header("Retry-After"), refused.text().trim()),
        (Some("1"), "The extension has too many requests open")
    );
    assert!(metric(&program, "argocd_extension_proxy_refusals_total{reason=\"too_many_requests\"} 5").await);
    // Refusals, finished and abandoned requests take no place for good.
    let events = Request::signed_in("/extensions/few/sse?n=1000&gap=0.05", &token);
    let abandoned = begin(program.address, &events).await.unwrap();
    assert!(metric(&program, "argocd_extension_proxy_open_requests{extension=\"few\"} 1").await);
    // A change of the extension forgets none that is open.
    world
        .write_extension(
            "few",
            &world.a.url(),
            "      headers: [{name: X-New, value: x}]\n    maxConcurrentRequests: 3\n",
        )
        .unwrap();
    let changed =
        || async { Ok(call("/x").await?.text().contains("X-New") || call("/x").await?.text().contains("x-new")) };
    wait::until("the change counts", changed).await.unwrap();
    assert!(metric(&program, "argocd_extension_proxy_open_requests{extension=\"few\"} 1").await);
    drop(abandoned);
    let free = || async { Ok(metric(&program, "argocd_extension_proxy_open_requests{extension=\"few\"} 0").await) };
    wait::until("its place is free", free).await.unwrap();
    let answers = join_all((0..3).map(|_| call("/slow?s=0.2"))).await;
    assert!(answers.iter().all(|answer| answer.as_ref().unwrap().status == 200));
}

/// The 99th percentile of as many calls, one after the other over kept connections.
async fn p99(to: SocketAddr, token: &str, calls: usize) -> Duration {
    let mut times = join_all((0..4).map(|_| async move {
        let mut connection = Connection::open(to).await.unwrap();
        let request = Request::signed_in("/extensions/httpbin/x", token);
        let mut times = Vec::with_capacity(calls / 4);
        for _ in 0..calls / 4 {
            let started = Instant::now();
            assert_eq!(connection.send(&request).await.unwrap().status, 200);
            times.push(started.elapsed());
        }
        times
    }))
    .await
    .concat();
    times.sort();
    times[times.len() * 99 / 100]
}

/// Its 99th percentile beside 100 requests to another extension that hang, as a multiple of what it is without them.
async fn slowdown(program: &Program, hanging: &Backend, token: &str) -> f64 {
    const ROUNDS: usize = 5;
    // By turns, so that whatever else the machine does hits both.
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        alone.push(p99(program.address, token, 2_000).await);
        let before = hanging.requests();
        let hung: Vec<_> = (0..100)
            .map(|_| {
                let request = Request::signed_in("/extensions/hanging/slow?s=120", token);
                tokio::spawn(send(program.address, request))
            })
            .collect();
        wait::until("all of them hang", || async { Ok(hanging.requests() == before + 100) }).await.unwrap();
        beside.push(p99(program.address, token, 2_000).await);
        hung.iter().for_each(tokio::task::JoinHandle::abort);
        let ended =
            || async { Ok(metric(program, "argocd_extension_proxy_open_requests{extension=\"hanging\"} 0").await) };
        wait::until("they are gone", ended).await.unwrap();
    }
    alone.sort();
    beside.sort();
    let (alone, beside) = (alone[ROUNDS / 2], beside[ROUNDS / 2]);
    let ratio = beside.as_secs_f64() / alone.as_secs_f64();
    println!("p99 {alone:?} alone, {beside:?} beside 100 hanging requests: {ratio:.2}");
    ratio
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_hangs_takes_nothing_from_another_extension() {
    const ATTEMPTS: usize = 3;
    let world = World::start().await.unwrap();
    let hanging = Backend::start("hanging").await.unwrap();
    world.write_extension("hanging", &hanging.url(), "").unwrap();
    let program = world.serve(&["--workers", "1"]).unwrap();
    let token = world.token().unwrap();
    p99(program.address, &token, 2_000).await;
    // Other tests run at the same time: what is slow of itself is so at every attempt.
    let mut ratios = Vec::new();
    while ratios.len() < ATTEMPTS {
        let ratio = slowdown(&program, &hanging, &token).await;
        if ratio <= 1.5 {
            return;
        }
        ratios.push(ratio);
    }
    panic!("{ratios:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_carries_nothing_ends_where_that_is_asked_for() {
    let world = World::start().await.unwrap();
    world.write_extension("idle", &world.a.url(), "    streamIdleTimeout: 500ms\n").unwrap();
    let program = world.serve(&[]).unwrap();
    let token = world.token().unwrap();
    // One that moves lives; one that pauses for too long does not.
    let lively = send(program.address, Request::signed_in("/extensions/idle/sse?n=8&gap=0.2", &token)).await.unwrap();
    assert!(!lively.is_cut_short && lively.text().contains("data: 7 "));
    let pausing = Request::signed_in("/extensions/idle/sse?n=3&gap=30", &token);
    let mut quiet = begin(program.address, &pausing).await.unwrap();
    let mut rest = Vec::new();
    let ended = timeout(Duration::from_secs(5), quiet.stream().read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "it lives on");
    program.wait_for_log("stream_idle").await.unwrap();
}

/// Whoever has no limit of its own cannot take every connection that the process may have.
#[tokio::test(flavor = "multi_thread")]
async fn an_extension_without_a_limit_leaves_room_for_others() {
    let world = World::start().await.unwrap();
    let hanging = Backend::start("hanging").await.unwrap();
    world.write_extension("hanging", &hanging.url(), "").unwrap();
    let folder = world.folder().to_str().unwrap();
    let program = Program::start_with_files(
        &["run", "--from-dir", folder, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--workers", "1"],
        400,
    )
    .unwrap();
    let token = world.token().unwrap();
    let hung: Vec<_> = (0..150)
        .map(|_| tokio::spawn(send(program.address, Request::signed_in("/extensions/hanging/slow?s=120", &token))))
        .collect();
    wait::until("as many as may hang", || async { Ok(hanging.requests() == 100) }).await.unwrap();
    for _ in 0..50 {
        let answer = send(program.address, Request::signed_in("/extensions/httpbin/x", &token)).await.unwrap();
        assert_eq!(answer.status, 200);
    }
    let refused = Request::signed_in("/extensions/hanging/x", &token);
    assert_eq!(send(program.address, refused).await.unwrap().status, 503);
    assert_eq!(hanging.requests(), 100);
    hung.iter().for_each(tokio::task::JoinHandle::abort);
}
