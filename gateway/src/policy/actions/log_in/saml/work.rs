//! What SAML costs in time: XML and signatures are worked on beside the tasks that carry traffic, so many at a time.

use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::super::flaw::{Flaw, Wrong};

/// Work of which only so much is done at a time.
#[derive(Debug)]
pub(super) struct Work(Semaphore);

impl Work {
    const fn new(at_a_time: usize) -> Self {
        Self(Semaphore::const_new(at_a_time))
    }

    /// Does it on a thread where it keeps nobody else waiting. What has begun goes on when nobody waits any more, and counts
    /// until it is done.
    pub(super) async fn run<T: Send + 'static>(
        &'static self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Flaw> {
        let busy = |_| Flaw::new(Wrong::Own, "too many messages of SAML are being worked on");
        let permit = timeout(WAIT_TIME, self.0.acquire()).await.map_err(busy)?;
        let permit = permit.map_err(|_| Flaw::new(Wrong::Own, "the work has ended"))?;
        let task = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(permit);
            done
        });
        task.await.map_err(|_| Flaw::new(Wrong::Own, "a message of SAML could not be worked on"))
    }
}

/// All work of SAML in this process.
pub(super) static WORK: Work = Work::new(AT_A_TIME);

/// A message takes milliseconds of a processor, a hostile one of the greatest length some hundred: more at a time than
/// small machines have processors would only take them from the traffic.
const AT_A_TIME: usize = 4;
/// How long a visitor waits for its turn.
const WAIT_TIME: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    static TEST: Work = Work::new(2);

    #[tokio::test(start_paused = true)]
    async fn only_so_much_is_done_at_a_time_and_nobody_waits_for_ever() {
        let (begun, mut begins) = tokio::sync::mpsc::unbounded_channel();
        let mut ends = Vec::new();
        for _ in 0..2 {
            let (end, ended) = mpsc::channel::<()>();
            let begun = begun.clone();
            tokio::spawn(TEST.run(move || {
                begun.send(()).unwrap();
                let _ = ended.recv();
            }));
            begins.recv().await.unwrap();
            ends.push(end);
        }
        // Threads that block keep the clock of the test from going on by itself.
        let third = tokio::spawn(TEST.run(|| 3));
        tokio::task::yield_now().await;
        tokio::time::advance(WAIT_TIME + Duration::from_millis(1)).await;
        assert_eq!(third.await.unwrap().unwrap_err().wrong, Wrong::Own);
        ends.clear();
        assert_eq!(TEST.run(|| 4).await.unwrap(), 4);
    }
}
