//! Many objects in a real API server: memory, time to be ready, and what changes cost.

use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use http::Request as HttpRequest;
use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use serde_json::{Value, json};

use crate::apiserver::ApiServer;
use crate::program::Program;
use crate::redis::Redis;
use crate::stage::{self, Stage};
use crate::wait;

use super::Options;
use super::arena::{self, Arena};
use super::argocd::ArgoCdServer;
use super::generator::{Pace, same};
use super::large;
use super::measure::{Lane, Sample, median, rounds};
use super::requests::{lane, shown};
use super::table::{self, Row, megabytes, micros, millis};

const FEW: usize = 5_000;
const MANY: usize = 50_000;
const EXTENSIONS: usize = 1_000;
const PAGE: usize = 500;
const MOST_STARTS: usize = 3;
const AT_ONCE: usize = 32;
const CHANGES_A_SECOND: f64 = 500.0;
/// Requests while something else happens, too few to matter.
const REQUESTS_A_SECOND: f64 = 1_000.0;
const PATIENCE: Duration = Duration::from_secs(120);

/// A cluster with a large policy, and the program's peers outside of it.
pub struct Scale {
    stage: Stage,
    client: Client,
}

impl Scale {
    pub async fn start(arena: &Arena) -> Result<Self> {
        let world = arena::large_world(&arena.backend, &arena.sockets, 0).await?;
        let (api, redis) = tokio::try_join!(ApiServer::start(), Redis::start())?;
        api.apply(world.folder())?;
        let client = api.client().await?;
        Ok(Self { stage: Stage { world, api, redis }, client })
    }

    /// Tells each row as soon as it is known.
    pub async fn run(
        &self,
        arena: &Arena,
        options: &Options,
        argocd: Option<&Path>,
        tell: impl Fn(&Row),
    ) -> Result<()> {
        self.create(0..FEW).await?;
        tell(&Memory::of(&self.serve().await?.0)?.row(FEW, 40));
        if let Some(program) = argocd {
            self.beside_argocd(program, options).await?.iter().for_each(&tell);
        }
        self.create(FEW..MANY).await?;
        self.starts(options.rounds).await?.iter().for_each(&tell);
        tell(&self.changing_applications(arena, options).await?);
        tell(&self.changing_an_extension(arena, options).await?);
        Ok(())
    }

    /// The same requests through argocd-server, on the same cluster.
    async fn beside_argocd(&self, argocd: &Path, options: &Options) -> Result<Vec<Row>> {
        let (program, _) = self.serve().await?;
        let argocd = ArgoCdServer::start(argocd, &self.stage).await?;
        let ours = arena::candidate(&program);
        let simple = arena::simple("x", &self.stage.world.token()?);
        let single_sign_on = arena::request("x", &large::token(&self.stage.world.provider, 0)?, "argocd:app-0", "p0");
        let mut rows = Vec::new();
        for (what, requests) in [("a local account", simple), ("single sign-on, 40 groups", same(single_sign_on))] {
            let lanes = [&ours, &argocd.candidate].map(|candidate| lane(candidate, &requests, Pace::For(options.time)));
            let [ours, theirs] = rounds(lanes, options.rounds).await.with_context(|| argocd.log())?;
            let ratio = ours.ratio(&theirs, |sample| sample.per_second);
            let what = format!("requests a second (CPU each) beside argocd-server, 5,000 applications: {what}");
            let row = Row::told(&what, format!("{ratio:.0} × argocd-server"));
            rows.push(row.value("ours", shown(&ours)).value("argocd-server", shown(&theirs)));
        }
        let memory = [&ours, &argocd.candidate].map(|candidate| candidate.usage.resident());
        let [ours, theirs] = memory.map(|bytes| bytes.map(|bytes| bytes as f64));
        let (ours, theirs) = (ours?, theirs?);
        let row = Row::told("memory after that", format!("{:.2} × argocd-server", ours / theirs));
        rows.push(row.value("ours", megabytes(ours)).value("argocd-server", megabytes(theirs)));
        Ok(rows)
    }

    fn api(&self, group: &str, version: &str, kind: &str, plural: &str) -> Api<DynamicObject> {
        let resource = ApiResource {
            group: group.into(),
            version: version.into(),
            api_version: format!("{group}/{version}"),
            kind: kind.into(),
            plural: plural.into(),
        };
        Api::namespaced_with(self.client.clone(), "argocd", &resource)
    }

    fn applications(&self) -> Api<DynamicObject> {
        self.api("argoproj.io", "v1alpha1", "Application", "applications")
    }

    async fn create(&self, numbers: Range<usize>) -> Result<()> {
        create(&self.applications(), numbers.map(large::application)).await
    }

    async fn serve(&self) -> Result<(Program, Duration)> {
        let kubeconfig = self.stage.api.kubeconfig().display().to_string();
        let started = Instant::now();
        let program = self.stage.launch(&kubeconfig, &["--workers", "1"])?;
        stage::ready_within(PATIENCE, &program).await?;
        Ok((program, started.elapsed()))
    }

