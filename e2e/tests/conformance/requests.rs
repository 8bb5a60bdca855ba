use e2e::cases;
use e2e::world::World;

/// Needs Redis, which folder mode does not read.
const REVOKED: &str = "revoked";

#[tokio::test(flavor = "multi_thread")]
async fn conformance_of_requests() {
    let world = World::start().await.unwrap();
    let mut cases = cases::recorded(&world).unwrap();
    cases.retain(|case| case.name != REVOKED);
    let program = world.serve(&["--log-level", "trace"]).unwrap();
    let failures = cases::replay(&cases, &world, &program).await.unwrap();
    assert!(failures.is_empty(), "{} of {} fail:\n{}", failures.len(), cases.len(), failures.join("\n"));
    assert!(program.log().contains("extension_not_allowed"), "the log names the check that refused");
    let told = cases::secrets_told(&cases, &world, &program).await.unwrap();
    assert!(told.is_empty(), "{told:?} are told:\n{}", program.log());
}
