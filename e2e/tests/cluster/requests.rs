use e2e::cases;
use e2e::stage::Stage;

#[tokio::test(flavor = "multi_thread")]
async fn conformance_of_requests_in_a_cluster() {
    let stage = Stage::start().await.unwrap();
    let cases = cases::recorded(&stage.world).unwrap();
    let program = stage.serve(&["--log-level", "trace"]).await.unwrap();
    let failures = cases::replay(&cases, &stage.world, &program).await.unwrap();
    assert!(failures.is_empty(), "{} of {} fail:\n{}", failures.len(), cases.len(), failures.join("\n"));
    let told = cases::secrets_told(&cases, &stage.world, &program).await.unwrap();
    assert!(told.is_empty(), "{told:?} are told:\n{}", program.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_does_not_stream_lists_serves_as_well() {
    let stage = Stage::start_with(&["--feature-gates=WatchList=false"]).await.unwrap();
    let program = stage.serve(&[]).await.unwrap();
    program.wait_for_log("are listed in pages").await.unwrap();
    let cases = cases::recorded(&stage.world).unwrap();
    let failures = cases::replay(&cases, &stage.world, &program).await.unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