    /// Started several times, in turn with a bare list: its memory, where it took most, and how soon it is ready.
    async fn starts(&self, rounds: usize) -> Result<[Row; 2]> {
        let (mut most, mut times) = (Memory::default(), Vec::new());
        for _ in 0..rounds.min(MOST_STARTS) {
            let bare = self.bare_list(MANY).await?;
            let (program, ready) = self.serve().await?;
            most = most.max(Memory::of(&program)?);
            times.push([bare, ready].map(|time| time.as_secs_f64()));
        }
        let typical = |value: fn(&[f64; 2]) -> f64| median(times.iter().map(value).collect());
        let ratio = typical(|[bare, ready]| ready / bare);
        let ready = Row::new(
            "ready after start with 50,000 applications",
            "≤ 1.2 × a bare paged list of them",
            format!("{ratio:.2} × {:.1} s", typical(|[bare, _]| *bare)),
            ratio <= 1.2,
        );
        Ok([most.row(MANY, 150), ready.value("ours", format!("{:.1} s", typical(|[_, ready]| *ready)))])
    }

    /// The pages of a list, read and thrown away.
    async fn bare_list(&self, applications: usize) -> Result<Duration> {
        let started = Instant::now();
        let (mut next, mut seen) = (String::new(), 0);
        loop {
            let uri = format!("/apis/argoproj.io/v1alpha1/namespaces/argocd/applications?limit={PAGE}&continue={next}");
            let page = self.client.request_text(HttpRequest::get(uri).body(Vec::new())?).await?;
            seen += page.matches("\"kind\":\"Application\"").count();
            let (_, rest) = page.split_once("\"continue\":\"").unwrap_or_default();
            next = rest.split('"').next().unwrap_or_default().to_owned();
            if next.is_empty() {
                ensure!(seen >= applications, "the list has {seen} applications");
                return Ok(started.elapsed());
            }
        }
    }

    async fn changing_applications(&self, arena: &Arena, options: &Options) -> Result<Row> {
        let (program, _) = self.serve().await?;
        let applications = self.applications();
        let change = |n: usize| {
            let applications = applications.clone();
            async move {
                let patch = json!({"spec": {"destination": {"namespace": format!("changed-{n}")}}});
                let name = format!("app-{}", n * 13 % MANY);
                applications.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
            }
        };
        let during = self.during(arena, &program, CHANGES_A_SECOND, options.time * 3, change).await?;
        let share = during.cpu.as_secs_f64() / during.elapsed.as_secs_f64() * CHANGES_A_SECOND / during.per_second();
        let what = format!("500 application changes a second ({:.0} were possible)", during.per_second());
        let result =
            format!("{:.1} % of a core, {} each; p99 {}", share * 100.0, micros(during.cpu_each()), during.late());
        let met = share <= 0.05 && during.is_unharmed();
        Ok(during.p99s(Row::new(&what, "≤ 5 % of a core, p99 ≤ 1.2 × HAProxy's meanwhile", result, met)))
    }

