//! The table of those that use something, and what is said of their limits.

use std::future::poll_fn;
use std::sync::atomic::AtomicUsize;

use tokio::task::JoinHandle;
use tokio::time::{self, sleep};

use super::*;
use crate::config::credential::tests::credential;

#[test]
fn table_forgets_credentials_that_nobody_uses() {
    let usages = Usages::default();
    for number in 0..10_000 {
        usages.of(&credential(&format!("site{number}")));
    }
    assert!(usages.lock().capacity() < 16, "{}", usages.lock().capacity());
    let (one, same) = (usages.of(&credential("a")), usages.of(&credential("a")));
    assert!(Arc::ptr_eq(&one, &same));
}

#[test]
fn limit_is_told_of_once_a_minute() {
    let usages = Usages::default();
    let mut limited = credential("a");
    limited.limits.streams_max = Some(1);
    let (usage, start) = (usages.of(&limited), Instant::now());
    let _place = usage.enter(start).unwrap();
    let told_at = |after: Duration| {
        assert!(usage.enter(start + after).is_err());
        usage.lock().told_at.unwrap() - start
    };
    assert_eq!(told_at(Duration::ZERO), Duration::ZERO);
    assert_eq!(told_at(Duration::from_secs(59)), Duration::ZERO);
    assert_eq!(told_at(TELL_INTERVAL), TELL_INTERVAL);
}

/// A credential that may move 16 slots of 1 KiB in a second.
fn slow() -> (Usages, Arc<Usage>) {
    let usages = Usages::default();
    let mut limited = credential("a");
    limited.limits.bytes_per_second_max = Some(16 << 10);
    let usage = usages.of(&limited);
    (usages, usage)
}

/// Streams that read for ever; what each has read and how often they were polled.
struct Readers {
    usage: Arc<Usage>,
    polled: Arc<AtomicUsize>,
    read: Vec<Arc<AtomicUsize>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Readers {
    fn new(usage: &Arc<Usage>) -> Self {
        Self { usage: Arc::clone(usage), polled: Arc::default(), read: Vec::new(), tasks: Vec::new() }
    }

    fn add(&mut self) {
        let mut place = self.usage.enter(Instant::now()).unwrap();
        let (polled, read) = (Arc::clone(&self.polled), Arc::new(AtomicUsize::new(0)));
        self.read.push(Arc::clone(&read));
        self.tasks.push(tokio::spawn(async move {
            loop {
                let next = poll_fn(|cx| {
                    polled.fetch_add(1, Ordering::Relaxed);
                    place.poll_read(cx, |_, most| Poll::Ready(Ok(most.unwrap())))
                });
                read.fetch_add(next.await.unwrap(), Ordering::Relaxed);
            }
        }));
    }

    fn slots(&self) -> Vec<usize> {
        self.read.iter().map(|read| read.load(Ordering::Relaxed) >> 10).collect()
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

#[tokio::test(start_paused = true)]
async fn all_who_wait_get_equal_shares_and_are_woken_once_a_slot() {
    let (_usages, usage) = slow();
    let mut readers = Readers::new(&usage);
    (0..40).for_each(|_| readers.add());
    // What may be ahead goes to whoever comes first.
    sleep(Duration::from_secs(1)).await;
    let before = readers.slots();
    sleep(Duration::from_secs(20)).await;
    let slots: Vec<usize> = readers.slots().iter().zip(before).map(|(slots, before)| slots - before).collect();
    assert!(slots.iter().all(|slots| (7..=9).contains(slots)), "{slots:?}");
    let all: usize = slots.iter().sum();
    assert!((319..=321).contains(&all), "{all} slots in 20 s");
    let polled = readers.polled.load(Ordering::Relaxed);
    let all: usize = readers.slots().iter().sum();
    // Each slot is asked for, and taken when its time has come.
    assert!(polled <= 2 * (all + 40), "polled {polled} times for {all} slots");
}

#[tokio::test(start_paused = true)]
async fn newcomer_waits_for_no_more_than_the_queue_before_it() {
    let (_usages, usage) = slow();
    let mut readers = Readers::new(&usage);
    (0..40).for_each(|_| readers.add());
    sleep(Duration::from_secs(7)).await;
    let before = time::Instant::now();
    let mut place = usage.enter(Instant::now()).unwrap();
    poll_fn(|cx| place.poll_write(cx, |_, most| Poll::Ready(Ok(most.unwrap())))).await.unwrap();
    let took = before.elapsed();
    // 40 slots, and what is left of the one whose time it is.
    assert!(took <= Duration::from_secs(41) / 16, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn newcomer_waits_about_a_second_however_many_there_are() {
    let (_usages, usage) = slow();
    usage.set_limits(CredentialLimits { bytes_per_second_max: Some(4 << 20), ..CredentialLimits::default() });
    let mut readers = Readers::new(&usage);
    (0..1000).for_each(|_| readers.add());
    sleep(Duration::from_secs(30)).await;
    let before = time::Instant::now();
    let mut place = usage.enter(Instant::now()).unwrap();
    poll_fn(|cx| place.poll_write(cx, |_, most| Poll::Ready(Ok(most.unwrap())))).await.unwrap();
    let took = before.elapsed();
    assert!(took <= Duration::from_millis(1100), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_moved_is_given_back() {
    let (_usages, usage) = slow();
    let before = time::Instant::now();
    let mut idle: Vec<Place> = (0..100).map(|_| usage.enter(Instant::now()).unwrap()).collect();
    for place in &mut idle {
        // Nothing is there to be read, and then a little.
        let is_pending = poll_fn(|cx| Poll::Ready(place.poll_read(cx, |_, _| Poll::Pending).is_pending())).await;
        assert!(is_pending);
        poll_fn(|cx| place.poll_read(cx, |_, _| Poll::Ready(Ok(1)))).await.unwrap();
    }
    assert_eq!(before.elapsed(), Duration::ZERO);
    let mut queue: Vec<Place> = (0..100).map(|_| usage.enter(Instant::now()).unwrap()).collect();
    for place in &mut queue {
        // Some get their slot at once.
        poll_fn(|cx| Poll::Ready(place.poll_read(cx, |_, most| Poll::Ready(Ok(most.unwrap()))).is_ready())).await;
    }
    assert!(usage.lock().waiting.len() > 90);
    drop(queue);
    assert_eq!(usage.lock().waiting.len(), 0);
    poll_fn(|cx| idle[0].poll_read(cx, |_, _| Poll::Ready(Ok(1)))).await.unwrap();
    assert!(before.elapsed() < Duration::from_millis(200), "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn another_rate_holds_at_once_for_those_who_wait() {
    let (_usages, usage) = slow();
    let mut readers = Readers::new(&usage);
    (0..1000).for_each(|_| readers.add());
    sleep(Duration::from_millis(1)).await;
    let limits = CredentialLimits { bytes_per_second_max: Some(1 << 20), ..CredentialLimits::default() };
    usage.set_limits(limits);
    // The first ones do not know yet how many they are.
    sleep(Duration::from_secs(10)).await;
    let before = readers.slots();
    assert!(before.iter().all(|slots| *slots >= 1), "{before:?}");
    sleep(Duration::from_secs(64)).await;
    let slots: Vec<usize> = readers.slots().iter().zip(before).map(|(slots, before)| slots - before).collect();
    // Of 64 MiB, a thousandth each.
    assert!(slots.iter().all(|slots| (63..=67).contains(slots)), "{slots:?}");
    assert_eq!(usage.lock().waiting.len(), 1000);
}
