//! Thousands of schedules of two and three people who join, leave, verify, renew and change the root at once. Their clocks are up to an hour apart,
//! their machines sleep and die, API servers are away, requests and answers are lost. Nobody ever writes without
//! holding the Lease, nobody makes a second root, what one member signs every other trusts at every moment, and whoever
//! still lives comes to an end.
//!
//! A schedule follows from its seed: `MESHLINK_SEED=n` tries that one alone, `MESHLINK_SCHEDULES=n` so many.

use std::{
    sync::{
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread,
};

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use self::{
    work::Work,
    world::{Dice, Gaps, Machine, Shared, World, reached},
};
use super::*;
use crate::{
    cluster::{
        Delete, Kind, Recover, Ref,
        lease::{Identity, Now, Rule, Sighting},
    },
    observe::Seen,
};

mod work;
mod world;

/// How many a usual run tries.
const SLICE: u64 = 500;
/// By then, everybody has come to an end.
const END: Duration = Duration::from_secs(3 * 3600);
/// Who waits for a Lease gives up after this, and tries again.
const WAIT: Duration = Duration::from_secs(600);

/// What a schedule goes by: as it is, or wrong in one way.
#[derive(Clone, Copy)]
struct Rules {
    rule: Rule,
    fenced: bool,
    /// The clock goes on while the machine sleeps.
    sleepless: bool,
    /// No member begins a phase of a change of root before all have ended the one before.
    phased: bool,
}

const RIGHT: Rules = Rules {
    rule: Sighting::ran_out,
    fenced: true,
    sleepless: true,
    phased: true,
};

/// What came of one schedule.
#[derive(Debug, PartialEq)]
struct Outcome {
    wrong: Option<String>,
    effects: u64,
    taken: u64,
    trace: u64,
}

/// Somebody at a machine.
struct Operator {
    number: u64,
    begun: Instant,
    work: Work,
    machine: Arc<Machine>,
    clusters: BTreeMap<ClusterName, Cluster>,
    observed: Observed,
    skew: i64,
    rules: Rules,
    dice: Dice,
    /// Dies then.
    dies: Option<Duration>,
}

impl Operator {
    /// Tries until it is done.
    async fn work(&mut self) {
        for attempt in 0.. {
            let run = self.number * 1000 + attempt;
            self.machine.run.store(run, Relaxed);
            if self.run(run).await.is_ok() {
                return;
            }
            self.pause(10).await;
        }
    }

    async fn pause(&mut self, most: u64) {
        let pause = self.dice.time(Duration::from_secs(most));
        sleep(pause).await;
        self.machine.sleeps.over().await;
    }

    fn terms(&self, run: u64) -> Arc<Terms> {
        // All are called the same, as in containers.
        let identity = Identity::new("root@runner (process 1)", run.to_string(), None);
        let (begun, skew, number) = (self.begun, self.skew, self.number);
        let wall = move || {
            let second = 1_800_000_000 + skew + i64::try_from(begun.elapsed().as_secs()).unwrap();
            Timestamp::from_second(second).unwrap()
        };
        let (machine, sleepless) = (self.machine.clone(), self.rules.sleepless);
        let uptime = move || {
            // Each was started at another time, and no two clocks go at one speed.
            let up = begun.elapsed() * u32::try_from(1000 + number).unwrap() / 1000;
            let asleep = if sleepless {
                Duration::ZERO
            } else {
                machine.sleeps.so_far()
            };
            Duration::from_secs(1000 * number) + up.saturating_sub(asleep)
        };
        let mut terms = Terms::new(identity, Arc::new(wall), Arc::new(uptime));
        terms.rule = self.rules.rule;
        Arc::new(terms)
    }

    /// One run, from the Leases to their release.
    async fn run(&mut self, run: u64) -> Result<(), Error> {
        let cancel = CancellationToken::new();
        let patience = Patience {
            wait: WAIT,
            going: WAIT,
            cancel: &cancel,
            say: &|_| (),
        };
        let terms = self.terms(run);
        let mesh = Mesh::named(&["a".into(), "b".into()]).unwrap();
        let held = lock(&self.clusters, &self.observed, &mesh, &terms, &patience).await?;
        let clusters = self.clusters.values();
        let clusters: Vec<_> = match self.rules.fenced {
            true => clusters.map(|c| c.fenced(held.fence())).collect(),
            false => clusters.cloned().collect(),
        };
        let done = self.change(&clusters, run).await;
        held.release(self.work == Work::Leave).await;
        done
    }
}

/// Tries again what may heal, as a step does.
async fn persist<T, F>(mut attempt: impl FnMut() -> F) -> Result<T, cluster::Error>
where
    F: Future<Output = Result<T, cluster::Error>>,
{
    let mut tries = 1;
    loop {
        match attempt().await {
            Err(error) if error.recover() != Recover::Never && tries < 12 => tries += 1,
            other => return other,
        }
        sleep(Duration::from_millis(500)).await;
    }
}

/// A few times at which something is away.
fn gaps(dice: &mut Dice, chance: u64, begun: Instant, longest: u64) -> Gaps {
    let mut gaps = Gaps::default();
    while gaps.0.len() < 3 && dice.percent(chance) {
        let from = begun + dice.time(Duration::from_secs(120));
        let to = from + Duration::from_secs(5) + dice.time(Duration::from_secs(longest));
        gaps.0.push((from, to));
    }
    gaps
}

/// Plays a schedule to its end.
fn play(seed: u64, rules: Rules) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut dice = Dice::new(seed);
        let begun = Instant::now();
        let members = 2 + dice.below(2);
        let people = 2 + dice.below(2);
        // Where each is about other members, their roots may be different ones.
        let whole = members == 2 || dice.percent(70);
        let away = (0..members)
            .map(|_| gaps(&mut dice, 25, begun, 60))
            .collect();
        let mut world = World::new(away, dice.clone(), whole);
        if dice.percent(20) {
            world.haunt(usize::try_from(dice.below(members)).unwrap());
        }
        if whole && dice.percent(60) {
            world.is_joined();
        }
        let world = Arc::new(Mutex::new(world));
        let work = (0..people).map(|number| {
            let mut operator = operator(number, &mut dice, (begun, &world, rules, members, whole));
            async move {
                operator.pause(20).await;
                match operator.dies {
                    Some(dies) => drop(timeout(dies, operator.work()).await),
                    None => operator.work().await,
                }
            }
        });
        let work: Vec<_> = work.collect();
        let ended = timeout(END, futures::future::join_all(work)).await;
        let mut world = world.lock().unwrap();
        if ended.is_err() {
            world.violated("somebody never comes to an end".into());
        }
        Outcome {
            wrong: world.wrong.clone(),
            effects: world.effects,
            taken: world.taken,
            trace: world.trace,
        }
    })
}

