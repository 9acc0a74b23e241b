//! Accepts connections up to a limit, for both servers.
//!
//! In: a bound listener. Out: streams, each holding one place. Invariant: never more open streams than the limit; past
//! it, connections wait in the kernel's accept queue.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::web_config::{Guard, ServerStream};

/// A listener with a limit of open connections.
pub(super) struct LimitedListener {
    listener: TcpListener,
    places: Arc<Semaphore>,
    guard: Guard,
}

/// A connection that gives its place back when dropped.
pub(super) struct LimitedStream {
    stream: ServerStream<TcpStream>,
    _place: Option<OwnedSemaphorePermit>,
}

impl LimitedListener {
    pub(super) fn new(listener: TcpListener, limit: usize, guard: Guard) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(limit.clamp(1, Semaphore::MAX_PERMITS))), guard }
    }

    /// Who may send.
    pub(super) fn guard(&self) -> Guard {
        self.guard.clone()
    }

    async fn next(&self) -> (LimitedStream, SocketAddr) {
        // The semaphore is never closed, so the place is always there.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    let _ = stream.set_nodelay(true); // only a matter of latency
                    return (LimitedStream { stream: self.guard.accept(stream), _place: place }, peer);
                }
                // Out of file descriptors or a peer that left already: neither may stop the server.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// The connections as a stream that never ends.
    pub(super) fn into_stream(self) -> impl Stream<Item = io::Result<LimitedStream>> {
        futures_util::stream::unfold(self, |listener| async move {
            let (stream, _) = listener.next().await;
            Some((Ok(stream), listener))
        })
    }
}

impl axum::serve::Listener for LimitedListener {
    type Io = LimitedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (LimitedStream, SocketAddr) {
        self.next().await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl tonic::transport::server::Connected for LimitedStream {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for LimitedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for LimitedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
