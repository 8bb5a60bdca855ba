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
