use std::collections::BTreeSet;

use e2e::client::{Request, send};
use e2e::stage::Stage;
use e2e::websocket;

/// What the document says is what the program exports with everything on, to the last name.
#[tokio::test(flavor = "multi_thread")]
async fn every_metric_is_documented_and_none_else() {
    let mut stage = Stage::start().await.unwrap();
    let program = stage.serve(&["--access-log", "1"]).await.unwrap();
    let token = stage.world.token().unwrap();
    // A metric shows when there was something to count: a request, a refusal, a stream, a source that failed.
    send(program.address, Request::signed_in("/extensions/httpbin/x", &token)).await.unwrap();
    send(program.address, Request::signed_in("/extensions/secretive/x", &token)).await.unwrap();
    let _socket = websocket::open(program.address, "/extensions/httpbin/ws", &token, &[]).await.unwrap();
    stage.redis.kill().unwrap();
    program.wait_for_log("the known revocations hold").await.unwrap();
    let metrics = send(program.admin, Request::get("/metrics")).await.unwrap().text();
    let exported: BTreeSet<String> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|rest| rest.split_once(' '))
        .map(|(name, kind)| if kind == "counter" { format!("{name}_total") } else { name.to_owned() })
        .collect();
    let documents = include_str!("../../../docs/metrics.md");
    let table = documents.split("## Reasons").next().unwrap();
    let documented: BTreeSet<String> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|row| row.split('`').next())
        .map(str::to_owned)
        .collect();
    assert_eq!(documented, exported);
}
