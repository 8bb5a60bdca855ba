//! Policies that nobody should write, and callers in more groups than anybody should be: they may cost their author an
//! answer, and nobody any time.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::program::Program;
use crate::provider::Provider;
use crate::token::TokenSpec;
use crate::wait;
use crate::world::World;

use super::arena::{self, Arena};
use super::generator::{Load, Pace, Requests};
use super::table::{Row, millis};

const LINES: usize = 10_000;
/// Requests, each for an application that nobody asked for before.
const REQUESTS: usize = 300;
/// So many that their token is too long to be remembered.
const MOST_GROUPS: usize = 1_000;

/// A policy, and who asks under it.
pub struct Case {
    pub name: &'static str,
    is_regex: bool,
    policy: String,
    /// How many the caller is in.
    groups: usize,
}

pub fn cases() -> Vec<Case> {
    let lines = |line: &dyn Fn(usize) -> String| (0..LINES).map(line).collect::<String>();
    let objects = |object: &dyn Fn(usize) -> String| {
        lines(&|i| format!("p, role:everybody, applications, get, \"{}\", allow\n", object(i)))
    };
    let bombs = ["(x+x+)+y", "(a*)*$", "a{1000}{1000}", "((a{0,50}){0,50}){0,50}", "(\\\\w{100}){50}", "(.*)*app"];
    let case = |name, is_regex, policy| Case { name, is_regex, policy, groups: 40 };
    let of_groups = |i: usize| match (i / 2, i % 2) {
        (group, 0) => format!("g, group-{group}, role:r{group}\n"),
        (group, _) => format!("p, role:r{group}, applications, get, team-{group}/*, allow\n"),
    };
    vec![
        case("plain globs", false, objects(&|i| format!("team-{i}/*"))),
        case("hostile globs", false, objects(&|i| format!("*{}b{i}", "p*[!x]*{a,p}*?".repeat(8)))),
        case("regular expressions", true, objects(&|i| format!("^team-{i}/(dev|prod)-[a-z0-9-]+$"))),
        case("hostile expressions", true, objects(&|i| format!("{}{i}", bombs[i % bombs.len()]))),
        Case { groups: MOST_GROUPS, ..case("a caller in 1,000 groups", false, lines(&of_groups)) },
    ]
}

/// How long reconciles and requests take under each, the requests' median and worst.
pub async fn run(arena: &Arena) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for case in cases() {
        let world = arena::world(&arena.backend, &arena.sockets).await?;
        let program = arena::serve(&world)?;
        let Met { reconcile, typical, worst } = meet(&world, &program, &case).await?;
        let is_met = reconcile <= Duration::from_millis(250) && typical <= Duration::from_millis(5);
        let result =
            format!("reconcile {}, requests {} (the worst {})", millis(reconcile), millis(typical), millis(worst));
        let what = format!("10,000 policy lines, {}: reconcile, and each request's decision", case.name);
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

/// Gives the policy to a running program, and asks.
pub async fn meet(world: &World, program: &Program, case: &Case) -> Result<Met> {
    let before = program.reconciles().await?;
    let indented: String = case.policy.lines().map(|line| format!("    {line}\n")).collect();
    let mode = if case.is_regex { "  policy.matchMode: regex\n" } else { "" };
    let place = "  policy.extra.csv: |\n";
    let last = "    g, everybody, role:everybody\n    p, role:everybody, extensions, invoke, bench, allow\n";
    world.edit("10-config.yaml", |text| {
        text.replace(place, &format!("{mode}  policy.guard.csv: |\n{indented}{last}{place}"))
    })?;
    wait::until("the policy was read", || async { Ok(program.reconciles().await?.count > before.count) }).await?;
    let after = program.reconciles().await?;
    let token = token(&world.provider, case.groups)?;
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

fn token(provider: &Provider, groups: usize) -> Result<String> {
    let groups: Vec<String> = (0..groups).map(|i| format!("group-{i}")).chain(["everybody".to_owned()]).collect();
    TokenSpec::oidc().claim("groups", groups).mint(provider)
}