fn operator(
    number: u64,
    dice: &mut Dice,
    (begun, world, rules, members, whole): (Instant, &Shared, Rules, u64, bool),
) -> Operator {
    let machine = Arc::new(Machine {
        sleeps: gaps(dice, 40, begun, 120),
        run: AtomicU64::new(0),
    });
    // Any two of three have one in common.
    let left_out = (!whole).then(|| dice.below(members));
    let about = (0..members).filter(|n| Some(*n) != left_out);
    let (mut clusters, mut observed) = (BTreeMap::new(), Observed::default());
    for server in about {
        let cluster = reached(world, usize::try_from(server).unwrap(), &machine);
        let uid = format!("uid-{server}");
        let seen = Seen {
            uid,
            ..Seen::default()
        };
        observed.clusters.insert(cluster.name().clone(), seen);
        clusters.insert(cluster.name().clone(), cluster);
    }
    Operator {
        number,
        begun,
        work: Work::any(dice),
        machine,
        clusters,
        observed,
        skew: i64::try_from(dice.below(7200)).unwrap() - 3600,
        rules,
        dies: dice
            .percent(25)
            .then(|| dice.time(Duration::from_secs(120))),
        dice: Dice::new(dice.below(u64::MAX)),
    }
}

/// Plays these, on every processor; what each came to, by its seed.
fn play_all(seeds: std::ops::Range<u64>, rules: Rules) -> Vec<(u64, Outcome)> {
    let next = AtomicU64::new(seeds.start);
    let (sender, outcomes) = mpsc::channel();
    thread::scope(|threads| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            let (next, sender, end) = (&next, sender.clone(), seeds.end);
            threads.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Relaxed);
                    if seed >= end {
                        return;
                    }
                    sender.send((seed, play(seed, rules))).unwrap();
                }
            });
        }
    });
    drop(sender);
    let mut all: Vec<_> = outcomes.into_iter().collect();
    all.sort_by_key(|(seed, _)| *seed);
    all
}

