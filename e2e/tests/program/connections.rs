use std::time::{Duration, Instant};

use e2e::backend::Backend;
use e2e::client::{Request, begin, send};
use e2e::tls::Authority;
use e2e::wait;
use e2e::world::World;
use futures_util::future::join_all;
use socket2::{Domain, Socket, Type};
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_kept_within_their_limits() {
    let world = World::start().await.unwrap();
    let backend = Backend::start("pooled").await.unwrap();
    world
        .write_extension("pooled", &backend.url(), "    maxIdleConnections: 2\n    idleConnectionTimeout: 2s\n")
        .unwrap();
    let program = world.serve(&["--workers", "1"]).unwrap();
    let token = world.token().unwrap();
    let call = |path: &str| send(program.address, Request::signed_in(&format!("/extensions/pooled{path}"), &token));
    for _ in 0..10 {
        assert_eq!(call("/x").await.unwrap().status, 200);
    }
    assert_eq!(backend.connections(), 1, "one request at a time needs one connection");

    // Six at a time need six, of which two are kept: the others are closed soon, not at once.
    let slow = join_all((0..6).map(|_| call("/slow?s=0.3"))).await;
    assert!(slow.iter().all(|answer| answer.as_ref().unwrap().status == 200));
    assert_eq!(backend.connections(), 6);
    let idle = "argocd_extension_proxy_idle_connections{extension=\"pooled\"}";
    let waiting = async |count: usize| {
        let metrics = send(program.admin, Request::get("/metrics")).await?;
        Ok(metrics.text().contains(&format!("{idle} {count}\n")))
    };
    wait::until("all but two are closed", || waiting(2)).await.unwrap();
    let again = join_all((0..3).map(|_| call("/slow?s=0.3"))).await;
    assert!(again.iter().all(|answer| answer.as_ref().unwrap().status == 200));
    assert_eq!(backend.connections(), 7);

    let took = wait::until("idle connections are closed", || waiting(0)).await.unwrap();
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_that_the_backend_closed_fails_no_request() {
    let world = World::start().await.unwrap();
    let program = world.serve(&["--workers", "1"]).unwrap();
    let token = world.token().unwrap();
    for i in 0..200 {
        let path = if i % 2 == 0 { "/extensions/httpbin/close" } else { "/extensions/httpbin/x" };
        let answer = send(program.address, Request::signed_in(path, &token)).await.unwrap();
        assert_eq!(answer.status, 200, "request {i}: {}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_cannot_be_reached_is_told_from_one_that_does_not_answer() {
    let world = World::start().await.unwrap();
    // A full queue of connections that nobody accepts: the system answers no further one.
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    full.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    let fill: Vec<_> = (0..4).map(|_| tokio::spawn(TcpStream::connect(address))).collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    world.write_extension("full", &format!("http://{address}"), "    connectionTimeout: 300ms\n").unwrap();
    let program = world.serve(&[]).unwrap();
    let token = world.token().unwrap();

    let started = Instant::now();
    let answer = send(program.address, Request::signed_in("/extensions/full/", &token)).await.unwrap();
    assert_eq!(answer.status, 504, "{}", answer.text());
    assert!((Duration::from_millis(290)..Duration::from_secs(2)).contains(&started.elapsed()));
    let answer = send(program.address, Request::signed_in("/extensions/down/", &token)).await.unwrap();
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert!(!answer.text().contains("127.0.0.1"), "where the backend is concerns nobody: {}", answer.text());
    program.wait_for_log("backend_unreachable").await.unwrap();
    fill.into_iter().for_each(|connection| connection.abort());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_is_reached_over_tls_where_its_certificate_is_trusted() {
    let world = World::start().await.unwrap();
    let (trusted, unknown) = (Authority::new().unwrap(), Authority::new().unwrap());
    let secure = Backend::start_tls("secure", trusted.acceptor().unwrap()).await.unwrap();
    let impostor = Backend::start_tls("impostor", unknown.acceptor().unwrap()).await.unwrap();
    world.write_extension("secure", &format!("https://localhost:{}", secure.address.port()), "").unwrap();
    world.write_extension("impostor", &format!("https://localhost:{}", impostor.address.port()), "").unwrap();
    let bundle = world.folder().join("ca.pem");
    std::fs::write(&bundle, trusted.pem()).unwrap();
    let program = world.serve_with(&[("SSL_CERT_FILE", bundle.to_str().unwrap())]).unwrap();
    let token = world.token().unwrap();
    let answer = send(program.address, Request::signed_in("/extensions/secure/x", &token)).await.unwrap();
    assert_eq!(answer.seen().unwrap()["backend"], "secure");
    let answer = send(program.address, Request::signed_in("/extensions/impostor/x", &token)).await.unwrap();
    assert_eq!(answer.status, 502);
    assert_eq!(impostor.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_goes_away_takes_the_request_along() {
    let world = World::start().await.unwrap();
    let program = world.serve(&["--workers", "1"]).unwrap();
    let token = world.token().unwrap();
    let events = Request::signed_in("/extensions/httpbin/sse?n=1000&gap=0.05", &token);
    let connection = begin(program.address, &events).await.unwrap();
    drop(connection);
    let gone = || async {
        let metrics = send(program.admin, Request::get("/metrics")).await?.text();
        let counted = "argocd_proxy_extension_request_duration_seconds_count{extension=\"httpbin\"} 1";
        Ok(metrics.contains(counted) && metrics.contains("argocd_extension_proxy_connections 0"))
    };
    wait::until("the abandoned request ends", gone).await.unwrap();
}
