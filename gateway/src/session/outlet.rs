//! The end of a link where bytes leave, and who writes there: the session's driver, or the task of a visitor who brings so
//! much that to wake the driver for it, on another thread perhaps, would cost more than to write it.
//!
//! Lock order: the transport before the link. Nothing waits for the transport: whoever finds it taken leaves word.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop::has_budget_remaining;

use adit::mux::limits::BATCH_MAX;
use adit::session::FirstRecords;

use super::batch::Batch;
use super::link::{Brought, FRAME_MAX, Link, Push, is_full};

/// A link's transport, shared by all who write there.
pub(super) struct Outlet<IO> {
    link: Arc<Link>,
    transport: Mutex<Transport<IO>>,
    /// The driver found the transport taken and waits for it: nobody else takes it before.
    is_awaited: AtomicBool,
}

/// The transport itself, and what is on its way there.
pub(super) struct Transport<IO> {
    io: IO,
    /// Plaintext taken from the session and not yet taken by the transport.
    out: Batch,
    written: usize,
    /// How much is taken from the session at a time, see [`Transport::poll_write`].
    batch: usize,
    /// The transport was full since the batch was taken that is on its way.
    was_full: bool,
    /// The transport may still hold encrypted bytes.
    unflushed: bool,
    first_records: FirstRecords,
    /// Who goes on where a visitor's task stops.
    driver: Option<Waker>,
    /// What a visitor's task met with; the driver ends the session for it, and whoever comes later meets with it, too.
    failure: Option<io::Error>,
}

/// How far a turn of writing got.
#[derive(Debug)]
pub(super) enum Written {
    /// There is nothing left.
    All,
    /// There may be more.
    Some,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Outlet<IO> {
    pub(super) fn new(io: IO, link: Arc<Link>) -> Self {
        Self { link, transport: Mutex::new(Transport::new(io)), is_awaited: AtomicBool::new(false) }
    }

    /// Lends the transport to the driver. `Pending` while a visitor's task has it, which wakes the driver afterwards.
    fn poll_transport(&self, cx: &Context<'_>) -> Poll<MutexGuard<'_, Transport<IO>>> {
        let transport = self.try_lock().or_else(|| {
            self.is_awaited.store(true, Ordering::Relaxed);
            // Either we see that it was let go of, or who does sees that we wait.
            fence(Ordering::SeqCst);
            self.try_lock()
        });
        let Some(mut transport) = transport else { return Poll::Pending };
        if !transport.driver.as_ref().is_some_and(|driver| driver.will_wake(cx.waker())) {
            transport.driver = Some(cx.waker().clone());
        }
        Poll::Ready(transport)
    }

    /// Takes one turn of writing, see [`Transport::poll_write`].
    pub(super) fn poll_write(&self, cx: &mut Context<'_>) -> Poll<io::Result<Written>> {
        let mut transport = ready!(self.poll_transport(cx));
        // Only here: a driver that got at the transport to read may still have something to write.
        self.is_awaited.store(false, Ordering::Relaxed);
        transport.poll_write(&self.link, cx, &mut Brought::default())
    }

    /// Reads as [`AsyncRead`] does.
    pub(super) fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut ready!(self.poll_transport(cx)).io).poll_read(cx, buf)
    }