#[expect(clippy::disallowed_methods, reason = "which schedules a test tries")]
fn asked(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn nobody_writes_without_the_lease_and_everybody_comes_to_an_end() {
    let seeds = match asked("MESHLINK_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..asked("MESHLINK_SCHEDULES").unwrap_or(SLICE),
    };
    let begun = std::time::Instant::now();
    let all = play_all(seeds, RIGHT);
    let wrong = all
        .iter()
        .filter_map(|(seed, o)| Some((seed, o.wrong.as_ref()?)));
    let wrong: Vec<_> = wrong
        .map(|(seed, what)| format!("MESHLINK_SEED={seed}: {what}"))
        .collect();
    let sum = |of: fn(&Outcome) -> u64| all.iter().map(|(_, outcome)| of(outcome)).sum::<u64>();
    println!(
        "schedules: {} tried, {} wrong; {} writes, {} Leases taken over; {} s",
        all.len(),
        wrong.len(),
        sum(|o| o.effects),
        sum(|o| o.taken),
        begun.elapsed().as_secs()
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_schedule_follows_from_its_seed() {
    for seed in 0..20 {
        assert_eq!(play(seed, RIGHT), play(seed, RIGHT), "seed {seed}");
    }
}

/// The clocks of two machines compared, as it once was.
fn by_wall_clock(seen: &Sighting, now: Now) -> bool {
    seen.renewed
        .is_none_or(|renewed| renewed + seen.duration <= now.wall)
}

#[test]
fn the_schedules_find_each_rule_that_is_wrong() {
    let wall = Rules {
        rule: by_wall_clock,
        ..RIGHT
    };
    let unfenced = Rules {
        fenced: false,
        ..RIGHT
    };
    let sleeps = Rules {
        sleepless: false,
        ..RIGHT
    };
    let hasty = Rules {
        phased: false,
        ..RIGHT
    };
    let never = Rules {
        rule: |_, _| false,
        ..RIGHT
    };
    for (what, rules, wrong) in [
        (
            "another's clock is believed",
            wall,
            "while its Lease is held by",
        ),
        ("another's clock is believed", wall, "never comes to an end"),
        (
            "writes are not held back",
            unfenced,
            "while its Lease is held by",
        ),
        (
            "the clock sleeps with the machine",
            sleeps,
            "while its Lease is held by",
        ),
        (
            "members change their root one by one",
            hasty,
            "is not trusted by",
        ),
        ("no Lease ever runs out", never, "never comes to an end"),
    ] {
        let found = |seed| Some((seed, play(seed, rules).wrong.filter(|w| w.contains(wrong))?));
        let found = (0..SLICE).find_map(found);
        let (seed, wrong) = found.unwrap_or_else(|| panic!("not found: {what}: {wrong}"));
        println!("{what}: seed {seed}: {wrong}");
    }
}
