//! A keeper with an authority of its own, under a virtual clock.

use std::collections::VecDeque;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tempfile::TempDir;
use tokio::time::timeout;

use super::super::issued::tests::issued;
use super::*;

const DAY: u64 = 24 * 3600;
/// When the tests begin, in seconds since 1970.
const BEGIN: u64 = 1_750_000_000;
const URL: &str = "https://ca.example.com/dir";

/// Issues what it is told, or certificates of some life; each order takes a second.
struct Fake {
    life: AtomicU64,
    script: Mutex<VecDeque<IssueError>>,
    /// Names with the second of the order.
    orders: Mutex<Vec<(String, u64)>>,
    now: AtomicUsize,
    most: AtomicUsize,
    clock: Clock,
    begin: Instant,
}

impl Authority for Fake {
    async fn issue(&self, name: &str) -> Result<Issued, IssueError> {
        let at = self.begin.elapsed().as_secs();
        self.orders.lock().unwrap().push((name.to_owned(), at));
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(now, Ordering::Relaxed);
        sleep(Duration::from_secs(1)).await;
        self.now.fetch_sub(1, Ordering::Relaxed);
        if let Some(error) = self.script.lock().unwrap().pop_front() {
            return Err(error);
        }
        let begins = (self.clock)().duration_since(UNIX_EPOCH).unwrap().as_secs();
        Ok(issued(name, Life { begins, ends: begins + self.life.load(Ordering::Relaxed) }))
    }
}

struct World {
    root: TempDir,
    fake: Arc<Fake>,
    certificates: Arc<Certificates>,
    /// Seconds by which the time of day has jumped.
    jump: Arc<AtomicU64>,
}

impl World {
    fn new() -> Self {
        let (begin, jump) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let clock: Clock = {
            let jump = Arc::clone(&jump);
            Arc::new(move || UNIX_EPOCH + Duration::from_secs(BEGIN + jump.load(Ordering::Relaxed)) + begin.elapsed())
        };
        let fake = Fake {
            life: AtomicU64::new(90 * DAY),
            script: Mutex::default(),
            orders: Mutex::default(),
            now: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            clock,
            begin,
        };
        let certificates = Certificates::from_keys([], None);
        Self { root: tempfile::tempdir().unwrap(), fake: Arc::new(fake), certificates, jump }
    }

    fn state(&self) -> State {
        State::open(self.root.path(), URL).unwrap()
    }

    fn keeper(&self, names: &[&str]) -> Keeper<Fake> {
        let means = Means {
            authority: Arc::clone(&self.fake),
            state: self.state(),
            certificates: Arc::clone(&self.certificates),
            renew_before: None,
            clock: Arc::clone(&self.fake.clock),
            random: Random::new(7),
        };
        Keeper::new(means, &owned(names))
    }

    /// A keeper at work; it ends when the sender goes.
    fn run(&self, names: &[&str]) -> mpsc::Sender<Vec<String>> {
        let (sender, lists) = mpsc::channel(4);
        tokio::spawn(self.keeper(names).run(lists));
        sender
    }

    fn fail(&self, error: IssueError, times: usize) {
        self.fake.script.lock().unwrap().extend(std::iter::repeat_n(error, times));
    }

    /// The seconds at which something was ordered.
    fn ordered_at(&self) -> Vec<u64> {
        self.fake.orders.lock().unwrap().iter().map(|(_, at)| *at).collect()
    }

