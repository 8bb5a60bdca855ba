use std::time::Duration;

use e2e::client::{Request, send};
use e2e::otlp::{Collector, attribute};
use e2e::program::Program;
use e2e::wait;
use e2e::world::World;
use serde_json::Value;

/// The lines of the access log so far.
fn lines(program: &Program) -> Vec<Value> {
    program
        .output()
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

async fn wait_for_lines(program: &Program, n: usize) -> Vec<Value> {
    wait::until(&format!("{n} lines are written"), || async { Ok(lines(program).len() >= n) }).await.unwrap();
    lines(program)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_is_written_down_without_its_secrets() {
    let world = World::start().await.unwrap();
    let program = world.serve(&["--access-log", "1"]).unwrap();
    let token = world.token().unwrap();
    let path = format!("/extensions/httpbin/a%2Fb?token={token}&q=secret-in-the-query");
    send(program.address, Request::signed_in(&path, &token).header("Authorization", "Bearer other-secret"))
        .await
        .unwrap();
    send(program.address, Request::signed_in("/extensions/secretive/x", &token)).await.unwrap();
    send(program.address, Request::get("/extensions/httpbin/x")).await.unwrap();
    send(program.address, Request::signed_in("/extensions/down/x", &token)).await.unwrap();
    send(program.address, Request::signed_in("/extensions/httpbin/big?n=100000", &token)).await.unwrap();
    let lines = wait_for_lines(&program, 5).await;
    let first = &lines[0];
    for (field, value) in [
        ("client", "127.0.0.1"),
        ("method", "GET"),
        ("path", "/extensions/httpbin/a%2Fb"),
        ("protocol", "HTTP/1.1"),
        ("extension", "httpbin"),
        ("application", "argocd:guestbook"),
        ("project", "default"),
        ("user", "alice"),
    ] {
        assert_eq!(first[field], value, "{first}");
    }
    assert_eq!(first["backend"], world.a.url());
    assert_eq!((first["status"].as_u64(), first["check"].as_str()), (Some(200), None));
    assert!(first["durationSeconds"].as_f64().unwrap() > 0.0 && first["time"].as_f64().unwrap() > 1.7e9);
    let checks: Vec<_> = lines.iter().map(|line| (line["status"].as_u64(), line["check"].as_str())).collect();
    let expected = [
        (Some(200), None),
        (Some(401), Some("extension_not_allowed")),
        (Some(400), Some("no_cookie")),
        (Some(502), Some("backend_unreachable")),
        (Some(200), None),
    ];
    assert_eq!(checks, expected);
    assert_eq!(lines[4]["responseBytes"], 100_000);
    for secret in [token.as_str(), token.rsplit('.').next().unwrap(), "secret-in-the-query", "other-secret"] {
        assert!(!program.output().contains(secret) && !program.log().contains(secret), "{secret}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_of_requests_is_written_down_and_every_failure() {
    let world = World::start().await.unwrap();
    let program = world.serve(&["--access-log", "0.1", "--workers", "1"]).unwrap();
    let token = world.token().unwrap();
    for _ in 0..100 {
        send(program.address, Request::signed_in("/extensions/httpbin/x", &token)).await.unwrap();
    }
    for _ in 0..7 {
        send(program.address, Request::signed_in("/extensions/secretive/x", &token)).await.unwrap();
    }
    wait_for_lines(&program, 17).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let lines = lines(&program);
    let good = lines.iter().filter(|line| line["status"] == 200).count();
    assert_eq!((good, lines.len() - good), (10, 7));
    let (status, _, log) = Program::run(&["run", "--access-log", "2"]).unwrap();
    assert!(!status.success() && log.contains("write a number from 0 to 1"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_lines_are_written_before_the_end() {
    let world = World::start().await.unwrap();
    let mut program = world.serve(&["--access-log", "1"]).unwrap();
    let token = world.token().unwrap();
    for _ in 0..200 {
        send(program.address, Request::signed_in("/extensions/httpbin/x", &token)).await.unwrap();
    }
    program.terminate().unwrap();
    program.ended(Duration::from_secs(10)).await.unwrap();
    wait_for_lines(&program, 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_traced_from_the_caller_to_the_backend() {
    let world = World::start().await.unwrap();
    let collector = Collector::start().await.unwrap();
    let endpoint = format!("http://{}", collector.address);
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_SERVICE_NAME", "the-proxy"),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
    ];
    let program = world.serve_with(&environment).unwrap();
    let token = world.token().unwrap();
    let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let request = Request::signed_in("/extensions/httpbin/x?secret=1", &token)
        .header("traceparent", &format!("00-{trace}-{parent}-01"))
        .header("tracestate", "vendor=1");
    let seen = send(program.address, request).await.unwrap().seen().unwrap();
    let headers: Vec<(String, String)> = serde_json::from_value(seen["headers"].clone()).unwrap();
    let header =
        |wanted: &str| headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, v)| v.clone());
    let carried = header("traceparent").unwrap();
    let parts: Vec<&str> = carried.split('-').collect();
    assert_eq!((parts[1], parts[3]), (trace, "01"), "{carried}");
    assert_ne!(parts[2], parent, "the proxy's own span is the backend's parent");
    assert_eq!(header("tracestate").as_deref(), Some("vendor=1"));
    send(program.address, Request::signed_in("/extensions/secretive/x", &token)).await.unwrap();
    send(program.address, Request::signed_in("/extensions/down/x", &token)).await.unwrap();
    wait::until("the spans come", || async { Ok(collector.spans().len() >= 3) }).await.unwrap();

    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let spans = collector.spans();
    let (service, span) = spans.iter().find(|(_, span)| hex(&span.trace_id) == trace).unwrap();
    assert_eq!((service.as_str(), hex(&span.parent_span_id).as_str()), ("the-proxy", parent));
    assert_eq!(hex(&span.span_id), parts[2]);
    assert_eq!(span.name, "GET /extensions/httpbin/");
    for (name, value) in [
        ("http.request.method", "GET"),
        ("url.path", "/extensions/httpbin/x"),
        ("http.response.status_code", "200"),
        ("http.route", "/extensions/httpbin/"),
        ("enduser.id", "alice"),
        ("argocd.application", "argocd:guestbook"),
        ("argocd.project", "default"),
        ("client.address", "127.0.0.1"),
    ] {
        assert_eq!(attribute(&span.attributes, name).as_deref(), Some(value), "{name}");
    }
    let checks: Vec<_> = spans.iter().filter_map(|(_, span)| attribute(&span.attributes, "error.type")).collect();
    assert!(
        checks.contains(&"extension_not_allowed".to_owned()) && checks.contains(&"backend_unreachable".to_owned()),
        "{checks:?}"
    );
    assert!(!format!("{spans:?}").contains(&token[..20]));

    // What is not asked for is not sent, and a caller's trace passes through.
    let silent =
        world.serve_with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint), ("OTEL_SDK_DISABLED", "true")]).unwrap();
    let request =
        Request::signed_in("/extensions/httpbin/x", &token).header("traceparent", &format!("00-{trace}-{parent}-01"));
    let seen = send(silent.address, request).await.unwrap().seen().unwrap();
    assert!(seen["headers"].to_string().contains(&format!("00-{trace}-{parent}-01")));
    let folder = world.folder().to_str().unwrap();
    let wrong = Program::start_with(
        &["run", "--from-dir", folder],
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
    );
    assert!(wrong.err().unwrap().to_string().contains("use http/protobuf"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_gone_hurts_nobody() {
    let world = World::start().await.unwrap();
    let collector = Collector::start().await.unwrap();
    let endpoint = format!("http://{}", collector.address);
    drop(collector);
    let mut program =
        world.serve_with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint), ("OTEL_BSP_SCHEDULE_DELAY", "50")]).unwrap();
    let token = world.token().unwrap();
    for _ in 0..50 {
        assert_eq!(
            send(program.address, Request::signed_in("/extensions/httpbin/x", &token)).await.unwrap().status,
            200
        );
    }
    program.terminate().unwrap();
    assert!(program.ended(Duration::from_secs(15)).await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_level_changes_while_the_program_runs() {
    let world = World::start().await.unwrap();
    let program = world.serve(&["--log-level", "warn"]).unwrap();
    let token = world.token().unwrap();
    let refused = || send(program.address, Request::signed_in("/extensions/secretive/x", &token));
    refused().await.unwrap();
    let set = |level: &str| {
        let entry = format!("  server.enable.proxy.extension: \"true\"\n  extensionproxy.log.level: {level}\n");
        let text = std::fs::read_to_string(world.folder().join("10-config.yaml")).unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| !line.contains("extensionproxy.log.level")).collect();
        let text = lines.join("\n") + "\n";
        world.write("10-config.yaml", &text.replace("  server.enable.proxy.extension: \"true\"\n", &entry)).unwrap();
    };
    assert!(!program.log().contains("request refused"));
    set("debug");
    program.wait_for_log("at least Debug is logged").await.unwrap();
    refused().await.unwrap();
    program.wait_for_log("request refused").await.unwrap();
    set("shout");
    program.wait_for_log("\"shout\" is no level; write error, warn, info, debug or trace").await.unwrap();
    set("error");
    let said = |program: &Program| program.log().matches("request refused").count();
    let before = said(&program);
    let quiet = || async {
        let before = said(&program);
        refused().await?;
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok(said(&program) == before)
    };
    wait::until("it is quiet", quiet).await.unwrap();
    assert!(said(&program) >= before);
}