    /// Ends the transport's direction.
    pub(super) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut ready!(self.poll_transport(cx)).io).poll_shutdown(cx)
    }

    fn try_lock(&self) -> Option<MutexGuard<'_, Transport<IO>>> {
        match self.transport.try_lock() {
            Ok(transport) => Some(transport),
            Err(TryLockError::Poisoned(poisoned)) => {
                // What was on its way there may be half of something.
                let mut transport = poisoned.into_inner();
                transport.failure.get_or_insert_with(|| io::Error::other("a task that wrote to it panicked"));
                self.transport.clear_poison();
                Some(transport)
            }
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin + Send> Push for Outlet<IO> {
    /// Everything that has to be waited for wakes the driver, never the task that is here.
    fn push(&self, mut brought: Brought<'_>) -> Option<usize> {
        if self.is_awaited.load(Ordering::Relaxed) {
            return None;
        }
        let transport = self.try_lock()?;
        let driver = transport.driver.clone()?;
        let mut lent = Lent { outlet: self, transport: Some(transport), driver, is_left: true };
        let taken = lent.push(&mut brought);
        drop(lent);
        Some(taken)
    }
}

/// The transport in the hands of a visitor's task.
struct Lent<'a, IO> {
    outlet: &'a Outlet<IO>,
    /// `None` once it was let go of.
    transport: Option<MutexGuard<'a, Transport<IO>>>,
    driver: Waker,
    /// There is something that the driver has to go on with; also if the task panics.
    is_left: bool,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Lent<'_, IO> {
    fn push(&mut self, brought: &mut Brought<'_>) -> usize {
        let Some(transport) = &mut self.transport else { return 0 };
        let (link, mut cx, len) = (&self.outlet.link, Context::from_waker(&self.driver), brought.bytes.len());
        let mut is_left = false;
        for _ in 0..PUSH_TURNS {
            match transport.poll_write(link, &mut cx, brought) {
                Poll::Ready(Ok(Written::Some)) => is_left = true,
                Poll::Ready(Ok(Written::All)) | Poll::Pending => {
                    is_left = false;
                    break;
                }
                Poll::Ready(Err(error)) => {
                    (transport.failure, is_left) = (Some(error), true);
                    break;
                }
            }
        }
        let mut taken = len - brought.bytes.len();
        if taken == 0 {
            // Before the transport is let go of: who takes it next finds it.
            taken = link.queue(*brought);
        }
        self.is_left = is_left;
        taken
    }
}

impl<IO> Drop for Lent<'_, IO> {
    fn drop(&mut self) {
        drop(self.transport.take());
        // Either a driver that found it taken is seen here, or it sees that it was let go of.
        fence(Ordering::SeqCst);
        if self.is_left || self.outlet.is_awaited.load(Ordering::Relaxed) {
            self.driver.wake_by_ref();
        }
    }
}

impl<IO: AsyncWrite + Unpin> Transport<IO> {
    fn new(io: IO) -> Self {
        Self {
            io,
            out: Batch::default(),
            written: 0,
            batch: FRAME_MAX,
            was_full: false,
            unflushed: false,
            first_records: FirstRecords::default(),
            driver: None,
            failure: None,
        }
    }

    /// Writes until neither the session nor the transport has anything left, or it is time to look at what comes in.
    /// The next batch is taken only when the one before has left the process, so that what is urgent never waits behind
    /// much: a frame where the transport was full, more where it takes everything.
    fn poll_write(
        &mut self,
        link: &Link,
        cx: &mut Context<'_>,
        brought: &mut Brought<'_>,
    ) -> Poll<io::Result<Written>> {
        if let Some(error) = self.failure.take() {
            return Poll::Ready(Err(self.broken(error)));
        }
        let written = match self.poll_batch(link, cx, brought) {
            Poll::Ready(Err(error)) => return Poll::Ready(Err(self.broken(error))),
            written => written,
        };
        // Whose budget is used up is made to wait, too; that says nothing of the transport.
        if written.is_pending() && has_budget_remaining() {
            (self.batch, self.was_full) = (FRAME_MAX, true);
        }
        written
    }

    /// Nobody gets to write any more: what would come next may have lost something in front of it.
    fn broken(&mut self, error: io::Error) -> io::Error {
        self.failure = Some(io::ErrorKind::BrokenPipe.into());
        error
    }