    async fn changing_an_extension(&self, arena: &Arena, options: &Options) -> Result<Row> {
        let extensions = self.api("extensions.argoproj.io", "v1alpha1", "ProxyExtension", "proxyextensions");
        let url = format!("http://{}", arena.backend.candidate.address);
        let extension = |i: usize| {
            json!({
                "apiVersion": "extensions.argoproj.io/v1alpha1", "kind": "ProxyExtension",
                "metadata": {"name": format!("ext-{i}"), "namespace": "argocd"},
                "spec": {"backend": {"services": [{"url": format!("{url}/{i}"), "headers": [{"name": "X-Number", "value": "0"}]}]}},
            })
        };
        create(&extensions, (0..EXTENSIONS).map(extension)).await?;
        let (program, _) = self.serve().await?;
        // Their status is written first.
        let settled = || async { Ok(self.accepted(&extensions).await? == EXTENSIONS) };
        wait::within(PATIENCE, "every extension has its status", settled).await.with_context(|| program.log())?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let before = program.reconciles().await?;
        let change = |n: usize| {
            let extensions = extensions.clone();
            async move {
                let services =
                    json!([{"url": "http://127.0.0.1:9", "headers": [{"name": "X-Number", "value": n.to_string()}]}]);
                let patch = json!({"spec": {"backend": {"services": services}}});
                extensions.patch("ext-500", &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
            }
        };
        let during = self.during(arena, &program, 5.0, options.time * 5, change).await?;
        let after = program.reconciles().await?;
        let reconciles = (after.count - before.count).max(1.0);
        let [cpu, took] = [after.cpu - before.cpu, after.took - before.took].map(|sum| sum.div_f64(reconciles));
        let result = format!(
            "{} of a processor a reconcile ({} by the clock; all work with status and Events: {}); p99 {}",
            micros(cpu),
            micros(took),
            micros(during.cpu_each()),
            during.late()
        );
        let met = cpu <= Duration::from_millis(1) && during.is_unharmed();
        let goal = "≤ 1 ms of reconcile CPU, p99 ≤ 1.2 × HAProxy's meanwhile";
        Ok(during.p99s(Row::new("1,000 extensions, one changed", goal, result, met)))
    }

    async fn accepted(&self, extensions: &Api<DynamicObject>) -> Result<usize> {
        let all = extensions.list(&kube::api::ListParams::default()).await?;
        let is_numbered =
            |object: &&DynamicObject| object.metadata.name.as_ref().is_some_and(|name| name.starts_with("ext-"));
        let has_status = |object: &&DynamicObject| !object.data["status"]["conditions"].is_null();
        Ok(all.items.iter().filter(is_numbered).filter(has_status).count())
    }

    /// Changes at a pace, and a few requests meanwhile through the program and through HAProxy.
    async fn during<F: Future<Output = kube::Result<()>>>(
        &self,
        arena: &Arena,
        program: &Program,
        rate: f64,
        time: Duration,
        change: impl Fn(usize) -> F,
    ) -> Result<During> {
        let ours = arena::candidate(program);
        let requests = arena::simple("x", &self.stage.world.token()?);
        let pace = Pace::PerSecond(REQUESTS_A_SECOND, time);
        let lanes = [&ours, &arena.haproxy.candidate]
            .map(|candidate| Lane { connections: 8, ..lane(candidate, &requests, pace) });
        let started = Instant::now();
        let before = cpu_beside_requests(program)?;
        let changes = async {
            let due = |n: usize| tokio::time::Instant::from_std(started + Duration::from_secs_f64(n as f64 / rate));
            let numbers = stream::iter(0..).take_while(|_| std::future::ready(started.elapsed() < time));
            let done = numbers.map(|n| {
                let change = change(n);
                async move {
                    tokio::time::sleep_until(due(n)).await;
                    change.await
                }
            });
            anyhow::Ok(done.buffer_unordered(AT_ONCE).try_fold(0, |count, ()| std::future::ready(Ok(count + 1))).await?)
        };
        let (changes, ours, haproxy) = tokio::try_join!(changes, lanes[0].measure(), lanes[1].measure())?;
        let cpu = cpu_beside_requests(program)? - before;
        Ok(During { changes, elapsed: started.elapsed(), cpu, ours, haproxy })
    }
}

/// Bytes of the program's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Memory {
    /// During the first list.
    peak: u64,
    afterwards: u64,
}

impl Memory {
    fn of(program: &Program) -> Result<Self> {
        Ok(Self { peak: program.usage().peak()?, afterwards: program.usage().resident()? })
    }

    fn row(self, applications: usize, limit: u64) -> Row {
        let what =
            format!("memory with {} applications, at the peak of the first list", table::count(applications as f64));
        let [peak, afterwards] = [self.peak, self.afterwards].map(|bytes| megabytes(bytes as f64));
        let row = Row::new(&what, &format!("≤ {limit} MB"), peak.clone(), self.peak <= limit << 20);
        row.value("ours", format!("{peak} (then {afterwards})"))
    }
}

/// What all threads took of the processors but those that serve requests.
fn cpu_beside_requests(program: &Program) -> Result<Duration> {
    Ok(program.usage().cpu()?.saturating_sub(program.usage().cpu_of_threads("worker-")?))
}

/// What happened while something was changed.
struct During {
    changes: usize,
    elapsed: Duration,
    /// Without that of the threads that serve requests.
    cpu: Duration,
    ours: Sample,
    haproxy: Sample,
}

impl During {
    fn per_second(&self) -> f64 {
        self.changes as f64 / self.elapsed.as_secs_f64()
    }

    fn cpu_each(&self) -> Duration {
        self.cpu.div_f64(self.changes.max(1) as f64)
    }

    fn ratio(&self) -> f64 {
        self.ours.p99.as_secs_f64() / self.haproxy.p99.as_secs_f64()
    }

    fn late(&self) -> String {
        format!("{:.2} × HAProxy's", self.ratio())
    }

    fn is_unharmed(&self) -> bool {
        self.ratio() <= 1.2
    }

    fn p99s(&self, row: Row) -> Row {
        let shown = |sample: &Sample| format!("p99 {}", millis(sample.p99));
        row.value("ours", shown(&self.ours)).value("HAProxy", shown(&self.haproxy))
    }
}

async fn create(api: &Api<DynamicObject>, objects: impl Iterator<Item = Value>) -> Result<()> {
    let created = stream::iter(objects).map(|object| async move {
        api.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
        anyhow::Ok(())
    });
    created.buffer_unordered(AT_ONCE).try_collect::<()>().await
}
