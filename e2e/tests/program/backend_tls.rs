use std::time::Duration;

use e2e::backend::Backend;
use e2e::client::{Request, Response, send};
use e2e::http2::Http2Backend;
use e2e::load::Load;
use e2e::program::Program;
use e2e::tls::{Authority, Server};
use e2e::wait;
use e2e::world::{PART_OF_ARGOCD, World, texts};

async fn call(program: &Program, extension: &str, token: &str) -> Response {
    send(program.address, Request::signed_in(&format!("/extensions/{extension}/x"), token)).await.unwrap()
}

fn secure(port: u16, tls: &str) -> String {
    format!("backend: {{services: [{{url: 'https://localhost:{port}', tls: {tls}}}]}}")
}

fn authority(name: &str, pem: &str) -> String {
    texts("ConfigMap", "argocd", name, "", &[("ca.crt", pem)])
}

fn pair(name: &str, (certificate, key): &(String, String)) -> String {
    texts("Secret", "argocd", name, PART_OF_ARGOCD, &[("tls.crt", certificate), ("tls.key", key)])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_is_trusted_by_its_own_authority_and_name() {
    let world = World::start().await.unwrap();
    let (ours, other) = (Authority::new().unwrap(), Authority::new().unwrap());
    let backend = Backend::start_tls("secure", ours.acceptor().unwrap()).await.unwrap();
    let named = ours.acceptor_with(&Server { names: &["metrics.internal"], ..Server::default() }).unwrap();
    let named = Backend::start_tls("named", named).await.unwrap();
    let (port, named_port) = (backend.address.port(), named.address.port());
    world.write("ca-ours.yaml", &authority("ours", &ours.pem())).unwrap();
    world.write("ca-other.yaml", &authority("other", &other.pem())).unwrap();
    world
        .write("ca-secret.yaml", &texts("Secret", "argocd", "in-secret", PART_OF_ARGOCD, &[("bundle", &ours.pem())]))
        .unwrap();
    world.write_spec("by-config-map", &secure(port, "{caRef: {name: ours}}")).unwrap();
    world.write_spec("by-secret", &secure(port, "{caRef: {kind: Secret, name: in-secret, key: bundle}}")).unwrap();
    world.write_spec("untrusted", &secure(port, "{caRef: {name: other}}")).unwrap();
    world.write_spec("by-name", &secure(named_port, "{caRef: {name: ours}, serverName: metrics.internal}")).unwrap();
    world.write_spec("wrong-name", &secure(named_port, "{caRef: {name: ours}}")).unwrap();
    let program = world.serve(&[]).unwrap();
    let token = world.token().unwrap();
    for extension in ["by-config-map", "by-secret", "by-name"] {
        assert_eq!(call(&program, extension, &token).await.status, 200, "{extension}\n{}", program.log());
    }
    let before = (backend.requests(), named.requests());
    for extension in ["untrusted", "wrong-name"] {
        assert_eq!(call(&program, extension, &token).await.status, 502, "{extension}");
    }
    assert_eq!((backend.requests(), named.requests()), before);
    program.wait_for_log("invalid peer certificate").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_used_is_said_and_hurts_nobody_else() {
    let world = World::start().await.unwrap();
    let ours = Authority::new().unwrap();
    let backend = Backend::start_tls("secure", ours.acceptor().unwrap()).await.unwrap();
    let (one, two) = (ours.pair().unwrap(), ours.pair().unwrap());
    world.write("ca.yaml", &authority("ours", &ours.pem())).unwrap();
    world.write("no-pem.yaml", &authority("no-pem", "this is no certificate")).unwrap();
    world.write("mixed.yaml", &pair("mixed", &(one.0.clone(), two.1.clone()))).unwrap();
    world
        .write(
            "unlabelled.yaml",
            &texts("Secret", "argocd", "unlabelled", "", &[("tls.crt", &one.0), ("tls.key", &one.1)]),
        )
        .unwrap();
    let no_key = texts("Secret", "argocd", "no-key", PART_OF_ARGOCD, &[("tls.crt", &one.0)]);
    world.write("no-key.yaml", &no_key).unwrap();
    for (name, tls) in [
        ("fine", "{caRef: {name: ours}}"),
        ("missing", "{caRef: {name: nowhere}}"),
        ("missing-key", "{caRef: {name: ours, key: nothing}}"),
        ("no-pem", "{caRef: {name: no-pem}}"),
        ("mixed", "{clientCertificateRef: {name: mixed}, caRef: {name: ours}}"),
        ("unlabelled", "{clientCertificateRef: {name: unlabelled}}"),
        ("no-key", "{clientCertificateRef: {name: no-key}}"),
        ("argocds", "{clientCertificateRef: {name: argocd-secret}}"),
    ] {
        world.write_spec(name, &secure(backend.address.port(), tls)).unwrap();
    }
    let program = world.serve(&[]).unwrap();
    let token = world.token().unwrap();
    assert_eq!(call(&program, "fine", &token).await.status, 200);
    let report = program.output();
    for said in [
        "tls.caRef: the ConfigMap \"nowhere\" does not exist in the object's namespace; create it",
        "tls.caRef: the ConfigMap \"ours\" has no key \"nothing\"; add it",
        "tls.caRef: holds no PEM certificate",
        "tls.clientCertificateRef: cannot be used:",
        "tls.clientCertificateRef: the Secret \"unlabelled\" is not labelled app.kubernetes.io/part-of: argocd; label it",
        "tls.clientCertificateRef: the Secret \"no-key\" has no key \"tls.key\"; add it",
        "tls.clientCertificateRef: the Secret \"argocd-secret\" holds Argo CD's own keys and may not be read",
    ] {
        assert!(report.contains(said), "{said:?} is missing:\n{report}");
    }
    for extension in ["missing", "mixed", "unlabelled", "argocds"] {
        assert_eq!(call(&program, extension, &token).await.status, 404, "{extension}");
    }
    for secret in [&one.1, &two.1] {
        let line = secret.lines().nth(1).unwrap();
        assert!(!report.contains(line) && !program.log().contains(line));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_shows_a_certificate_of_its_own_where_one_is_given() {
    let world = World::start().await.unwrap();
    let (servers, clients, strangers) =
        (Authority::new().unwrap(), Authority::new().unwrap(), Authority::new().unwrap());
    let mutual = servers.acceptor_with(&Server { clients: Some(&clients), ..Server::default() }).unwrap();
    let backend = Backend::start_tls("mutual", mutual).await.unwrap();
    let port = backend.address.port();
    world.write("ca.yaml", &authority("ours", &servers.pem())).unwrap();
    world.write("known.yaml", &pair("known", &clients.pair().unwrap())).unwrap();
    world.write("stranger.yaml", &pair("stranger", &strangers.pair().unwrap())).unwrap();
    world.write_spec("known", &secure(port, "{caRef: {name: ours}, clientCertificateRef: {name: known}}")).unwrap();
    world
        .write_spec("stranger", &secure(port, "{caRef: {name: ours}, clientCertificateRef: {name: stranger}}"))
        .unwrap();
    world.write_spec("nobody", &secure(port, "{caRef: {name: ours}}")).unwrap();
    let program = world.serve(&[]).unwrap();
    let token = world.token().unwrap();
    assert_eq!(call(&program, "known", &token).await.status, 200, "{}", program.log());
    assert_eq!(call(&program, "stranger", &token).await.status, 502);
    assert_eq!(call(&program, "nobody", &token).await.status, 502);
    assert_eq!(backend.requests(), 1);
}

/// Authority, server certificate and client certificate are exchanged one after the other while requests go on.
#[tokio::test(flavor = "multi_thread")]
async fn certificates_rotate_without_a_dropped_request() {
    let world = World::start().await.unwrap();
    let (old, new) = (Authority::new().unwrap(), Authority::new().unwrap());
    let acceptor = |servers: &Authority, clients: &Authority| {
        servers.acceptor_with(&Server { clients: Some(clients), ..Server::default() }).unwrap()
    };
    let backend = Backend::start_tls("rotating", acceptor(&old, &old)).await.unwrap();
    world.write("ca.yaml", &authority("ours", &old.pem())).unwrap();
    world.write("client.yaml", &pair("client", &old.pair().unwrap())).unwrap();
    let spec = secure(backend.address.port(), "{caRef: {name: ours}, clientCertificateRef: {name: client}}");
    world.write_spec("rotating", &spec).unwrap();
    let program = world.serve(&[]).unwrap();
    let token = world.token().unwrap();
    let load = Load::start(program.address, &Request::signed_in("/extensions/rotating/x", &token), 8).await.unwrap();
    // Every caller has its connection; what is made from here on is made anew.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let reconnected = |before: usize| {
        let backend = &backend;
        async move {
            wait::until("new connections are made", || async { Ok(backend.connections() > before) }).await.unwrap()
        }
    };
    // First both authorities are trusted, as one rotates.
    let before = backend.connections();
    world.write("ca.yaml", &authority("ours", &format!("{}{}", old.pem(), new.pem()))).unwrap();
    reconnected(before).await;
    backend.set_tls(acceptor(&new, &old));
    let before = backend.connections();
    world.write("ca.yaml", &authority("ours", &new.pem())).unwrap();
    reconnected(before).await;
    // A new certificate of the proxy's own.
    let before = backend.connections();
    world.write("client.yaml", &pair("client", &old.pair().unwrap())).unwrap();
    reconnected(before).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (requests, failures) = load.stop().await;
    assert!(failures.is_empty() && requests > 100, "{requests} {failures:?}\n{}", program.log());

    // The old authority is trusted no more.
    backend.set_tls(acceptor(&old, &old));
    let before = backend.connections();
    world.write("client.yaml", &pair("client", &old.pair().unwrap())).unwrap();
    let refused = || async { Ok(call(&program, "rotating", &token).await.status == 502) };
    wait::until("the old authority is refused", refused).await.unwrap();
    assert!(backend.connections() > before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_prefers_http2_is_spoken_to_in_it() {
    let world = World::start().await.unwrap();
    let ours = Authority::new().unwrap();
    let acceptor = ours.acceptor_with(&Server { protocols: &["h2"], ..Server::default() }).unwrap();
    let backend = Http2Backend::start(Some(acceptor)).await.unwrap();
    let port = backend.address.port();
    world.write("ca.yaml", &authority("ours", &ours.pem())).unwrap();
    let spec = format!(
        "backend: {{idleConnectionTimeout: 1s, services: [{{url: 'https://localhost:{port}/base', tls: {{caRef: {{name: ours}}}}, headers: [{{name: X-Team, value: platform}}]}}]}}"
    );
    world.write_spec("modern", &spec).unwrap();
    let program = world.serve(&["--workers", "1"]).unwrap();
    let token = world.token().unwrap();
    let seen = call(&program, "modern", &token).await.seen().unwrap();
    assert_eq!((seen["version"].as_str(), seen["scheme"].as_str()), (Some("HTTP/2.0"), Some("https")));
    assert_eq!(seen["authority"], format!("localhost:{port}"));
    assert_eq!(seen["target"], "/base/x");
    let headers = seen["headers"].to_string();
    assert!(
        headers.contains("[\"x-team\",\"platform\"]") && headers.contains("[\"argocd-username\",\"alice\"]"),
        "{headers}"
    );
    for hidden in ["cookie", "\"connection\"", "\"host\""] {
        assert!(!headers.contains(hidden), "{headers}");
    }
    let mut post = Request::signed_in("/extensions/modern/x", &token);
    post.method = "POST".into();
    post.body = vec![b'x'; 3_000_000];
    post.chunked = true;
    assert_eq!(send(program.address, post).await.unwrap().seen().unwrap()["bodyBytes"], 3_000_000);

    // All of them over one connection, which goes when nobody needs it any more.
    let load = Load::start(program.address, &Request::signed_in("/extensions/modern/x", &token), 32).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (requests, failures) = load.stop().await;
    assert!(failures.is_empty() && requests > 100, "{requests} {failures:?}");
    assert_eq!(backend.connections(), 1);
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    call(&program, "modern", &token).await;
    assert_eq!(backend.connections(), 2);
}
