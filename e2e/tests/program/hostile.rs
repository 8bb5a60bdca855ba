use std::time::{Duration, Instant};

use e2e::client::{Connection, Request, send};
use e2e::world::World;
use futures_util::future::join_all;
use tokio::io::AsyncReadExt;

/// Sends bytes and reads all that comes back.
async fn raw(to: std::net::SocketAddr, bytes: &[u8]) -> String {
    let mut connection = Connection::open(to).await.unwrap();
    // The other side may have had enough before all is sent.
    let _ = connection.write(bytes).await;
    let mut answer = Vec::new();
    let mut stream = connection.into_stream();
    let read = stream.read_to_end(&mut answer);
    let _ = tokio::time::timeout(Duration::from_secs(5), read).await;
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
    // With the five above it makes as many as there may be.
    let many: String = (0..195).map(|i| format!("X-{i}: 1\r\n")).collect();
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
        ("201 headers", format!("GET /extensions/httpbin/x HTTP/1.1\r\n{signed_in}{many}X-More: 1\r\n\r\n")),
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
    for fine in [&signed_in, &format!("{signed_in}{many}")] {
        let answer = raw(program.address, format!("GET /extensions/httpbin/x HTTP/1.1\r\n{fine}\r\n").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
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

/// A spec, and what is said about it.
const WRONG: [(&str, &str, &str); 27] = [
    (
        "port-big",
        "backend: {services: [{serviceRef: {name: a, port: 99999999}}]}",
        "serviceRef.port: has the wrong type; expected the number or the name of a port",
    ),
    (
        "port-negative",
        "backend: {services: [{serviceRef: {name: a, port: -1}}]}",
        "serviceRef.port: has the wrong type; expected the number or the name of a port",
    ),
    (
        "port-list",
        "backend: {services: [{serviceRef: {name: a, port: [1]}}]}",
        "serviceRef.port: has the wrong type; expected the number or the name of a port",
    ),
    (
        "scope",
        "scope: Galaxy\nbackend: {services: [{url: 'http://a'}]}",
        "spec.scope: has the wrong type; expected `Application` or `Global`",
    ),
    (
        "projects",
        "projects: team\nbackend: {services: [{url: 'http://a'}]}",
        "spec.projects: has the wrong type; expected a sequence",
    ),
    (
        "max",
        "backend: {maxConcurrentRequests: many, services: [{url: 'http://a'}]}",
        "spec.backend.maxConcurrentRequests: has the wrong type; expected i64",
    ),
    (
        "max-none",
        "backend: {maxConcurrentRequests: 0, services: [{url: 'http://a'}]}",
        "backend.maxConcurrentRequests: must be at least 1; to have no limit, leave it out",
    ),
    (
        "bytes",
        "backend: {maxRequestBodyBytes: -5, services: [{url: 'http://a'}]}",
        "backend.maxRequestBodyBytes: is negative",
    ),
    (
        "bytes-huge",
        "backend: {maxRequestBodyBytes: 99999999999999999999999, services: [{url: 'http://a'}]}",
        "spec.backend.maxRequestBodyBytes: has the wrong type; expected i64",
    ),
    (
        "timeout",
        "backend: {requestTimeout: -5s, services: [{url: 'http://a'}]}",
        "backend.requestTimeout: is negative; write a positive duration such as 30s",
    ),
    (
        "timeout-number",
        "backend: {streamIdleTimeout: 5, services: [{url: 'http://a'}]}",
        "spec.backend.streamIdleTimeout: has the wrong type; expected a string",
    ),
    (
        "timeout-unit",
        "backend: {requestTimeout: '5', services: [{url: 'http://a'}]}",
        "backend.requestTimeout: \"5\" has no unit; write it as 300ms, 2s or 1m",
    ),
    (
        "health",
        "backend: {services: [{url: 'http://a', healthCheck: {path: healthz}}]}",
        "healthCheck.path: must be a path that starts with /",
    ),
    (
        "health-often",
        "backend: {services: [{url: 'http://a', healthCheck: {path: /, interval: 1ms}}]}",
        "healthCheck.interval: is shorter than 100ms",
    ),
    (
        "health-count",
        "backend: {services: [{url: 'http://a', healthCheck: {path: /, unhealthyThreshold: 1000}}]}",
        "healthCheck.unhealthyThreshold: must be from 1 to 100",
    ),
    (
        "health-where",
        "backend: {services: [{url: 'http://a', healthCheck: {}}]}",
        "spec.backend.services[0].healthCheck: missing field `path`",
    ),
    (
        "selector",
        "backend: {services: [{url: 'http://a', cluster: {selector: {matchExpressions: [{key: a, operator: Is}]}}}]}",
        "cluster.selector.matchExpressions: failed to parse value as expression: Invalid expression operator",
    ),
    (
        "both",
        "backend: {services: [{url: 'http://a', serviceRef: {name: a}}]}",
        "backend.services[0]: url and serviceRef exclude each other; give one of them",
    ),
    ("neither", "backend: {services: [{}]}", "backend.services[0]: url or serviceRef must be given"),
    (
        "global",
        "scope: Global\nbackend: {services: [{url: 'http://a', cluster: {name: a}}]}",
        "backend.services[0].cluster: cannot be chosen by in a Global extension",
    ),
    (
        "global-projects",
        "scope: Global\nprojects: [a]\nbackend: {services: [{url: 'http://a'}]}",
        "spec.projects: has no place in a Global extension",
    ),
    (
        "mixed",
        "backend: {services: [{url: 'http://a', cluster: {name: a}}, {url: 'http://b'}]}",
        "backend.services[1].cluster: must be given when there is more than one service",
    ),
    (
        "overlap",
        "backend: {services: [{url: 'http://a', cluster: {name: a}}, {url: 'http://b', cluster: {name: a, server: 'https://x'}}]}",
        "backend.services[1].cluster.name: \"a\" is named by an earlier service already",
    ),
    (
        "tls",
        "backend: {services: [{url: 'http://a', tls: {serverName: b}}]}",
        "backend.services[0].tls: has no effect without https",
    ),
    (
        "tls-name",
        "backend: {services: [{url: 'https://a', tls: {serverName: 'a b'}}]}",
        "tls.serverName: \"a b\" is no valid host name",
    ),
    (
        "service-path",
        "backend: {services: [{serviceRef: {name: a, path: '../x'}}]}",
        "serviceRef.path: must start with /",
    ),
    (
        "no-service",
        "backend: {services: [{serviceRef: {name: a}}]}",
        "serviceRef: the Service argocd/a does not exist; create it",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_spec_is_said_with_its_field_and_its_neighbours_serve() {
    let world = World::start().await.unwrap();
    for (name, spec, _) in WRONG {
        world.write_spec(name, spec).unwrap();
    }
    let program = world.serve(&[]).unwrap();
    let report = program.output();
    for (name, _, said) in WRONG {
        let lines: Vec<&str> = report.lines().collect();
        let (alone, with_file) = (format!("ProxyExtension argocd/{name})"), format!("ProxyExtension argocd/{name} "));
        let at = lines.iter().position(|line| line.contains(&alone) || line.contains(&with_file));
        let at = at.unwrap_or_else(|| panic!("{name}:\n{report}"));
        assert!(lines[at].contains("INVALID"), "{name}: {}", lines[at]);
        assert!(lines[at + 1].contains(said), "{name}: {} does not say {said:?}", lines[at + 1]);
    }
    let token = world.token().unwrap();
    assert_eq!(send(program.address, Request::signed_in("/extensions/httpbin/x", &token)).await.unwrap().status, 200);
    assert_eq!(send(program.address, Request::signed_in("/extensions/both/x", &token)).await.unwrap().status, 404);
}

/// Each waits for half a minute, so all wait side by side.
#[tokio::test(flavor = "multi_thread")]
async fn callers_who_ask_nothing_are_parted_with() {
    let world = World::start().await.unwrap();
    let program = world.serve(&[]).unwrap();
    let token = world.token().unwrap();
    let request = format!(
        "GET /extensions/httpbin/x HTTP/1.1\r\nHost: h\r\nCookie: argocd.token={token}\r\nArgocd-Application-Name: argocd:guestbook\r\nArgocd-Project-Name: default\r\n\r\n"
    );
    let closed_after = async |sent: &str| {
        let started = Instant::now();
        let mut connection = Connection::open(program.address).await.unwrap();
        connection.write(sent.as_bytes()).await.unwrap();
        let (mut stream, mut answer) = (connection.into_stream(), Vec::new());
        // However it is closed.
        let _ = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut answer)).await.unwrap();
        started.elapsed()
    };
    let silent = ["", "GET /extensions/httpbin/x HTTP/1.1\r\nHost: ", &request];
    for (sent, took) in silent.iter().zip(join_all(silent.iter().map(|sent| closed_after(sent))).await) {
        assert!((30..45).contains(&took.as_secs()), "{sent:?}: closed after {took:?}");
    }
}
