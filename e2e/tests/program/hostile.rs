use e2e::client::{Connection, Request, send};
use e2e::world::World;
use tokio::io::AsyncReadExt;

/// Sends bytes and reads all that comes back.
async fn raw(to: std::net::SocketAddr, bytes: &[u8]) -> String {
    let mut connection = Connection::open(to).await.unwrap();
    // The other side may have had enough before all is sent.
    let _ = connection.write(bytes).await;
    let mut answer = Vec::new();
    let mut stream = connection.into_stream();
    let read = stream.read_to_end(&mut answer);
    let _ = tokio::time::timeout(std::time::Duration::from_secs(5), read).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_requests_get_an_error_and_reach_no_backend() {
    let world = World::start().await.unwrap();
    let program = world.serve(&[]).unwrap();
    let token = world.token().unwrap();
    let signed_in = format!(
        "Host: h\r\nConnection: close\r\nCookie: argocd.token={token}\r\nArgocd-Application-Name: argocd:guestbook\r\nArgocd-Project-Name: default\r\n"
    );
    let many: String = (0..300).map(|i| format!("X-{i}: 1\r\n")).collect();
    let cases = [
        ("garbage", "\u{1}\u{2}\u{3}\r\n\r\n".to_owned()),
        ("no version", format!("GET /extensions/httpbin/x\r\n{signed_in}\r\n")),
        ("CONNECT", format!("CONNECT httpbin:80 HTTP/1.1\r\n{signed_in}\r\n")),
        (
            "two lengths",
            format!(
                "POST /extensions/httpbin/x HTTP/1.1\r\n{signed_in}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"
            ),
        ),
        (
            "a length that is none",
            format!("POST /extensions/httpbin/x HTTP/1.1\r\n{signed_in}Content-Length: +1\r\n\r\na"),
        ),
        (
            "an unknown coding",
            format!("POST /extensions/httpbin/x HTTP/1.1\r\n{signed_in}Transfer-Encoding: xchunked\r\n\r\n"),
        ),
        ("300 headers", format!("GET /extensions/httpbin/x HTTP/1.1\r\n{signed_in}{many}\r\n")),
        (
            "a megabyte of header",
            format!("GET /extensions/httpbin/x HTTP/1.1\r\n{signed_in}X-Long: {}\r\n\r\n", "v".repeat(1 << 20)),
        ),
        ("a folded header", format!("GET /extensions/httpbin/x HTTP/1.1\r\n{signed_in}X-A: 1\r\n 2\r\n\r\n")),
        (
            "a space before the colon",
            format!("GET /extensions/httpbin/x HTTP/1.1\r\n{signed_in}Argocd-Username : root\r\n\r\n"),
        ),
        ("a half escape", format!("GET /extensions/httpbin/%2 HTTP/1.1\r\n{signed_in}\r\n")),
        ("an encoded climb", format!("GET /extensions/httpbin/%2e%2E/x HTTP/1.1\r\n{signed_in}\r\n")),
    ];
    for (what, request) in cases {
        let answer = raw(program.address, request.as_bytes()).await;
        let status: u16 = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(400);
        assert!((400..500).contains(&status), "{what}: {answer}");
    }
    assert_eq!(world.a.requests(), 0);
    let fine = send(program.address, Request::signed_in("/extensions/httpbin/x", &token)).await.unwrap();
    assert_eq!(fine.status, 200);
    assert!(!program.log().contains("panicked"), "{}", program.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_second_request_is_smuggled_inside_a_body() {
    let world = World::start().await.unwrap();
    let program = world.serve(&["--workers", "1"]).unwrap();
    let token = world.token().unwrap();
    let request = format!(
        "POST /extensions/httpbin/x HTTP/1.1\r\nHost: h\r\nConnection: close\r\nCookie: argocd.token={token}\r\n\
         Argocd-Application-Name: argocd:guestbook\r\nArgocd-Project-Name: default\r\n\
         Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
    );
    raw(program.address, request.as_bytes()).await;
    assert!(world.a.requests() <= 1, "the backend saw {} requests", world.a.requests());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_caller_says_passes_for_the_proxy() {
    let world = World::start().await.unwrap();
    let program = world.serve(&[]).unwrap();
    let mut request = Request::signed_in("/extensions/httpbin/x", &world.token().unwrap());
    for name in crds::RESERVED_HEADERS
        .iter()
        .filter(|name| !name.ends_with("application-name") && !name.ends_with("project-name"))
    {
        request = request
            .header(name, "forged")
            .header(&name.replace('-', "_"), "forged")
            .header(&name.to_uppercase(), "forged");
    }
    for name in [
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "X_Forwarded_For",
        "X-Forwarded-User",
        "Forwarded",
        "Authorization",
    ] {
        request = request.header(name, "forged");
    }
    let request = request.header("Connection", "close, Argocd-Username, Argocd-Namespace, X-Forwarded-For, Host");
    let seen = send(program.address, request).await.unwrap().seen().unwrap();
    let headers = seen["headers"].to_string().to_ascii_lowercase();
    assert!(!headers.contains("forged"), "{headers}");
    for expected in
        [r#"["argocd-username","alice"]"#, r#"["argocd-namespace","argocd"]"#, r#"["x-forwarded-for","127.0.0.1"]"#]
    {
        assert!(headers.contains(expected), "{expected} is missing: {headers}");
    }
}
