use std::time::{Duration, Instant};

use e2e::backend::Backend;
use e2e::client::{Request, Response, send};
use e2e::load::Load;
use e2e::program::Program;
use e2e::wait;
use e2e::world::World;
use futures_util::future::join_all;
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

fn of(application: &str, path: &str, token: &str) -> Request {
    Request::get(path)
        .header("Cookie", &format!("argocd.token={token}"))
        .header("Argocd-Application-Name", &format!("argocd:{application}"))
        .header("Argocd-Project-Name", "default")
}

async fn call(program: &Program, application: &str, extension: &str, token: &str) -> Response {
    send(program.address, of(application, &format!("/extensions/{extension}/x"), token)).await.unwrap()
}

async fn status(program: &Program) -> String {
    send(program.admin, Request::get("/status")).await.unwrap().text()
}

/// An address that takes no further connection, and answers to none. It does as long as this is held.
async fn unanswering() -> (Socket, std::net::SocketAddr, Vec<tokio::task::JoinHandle<std::io::Result<TcpStream>>>) {
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    full.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    let fill = (0..4).map(|_| tokio::spawn(TcpStream::connect(address))).collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    (full, address, fill)
}

#[tokio::test(flavor = "multi_thread")]
async fn services_of_the_same_cluster_share_its_requests_and_stand_in_for_each_other() {
    let world = World::start().await.unwrap();
    let (one, two) = (Backend::start("one").await.unwrap(), Backend::start("two").await.unwrap());
    let spec = format!(
        "backend:\n  services:\n  - {{url: '{}/base', headers: [{{name: X-Which, value: first}}]}}\n  - {{url: '{}', headers: [{{name: X-Other, value: second}}]}}",
        one.url(),
        two.url()
    );
    world.write_spec("shared", &spec).unwrap();
    let program = world.serve(&["--workers", "1"]).unwrap();
    let token = world.token().unwrap();
    for _ in 0..20 {
        let seen = call(&program, "guestbook", "shared", &token).await.seen().unwrap();
        let headers = seen["headers"].to_string();
        let is_one = seen["backend"] == "one";
        assert_eq!(seen["target"], if is_one { "/base/x" } else { "/x" });
        assert_eq!((headers.contains("\"first\""), headers.contains("\"second\"")), (is_one, !is_one));
    }
    assert_eq!((one.requests(), two.requests()), (10, 10));

    // Whoever has the fewest open gets the next one.
    let slow =
        join_all((0..8).map(|_| send(program.address, of("guestbook", "/extensions/shared/slow?s=0.3", &token)))).await;
    assert!(slow.iter().all(|answer| answer.as_ref().unwrap().status == 200));
    assert_eq!((one.requests(), two.requests()), (14, 14));

    // One that goes away costs no request.
    let load = Load::start(program.address, &of("guestbook", "/extensions/shared/x", &token), 8).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let address = one.address;
    drop(one);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (requests, failures) = load.stop().await;
    // A backend that dies takes along only what it was answering.
    assert!(failures.len() <= 8 && requests > 100, "{requests} {failures:?}");
    for _ in 0..10 {
        assert_eq!(call(&program, "guestbook", "shared", &token).await.seen().unwrap()["backend"], "two");
    }
    assert!(status(&program).await.contains("\"healthy\": false"), "{}", status(&program).await);

    // And is found again.
    let one = Backend::start_on(TcpListener::bind(address).await.unwrap(), "one", None).unwrap();
    let back = || async { Ok(call(&program, "guestbook", "shared", &token).await.seen()?["backend"] == "one") };
    wait::until("it is used again", back).await.unwrap();
    assert!(one.requests() > 0);
    program.wait_for_log("a backend is well again").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_are_selected_by_their_labels() {
    let world = World::start().await.unwrap();
    let cluster = |name: &str, env: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: cluster-{name}, namespace: argocd, labels: {{argocd.argoproj.io/secret-type: cluster, env: {env}}}}}\nstringData: {{name: {name}, server: 'https://{name}.example.com:6443'}}\n"
        )
    };
    let app = |name: &str| {
        format!(
            "apiVersion: argoproj.io/v1alpha1\nkind: Application\nmetadata: {{name: on-{name}, namespace: argocd}}\nspec: {{project: default, destination: {{name: {name}, namespace: x}}}}\n"
        )
    };
    world.write("50-east.yaml", &format!("{}---\n{}", cluster("east", "live"), app("east"))).unwrap();
    world.write("50-west.yaml", &format!("{}---\n{}", cluster("west", "test"), app("west"))).unwrap();
    let spec = format!(
        "backend:\n  services:\n  - {{url: '{}', cluster: {{selector: {{matchLabels: {{env: live}}}}}}}}\n  - {{url: '{}', cluster: {{selector: {{matchExpressions: [{{key: env, operator: In, values: [test, dev]}}]}}}}}}",
        world.a.url(),
        world.b.url()
    );
    world.write_spec("selected", &spec).unwrap();
    let program = world.serve(&[]).unwrap();
    let token = world.token().unwrap();
    let backend = |application: &'static str| {
        let (program, token) = (&program, &token);
        async move { call(program, application, "selected", token).await.seen().unwrap()["backend"].clone() }
    };
    assert_eq!(backend("on-east").await, "a");
    assert_eq!(backend("on-west").await, "b");
    assert_eq!(call(&program, "guestbook", "selected", &token).await.status, 400);
    assert!(status(&program).await.contains("env=live (https://east.example.com:6443)"), "{}", status(&program).await);

    // A label that changes changes who answers.
    world.write("50-west.yaml", &format!("{}---\n{}", cluster("west", "live"), app("west"))).unwrap();
    wait::until("the label counts", || async { Ok(backend("on-west").await == "a") }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ambiguous_cluster_is_reported_and_never_guessed() {
    let world = World::start().await.unwrap();
    let spec = format!(
        "backend:\n  services:\n  - {{url: '{}', cluster: {{selector: {{matchLabels: {{}}}}}}}}\n  - {{url: '{}', cluster: {{server: 'https://prod.example.com:6443'}}}}",
        world.a.url(),
        world.b.url()
    );
    world.write_spec("unclear", &spec).unwrap();
    let program = world.serve(&[]).unwrap();
    let token = world.token().unwrap();
    // Written as the service names it, it is clear; by another name of the same cluster it is not.
    assert_eq!(call(&program, "by-server", "unclear", &token).await.seen().unwrap()["backend"], "b");
    let answer = call(&program, "by-name", "unclear", &token).await;
    assert_eq!((answer.status, answer.text().trim()), (400, "invalid extension"));
    program.wait_for_log("ambiguous_service").await.unwrap();
    assert_eq!(call(&program, "staging-name", "unclear", &token).await.seen().unwrap()["backend"], "a");
    let report = program.output();
    assert!(report.contains("several services answer for the cluster \"prod\""), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_does_not_answer_makes_nobody_wait_for_long() {
    let world = World::start().await.unwrap();
    let (hole, address, _fill) = unanswering().await;
    world.write_extension("hole", &format!("http://{address}"), "    connectionTimeout: 500ms\n").unwrap();
    let program = world.serve(&["--workers", "1"]).unwrap();
    let token = world.token().unwrap();
    for _ in 0..3 {
        assert_eq!(call(&program, "guestbook", "hole", &token).await.status, 504);
    }
    let started = Instant::now();
    for _ in 0..20 {
        let answer = call(&program, "guestbook", "hole", &token).await;
        assert_eq!((answer.status, answer.header("Retry-After")), (503, Some("1")), "{}", answer.text());
    }
    // Each would wait for half a second.
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    program.wait_for_log("a backend is down").await.unwrap();
    let status = status(&program).await;
    assert!(status.contains("no connection within 500ms"), "{status}");
    let metrics = send(program.admin, Request::get("/metrics")).await.unwrap().text();
    let metric = format!("argocd_extension_proxy_backend_healthy{{extension=\"hole\",backend=\"http://{address}\"}} 0");
    assert!(metrics.contains(&metric), "{metrics}");

    // Whoever takes its place is found without a caller's help.
    drop(hole);
    let _well = Backend::start_on(TcpListener::bind(address).await.unwrap(), "well", None).unwrap();
    program.wait_for_log("a backend is well again").await.unwrap();
    assert_eq!(call(&program, "guestbook", "hole", &token).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_says_itself_whether_it_is_well() {
    let world = World::start().await.unwrap();
    let asked = Backend::start("asked").await.unwrap();
    let spec = |threshold: u32| {
        format!(
            "backend:\n  services:\n  - url: {}/base\n    headers: [{{name: X-Key, value: for-the-check-too}}]\n    healthCheck: {{path: /healthz, interval: 100ms, timeout: 1s, unhealthyThreshold: {threshold}}}",
            asked.url()
        )
    };
    world.write_spec("asked", &spec(2)).unwrap();
    let program = world.serve(&[]).unwrap();
    let token = world.token().unwrap();
    wait::until("it is asked", || async { Ok(asked.checks() > 2) }).await.unwrap();
    assert_eq!(call(&program, "guestbook", "asked", &token).await.status, 200);

    asked.set_ill(true);
    let down = || async { Ok(call(&program, "guestbook", "asked", &token).await.status == 503) };
    wait::until("it is down", down).await.unwrap();
    assert!(status(&program).await.contains("health check /healthz: status 500"), "{}", status(&program).await);
    asked.set_ill(false);
    let up = || async { Ok(call(&program, "guestbook", "asked", &token).await.status == 200) };
    wait::until("it is well again", up).await.unwrap();

    // An extension that goes takes its questions along.
    world.remove("extension-asked.yaml").unwrap();
    let gone = || async { Ok(call(&program, "guestbook", "asked", &token).await.status == 404) };
    wait::until("it is gone", gone).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let checks = asked.checks();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(asked.checks(), checks);
}
