use std::net::SocketAddr;
use std::time::Duration;

use e2e::client::{Connection, Request, Response, send};
use e2e::http2;
use e2e::program::Program;
use e2e::tls::Authority;
use e2e::wait;
use e2e::world::{World, texts, write_at_once};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::net::TcpStream;

/// The values of a header that the backend saw.
fn told(answer: &Response, wanted: &str) -> Vec<String> {
    let seen = answer.seen().unwrap();
    let headers: Vec<(String, String)> = serde_json::from_value(seen["headers"].clone()).unwrap();
    headers.into_iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value).collect()
}

async fn call_over_tls(program: &Program, authority: &Authority, token: &str) -> anyhow::Result<(Response, Vec<u8>)> {
    let (stream, shown) = authority.connect(program.address, &["http/1.1"]).await?;
    let answer = Connection::over(stream).send(&Request::signed_in("/extensions/httpbin/x", token)).await?;
    Ok((answer, shown.to_vec()))
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_are_served_over_tls_with_files_that_rotate() {
    let world = World::start().await.unwrap();
    let authority = Authority::new().unwrap();
    let files = tempfile::tempdir().unwrap();
    let (chain, key) = (files.path().join("tls.crt"), files.path().join("tls.key"));
    let rotate = |pair: &(String, String)| {
        write_at_once(&chain, &pair.0).unwrap();
        write_at_once(&key, &pair.1).unwrap();
    };
    rotate(&authority.pair().unwrap());
    let paths = [chain.to_str().unwrap(), key.to_str().unwrap()];
    let program = world.serve(&["--tls-certificate", paths[0], "--tls-key", paths[1]]).unwrap();
    let token = world.token().unwrap();
    let (answer, first) = call_over_tls(&program, &authority, &token).await.unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(told(&answer, "X-Forwarded-Proto"), ["https"]);
    // Without TLS nothing is said.
    assert!(send(program.address, Request::signed_in("/extensions/httpbin/x", &token)).await.is_err());

    // A connection that is open stays so; new ones see the new certificate.
    let (stream, _) = authority.connect(program.address, &["http/1.1"]).await.unwrap();
    let mut open = Connection::over(stream);
    rotate(&authority.pair().unwrap());
    let rotated = || async { Ok(call_over_tls(&program, &authority, &token).await?.1 != first) };
    wait::until("the new certificate is shown", rotated).await.unwrap();
    assert_eq!(open.send(&Request::signed_in("/extensions/httpbin/x", &token)).await.unwrap().status, 200);

    // What cannot be used leaves the last one.
    write_at_once(&chain, "nonsense").unwrap();
    program.wait_for_log("the last certificate stays in effect").await.unwrap();
    assert_eq!(call_over_tls(&program, &authority, &token).await.unwrap().0.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_are_served_over_tls_with_a_secret_that_rotates() {
    let world = World::start().await.unwrap();
    let authority = Authority::new().unwrap();
    let program = world.serve(&["--tls-secret", "argocd-extension-proxy-tls"]).unwrap();
    let token = world.token().unwrap();
    // Without it nobody is served.
    assert!(call_over_tls(&program, &authority, &token).await.is_err());
    let ready = send(program.admin, Request::get("/readyz")).await.unwrap();
    assert_eq!((ready.status, ready.text().contains("no usable certificate")), (503, true));
    assert!(program.output().contains("does not exist (--tls-secret)"), "{}", program.output());

    let secret = |pair: &(String, String)| {
        let data = [("tls.crt", pair.0.as_str()), ("tls.key", pair.1.as_str())];
        world.write("tls.yaml", &texts("Secret", "argocd", "argocd-extension-proxy-tls", "", &data)).unwrap();
    };
    secret(&authority.pair().unwrap());
    let served = || async { Ok(call_over_tls(&program, &authority, &token).await.is_ok()) };
    wait::until("it is shown", served).await.unwrap();
    assert_eq!(send(program.admin, Request::get("/readyz")).await.unwrap().status, 200);
    let (_, first) = call_over_tls(&program, &authority, &token).await.unwrap();
    secret(&authority.pair().unwrap());
    let rotated = || async { Ok(call_over_tls(&program, &authority, &token).await?.1 != first) };
    wait::until("the new one is shown", rotated).await.unwrap();
    let (_, second) = call_over_tls(&program, &authority, &token).await.unwrap();
    secret(&("nonsense".into(), "nonsense".into()));
    program.wait_for_log("the last usable certificate stays in effect").await.unwrap();
    assert_eq!(call_over_tls(&program, &authority, &token).await.unwrap().1, second);
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_is_chosen_by_alpn_and_its_requests_pass_every_check() {
    let world = World::start().await.unwrap();
    let authority = Authority::new().unwrap();
    let files = tempfile::tempdir().unwrap();
    let pair = authority.pair().unwrap();
    let (chain, key) = (files.path().join("tls.crt"), files.path().join("tls.key"));
    std::fs::write(&chain, &pair.0).unwrap();
    std::fs::write(&key, &pair.1).unwrap();
    let program =
        world.serve(&["--tls-certificate", chain.to_str().unwrap(), "--tls-key", key.to_str().unwrap()]).unwrap();
    let token = world.token().unwrap();
    let (stream, _) = authority.connect(program.address, &["h2", "http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut client = http2::client(stream).await.unwrap();
    let answer = client.send_request(http2::signed_in("/extensions/httpbin/x?a=1;b", &token).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 200);
    let seen: Value = serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!(seen["target"], "/x?a=1;b");
    let headers = seen["headers"].to_string().to_ascii_lowercase();
    assert!(headers.contains("[\"x-forwarded-host\",\"argocd.example.com\"]"), "{headers}");
    assert!(headers.contains("[\"argocd-username\",\"alice\"]") && !headers.contains("cookie"), "{headers}");
    for (path, token, status) in
        [("/extensions/secretive/x", token.as_str(), 401), ("/extensions/httpbin/x", "a.b.c", 401)]
    {
        let answer = client.send_request(http2::signed_in(path, token).unwrap()).await.unwrap();
        assert_eq!(answer.status(), status);
    }

    // Many at one time, of which some hang: the others are not held up, not even by bodies that nobody reads.
    let mut stuck = Vec::new();
    for _ in 0..20 {
        let mut request = http2::signed_in("/extensions/httpbin/slow?s=60", &token).unwrap();
        *request.method_mut() = http::Method::POST;
        *request.body_mut() = http_body_util::Full::from(vec![b'x'; 2_000_000]);
        stuck.push(tokio::spawn(client.send_request(request)));
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    for _ in 0..50 {
        let request = http2::signed_in("/extensions/httpbin/x", &token).unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(2), client.send_request(request)).await;
        assert_eq!(answer.expect("it is held up").unwrap().status(), 200);
    }
    stuck.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_word_of_a_known_proxy_counts_and_nobody_elses() {
    let world = World::start().await.unwrap();
    let token = world.token().unwrap();
    let request = || {
        Request::signed_in("/extensions/httpbin/x", &token)
            .header("X-Forwarded-For", "203.0.113.9")
            .header("X-Forwarded-Proto", "https")
            .header("X-Forwarded-Host", "outside.example.com")
            .header("X-Forwarded-Port", "8443")
            .header("Forwarded", "for=203.0.113.9")
    };
    let trusting = world.serve(&["--trusted-proxies", "10.0.0.0/8,127.0.0.0/8"]).unwrap();
    let answer = send(trusting.address, request()).await.unwrap();
    assert_eq!(told(&answer, "X-Forwarded-For"), ["203.0.113.9, 127.0.0.1"]);
    assert_eq!(told(&answer, "X-Forwarded-Proto"), ["https"]);
    assert_eq!(told(&answer, "X-Forwarded-Host"), ["outside.example.com"]);
    assert_eq!(told(&answer, "X-Forwarded-Port"), ["8443"]);
    assert!(told(&answer, "Forwarded").is_empty());
    // The log names the caller, not the proxy.
    send(
        trusting.address,
        Request::signed_in("/extensions/secretive/x", &token).header("X-Forwarded-For", "203.0.113.9"),
    )
    .await
    .unwrap();
    trusting.wait_for_log("client=\"203.0.113.9\"").await.unwrap();

    let wary = world.serve(&["--trusted-proxies", "10.0.0.0/8"]).unwrap();
    let answer = send(wary.address, request()).await.unwrap();
    assert_eq!(told(&answer, "X-Forwarded-For"), ["127.0.0.1"]);
    assert_eq!(told(&answer, "X-Forwarded-Proto"), ["http"]);
    assert_eq!(told(&answer, "X-Forwarded-Host"), ["argocd.example.com"]);
    assert!(told(&answer, "X-Forwarded-Port").is_empty());
    let (status, _, log) = Program::run(&["run", "--trusted-proxies", "10.0.0.0/99"]).unwrap();
    assert!(!status.success() && log.contains("--trusted-proxies"), "{log}");
}

/// Sends a header of the PROXY protocol in pieces, then a request.
async fn announced(to: SocketAddr, header: &[u8], token: &str) -> anyhow::Result<Response> {
    let mut connection = Connection::open(to).await?;
    let (first, second) = header.split_at(header.len() / 2);
    connection.write(first).await?;
    tokio::time::sleep(Duration::from_millis(20)).await;
    connection.write(second).await?;
    connection.send(&Request::signed_in("/extensions/httpbin/x", token)).await
}

fn version_2(source: [u8; 4], command: u8) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([0x20 | command, 0x11, 0, 19]);
    header.extend(source);
    header.extend([127, 0, 0, 1, 0x1f, 0x90, 0x1f, 0x91]);
    // Something that is not known.
    header.extend([0xe0, 0, 4, 1, 2, 3, 4]);
    header
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_balancer_may_say_whom_it_speaks_for() {
    let world = World::start().await.unwrap();
    let token = world.token().unwrap();
    let program = world.serve(&["--proxy-protocol"]).unwrap();
    for (header, client) in [
        (b"PROXY TCP4 203.0.113.7 127.0.0.1 56324 8080\r\n".to_vec(), "203.0.113.7"),
        (b"PROXY TCP6 2001:db8::7 ::1 56324 8080\r\n".to_vec(), "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (version_2([203, 0, 113, 8], 1), "203.0.113.8"),
        (version_2([203, 0, 113, 8], 0), "127.0.0.1"),
    ] {
        let answer = announced(program.address, &header, &token).await.unwrap();
        assert_eq!(told(&answer, "X-Forwarded-For"), [client], "{header:?}");
    }
    for header in [&b"GET / HTTP/1.1\r\n"[..], b"PROXY TCP4 nonsense\r\n", b"PROXY ", &[b'x'; 5000]] {
        let outcome = tokio::time::timeout(Duration::from_secs(15), announced(program.address, header, &token)).await;
        assert!(outcome.expect("it is waited for").is_err(), "{header:?}");
    }
    let picky = world.serve(&["--proxy-protocol", "--trusted-proxies", "10.0.0.0/8"]).unwrap();
    assert!(announced(picky.address, b"PROXY TCP4 203.0.113.7 127.0.0.1 1 2\r\n", &token).await.is_err());

    // TLS comes after it.
    let authority = Authority::new().unwrap();
    let pair = authority.pair().unwrap();
    let files = tempfile::tempdir().unwrap();
    let (chain, key) = (files.path().join("tls.crt"), files.path().join("tls.key"));
    std::fs::write(&chain, &pair.0).unwrap();
    std::fs::write(&key, &pair.1).unwrap();
    let secure = world
        .serve(&["--proxy-protocol", "--tls-certificate", chain.to_str().unwrap(), "--tls-key", key.to_str().unwrap()])
        .unwrap();
    let mut stream = TcpStream::connect(secure.address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, &version_2([203, 0, 113, 9], 1)).await.unwrap();
    let (stream, _) = authority.connect_over(stream, &["http/1.1"]).await.unwrap();
    let answer = Connection::over(stream).send(&Request::signed_in("/extensions/httpbin/x", &token)).await.unwrap();
    assert_eq!(told(&answer, "X-Forwarded-For"), ["203.0.113.9"]);
}
