//! One connection, secured or not, as its lane's others see it: what is read of it before they have
//! their turn, what it may send, and when it has to go.
//!
//! What must stay out: how it is secured, who is at its other end, and what is called.

use std::{
    io::IoSlice,
    mem,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::{
    io::{self, AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::sleep,
};
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tonic::transport::server::Connected;

use crate::{
    bucket::{Bucket, Rate},
    door::Place,
    frames::Frames,
    lane,
    tls::{Peer, Shown, Tls},
};

/// What is read of a connection, in bytes, before the others of its lane have their turn: some ten
/// calls, whose headers may have less than a hundred.
const TURN: usize = 1024;

/// How long nothing is read of a connection whose caller has had too many calls: refusing is work too,
/// and what waits unread costs nobody anything.
const PAUSE: Duration = Duration::from_millis(100);

/// Frames that carry nothing: far above what opens windows for a stream of answers at its fastest, and
/// far below what keeps a processor busy.
const IDLE_FRAMES: Rate = Rate { at_once: 1000.0, per_second: 4000.0 };

/// Bytes that a stranger may send.
const STRANGERS_BYTES: Rate = Rate { at_once: 256.0 * 1024.0, per_second: 16.0 * 1024.0 };

/// One connection, secured or not.
pub(crate) struct Connection {
    io: Either<TcpStream, Box<TlsStream<TcpStream>>>,
    peer: Peer,
    /// As long as it is a stranger's.
    stranger: Option<Box<Stranger>>,
    /// Bytes read since others had their turn.
    read: usize,
    frames: Frames,
    idle: Bucket,
    /// How long it is not read when others have had their turn.
    pause: Duration,
    /// Whether it is not read now.
    waits: Arc<AtomicBool>,
    /// What its lane had failed to do in time before there was this connection.
    failures: u64,
}

struct Stranger {
    place: Arc<Place>,
    has_to_go: Pin<Box<dyn Future<Output = &'static str> + Send>>,
    bytes: Bucket,
}

impl Connection {
    /// Agrees with the caller on a connection, within a time.
    pub(crate) async fn accept(
        (io, place): (std::net::TcpStream, Arc<Place>),
        tls: Option<Tls>,
    ) -> io::Result<Self> {
        let io = TcpStream::from_std(io)?;
        match tls {
            Some(tls) => {
                let (io, certificate) = tokio::select! {
                    agreed = tls.agree(io) => agreed?,
                    why = place.clone().until_it_has_to_go() => return Err(overstayed(why)),
                };
                Ok(Self::new(Either::Right(Box::new(io)), certificate, place))
            }
            None => Ok(Self::new(Either::Left(io), None, place)),
        }
    }

    fn new(
        io: Either<TcpStream, Box<TlsStream<TcpStream>>>,
        certificate: Option<Arc<Shown>>,
        place: Arc<Place>,
    ) -> Self {
        let now = Instant::now();
        let stranger = (!place.is_known()).then(|| {
            Box::new(Stranger {
                place: place.clone(),
                has_to_go: Box::pin(place.clone().until_it_has_to_go()),
                bytes: Bucket::full(STRANGERS_BYTES, now),
            })
        });
        Self {
            io,
            peer: Peer { certificate, place: Some(place) },
            stranger,
            read: 0,
            frames: Frames::default(),
            idle: Bucket::full(IDLE_FRAMES, now),
            pause: Duration::ZERO,
            waits: Arc::default(),
            failures: lane::settle(),
        }
    }

    /// Does what is due before it sends; fails when that does, or it has to go.
    fn may_send(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if lane::settle() != self.failures {
            return Err(io::Error::other("what was due before its answers has failed"));
        }
        self.may_stay(cx)
    }

    /// Fails when it has to go.
    fn may_stay(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.peer.place.as_ref().is_some_and(|place| place.has_to_go()) {
            return Err(overstayed("others need its place, or its calls were refused too often"));
        }
        let Some(stranger) = &mut self.stranger else { return Ok(()) };
        if stranger.place.is_known() {
            self.stranger = None;
            return Ok(());
        }
        match stranger.has_to_go.as_mut().poll(cx) {
            Poll::Ready(why) => Err(overstayed(why)),
            Poll::Pending => Ok(()),
        }
    }

    /// Whether nothing is read now: others have their turn, or it has sent too much.
    fn has_to_wait(&mut self, cx: &Context<'_>) -> bool {
        if self.waits.load(Ordering::Relaxed) {
            return true;
        }
        let mut pause = mem::take(&mut self.pause);
        if self.peer.place.as_ref().is_some_and(|place| place.has_asked_too_much()) {
            pause = pause.max(PAUSE);
        }
        if pause.is_zero() && self.read < TURN {
            return false;
        }
        self.read = 0;
        self.wait(cx, pause);
        true
    }

    /// Reads nothing for a while, and until what waits on this lane then has run: HTTP/2 would take one
    /// call, and read on, for as long as there is something to read.
    fn wait(&self, cx: &Context<'_>, pause: Duration) {
        self.waits.store(true, Ordering::Relaxed);
        let (waits, reader) = (self.waits.clone(), cx.waker().clone());
        tokio::spawn(async move {
            if !pause.is_zero() {
                sleep(pause).await;
            }
            waits.store(false, Ordering::Relaxed);
            reader.wake();
        });
    }

    /// Counts what was read.
    fn count(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.read += bytes.len();
        let idle = self.frames.idle_in(bytes);
        if idle > 0 {
            self.idle.take(idle);
            self.pause = self.idle.has_one(IDLE_FRAMES, Instant::now()).err().unwrap_or_default();
        }
        let Some(stranger) = &mut self.stranger else { return Ok(()) };
        stranger.bytes.take(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        let may_go_on = stranger.bytes.has_one(STRANGERS_BYTES, Instant::now());
        may_go_on.map_err(|_| overstayed("a stranger sends too much"))
    }
}

fn overstayed(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, why)
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.may_stay(cx)?;
        if let Either::Left(io) = &mut self.io {
            // Whoever calls is believed.
            return Pin::new(io).poll_read(cx, buffer);
        }
        if self.has_to_wait(cx) {
            return Poll::Pending;
        }
        let room = buffer.remaining().min(TURN);
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(room));
        let Poll::Ready(read) = Pin::new(&mut self.io).poll_read(cx, &mut part) else {
            self.read = 0;
            return Poll::Pending;
        };
        let counted = read.and_then(|()| self.count(part.filled()));
        let bytes = part.filled().len();
        buffer.advance(bytes);
        Poll::Ready(counted)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.may_send(cx)?;
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.may_send(cx)?;
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
