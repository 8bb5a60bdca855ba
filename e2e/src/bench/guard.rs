//! Policies that nobody should write: they may cost their author an answer, and nobody any time.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::program::Program;
use crate::wait;
use crate::world::World;

use super::arena::{self, Arena};
use super::generator::{Load, Pace, Requests};
use super::large;
use super::table::{Row, millis};

const LINES: usize = 10_000;
/// Requests, each for an application that nobody asked for before.
const REQUESTS: usize = 300;

/// A policy by its name, whether it is one of regular expressions, and its lines.
pub fn policies() -> Vec<(&'static str, bool, String)> {
    let lines = |object: &dyn Fn(usize) -> String| {
        let line = |i| format!("p, role:everybody, applications, get, \"{}\", allow\n", object(i));
        (0..LINES).map(line).collect::<String>()
    };
    let bombs = ["(x+x+)+y", "(a*)*$", "a{1000}{1000}", "((a{0,50}){0,50}){0,50}", "(\\\\w{100}){50}", "(.*)*app"];
    vec![
        ("plain globs", false, lines(&|i| format!("team-{i}/*"))),
        ("hostile globs", false, lines(&|i| format!("*{}b{i}", "p*[!x]*{a,p}*?".repeat(8)))),
        ("regular expressions", true, lines(&|i| format!("^team-{i}/(dev|prod)-[a-z0-9-]+$"))),
        ("hostile expressions", true, lines(&|i| format!("{}{i}", bombs[i % bombs.len()]))),
    ]
}

/// How long reconciles and requests take under each, the requests' median and worst.
pub async fn run(arena: &Arena) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (name, is_regex, policy) in policies() {
        let world = arena::world(&arena.backend, &arena.sockets).await?;
        let program = arena::serve(&world)?;
        let Met { reconcile, typical, worst } = meet(&world, &program, is_regex, &policy).await?;
        let is_met = reconcile <= Duration::from_millis(250) && typical <= Duration::from_millis(5);
        let result =
            format!("reconcile {}, requests {} (the worst {})", millis(reconcile), millis(typical), millis(worst));
        let what = format!("10,000 policy lines, {name}: reconcile, and each request's decision");
        rows.push(Row::new(&what, "≤ 250 ms, ≤ 5 ms", result, is_met));
    }
    Ok(rows)
}

/// How long it took under a policy.
pub struct Met {
    pub reconcile: Duration,
    /// The median of the requests.
    pub typical: Duration,
    pub worst: Duration,
}

/// Gives the policy to a running program.
pub async fn meet(world: &World, program: &Program, is_regex: bool, policy: &str) -> Result<Met> {
    let before = program.reconciles().await?;
    let indented: String = policy.lines().map(|line| format!("    {line}\n")).collect();
    let mode = if is_regex { "  policy.matchMode: regex\n" } else { "" };
    let place = "  policy.extra.csv: |\n";
    let last = "    g, everybody, role:everybody\n    p, role:everybody, extensions, invoke, bench, allow\n";
    world.edit("10-config.yaml", |text| {
        text.replace(place, &format!("{mode}  policy.guard.csv: |\n{indented}{last}{place}"))
    })?;
    wait::until("the policy was read", || async { Ok(program.reconciles().await?.count > before.count) }).await?;
    let after = program.reconciles().await?;
    let token = large::token(&world.provider, 0)?;
    let requests: Requests = Arc::new(move |n, bytes| {
        let request = arena::request("x", &token, &format!("argocd:{}-{n}", "p".repeat(200)), &"p".repeat(250));
        bytes.extend_from_slice(request.as_bytes());
    });
    let send = |count: usize| {
        let pace = Pace::Count(count);
        Load { to: program.address, requests: requests.clone(), connections: 1, pace, may_be_refused: true }.run()
    };
    // The first one waits for the identity provider's keys.
    send(1).await.context("sending the first request")?;
    let outcome = send(REQUESTS).await.context("sending")?;
    Ok(Met {
        reconcile: after.took.saturating_sub(before.took),
        typical: outcome.within(500),
        worst: outcome.within(1000),
    })
}