    /// Writes the batch that is on its way, and takes the next one from the session. What came in is looked at between
    /// two: a fast line and busy visitors would have us write for ever, and a ping waits for one batch only.
    fn poll_batch(
        &mut self,
        link: &Link,
        cx: &mut Context<'_>,
        brought: &mut Brought<'_>,
    ) -> Poll<io::Result<Written>> {
        while self.written < self.out.len() {
            let record_max = self.first_records.record_max();
            if record_max.is_some() {
                // Each of the first records goes to the socket by itself.
                ready!(self.poll_flush(cx))?;
            }
            let written = ready!(self.poll_piece(cx, record_max, &[]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.count(written);
        }
        ready!(self.poll_flush(cx))?;
        if !std::mem::take(&mut self.was_full) && is_full(self.written, self.batch) {
            self.batch = (2 * self.batch).min(BATCH_MAX);
        }
        self.written = 0;
        let (bytes, lends) = (brought.bytes, self.takes_slices());
        link.fill(&mut self.out, self.batch, brought, lends);
        if self.out.is_empty() {
            // An idle session holds no buffer.
            self.out = Batch::default();
            return Poll::Ready(Ok(Written::All));
        }
        if self.out.is_lent() {
            self.write_lent(cx, bytes)?;
        }
        Poll::Ready(Ok(Written::Some))
    }

    /// Writes a batch of which some is lent from `bytes`, and keeps what the transport does not take.
    fn write_lent(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> io::Result<()> {
        // Whatever happens meanwhile, nothing that is lent is left here.
        let mut out = std::mem::take(&mut self.out);
        if let Poll::Ready(written) = Pin::new(&mut self.io).poll_write_vectored(cx, &out.slices(0, bytes))? {
            self.count(written);
        }
        if self.written < out.len() {
            out.in_one(0, bytes);
        }
        self.out = out;
        Ok(())
    }

    /// Writes what the transport takes at once of what is left of the batch, `record_max` bytes if that is given; what is lent
    /// is at `bytes`.
    fn poll_piece(&mut self, cx: &mut Context<'_>, record_max: Option<usize>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if record_max.is_none() && self.takes_slices() {
            return Pin::new(&mut self.io).poll_write_vectored(cx, &self.out.slices(self.written, bytes));
        }
        let rest = self.out.in_one(self.written, bytes);
        let piece = rest.get(..record_max.unwrap_or(rest.len())).unwrap_or(rest);
        Pin::new(&mut self.io).poll_write(cx, piece)
    }

    fn takes_slices(&self) -> bool {
        self.io.is_write_vectored() && self.first_records.record_max().is_none()
    }

    fn count(&mut self, written: usize) {
        self.written += written;
        self.first_records.add(written);
        self.unflushed = true;
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unflushed {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

/// Turns of writing that a visitor's task takes for everybody before the driver has to go on: one takes a batch from the
/// session, and writes what it brought itself; the next one writes what else there was, and looks for another.
const PUSH_TURNS: usize = 3;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::IoSlice;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;
    use std::time::Instant;

    use adit::frame::ErrorCode;
    use adit::mux::Limits;
    use adit::session::{FIRST_BYTES, FIRST_RECORD_MAX, GatewaySession};

    use super::*;

    /// A transport that takes everything and notes in which pieces, and what was flushed behind each.
    #[derive(Default)]
    struct Noting {
        pieces: Vec<(usize, bool)>,
    }

    impl AsyncWrite for Noting {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.pieces.push((bytes.len(), false));
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            if let Some((_, flushed)) = self.pieces.last_mut() {
                *flushed = true;
            }
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncRead for Noting {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    /// A transport that takes everything, or nothing.
    struct Door {
        is_open: bool,
    }

    impl AsyncWrite for Door {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            if self.is_open { Poll::Ready(Ok(bytes.len())) } else { Poll::Pending }
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncRead for Door {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    fn batch_of(len: usize) -> Batch {
        let mut batch = Batch::default();
        batch.push(&vec![7; len]);
        batch
    }

    /// A transport that takes several pieces at a time, up to so many bytes, and none after that.
    struct Narrow {
        room: usize,
        taken: Vec<u8>,
    }

    impl AsyncWrite for Narrow {
        fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let mut bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            bytes.truncate(self.room);
            self.room -= bytes.len();
            self.taken.extend_from_slice(&bytes);
            if bytes.is_empty() { Poll::Pending } else { Poll::Ready(Ok(bytes.len())) }
        }

        fn is_write_vectored(&self) -> bool {
            true
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn what_is_lent_is_written_from_where_it_is_and_kept_where_it_is_not_taken() {
        let now = Instant::now();
        let link = Link::new(GatewaySession::new(Limits::default(), now), now);
        let mut cx = Context::from_waker(Waker::noop());
        for room in 0..=12 {
            let mut transport = Transport::new(Narrow { room, taken: Vec::new() });
            transport.out.push(b"ab");
            transport.out.lend(4);
            transport.out.push(b"c");
            transport.out.lend(5);
            transport.first_records.add(FIRST_BYTES);
            let mut bytes = b"012345678".to_vec();
            transport.write_lent(&mut cx, &bytes).unwrap();
            // Whoever brought them has them no more.
            bytes.fill(0);
            assert_eq!((transport.written, transport.unflushed), (room, room > 0));
            transport.io.room = 100;
            let written = transport.poll_write(&link, &mut cx, &mut Brought::default());
            assert!(matches!(written, Poll::Ready(Ok(Written::All))));
            assert_eq!(transport.io.taken, b"ab0123c45678");
        }
    }

    #[test]
    fn nothing_that_was_lent_is_left_behind_a_failure() {
        let now = Instant::now();
        let link = Link::new(GatewaySession::new(Limits::default(), now), now);
        let mut cx = Context::from_waker(Waker::noop());
        let mut transport = Transport::new(Broken);
        transport.out.push(b"ab");
        transport.out.lend(4);
        assert!(transport.write_lent(&mut cx, b"0123").is_err());
        assert_eq!((transport.out.len(), transport.written), (0, 0));
        let written = transport.poll_write(&link, &mut cx, &mut Brought::default());
        assert!(matches!(written, Poll::Ready(Ok(Written::All))), "there is nothing to write");
    }

    #[tokio::test]
    async fn batch_grows_while_everything_is_taken_and_is_a_frame_after_a_transport_that_was_full() {
        let now = Instant::now();
        let link = Link::new(GatewaySession::new(Limits::default(), now), now);
        let mut transport = Transport::new(Door { is_open: true });
        for (is_open, len, batch) in [
            (true, FRAME_MAX, 2 * FRAME_MAX),
            (true, FRAME_MAX, 2 * FRAME_MAX),
            (true, 2 * FRAME_MAX, BATCH_MAX),
            (true, BATCH_MAX, BATCH_MAX),
            (false, BATCH_MAX, FRAME_MAX),
            (true, FRAME_MAX, 2 * FRAME_MAX),
        ] {
            (transport.io.is_open, transport.out, transport.written) = (is_open, batch_of(len), 0);
            let written = poll_fn(|cx| Poll::Ready(transport.poll_write(&link, cx, &mut Brought::default()))).await;
            assert_eq!(written.is_ready(), is_open);
            // What was put together before the transport was full says nothing of it.
            transport.io.is_open = true;
            poll_fn(|cx| transport.poll_write(&link, cx, &mut Brought::default())).await.unwrap();
            assert_eq!(transport.batch, batch, "{is_open} {len}");
        }
    }

    #[tokio::test]
    async fn first_records_are_small_and_leave_one_by_one() {
        let now = Instant::now();
        let link = Link::new(GatewaySession::new(Limits::default(), now), now);
        let mut transport = Transport::new(Noting::default());
        transport.out = batch_of(3 * FIRST_BYTES);
        poll_fn(|cx| transport.poll_write(&link, cx, &mut Brought::default())).await.unwrap();
        let (mut sent, pieces) = (0, std::mem::take(&mut transport.io.pieces));
        for (len, flushed) in &pieces {
            let is_first = sent < FIRST_BYTES;
            sent += len;
            assert!(*len <= FIRST_RECORD_MAX || !is_first, "{pieces:?}");
            assert!(*flushed || sent >= FIRST_BYTES, "{pieces:?}");
        }
        assert_eq!(sent, 3 * FIRST_BYTES);
        assert!(pieces.last().is_some_and(|(len, _)| *len > FIRST_BYTES), "later ones are large: {pieces:?}");
    }

    /// A transport that takes everything, and has something done while it is written to.
    #[derive(Default)]
    struct Occupied(Option<Box<dyn FnOnce() + Send>>);

    impl AsyncWrite for Occupied {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            if let Some(meanwhile) = self.0.take() {
                meanwhile();
            }
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncRead for Occupied {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    /// A transport that has broken.
    struct Broken;

    impl AsyncWrite for Broken {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncRead for Broken {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    /// A driver that counts how often it is woken.
    #[derive(Default)]
    struct Driver(AtomicUsize);

    impl Wake for Driver {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// An outlet whose driver has been there once and found nothing to write; then the session has a frame.
    fn with_a_frame<IO: AsyncRead + AsyncWrite + Unpin + Send>(io: IO) -> (Outlet<IO>, Arc<Driver>) {
        let now = Instant::now();
        let link = Arc::new(Link::new(GatewaySession::new(Limits::default(), now), now));
        let (outlet, driver) = (Outlet::new(io, Arc::clone(&link)), Arc::new(Driver::default()));
        assert_eq!(push(&outlet), None, "nobody could go on");
        assert!(matches!(driven(&outlet, &driver), Poll::Ready(Ok(Written::All))));
        link.with_session(|session| session.go_away(ErrorCode::NO_ERROR, "bye"));
        (outlet, driver)
    }

    fn driven<IO>(outlet: &Outlet<IO>, driver: &Arc<Driver>) -> Poll<io::Result<Written>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        outlet.poll_write(&mut Context::from_waker(&Waker::from(Arc::clone(driver))))
    }

    fn push<IO: AsyncRead + AsyncWrite + Unpin + Send>(outlet: &Outlet<IO>) -> Option<usize> {
        outlet.push(Brought::default())
    }

    fn woken(driver: &Driver) -> usize {
        driver.0.load(Ordering::Relaxed)
    }

    #[test]
    fn visitors_task_writes_what_the_session_has_and_wakes_nobody() {
        let (outlet, driver) = with_a_frame(Noting::default());
        assert_eq!(push(&outlet), Some(0));
        let pieces = std::mem::take(&mut outlet.try_lock().unwrap().io.pieces);
        assert!(matches!(pieces[..], [(1.., true)]), "{pieces:?}");
        assert_eq!(woken(&driver), 0);
    }

    #[test]
    fn driver_that_found_the_transport_taken_is_woken_and_comes_next() {
        let (outlet, driver) = with_a_frame(Occupied::default());
        let outlet = Arc::new(outlet);
        let (during, other) = (Arc::clone(&outlet), Arc::clone(&driver));
        outlet.try_lock().unwrap().io.0 = Some(Box::new(move || {
            assert!(driven(&during, &other).is_pending());
            assert_eq!(push(&during), None, "nobody waits for it");
        }));
        assert_eq!(push(&outlet), Some(0));
        assert_eq!(woken(&driver), 1);
        assert_eq!(push(&outlet), None, "the driver comes first");
        assert!(matches!(driven(&outlet, &driver), Poll::Ready(Ok(Written::All))));
        assert_eq!(push(&outlet), Some(0));
        assert_eq!(woken(&driver), 1, "once");
    }

    #[test]
    fn driver_that_got_at_the_transport_to_read_still_waits_to_write() {
        let (outlet, driver) = with_a_frame(Door { is_open: true });
        let taken = outlet.try_lock();
        assert!(driven(&outlet, &driver).is_pending());
        drop(taken);
        let waker = Waker::from(Arc::clone(&driver));
        let mut cx = Context::from_waker(&waker);
        assert!(outlet.poll_read(&mut cx, &mut ReadBuf::new(&mut [0])).is_pending());
        assert!(outlet.is_awaited.load(Ordering::Relaxed), "who let go of it looks now");
        assert!(driven(&outlet, &driver).is_ready());
        assert!(!outlet.is_awaited.load(Ordering::Relaxed));
    }

    #[test]
    fn panic_of_a_visitors_task_ends_the_session_and_wakes_its_driver() {
        let (outlet, driver) = with_a_frame(Occupied::default());
        outlet.try_lock().unwrap().io.0 = Some(Box::new(|| panic!("in the middle")));
        let pushed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| push(&outlet)));
        assert!(pushed.is_err());
        assert_eq!(woken(&driver), 1);
        for _ in 0..2 {
            assert!(matches!(driven(&outlet, &driver), Poll::Ready(Err(_))), "also behind the first one");
        }
    }

    #[test]
    fn what_a_full_transport_does_not_take_is_left_to_the_driver() {
        let (outlet, driver) = with_a_frame(Door { is_open: false });
        assert_eq!(push(&outlet), Some(0));
        assert_eq!(woken(&driver), 0, "the transport wakes it");
        assert!(!outlet.try_lock().unwrap().out.is_empty());
        outlet.try_lock().unwrap().io.is_open = true;
        assert!(matches!(driven(&outlet, &driver), Poll::Ready(Ok(Written::All))));
        assert!(outlet.try_lock().unwrap().out.is_empty());
    }

    #[test]
    fn driver_is_told_of_a_transport_that_broke_under_a_visitors_task() {
        let (outlet, driver) = with_a_frame(Broken);
        assert_eq!(push(&outlet), Some(0));
        assert_eq!(woken(&driver), 1);
        assert!(matches!(driven(&outlet, &driver), Poll::Ready(Err(_))));
    }
}
