//! Gross regressions of speed, told by ratios within one run: the optimised program that the image holds beside
//! HAProxy. The limits are far above what is measured (docs/performance.md), so that a busy machine fails nothing.

// What is not as expected fails the test.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use e2e::bench::arena::{self, APPLICATIONS, Arena};
use e2e::bench::measure::Sample;
use e2e::bench::{Options, guard, requests, streams};
use e2e::image;
use e2e::program;

const OPTIONS: Options = Options { time: Duration::from_millis(1500), rounds: 3 };

fn cpu(sample: &Sample) -> f64 {
    sample.cpu.as_secs_f64()
}

/// One after the other: each needs the machine for itself.
#[tokio::test(flavor = "multi_thread")]
async fn requests_memory_and_hostile_policies_stay_within_wide_limits() {
    program::set_binary(image::program(false).unwrap());
    let files = arena::raise_file_limit().unwrap();
    let arena = Arena::start().await.unwrap();

    let simple = requests::simple(&OPTIONS).await.unwrap();
    requests::throughput(&simple).iter().for_each(|row| println!("{}", row.line()));
    let [ours, haproxy, _] = simple;
    let ratio = ours.ratio(&haproxy, cpu);
    assert!(ratio < 3.0, "a request costs {ratio:.2} times what it costs HAProxy");

    let world = arena::large_world(&arena.backend, &arena.sockets, APPLICATIONS).await.unwrap();
    let [simple, one, everything] = requests::in_a_large_world(&arena, &world, &OPTIONS).await.unwrap();
    let (one, everything) = (one.ratio(&simple, cpu), everything.ratio(&simple, cpu));
    println!("single sign-on in a large world: {one:.2}; everybody for everything: {everything:.2}");
    assert!(one < 2.0, "a request of a user in 40 groups costs {one:.2} times a simple one");
    assert!(everything < 3.0, "a request that nobody made before costs {everything:.2} times a simple one");

    let row = streams::websockets(&arena, files.min(5_000)).await.unwrap();
    println!("{}", row.line());
    assert!(row.is_met, "{}", row.line());

    for case in guard::cases() {
        let world = arena::world(&arena.backend, &arena.sockets).await.unwrap();
        let program = arena::serve(&world).unwrap();
        let (name, met) = (case.name, guard::meet(&world, &program, &case).await.unwrap());
        println!("{name}: reconcile {:?}, request {:?} (worst {:?})", met.reconcile, met.typical, met.worst);
        assert!(met.reconcile < Duration::from_secs(1), "{name}: a reconcile took {:?}", met.reconcile);
        assert!(met.typical < Duration::from_millis(10), "{name}: a request took {:?}", met.typical);
    }
}
