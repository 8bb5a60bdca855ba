use e2e::client::{Request, send};
use e2e::world::World;
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn probes_metrics_and_status_tell_the_state() {
    let world = World::start().await.unwrap();
    world.write_extension("broken", "ftp://example.com", "").unwrap();
    let program = world.serve(&[]).unwrap();
    let get = |path: &str| send(program.admin, Request::get(path));
    assert_eq!(get("/healthz").await.unwrap().status, 200);
    assert_eq!(get("/readyz").await.unwrap().status, 200);
    assert_eq!(get("/elsewhere").await.unwrap().status, 404);

    let token = world.token().unwrap();
    let call = Request::signed_in("/extensions/httpbin/status/418", &token);
    assert_eq!(send(program.address, call).await.unwrap().status, 418);
    let refused = Request::signed_in("/extensions/secretive/", &token);
    assert_eq!(send(program.address, refused).await.unwrap().status, 401);
    let metrics = get("/metrics").await.unwrap().text();
    for line in [
        "argocd_proxy_extension_request_total{extension=\"httpbin\",status=\"418\"} 1",
        "argocd_proxy_extension_request_duration_seconds_count{extension=\"httpbin\"} 1",
        "argocd_extension_proxy_refusals_total{reason=\"extension_not_allowed\"} 1",
        "argocd_extension_proxy_extensions{state=\"accepted\"} 9",
        "argocd_extension_proxy_extensions{state=\"invalid\"} 1",
        "argocd_extension_proxy_reconciles_total{result=\"changed\"} 1",
        "argocd_extension_proxy_idle_connections{extension=\"httpbin\"}",
        "argocd_extension_proxy_snapshot_timestamp_seconds ",
    ] {
        assert!(metrics.contains(line), "{line} is missing:\n{metrics}");
    }

    let status: Value = serde_json::from_slice(&get("/status").await.unwrap().body).unwrap();
    assert_eq!(status["ready"], true);
    assert_eq!(status["extensions"], serde_json::json!({"accepted": 9, "invalid": 1, "conflicted": 0}));
    let entries = status["entries"].as_array().unwrap();
    let broken = entries.iter().find(|entry| entry["name"] == "broken").unwrap();
    assert_eq!(broken["object"], "ProxyExtension argocd/broken");
    assert_eq!(broken["state"], "invalid");
    assert_eq!(broken["problems"][0]["field"], "backend.services[0].url");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_cannot_make_labels() {
    let world = World::start().await.unwrap();
    let program = world.serve(&[]).unwrap();
    let token = world.token().unwrap();
    for i in 0..50 {
        let unknown = Request::signed_in(&format!("/extensions/unknown-{i}/"), &token);
        assert_eq!(send(program.address, unknown).await.unwrap().status, 404);
    }
    let metrics = send(program.admin, Request::get("/metrics")).await.unwrap().text();
    assert!(!metrics.contains("unknown-"), "{metrics}");
    assert!(metrics.contains("refusals_total{reason=\"unknown_extension\"} 50"), "{metrics}");
}
