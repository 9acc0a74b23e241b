//! A connection of a listener, plain or behind TLS. The handshake is made by whoever reads first, so that a client that
//! does not finish it holds up its own connection only.
//!
//! Invariant: a handshake ends within [`HANDSHAKE_TIME`].

use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;

use super::{Guard, client_names};

/// Longest time that a handshake may take.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// The names in a client's verified certificate, once the handshake is done. Clones see the same.
#[derive(Clone, Debug, Default)]
pub struct CertificateNames(Arc<OnceLock<Vec<String>>>);

impl CertificateNames {
    /// The subject alternative names; none without a verified certificate.
    pub fn get(&self) -> &[String] {
        self.0.get().map_or(&[], Vec::as_slice)
    }
}

impl From<Vec<String>> for CertificateNames {
    fn from(names: Vec<String>) -> Self {
        Self(Arc::new(OnceLock::from(names)))
    }
}

/// A connection.
pub struct ServerStream<S> {
    state: State<S>,
    guard: Guard,
    verifies_clients: bool,
    names: CertificateNames,
}

enum State<S> {
    Plain(S),
    Handshake(Box<tokio_rustls::Accept<S>>, Pin<Box<Sleep>>),
    Encrypted(Box<TlsStream<S>>),
    Failed,
}

impl<S: AsyncRead + AsyncWrite + Unpin> ServerStream<S> {
    /// Behind TLS when there are settings of it, which come with whether they verify the certificates of clients.
    pub(super) fn new(stream: S, tls: Option<(Arc<rustls::ServerConfig>, bool)>, guard: Guard) -> Self {
        let verifies_clients = tls.as_ref().is_some_and(|(_, verifies)| *verifies);
        let state = match tls {
            None => State::Plain(stream),
            Some((config, _)) => State::Handshake(
                Box::new(tokio_rustls::TlsAcceptor::from(config).accept(stream)),
                Box::pin(tokio::time::sleep(HANDSHAKE_TIME)),
            ),
        };
        Self { state, guard, verifies_clients, names: CertificateNames::default() }
    }

    /// The names in the client's certificate, to be read when a request has come.
    pub fn certificate_names(&self) -> CertificateNames {
        self.names.clone()
    }

    fn poll_open(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let State::Handshake(accept, deadline) = &mut self.state else {
            let failed = matches!(self.state, State::Failed);
            return Poll::Ready(if failed { Err(io::ErrorKind::NotConnected.into()) } else { Ok(()) });
        };
        let done = match Pin::new(accept.as_mut()).poll(context) {
            Poll::Ready(done) => done,
            Poll::Pending => {
                ready!(deadline.as_mut().poll(context));
                Err(io::Error::new(io::ErrorKind::TimedOut, "the TLS handshake took too long"))
            }
        };
        match done {
            Ok(stream) => {
                let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                if let Some(certificate) = shown.filter(|_| self.verifies_clients) {
                    // Nobody else sets it.
                    let _ = self.names.0.set(client_names::of(certificate));
                }
                self.state = State::Encrypted(Box::new(stream));
                Poll::Ready(Ok(()))
            }
            Err(error) => {
                self.guard.counters().failed_handshakes.fetch_add(1, Relaxed);
                tracing::debug!("a TLS handshake failed: {error}");
                self.state = State::Failed;
                Poll::Ready(Err(error))
            }
        }
    }
}

/// Runs a call on the open stream, whichever kind it is.
macro_rules! on_open {
    ($self:ident, $context:ident, $stream:ident => $call:expr) => {{
        ready!($self.poll_open($context))?;
        match &mut $self.state {
            State::Plain($stream) => {
                let $stream = Pin::new($stream);
                $call
            }
            State::Encrypted($stream) => {
                let $stream = Pin::new($stream.as_mut());
                $call
            }
            State::Handshake(..) | State::Failed => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }};
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for ServerStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        on_open!(self, context, stream => stream.poll_read(context, out))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ServerStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        on_open!(self, context, stream => stream.poll_write(context, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_open!(self, context, stream => stream.poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.state {
            State::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            State::Encrypted(stream) => Pin::new(stream.as_mut()).poll_shutdown(context),
            // Nothing was said yet, so there is nothing to end.
            State::Handshake(..) | State::Failed => Poll::Ready(Ok(())),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_open!(self, context, stream => stream.poll_write_vectored(context, parts))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.state {
            State::Plain(stream) => stream.is_write_vectored(),
            State::Encrypted(stream) => stream.is_write_vectored(),
            State::Handshake(..) | State::Failed => false,
        }
    }
}
