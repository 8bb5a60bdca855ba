use std::time::{Duration, Instant, SystemTime};

use e2e::client::{Connection, Request, send};
use e2e::world::World;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncBufReadExt, AsyncReadExt};
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread")]
async fn events_arrive_as_they_are_sent() {
    let world = World::start().await.unwrap();
    let program = world.serve(&[]).unwrap();
    let mut connection = Connection::open(program.address).await.unwrap();
    let request = Request::signed_in("/extensions/httpbin/sse?n=4&gap=0.3", &world.token().unwrap());
    let head = format!("GET {} HTTP/1.1\r\n", request.target);
    let headers: String = request.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    connection.write(format!("{head}{headers}\r\n").as_bytes()).await.unwrap();
    assert_eq!(e2e::client::status(&connection.read_head().await.unwrap()).unwrap(), 200);
    let mut events = 0;
    while events < 4 {
        let mut line = String::new();
        connection.stream().read_line(&mut line).await.unwrap();
        if let Some(sent) = line.strip_prefix("data: ").and_then(|event| event.split_whitespace().nth(1)) {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
            let lag = now - sent.parse::<f64>().unwrap();
            assert!(lag < 0.2, "event {events} took {lag} s");
            events += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_flow_both_ways_at_once() {
    let world = World::start().await.unwrap();
    let program = world.serve(&[]).unwrap();
    let mut connection = Connection::open(program.address).await.unwrap();
    let token = world.token().unwrap();
    let head = format!(
        "POST /extensions/httpbin/duplex HTTP/1.1\r\nHost: h\r\nCookie: argocd.token={token}\r\n\
         Argocd-Application-Name: argocd:guestbook\r\nArgocd-Project-Name: default\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    connection.write(head.as_bytes()).await.unwrap();
    connection.write(b"3\r\none\r\n").await.unwrap();
    // The answer starts, and brings the first chunk, before the request has ended.
    assert_eq!(e2e::client::status(&connection.read_head().await.unwrap()).unwrap(), 200);
    for chunk in ["one", "two", "three"] {
        if chunk != "one" {
            connection.write(format!("{:x}\r\n{chunk}\r\n", chunk.len()).as_bytes()).await.unwrap();
        }
        let got = e2e::http1::read_chunk(connection.stream()).await.unwrap().unwrap();
        assert_eq!(got, chunk.as_bytes());
    }
    connection.write(b"0\r\n\r\n").await.unwrap();
    assert_eq!(e2e::http1::read_chunk(connection.stream()).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_reach_both_sides() {
    let world = World::start().await.unwrap();
    let program = world.serve(&[]).unwrap();
    let mut connection = Connection::open(program.address).await.unwrap();
    let token = world.token().unwrap();
    let request = format!(
        "POST /extensions/httpbin/trailers HTTP/1.1\r\nHost: h\r\nTE: trailers\r\nTrailer: X-Digest\r\n\
         Cookie: argocd.token={token}\r\nArgocd-Application-Name: argocd:guestbook\r\nArgocd-Project-Name: default\r\n\
         Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nX-Digest: abc\r\n\r\n"
    );
    connection.write(request.as_bytes()).await.unwrap();
    let answer = connection.read(false).await.unwrap();
    let seen = answer.seen().unwrap();
    assert_eq!(seen["body"], "body");
    assert_eq!(seen["trailers"].to_string().to_ascii_lowercase(), r#"[["x-digest","abc"]]"#);
    assert_eq!(answer.trailers.len(), 1, "{:?}", answer.trailers);
    assert!(answer.trailers[0].0.eq_ignore_ascii_case("X-Sum") && answer.trailers[0].1 == "42");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expectation_is_answered_before_the_body() {
    let world = World::start().await.unwrap();
    let program = world.serve(&[]).unwrap();
    let mut connection = Connection::open(program.address).await.unwrap();
    let head = |token: &str| {
        format!(
            "PUT /extensions/httpbin/x HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\
             Cookie: argocd.token={token}\r\nArgocd-Application-Name: argocd:guestbook\r\nArgocd-Project-Name: default\r\n\r\n"
        )
    };
    connection.write(head(&world.token().unwrap()).as_bytes()).await.unwrap();
    assert_eq!(e2e::client::status(&connection.read_head().await.unwrap()).unwrap(), 100);
    connection.write(b"late").await.unwrap();
    let answer = connection.read(false).await.unwrap();
    assert_eq!((answer.status, answer.seen().unwrap()["body"].clone()), (200, "late".into()));

    // Whoever is refused is refused at once, and the body is not asked for.
    let mut connection = Connection::open(program.address).await.unwrap();
    connection.write(head("not.a.token").as_bytes()).await.unwrap();
    assert_eq!(e2e::client::status(&connection.read_head().await.unwrap()).unwrap(), 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_with_prior_knowledge_is_served() {
    let world = World::start().await.unwrap();
    let program = world.serve(&[]).unwrap();
    let stream = TcpStream::connect(program.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let token = world.token().unwrap();
    let half = token.len() / 2;
    // Browsers split cookies into several header fields.
    let request = |path: &str| {
        http::Request::post(format!("http://argocd.example.com{path}"))
            .header("cookie", "theme=dark")
            .header("cookie", format!("argocd.token=2:{}", &token[..half]))
            .header("cookie", format!("argocd.token-1={}", &token[half..]))
            .header("argocd-application-name", "argocd:guestbook")
            .header("argocd-project-name", "default")
            .body(Full::new(hyper::body::Bytes::from_static(b"over http/2")))
            .unwrap()
    };
    let answers =
        futures_util::future::join_all((0..20).map(|_| sender.send_request(request("/extensions/httpbin/x?y=%2F"))))
            .await;
    for answer in answers {
        let answer = answer.unwrap();
        assert_eq!(answer.status(), 200);
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let seen: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(seen["body"], "over http/2");
        assert_eq!(seen["target"], "/x?y=%2F");
        let headers = seen["headers"].to_string().to_ascii_lowercase();
        assert!(headers.contains(r#"["x-forwarded-host","argocd.example.com"]"#), "{headers}");
        assert!(headers.contains(r#"["argocd-username","alice"]"#), "{headers}");
        assert!(!headers.contains("cookie"), "{headers}");
    }
    // Trailers come out of HTTP/1.1 into HTTP/2, and hop-by-hop headers do not.
    let answer = sender.send_request(request("/extensions/httpbin/trailers")).await.unwrap();
    let trailers = answer.into_body().collect().await.unwrap().trailers().cloned().unwrap();
    assert_eq!(trailers["x-sum"], "42");
    let answer = sender.send_request(request("/extensions/httpbin/hop")).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(!answer.headers().contains_key("x-gone") && !answer.headers().contains_key("keep-alive"));
    drop(sender);
    connection.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_costs_no_memory() {
    const SIZE: usize = 200 << 20;
    let world = World::start().await.unwrap();
    let program = world.serve(&["--workers", "1"]).unwrap();
    let token = world.token().unwrap();
    let warm = send(program.address, Request::signed_in("/extensions/httpbin/big?n=10000000", &token)).await.unwrap();
    assert_eq!(warm.body.len(), 10_000_000);
    let before = program.usage().resident().unwrap();
    let mut connection = Connection::open(program.address).await.unwrap();
    let request = format!(
        "GET /extensions/httpbin/big?n={SIZE} HTTP/1.1\r\nHost: h\r\nCookie: argocd.token={token}\r\n\
         Argocd-Application-Name: argocd:guestbook\r\nArgocd-Project-Name: default\r\nConnection: close\r\n\r\n"
    );
    connection.write(request.as_bytes()).await.unwrap();
    assert_eq!(connection.read_head().await.unwrap().content_length(), Some(SIZE));
    tokio::time::sleep(Duration::from_millis(500)).await;
    let grown = program.usage().resident().unwrap().saturating_sub(before);
    assert!(grown < 20 << 20, "{grown} bytes more for an answer that nobody reads");
    let started = Instant::now();
    let mut rest = vec![0; 1 << 20];
    let mut read = 0;
    loop {
        match connection.stream().read(&mut rest).await.unwrap() {
            0 => break,
            n => read += n,
        }
    }
    assert_eq!(read, SIZE, "after {:?}", started.elapsed());
}