    fn has(&self, name: &str) -> bool {
        self.certificates.find(Some(name)).is_some()
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

async fn pass(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn missing_certificates_are_ordered_at_once_and_kept() {
    let world = World::new();
    let _keeper = world.run(&["a.example.com", "b.example.com"]);
    assert!(!world.has("a.example.com"), "the gateway starts without");
    pass(5).await;
    assert!(world.has("a.example.com") && world.has("b.example.com"));
    assert_eq!(world.ordered_at(), [0, 0]);
    assert!(world.state().certificate("a.example.com").unwrap().is_some());
    let first = world.certificates.find(None).unwrap();
    assert!(Arc::ptr_eq(&first, &world.certificates.find(Some("a.example.com")).unwrap()), "the first name's");
}

#[tokio::test(start_paused = true)]
async fn kept_certificate_is_used_without_an_order_until_two_thirds_of_its_life() {
    let world = World::new();
    let kept = issued("a.example.com", Life { begins: BEGIN, ends: BEGIN + 90 * DAY });
    world.state().keep_certificate("a.example.com", &kept).unwrap();
    let _keeper = world.run(&["a.example.com"]);
    assert_eq!(world.certificates.find(Some("a.example.com")).unwrap().cert, kept.certified.cert);
    pass(58 * DAY).await;
    assert_eq!(world.ordered_at(), Vec::<u64>::new());
    pass(2 * DAY + 3700).await;
    let [at] = world.ordered_at()[..] else { panic!("{:?}", world.ordered_at()) };
    assert!((90 * DAY * 2 / 3 - 90 * DAY / 60..=60 * DAY + 3600).contains(&at), "{at}");
    assert_ne!(world.certificates.find(Some("a.example.com")).unwrap().cert, kept.certified.cert);
}

#[tokio::test(start_paused = true)]
async fn unusable_file_is_replaced_by_a_new_certificate() {
    let world = World::new();
    fs::write(world.state().certificate_file("a.example.com"), "-----BEGIN PRIV").unwrap();
    let _keeper = world.run(&["a.example.com"]);
    pass(5).await;
    assert_eq!(world.ordered_at(), [0]);
    assert!(world.state().certificate("a.example.com").unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn failures_are_tried_again_ever_less_often_and_the_old_certificate_stays() {
    let world = World::new();
    let kept = issued("a.example.com", Life { begins: BEGIN - 70 * DAY, ends: BEGIN + 20 * DAY });
    world.state().keep_certificate("a.example.com", &kept).unwrap();
    world.fail(IssueError::authority("no connection"), 12);
    let _keeper = world.run(&["a.example.com"]);
    pass(DAY).await;
    let tries = world.ordered_at();
    let gaps: Vec<_> = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!((8..=14).contains(&tries.len()), "{tries:?}");
    assert!(gaps[0] >= 30 && gaps.iter().all(|gap| *gap <= 9 * 3600 + 1), "{gaps:?}");
    assert_eq!(world.certificates.find(Some("a.example.com")).unwrap().cert, kept.certified.cert);
    pass(3 * DAY).await;
    assert_eq!(world.ordered_at().len(), 13, "the thirteenth has success, and then there is peace");
    assert_ne!(world.certificates.find(Some("a.example.com")).unwrap().cert, kept.certified.cert);
}

#[tokio::test(start_paused = true)]
async fn end_is_said_when_it_is_near_and_when_it_has_come_and_the_certificate_stays() {
    let world = World::new();
    let kept = issued("a.example.com", Life { begins: BEGIN - 50, ends: BEGIN + 70 });
    world.state().keep_certificate("a.example.com", &kept).unwrap();
    let mut keeper = world.keeper(&["a.example.com"]);
    let said = |keeper: &Keeper<Fake>| keeper.records["a.example.com"].said;
    keeper.records.get_mut("a.example.com").unwrap().retry_at = Some(Instant::now() + Duration::from_secs(DAY));
    assert_eq!((keeper.step().as_secs(), said(&keeper)), (50, Said::Nothing));
    pass(50).await;
    assert_eq!((keeper.step().as_secs(), said(&keeper)), (20, Said::Near));
    pass(20).await;
    assert_eq!((keeper.step(), said(&keeper)), (CHECK_MAX, Said::Over));
    assert!(world.has("a.example.com"));
}

#[tokio::test(start_paused = true)]
async fn only_so_many_orders_are_under_way_at_once() {
    let world = World::new();
    let names: Vec<_> = (0..30).map(|number| format!("n{number}.example.com")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let _keeper = world.run(&names);
    pass(60).await;
    assert_eq!(world.fake.most.load(Ordering::Relaxed), ORDERS_MAX);
    assert!(names.iter().all(|name| world.has(name)));
    assert_eq!(world.ordered_at().len(), 30);
}

#[tokio::test(start_paused = true)]
async fn what_the_authority_says_about_coming_back_holds_also_at_a_reload() {
    let world = World::new();
    world.fail(IssueError { retry_after: Some(Duration::from_secs(7200)), ..IssueError::refusal("rate limited") }, 1);
    let keeper = world.run(&["a.example.com"]);
    pass(60).await;
    keeper.send(owned(&["a.example.com"])).await.unwrap();
    pass(7000).await;
    assert_eq!(world.ordered_at(), [0]);
    pass(300).await;
    assert_eq!(world.ordered_at(), [0, 7201]);
}

#[tokio::test(start_paused = true)]
async fn reload_tries_again_what_failed_but_not_in_a_loop() {
    let world = World::new();
    world.fail(IssueError::refusal("the name points elsewhere"), 100);
    let keeper = world.run(&["a.example.com"]);
    pass(3).await;
    for _ in 0..60 {
        keeper.send(owned(&["a.example.com"])).await.unwrap();
        pass(1).await;
    }
    let tries = world.ordered_at();
    assert!((5..=7).contains(&tries.len()), "{tries:?}");
}

#[tokio::test(start_paused = true)]
async fn names_come_and_go_at_a_reload() {
    let world = World::new();
    let keeper = world.run(&["a.example.com", "b.example.com"]);
    pass(5).await;
    let a = world.certificates.find(Some("a.example.com")).unwrap();
    keeper.send(owned(&["a.example.com", "c.example.com"])).await.unwrap();
    pass(5).await;
    assert!(Arc::ptr_eq(&a, &world.certificates.find(Some("a.example.com")).unwrap()), "untouched");
    assert!(world.has("c.example.com"));
    let orders = world.fake.orders.lock().unwrap().clone();
    let names: Vec<_> = orders.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a.example.com", "b.example.com", "c.example.com"]);
    // Nobody else's is shown for it: it is unknown now, and the first one answers.
    assert!(Arc::ptr_eq(&a, &world.certificates.find(Some("b.example.com")).unwrap()));
    keeper.send(owned(&["a.example.com", "b.example.com"])).await.unwrap();
    pass(5).await;
    assert_eq!(world.ordered_at().len(), 3, "what was kept is used");
}

#[tokio::test(start_paused = true)]
async fn however_short_lives_are_it_is_no_loop() {
    let world = World::new();
    world.fake.life.store(3, Ordering::Relaxed);
    let _keeper = world.run(&["a.example.com"]);
    pass(110).await;
    let tries = world.ordered_at().len();
    assert!((9..=11).contains(&tries), "{tries}");
}

#[tokio::test(start_paused = true)]
async fn certificate_that_has_ended_before_it_came_is_a_failure() {
    let world = World::new();
    world.fake.life.store(0, Ordering::Relaxed);
    let _keeper = world.run(&["a.example.com"]);
    pass(200).await;
    assert_eq!(world.ordered_at(), [0]);
    assert!(!world.has("a.example.com"));
}

#[tokio::test(start_paused = true)]
async fn jump_of_the_time_of_day_is_noticed_within_an_hour() {
    let world = World::new();
    let _keeper = world.run(&["a.example.com"]);
    pass(10).await;
    world.jump.store(80 * DAY, Ordering::Relaxed);
    pass(3601).await;
    assert_eq!(world.ordered_at().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn keeper_ends_when_nobody_wants_it() {
    let world = World::new();
    let (sender, lists) = mpsc::channel(1);
    let keeper = tokio::spawn(world.keeper(&[]).run(lists));
    drop(sender);
    assert!(timeout(Duration::from_secs(1), keeper).await.unwrap().is_ok());
}

#[test]
fn span_has_two_units() {
    let of = |seconds: u64| span(Duration::from_secs(seconds));
    assert_eq!((of(0), of(59), of(61)), ("0s".to_owned(), "59s".to_owned(), "1m1s".to_owned()));
    assert_eq!((of(3600), of(90_061), of(29 * DAY)), ("1h0m".to_owned(), "1d1h".to_owned(), "29d0h".to_owned()));
}
